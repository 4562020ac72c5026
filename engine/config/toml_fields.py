"""Frozen dataclasses read from TOML, checked field by field, and written back."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import resources
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from engine.config.errors import UserError
from engine.config.paths import expand

T = TypeVar("T")


def shipped_names(folder: str) -> list[str]:
    """Return the names of the TOML files that come with the engine in one of its folders."""
    entries = resources.files("engine").joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def read_text(name: str, folder: str, what: str) -> str:
    """Return the text of a shipped TOML file by name, or of a file by path.

    Parameters
    ----------
    what
        It is, in errors: "recipe".

    Raises
    ------
    UserError
        No such file, or not one of text.
    """
    shipped = shipped_names(folder)
    if name in shipped:
        return resources.files("engine").joinpath(folder, f"{name}.toml").read_text("utf-8")
    path = expand(name, what)
    if path.suffix != ".toml" and not path.is_file():
        hint = did_you_mean(name, shipped)
        raise UserError(f'{what}: got "{name}"{hint}; {one_of(shipped)}, or the path of a TOML file')
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file") from error


def parse(kind: type[T], text: str, where: str) -> T:
    """Return what TOML text describes; `where` names it in errors.

    Raises
    ------
    UserError
        Text that is not TOML, a field that is unknown or missing, or a value of the wrong type.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: is not TOML: {error}") from error
    return _read(kind, table, where, "")


def _read(kind: type[T], table: Mapping[str, Any], where: str, prefix: str) -> T:
    kinds, known = get_type_hints(kind), {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f'{where}: unknown field "{prefix}{name}"{hint}; {one_of(known)}')
        values[name] = _typed(kinds[name], value, where, f"{prefix}{name}")
    for name, each in known.items():
        if name not in values and _is_required(each):
            raise UserError(f"{where}: {prefix}{name} is missing")
    return kind(**values)


def _is_required(each: "Field[Any]") -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _typed(kind: Any, value: Any, where: str, name: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {name} must be a table, got {value!r}")
        return _read(kind, value, where, f"{name}.")  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, list):
        each, _ = get_args(kind)
        if is_dataclass(each):
            return tuple(_typed(each, entry, where, f"{name}[{i}]") for i, entry in enumerate(value))
        if all(type(entry) in (int, float) for entry in value):
            return tuple(float(entry) for entry in value)
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float, str, bool) and type(value) is kind:
        return value
    wanted = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    listed = "a list of tables" if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]) else None
    raise UserError(
        f"{where}: {name}: got {value!r}; must be {listed or wanted.get(kind, 'a list of numbers')}"
    )


def toml_lines(values: Mapping[str, Any], table: str = "") -> list[str]:
    """Return the lines of a table as `parse` reads them: values first, then the tables inside.

    Parameters
    ----------
    values
        As from `dataclasses.asdict`.
    table
        Its name with those around it, "network.channel"; none for the whole document.
    """
    lines, tables = [], []
    for name, value in values.items():
        inside = f"{table}.{name}" if table else name
        if isinstance(value, dict):
            tables += [f"\n[{inside}]", *toml_lines(value, inside)]
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            for entry in value:
                tables += [f"\n[[{inside}]]", *toml_lines(entry, inside)]
        else:
            lines.append(f"{name} = {_toml(value)}")
    return lines + tables


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML escapes one more
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(entry) for entry in value)}]"
    return repr(value)


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """Return a hint for an error, " (did you mean ...?)"; nothing where no allowed name is like it."""
    close = difflib.get_close_matches(got.lower(), list(allowed), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def one_of(allowed: Iterable[str]) -> str:
    """Return what an error says of a choice."""
    return f"must be one of {', '.join(allowed)}"
