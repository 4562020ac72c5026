"""Settings of fields: where they are found, and what is refused by them."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.config.settings import Setting, all_settings, check_settings, meant, settings_of


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Setting(least=0, below=1.0)] = 0.5


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Setting("how many", least=1, most=8)] = 1
    leaves: Annotated[int, Setting(power_of_two=True)] = 4
    speed: Annotated[float, Setting(above=0)] = 1.0
    colour: Annotated[str, Setting(choices=("red", "green"))] = "red"
    times: Annotated[tuple[float, ...], Setting(least=0)] = ()
    free: str = ""
    arguments: Annotated[dict[str, Any], Setting(arguments_of="free")] = field(default_factory=dict)
    names: Annotated[tuple[str, ...], Setting()] = ()
    factors: Annotated[dict[str, float], Setting(above=0, below=9)] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    more: tuple[Inner, ...] = ()


def test_the_fields_of_tables_inside_have_dotted_names():
    assert [each.path for each in all_settings(Outer)][-2:] == ["inner.share", "more"]
    assert settings_of(Outer)["count"].setting.help == "how many"
    assert settings_of(Outer)["count"].kind is int
    assert settings_of(Outer)["free"].setting == Setting()


def test_values_in_their_ranges_pass():
    check_settings(Outer())
    check_settings(Outer(count=8, times=(0, 2.5), more=(Inner(0.0),)))
    check_settings(Outer(names=("a", "b"), factors={"a*": 1, "b": 0.5}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: got 0; must be at least 1 and at most 8"),
        ({"count": 9}, "count: got 9; must be at least 1 and at most 8"),
        ({"count": True}, "count: got True; must be a whole number"),
        ({"count": "3"}, "count: got '3'; must be a whole number"),
        ({"free": 3}, "free: got 3; must be a text"),
        (
            {"arguments": {"a": 1, "b": (1,)}},
            "arguments.b: got (1,); must be a number, a text, true or false, or a list of these",
        ),
        ({"leaves": 12}, "leaves: got 12; must be a power of two"),
        ({"leaves": 0}, "leaves: got 0; must be a power of two"),
        ({"speed": 0.0}, "speed: got 0.0; must be more than 0"),
        ({"speed": float("nan")}, "speed: got nan; must be more than 0"),
        ({"colour": "gren"}, 'colour: got "gren" (did you mean "green"?); must be one of red, green'),
        ({"times": (1.0, -1.0)}, "times: got -1.0; must be at least 0"),
        ({"times": 3}, "times: got 3; must be a list, each a number"),
        ({"names": "a"}, "names: got 'a'; must be a list, each a text"),
        ({"names": ("a", 1)}, "names: got 1; must be a text"),
        ({"factors": ("a",)}, "factors: got ('a',); must be a table of numbers"),
        ({"factors": {"a*": 0}}, "factors.a*: got 0; must be more than 0 and below 9"),
        ({"factors": {"a*": "x"}}, "factors.a*: got 'x'; must be a number"),
        ({"arguments": None}, "arguments: got None; must be a table of arguments by name"),
        ({"inner": {"share": 0.5}}, "inner: got {'share': 0.5}; must be of type Inner"),
        ({"count": np.int64(3)}, "count: got np.int64(3); must be a whole number, as Python's own type"),
        ({"speed": np.float32(3)}, "speed: got np.float32(3.0); must be a number, as Python's own type"),
        ({"inner": Inner(1.0)}, "inner.share: got 1.0; must be at least 0 and below 1"),
        ({"more": (Inner(), Inner(2.0))}, "more[1].share: got 2.0; must be at least 0 and below 1"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_settings(Outer(**values), "mine: ")
    assert str(caught.value) == f"mine: {message}"


def test_values_of_earlier_versions_mean_what_they_meant():
    setting = Setting(formerly=((True, "yes"), ("on", "yes"), (1.0, "one")))
    found = [meant(value, setting) for value in (True, "on", 1.0, 1, False, "yes")]
    assert found == ["yes", "yes", "one", 1, False, "yes"]
