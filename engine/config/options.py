"""Options of a command, made from the settings of a dataclass.

tyro and jsonargparse make them too. With today's recipe `--help` takes 0.13 s with either, and 0.05 s so;
their errors are a framed box of ten lines and the whole usage, where ours is one line on one rank.
"""

import argparse
from collections.abc import Callable, Container, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from types import UnionType
from typing import Any, get_args, get_origin

from engine.config.settings import TYPES, Described, all_settings
from engine.config.toml_fields import parse_argument
from engine.config.wording import one_of

Groups = dict[str, Any]
"""argparse's group of options under each heading."""

_METAVARS = {int: "N", float: "X", str: "TEXT", bool: "on|off"}


def add_options(
    parser: argparse.ArgumentParser,
    kind: type,
    headings: Mapping[str, str],
    *,
    more: Mapping[str, str],
    without: Container[str] = (),
) -> Groups:
    """Add an option for each field that has help, grouped by heading, and return the groups.

    Parameters
    ----------
    headings
        All of them in their order, each with a sentence about it, which may be empty.
    more
        Help to put behind a field's own, by the field's name: what the dataclass cannot know.
    without
        Dotted names of fields that get none.
    """
    groups: Groups = {
        title: parser.add_argument_group(title, text or None) for title, text in headings.items()
    }
    defaults = _defaults(kind)
    for each in all_settings(kind):
        if each.setting.help and each.path not in without:
            text = _help(each, more.get(each.path, ""), defaults.get(each.path))
            groups[each.setting.group].add_argument(
                f"--{_option(each)}",
                dest=each.path,
                action="append" if get_origin(each.kind) is dict else "store",
                type=_reader(each),
                metavar=_metavar(each),
                help=text.replace("%", "%%"),
            )
    return groups


def given_options(kind: type, options: argparse.Namespace) -> dict[str, Any]:
    """Return the given values by the dotted names of their fields: see `engine.config.recipe.override`."""
    given: dict[str, Any] = {}
    for each in all_settings(kind):
        value = getattr(options, each.path, None)
        if each.setting.arguments_of:
            given |= {f"{each.path}.{key}": entry for key, entry in value or ()}
        elif value is not None and get_origin(each.kind) is dict:
            given[each.path] = dict(value)
        elif value is not None:
            given[each.path] = value
    return given


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that build a network: arguments of its function (`model_arguments`)."""
    parser.add_argument(
        "--model-argument",
        action="append",
        default=[],
        type=read_argument,
        metavar="KEY=VALUE",
        help="argument of the network's function, such as classes=10; may be repeated",
    )


def model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the network's function by name, as `add_model_argument` has read them."""
    return dict(options.model_argument)


def _option(each: Described) -> str:
    name = each.setting.option or each.path.rpartition(".")[2].replace("_", "-")
    return name.removesuffix("s") if each.setting.arguments_of else name  # one argument an option


def _metavar(each: Described) -> str:
    if each.setting.metavar or each.setting.choices:
        return each.setting.metavar or "|".join(each.setting.choices)
    if each.setting.arguments_of:
        return "KEY=VALUE"
    return "X,X" if get_origin(each.kind) is tuple else _METAVARS[each.kind]


def _help(each: Described, more: str, default: Any) -> str:
    """Return the help of an option: with the field's name where that is another one, and the default."""
    text = f"{each.setting.help}{': ' if more else ''}{more}"
    if each.setting.option and each.setting.option != each.path:
        text += f" ({each.path})"
    if default in {None, "", ()} or "default" in text or (default == 0 and "0:" not in text):
        return text
    return f"{text}; default {default:g}" if isinstance(default, float) else f"{text}; default {default}"


def _defaults(kind: type, prefix: str = "") -> dict[str, Any]:
    """Return all defaults by the dotted names of their fields, switches as on and off."""
    found: dict[str, Any] = {}
    for each in fields(kind):
        inside: Any = each.default_factory
        if isinstance(inside, type) and is_dataclass(inside):
            found |= _defaults(inside, f"{prefix}{each.name}.")
        elif isinstance(each.default, bool):
            found[f"{prefix}{each.name}"] = "on" if each.default else "off"
        elif each.default is not MISSING:
            found[f"{prefix}{each.name}"] = each.default
    return found


def _reader(each: Described) -> Callable[[str], Any]:
    if get_origin(each.kind) is dict:
        return read_argument if each.setting.arguments_of else _read_factor
    if isinstance(each.kind, UnionType):
        return partial(_read_either, each.setting.choices)
    if get_origin(each.kind) is tuple:
        return _read_texts if get_args(each.kind)[0] is str else _read_numbers
    return {bool: _read_switch, int: _read_whole, float: read_number}.get(each.kind, str)


def _read_switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f'got "{text}"; must be on or off')
    return text == "on"


def _read_whole(text: str) -> int:
    return int(_number(int, text, TYPES[int]))


def read_number(text: str) -> float:
    """Read a number."""
    return _number(float, text, TYPES[float])


def _read_numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas between them; an empty text is none."""
    wanted = "numbers with commas between them"
    return tuple(_number(float, each, wanted, text) for each in text.split(",")) if text else ()


def _read_either(choices: tuple[str, ...], text: str) -> str | tuple[float, ...]:
    """Read one of the texts, or else numbers."""
    if text in choices:
        return text
    wanted = f"{one_of(choices)}, or numbers with commas between them".removeprefix("must be ")
    return tuple(_number(float, each, wanted, text) for each in text.split(","))


def _read_texts(text: str) -> tuple[str, ...]:
    """Read texts with commas between them; an empty text is none."""
    return tuple(text.split(",")) if text else ()


def _read_factor(text: str) -> tuple[str, float]:
    pattern, equals, number = text.rpartition("=")
    if not equals or not pattern:
        raise argparse.ArgumentTypeError(f'got "{text}"; must be PATTERN=NUMBER')
    return pattern, _number(float, number, "PATTERN=NUMBER", text)


def _number(kind: Callable[[str], float], text: str, wanted: str, whole: str = "") -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'got "{whole or text}"; must be {wanted}') from error


def read_argument(text: str) -> tuple[str, Any]:
    """Read one argument of a user's function: a name and a TOML value, or a bare word."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f'got "{text}"; must be KEY=VALUE')
    return key, parse_argument(value)
