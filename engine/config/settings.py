"""Settings: what the field of a dataclass accepts, and what its user is told about it.

A dataclass annotates its fields, ``batch: Annotated[int, Setting("global minibatch")] = 64``. The TOML reader
(`engine.config.toml_fields`), the command line (`engine.config.options`) and the check of ranges all follow
from these annotations, so that a field is described once.

msgspec and cattrs read dataclasses too, but their errors are worse for the user: msgspec passes over an
unknown field of a dataclass and does not say which value came, cattrs raises a group of exceptions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from numbers import Real
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from engine.config.errors import UserError
from engine.config.wording import did_you_mean, one_of


@dataclass(frozen=True)
class Setting:
    """Describe a field: its help, its range, its option.

    Attributes
    ----------
    help
        For the list of options; empty: the field has no option.
    group
        Heading of its option.
    option
        Its name, without dashes; empty: the name of the field.
    metavar
        Placeholder of its value; empty: by type.
    choices
        All texts that are allowed; empty: any text. Of a field of type ``str | tuple[float, ...]``, a list of
        numbers is allowed too.
    least, above, below, most
        Range of a number, or of each number of a list.
    power_of_two
        Only 1, 2, 4 ... are allowed.
    changes_bits
        False: no weight depends on it, so a resumed run may change it.
    same_on_all_ranks
        False: ranks may have different values.
    arguments_of
        The text field beside it whose arguments it holds: in TOML both are one table, with `name` and
        `arguments`.
    formerly
        Values that earlier versions wrote, and others that are read, each with what it means.
    """

    help: str = ""
    group: str = ""
    option: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    power_of_two: bool = False
    changes_bits: bool = True
    same_on_all_ranks: bool = True
    arguments_of: str = ""
    formerly: tuple[tuple[object, object], ...] = ()


@dataclass(frozen=True)
class Described:
    """A field of a dataclass with its type and its setting."""

    path: str
    """Its name, with the tables around it: "schedule.rate"."""
    kind: Any
    setting: Setting


def settings_of(kind: type) -> dict[str, Described]:
    """Return the fields of a dataclass by name; a field without an annotation of ours gets an empty one."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        extras = getattr(hint, "__metadata__", ())
        setting = next((each for each in extras if isinstance(each, Setting)), Setting())
        found[name] = Described(name, get_args(hint)[0] if extras else hint, setting)
    return found


