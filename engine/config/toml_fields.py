"""Frozen dataclasses read from TOML, checked field by field, and written back."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import resources
from typing import Any, TypeVar, get_args, get_origin

from engine.config import files
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.settings import ARGUMENT, TYPES, either, is_argument, meant, one_of_both, settings_of
from engine.config.wording import did_you_mean, one_of, shortened

T = TypeVar("T")

NAME, ARGUMENTS = "name", "arguments"
"""Entries of the table that a field and its arguments make together; see `Setting.arguments_of`."""


def shipped_names(folder: str) -> list[str]:
    """Return the names of the TOML files that come with the engine in one of its folders."""
    entries = resources.files("engine").joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def read_text(name: str, folder: str, what: str) -> str:
    """Return the text of a shipped TOML file by name, or of a file by path; no pipe, as every rank reads it.

    Parameters
    ----------
    what
        Its name in errors: "recipe".

    Raises
    ------
    UserError
        No such file, or not one of text.
    """
    shipped = shipped_names(folder)
    if name in shipped:
        return resources.files("engine").joinpath(folder, f"{name}.toml").read_text("utf-8")
    path = expand(name, what)
    if path.suffix != ".toml" and (path.is_dir() or not path.exists()):
        hint = did_you_mean(name, shipped)
        raise UserError(f'{what}: got "{name}"{hint}; {one_of(shipped)}, or the path of a TOML file')
    try:
        with files.reading(path):
            return files.read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file") from error


def parse(kind: type[T], text: str, where: str) -> T:
    """Return the dataclass that TOML text describes; `where` names the text in errors.

    Ranges are not checked here: see `engine.config.settings.check_settings`.

    Raises
    ------
    UserError
        Text that is not TOML, a field that is unknown or missing, or a value of the wrong type.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number may have too many digits, a list too many lists
        raise UserError(f"{where}: is not TOML: {error}") from error
    return _read(kind, table, where, "")


def _read(kind: type[T], table: Mapping[str, Any], where: str, prefix: str) -> T:
    settings = settings_of(kind)
    arguments = _arguments_fields(kind)
    known = [name for name in settings if name not in arguments.values()]
    values: dict[str, Any] = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f'{where}: unknown field "{path}"{hint}; {one_of(known)}')
        if name in arguments and isinstance(value, dict):
            values[name], values[arguments[name]] = _named(value, where, path)
        else:
            described = settings[name]
            kind_of_value = one_of_both(described.kind, value)
            if kind_of_value is not described.kind and not isinstance(value, (str, list)):
                raise UserError(f"{where}: {path}: got {value!r}; {either(described.setting)}")
            values[name] = _typed(kind_of_value, meant(value, described.setting), where, path)
    for each in fields(kind):  # type: ignore[arg-type]
        if each.name not in values and _is_required(each):
            raise UserError(f"{where}: {prefix}{each.name} is missing")
    return kind(**values)


def _arguments_fields(kind: type) -> dict[str, str]:
    """Return the fields that have arguments, each with the field that holds them."""
    settings = settings_of(kind).values()
    return {each.setting.arguments_of: each.path for each in settings if each.setting.arguments_of}


def _named(table: Mapping[str, Any], where: str, path: str) -> tuple[str, dict[str, Any]]:
    """Read a table of a name and its arguments."""
    for entry in table:
        if entry not in (NAME, ARGUMENTS):
            hint = did_you_mean(entry, (NAME, ARGUMENTS))
            raise UserError(f'{where}: unknown field "{path}.{entry}"{hint}; {one_of((NAME, ARGUMENTS))}')
    if NAME not in table:
        raise UserError(f"{where}: {path}.{NAME} is missing")
    arguments = table.get(ARGUMENTS, {})
    if not isinstance(arguments, dict):
        raise UserError(f"{where}: {path}.{ARGUMENTS} must be a table, got {arguments!r}")
    for key, value in arguments.items():
        if not is_argument(value):
            raise UserError(f"{where}: {path}.{ARGUMENTS}.{key}: got {value!r}; must be {ARGUMENT}")
    return _typed(str, table[NAME], where, f"{path}.{NAME}"), arguments


def parse_argument(text: str) -> Any:
    """Return the value that a TOML value on the command line means; anything else is a text as it stands."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # as in `parse`
        return text
    return table["value"] if len(table) == 1 and is_argument(table["value"]) else text


def argument_text(value: Any) -> str:
    """Return the text from which `parse_argument` reads a value back."""
    if isinstance(value, str) and parse_argument(value) == value:
        return value
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_inline, value))}]"
    return dumps({"value": value}).removeprefix("value = ").strip()


def _is_required(each: "Field[Any]") -> bool:
    return each.default is MISSING and each.default_factory is MISSING


_WRITTEN_AS: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
"""Types of TOML that a value of a type may have."""


def _typed(kind: Any, value: Any, where: str, name: str) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {name} must be a table, got {value!r}")
        return _read(kind, value, where, f"{name}.")  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, list):
        each, _ = get_args(kind)
        if is_dataclass(each):
            return tuple(_typed(each, entry, where, f"{name}[{i}]") for i, entry in enumerate(value))
        if all(type(entry) in _WRITTEN_AS[each] for entry in value):
            return tuple(_made(each, entry, where, name) for entry in value)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {key: _typed(float, entry, where, f"{name}.{key}") for key, entry in value.items()}
    if kind in TYPES and type(value) in _WRITTEN_AS[kind]:
        return _made(kind, value, where, name)
    raise UserError(f"{where}: {name}: got {value!r}; must be {_wanted(kind)}")


def _made(kind: type, value: Any, where: str, name: str) -> Any:
    try:
        return kind(value)
    except OverflowError as error:  # a whole number of hundreds of digits, as a float
        raise UserError(
            f"{where}: {name}: got {shortened(value)}, which is too large for a number"
        ) from error


def _wanted(kind: Any) -> str:
    if get_origin(kind) is tuple:
        each = get_args(kind)[0]
        return f"a list of {'tables' if is_dataclass(each) else 'texts' if each is str else 'numbers'}"
    return TYPES.get(kind, "a table of numbers")


def to_table(value: object) -> dict[str, Any]:
    """Return a dataclass as the table that `parse` reads; a name without arguments is a plain text."""
    kind = type(value)
    arguments = _arguments_fields(kind)
    table = {}
    for name in settings_of(kind):
        if name in arguments.values():
            continue
        held = _plain(getattr(value, name))
        given = getattr(value, arguments[name]) if name in arguments else {}
        table[name] = {NAME: held, ARGUMENTS: given} if given else held
    return table


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_table(value)
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def dumps(table: Mapping[str, Any]) -> str:
    """Return a table as TOML text."""
    import tomli_w  # noqa: PLC0415 -- only who writes needs it: --help must be quick

    return tomli_w.dumps(table)
