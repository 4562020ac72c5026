"""Commands of ours that pages show: found in blocks and in running text, and parsed as the commands would."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath

from engine.lockstep_command import COMMANDS

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"`((?:lockstep|python -m (?:engine|bench|tests)\.)[^`\n]* [^`]+)`")
_SHELL = ("", "sh", "console")  # "text" is what a command prints
_OPERATORS = set("();<>|&")
_MODULE = re.compile(r"(engine|bench|tests)\.(\w+)(?:\.__main__)?")


@dataclass(frozen=True)
class Command:
    """A command of ours without what starts it, and where it is shown."""

    program: str
    """A word behind `lockstep`, or a module of bench or tests."""
    arguments: tuple[str, ...]
    where: str


def pages() -> list[Path]:
    """Return the pages that say what can be done today; the others tell of earlier versions."""
    roots = (path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md")
    return sorted([*roots, *(ROOT / "docs").rglob("*.md")])


def in_blocks(page: Path) -> Iterator[Command]:
    """Yield the commands in blocks of a page, word for word."""
    for kind, content in _BLOCK.findall(page.read_text("utf-8")):
        if kind in _SHELL:
            for line in content.replace("\\\n", " ").splitlines():
                yield from commands(line, f"{page.name}: {line.strip()}")


def in_text(page: Path) -> Iterator[Command]:
    """Yield the commands in code spans of a page, which may leave out anything."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    for span in _SPAN.findall(text):
        yield from commands(" ".join(span.split()), f"{page.name}: `{span}`")


def commands(line: str, where: str) -> Iterator[Command]:
    """Yield our commands in a line of shell, behind whatever starts them."""
    for words in _simple_commands(line):
        for index, word in enumerate(words):
            rest = words[index + 1 :]
            if PurePath(word).name == "lockstep" and rest:
                yield Command(rest[0], tuple(rest[1:]), where)
                break
            if rest[:1] == ["-m"] and len(rest) > 1 and (module := _MODULE.fullmatch(rest[1])):
                if module[1] == "engine":
                    yield Command(module[2], tuple(rest[2:]), where)
                    break
                own = rest[2 : rest.index("--")] if "--" in rest else rest[2:]  # behind it another command
                yield Command(rest[1], tuple(own), where)
            if word.endswith("lockstep.sbatch") or word == "make":
                yield from _wrapped(word, rest, where)
                break


def mistake(command: Command) -> str | None:
    """Say what is wrong with a command, by its own parser; None where it parses. Nothing is run."""
    arguments = list(command.arguments)
    if "." in command.program:
        unknown = [word for word in _options(arguments) if f'"{word}"' not in _sources(command.program)]
        return f"no option {unknown[0]}" if unknown else None
    if command.program not in COMMANDS:
        return None if command.program in ("-h", "--help") else f"no command {command.program}"
    try:
        if command.program == "run":
            own = arguments[: arguments.index("--")] if "--" in arguments else arguments
            _, arguments = _parser("run").parse_known_args(own)
        _parser("train" if command.program == "run" else command.program).parse_args(arguments)
    except SystemExit as end:
        return None if end.code == 0 else "its parser refuses it, see stderr"
    return None


def unknown_options(command: Command, known: dict[str, set[str]]) -> list[str]:
    """Return the options of a command that it does not have, whatever else is left out."""
    if command.program not in known:
        return [] if command.program.isupper() or "." in command.program else [command.program]
    return [word for word in _options(command.arguments) if word not in known[command.program]]


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # prose, with an apostrophe
        return
    while words:
        end = next((index for index, word in enumerate(words) if set(word) <= _OPERATORS), len(words))
        yield words[:end]
        words = words[end + 1 :]


def _wrapped(word: str, rest: list[str], where: str) -> Iterator[Command]:
    """Yield the command that make train or the script for Slurm passes options on to."""
    if word != "make":
        yield Command("run", tuple(rest), where)
    elif "train" in rest:
        given = (each.removeprefix("ARGS=") for each in rest if each.startswith("ARGS="))
        yield from (Command("run", tuple(shlex.split(each)), where) for each in given)


def _options(words: list[str] | tuple[str, ...]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


@cache
def _parser(name: str):
    return import_module(COMMANDS[name][0]).make_parser()


@cache
def _sources(module: str) -> str:
    """Return the source of a program of the repository and of what its neighbours share with it."""
    path = ROOT / module.replace(".", "/")
    own = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__main__.py"
    shared = ROOT / "bench" / "options.py"
    return own.read_text("utf-8") + shared.read_text("utf-8")
