"""Commands that the pages show exist, with their options: they parse. None of them is run here."""

import ast
import re
import tomllib

import pytest

from engine.completion.commands import lockstep
from engine.config.recipe import read_recipe
from tests.docs.shell import ROOT, Command, commands, in_blocks, in_text, mistake, pages, unknown_options

PAGES = pages()
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Return the options of each command, and of those inside it."""
    return {
        each.name: {name for one in (each, *each.commands) for option in one.options for name in option.names}
        for each in lockstep().commands
    }


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_in_a_block_parses(page):
    wrong = {command.where: why for command in in_blocks(page) if (why := mistake(command))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_in_the_text_has_the_options_it_is_shown_with(page, known):
    wrong = {each.where: missing for each in in_text(page) if (missing := unknown_options(each, known))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_of_python_and_toml_are_what_they_say(page):
    for kind, content in re.findall(r"^```(python|toml)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        ast.parse(content) if kind == "python" else tomllib.loads(content)


@pytest.mark.parametrize("name", ["from_ddp", "from_caffe"])
def test_the_recipe_beside_another_program_is_one(name, tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```$", (ROOT / f"docs/{name}.md").read_text("utf-8"), re.M | re.S)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(block, encoding="utf-8")
    assert read_recipe(str(recipe)).batch == 256


def test_commands_are_found_behind_what_starts_them():
    line = "A=1 mpirun -n 2 lockstep train --steps 5 > log; find . | python -m engine.predict a -  # said"
    assert list(commands(line, "")) == [
        Command("train", ("--steps", "5"), ""), Command("predict", ("a", "-"), "")
    ]  # fmt: skip
    assert list(commands('make train RANKS=2 ARGS="digits --steps 5"', "")) == [
        Command("run", ("digits", "--steps", "5"), "")
    ]
    assert len(list(in_blocks(ROOT / "README.md"))) > 20


@pytest.mark.parametrize(
    "line",
    [
        "lockstep trian",
        "lockstep train --stpes 5",
        "lockstep run -n 2 --min-rank 1 digits",
        "lockstep data chek DIR",
        "lockstep evaluate",
        "mpirun -n 2 python -m engine.plan --optimizer sdg",
        "python -m bench.kernels --againts torch",
        "sbatch --nodes 4 docs/slurm/lockstep.sbatch vgg_a --datta images:DIR",
        'make train ARGS="digits --stpes 5"',
    ],
)
def test_a_misspelt_command_is_noticed(line):
    (command,) = commands(line, "")
    assert mistake(command)


def test_a_misspelt_option_in_the_text_is_noticed(known):
    (wrong,) = commands("lockstep run --restart N ...", "")
    (right,) = commands("lockstep run --restarts N ...", "")
    assert unknown_options(wrong, known) == ["--restart"]
    assert unknown_options(right, known) == []
