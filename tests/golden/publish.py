"""The hashes that the package publishes, of whole runs of shipped recipes, and where they are written."""

from dataclasses import replace
from pathlib import Path

from engine.config.recipe import read_recipe
from engine.run import published
from engine.run.published import Published, read_published, recipe_hash
from tests.golden.runs import Run, ends_with

RECIPES = ("digits",)
"""Those whose data everybody has, and that take seconds."""

README = Path(__file__).parents[2] / "README.md"
_HEAD = """\
# What runs of shipped recipes end with in this version, on every machine: see engine/run/published.py. The
# recipe's hash is of all that decides bits, the data's of its samples. Written by tests.golden --rewrite.
"""


def train(name: str) -> Published:
    """Run a shipped recipe as a whole and return what can be published of it."""
    run = Run(None, read_recipe(name))
    run = replace(run, recipe=replace(run.recipe, checkpoint_every=0))
    identity = run.data(run.graph(), Path()).identity
    return Published(recipe_hash(run.recipe), identity, ends_with(run, Path())["weights_sha256"])


def write(name: str, found: Published) -> None:
    """Write what is published of a recipe, also in the README, which shows what its reader will see."""
    before = read_published()
    tables = [
        _table(each, found if each == name else before[each])
        for each in RECIPES
        if each in before or each == name
    ]
    published.FILE.write_text("\n".join((_HEAD, *tables)))
    if name in before:
        text = README.read_text("utf-8")
        README.write_text(text.replace(before[name].weights_sha256, found.weights_sha256), "utf-8")


def _table(name: str, its: Published) -> str:
    return "\n".join((f"[{name}]", *(f'{field} = "{value}"' for field, value in vars(its).items()), ""))