def all_settings(kind: type, prefix: str = "") -> Iterator[Described]:
    """Yield the settings of a dataclass and of the tables inside it, with their dotted names."""
    for name, each in settings_of(kind).items():
        if is_dataclass(each.kind):
            yield from all_settings(each.kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield Described(f"{prefix}{name}", each.kind, each.setting)


def check_settings(value: object, prefix: str = "") -> None:
    """Raise UserError for the first field, in the order of the dataclass, of a wrong type or out of range.

    Parameters
    ----------
    prefix
        Before the name of the field in errors: "my.toml: ".
    """
    for name, each in settings_of(type(value)).items():
        _check(getattr(value, name), each.kind, each.setting, f"{prefix}{name}")


def _check(value: Any, kind: Any, setting: Setting, name: str) -> None:
    if isinstance(kind, UnionType):
        _check_either(value, kind, setting, name)
        return
    types, wanted = _container(kind, setting)
    if types and not isinstance(value, types):
        raise UserError(f"{name}: got {value!r}; must be {wanted}")
    if is_dataclass(kind):
        check_settings(value, f"{name}.")
    elif get_origin(kind) is tuple:
        each = get_args(kind)[0]
        for index, entry in enumerate(value):
            _check(entry, each, setting, f"{name}[{index}]" if is_dataclass(each) else name)
    elif get_origin(kind) is dict:
        for key, entry in value.items():
            _check_entry(entry, kind, setting, f"{name}.{key}")
    else:
        _check_scalar(value, kind, setting, name)


def _check_either(value: Any, kind: Any, setting: Setting, name: str) -> None:
    """Check a text of the choices, or else a list of numbers."""
    if isinstance(value, str):
        if value not in setting.choices:
            hint = did_you_mean(value, setting.choices)
            raise UserError(f'{name}: got "{value}"{hint}; {either(setting)}')
    elif isinstance(value, (tuple, list)):
        _check(value, one_of_both(kind, value), replace(setting, choices=()), name)
    else:
        raise UserError(f"{name}: got {value!r}; {either(setting)}")


def one_of_both(kind: Any, value: Any) -> Any:
    """Return the type of a field by its value, where it may be a text or a list; else the type as it is."""
    if not isinstance(kind, UnionType):
        return kind
    text, several = get_args(kind)
    return text if isinstance(value, str) else several


def either(setting: Setting) -> str:
    """Say what a field may be that is a text or a list of numbers."""
    return f"{one_of(setting.choices)}, or a list of numbers"


def _check_entry(value: Any, kind: Any, setting: Setting, name: str) -> None:
    """Check one entry of a table: an argument of a user's function, or a number."""
    if not setting.arguments_of:
        _check_scalar(value, get_args(kind)[1], setting, name)
    elif not is_argument(value):
        raise UserError(f"{name}: got {value!r}; must be {ARGUMENT}")


def _container(kind: Any, setting: Setting) -> tuple[tuple[type, ...], str]:
    """Return the types of a field that holds others, and what errors call them; none for a single value."""
    if isinstance(kind, type) and is_dataclass(kind):
        return (kind,), f"of type {kind.__name__}"
    if get_origin(kind) is tuple:
        each = get_args(kind)[0]
        return (tuple, list), f"a list, each {TYPES.get(each, f'of type {each.__name__}')}"
    if get_origin(kind) is dict:
        return (dict,), "a table of arguments by name" if setting.arguments_of else "a table of numbers"
    return (), ""


def _check_scalar(value: Any, kind: Any, setting: Setting, name: str) -> None:
    if not _is_a(value, kind):
        other = ", as Python's own type" if isinstance(value, Real) and hasattr(value, "dtype") else ""
        raise UserError(f"{name}: got {value!r}; must be {TYPES[kind]}{other}")
    if kind in (int, float) and not _in_range(value, setting):
        raise UserError(f"{name}: got {value}; must be {_range(setting)}")
    if setting.choices and value not in setting.choices:
        hint = did_you_mean(value, setting.choices)
        raise UserError(f'{name}: got "{value}"{hint}; {one_of(setting.choices)}')


def meant(value: Any, setting: Setting) -> Any:
    """Return what a value of an earlier version means; any other as it is."""
    for former, now in setting.formerly:
        if type(value) is type(former) and value == former:
            return now
    return value


TYPES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
"""What errors call the types of fields."""


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):  # not numpy's: TOML has none, and a float32 would compute the rates in float32
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind)


ARGUMENT = "a number, a text, true or false, or a list of these"
"""What errors call the values that a user's function can be given."""


def is_argument(value: object) -> bool:
    """Say whether a value can be an argument of a user's function: int, float, bool, str or a list of these.

    NaN cannot: it is not equal to itself, so no resumed run would have the same.
    """
    if isinstance(value, list):
        return all(is_argument(each) and not isinstance(each, list) for each in value)
    return isinstance(value, (int, float, bool, str)) and value == value  # noqa: PLR0124 -- NaN


def _in_range(value: Any, setting: Setting) -> bool:
    """Say whether a number is in its range; NaN is in none that has an end."""
    return (
        (setting.least is None or value >= setting.least)
        and (setting.above is None or value > setting.above)
        and (setting.below is None or value < setting.below)
        and (setting.most is None or value <= setting.most)
        and not (setting.power_of_two and (value < 1 or value & (value - 1)))
    )


def _range(setting: Setting) -> str:
    if setting.power_of_two:
        return "a power of two" + ("" if setting.most is None else f" up to {setting.most}")
    ends = {
        "at least": setting.least,
        "more than": setting.above,
        "below": setting.below,
        "at most": setting.most,
    }
    return " and ".join(f"{word} {_shown(end)}" for word, end in ends.items() if end is not None)


def _shown(end: float) -> str:
    return f"{end}" if isinstance(end, int) else f"{end:g}"
