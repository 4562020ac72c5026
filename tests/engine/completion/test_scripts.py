"""The scripts, as far as their shells are here."""

import os
import shutil
import subprocess

import pytest

from engine.completion.__main__ import SHELLS, main
from engine.completion.commands import Command, Option
from engine.completion.fish import fish_script
from engine.completion.zsh import zsh_script
from engine.lockstep_command import COMMANDS


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Return a folder with the script of each shell."""
    folder = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patch:
        for shell in SHELLS:
            written: list[str] = []
            patch.setattr("comm.terminal.show", written.append)
            assert main([shell]) == 0
            (folder / shell).write_text("\n".join(written) + "\n")
    return folder


def asked(*command: str, cwd) -> list[str]:
    """Return the lines that a shell prints."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "HOME": str(cwd)}, capture_output=True, text=True, check=True,
        timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


LINES = [
    (("ru",), ["run"]),
    (("e",), ["evaluate", "export", "explain"]),
    (("train", "--opt"), ["--optimizer"]),
    (("train", "--optimizer", "l"), ["lars", "lamb"]),
    (("train", "cifar10_"), ["cifar10_94"]),
    (("run", "-n", "2", "cifar10_"), ["cifar10_94"]),
    (("run", "-n", "2", "--launcher", ""), ["mpirun", "srun"]),
    (("data", "p"), ["pack"]),
    (("data", "pack", "--qu"), ["--quality"]),
    (("data", "check", "--qu"), []),
    (("doctor", "--js"), ["--json"]),
    (("completion", "z"), ["zsh"]),
    (("models", "vgg_"), ["vgg_a", "vgg_d", "vgg_e"]),
    (("train", "--steps", ""), []),
    (("convert", "--names", "torchvision:vgg11"), ["torchvision:vgg11", "torchvision:vgg11_bn"]),
    (("nonsense", ""), []),
]


CALL = """
source ./bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_lockstep
printf "%s\\n" "${COMPREPLY[@]}"
"""


def _bash(scripts, *words: str) -> list[str]:
    """Call the function of bash as it does itself, with the words of a line, the last of them completed."""
    given = asked("bash", "--norc", "-c", CALL, "bash", "lockstep", *words, cwd=scripts)
    return [line for line in given if line]


@pytest.mark.parametrize(("words", "completed"), LINES)
def test_bash_completes(scripts, words, completed):
    assert _bash(scripts, *words) == completed


def test_bash_completes_all_commands(scripts):
    assert _bash(scripts, "") == list(COMMANDS)


def test_bash_takes_an_option_and_its_value_apart(scripts):
    assert _bash(scripts, "train", "--optimizer", "=", "ad") == ["adamw"]
    assert _bash(scripts, "train", "--optimizer", "=") == ["sgd", "adamw", "lars", "lamb"]


@pytest.mark.parametrize("option", [("--names",), ("--names", "=")])
def test_bash_takes_the_halves_of_a_name_apart(scripts, option):
    assert _bash(scripts, "convert", *option, "torchvision", ":", "vgg11") == ["vgg11", "vgg11_bn"]
    assert "alexnet" in _bash(scripts, "convert", *option, "torchvision", ":")
    assert _bash(scripts, "convert", *option, "torchvision", ":", "x") == []


def test_bash_calls_the_function_and_offers_files_where_it_has_nothing(scripts):
    (line,) = asked("bash", "--norc", "-c", "source ./bash; complete -p lockstep", cwd=scripts)
    assert line == "complete -o bashdefault -o default -F _lockstep lockstep"


@pytest.mark.parametrize(("words", "completed"), LINES)
def test_fish_completes(scripts, words, completed):
    code = f"source ./fish; complete -C '{' '.join(('lockstep', *words))}'"
    given = [line.partition("\t")[0] for line in asked("fish", "--no-config", "-c", code, cwd=scripts)]
    files = set(SHELLS) if words[0] == "nonsense" else set()  # it offers those of the folder by itself
    assert sorted(set(given) - files) == sorted(completed)


def test_zsh_can_read_its_script(scripts):
    assert asked("zsh", "-f", "-n", "zsh", cwd=scripts) == []


AS = Option(("--as",), "what's [it]: a\\b", "X", ("p", "q"), files=False)
AWKWARD = Command("lockstep", "", commands=(Command("do", "it's", (AS,)),))


def test_help_with_signs_of_a_shell_is_quoted():
    assert r"""'*--as=[what'"'"'s \[it\]\: a\\b]:X:(p q)'""" in zsh_script(AWKWARD)
    assert r"-l as -x -a 'p q' -d 'what\'s [it]: a\\b'" in fish_script(AWKWARD)


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["fihs"])
    assert end.value.code == 2
    assert 'did you mean "fish"?' in capsys.readouterr().err
