"""What can be completed: commands, their options, and the values of those, as their parsers have them."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from engine.config.recipe import shipped as shipped_recipes
from engine.formats.names import shipped as shipped_names
from engine.lockstep_command import COMMANDS
from engine.models import MODELS
from engine.planner.cluster import shipped_clusters

_KNOWN: Mapping[str, Callable[[], Sequence[str]]] = {
    "recipe": shipped_recipes,
    "model": lambda: list(MODELS),
    "cluster": shipped_clusters,
    "names": shipped_names,
}
"""Names that come along, beside which a file may be given: no parser lists them as its choices."""

_USERS_FILE = "FILE.py"  # where no name will do
_FILES = re.compile("FILE|DIR|RUN|CHECKPOINT|WEIGHTS|RECIPE|DATA|WAVS|TEXT|OUT|SRC|DST|PICTURE|TABLE")
_OTHERS = {"run": "train"}
"""Commands that pass on to another one what is not theirs."""

_LONGEST = 70


@dataclass(frozen=True)
class Option:
    """One option of a command."""

    names: tuple[str, ...]
    help: str
    metavar: str
    """What its value is called; empty where it takes none."""
    values: tuple[str, ...]
    """To choose from; there may be others."""
    files: bool
    """Its value may be a path."""


@dataclass(frozen=True)
class Command:
    """A command, or one of those inside it."""

    name: str
    help: str
    options: tuple[Option, ...] = ()
    values: tuple[str, ...] = ()
    """That its arguments may be, beside paths."""
    commands: tuple["Command", ...] = ()
    """Inside it; then it has no arguments of its own."""


def lockstep() -> Command:
    """Return all that can follow the word lockstep."""
    found = {name: _command(name, _parser(name), text) for name, (_, text) in COMMANDS.items()}
    for name, other in _OTHERS.items():
        found[name] = _with(found[name], found[other])
    return Command("lockstep", "", commands=tuple(found.values()))


def _parser(name: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = import_module(COMMANDS[name][0]).make_parser()
    return parser


def _command(name: str, parser: argparse.ArgumentParser, text: str) -> Command:
    options, values = list[Option](), dict[str, None]()
    for action in parser._actions:  # argparse has no other list
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            inside = (_command(each, its, helps.get(each, "")) for each, its in action.choices.items())
            return Command(name, _short(text), commands=tuple(inside))
        if action.option_strings:
            options.append(_option(action))
        else:
            values |= dict.fromkeys(_values(action))
    return Command(name, _short(text), tuple(options), tuple(values))


def _option(action: argparse.Action) -> Option:
    metavar = "" if action.nargs == 0 else str(action.metavar or action.dest)
    values = _values(action) if metavar else ()
    return Option(
        tuple(action.option_strings),
        _short(action.help or ""),
        metavar,
        values,
        files=bool(_FILES.search(metavar)) or (bool(values) and action.dest in _KNOWN),
    )


def _values(action: argparse.Action) -> tuple[str, ...]:
    metavar = str(action.metavar or "")
    if action.choices:
        return tuple(str(each) for each in action.choices)
    if "|" in metavar and metavar == metavar.lower():  # recipe's options read their values themselves
        return tuple(metavar.split("|"))
    if action.dest in _KNOWN and _USERS_FILE not in metavar:
        return tuple(_KNOWN[action.dest]())
    return ()


def _with(one: Command, other: Command) -> Command:
    """Return a command that takes another one's options, too."""
    own = {name for option in one.options for name in option.names}
    more = (option for option in other.options if not own & set(option.names))
    return Command(one.name, one.help, (*one.options, *more), (*one.values, *other.values))


def _short(text: str) -> str:
    """Return the beginning of a help text, which argparse formats."""
    whole = " ".join(text.replace("%%", "%").split())
    return whole if len(whole) <= _LONGEST else whole[:_LONGEST].rpartition(" ")[0] + " ..."
