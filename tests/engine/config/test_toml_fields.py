"""Dataclasses from TOML and back."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from engine.config.errors import UserError
from engine.config.settings import Setting
from engine.config.toml_fields import dumps, parse, parse_argument, read_text, shipped_names, to_table


@dataclass(frozen=True)
class Wheel:
    inches: float
    spokes: int = 32


@dataclass(frozen=True)
class Bicycle:
    frame: str = "steel"
    frame_arguments: Annotated[dict[str, Any], Setting(arguments_of="frame")] = field(default_factory=dict)
    front: Wheel = field(default_factory=lambda: Wheel(28.0))
    spare: tuple[Wheel, ...] = ()
    gears: tuple[float, ...] = ()
    lamps: tuple[str, ...] = ()
    prices: dict[str, float] = field(default_factory=dict)
    lock: Annotated[str, Setting(formerly=((True, "chain"), (False, "none")))] = "none"
    bell: bool = True


BICYCLES = (
    Bicycle(),
    Bicycle(gears=(1.0, 2.5), spare=(Wheel(28.0), Wheel(26.0, 36)), bell=False),
    Bicycle(lamps=("front", "rear"), prices={"b*": 2.0, "a": 1.5}),
    Bicycle("mine.py:frame", {"tubes": 3, "wall": 0.8, "paint": ["red", "blue"], "lugs": True}),
)


@pytest.mark.parametrize("bicycle", BICYCLES)
def test_what_is_written_is_read_back(bicycle):
    assert parse(Bicycle, dumps(to_table(bicycle)), "copy") == bicycle


def test_a_name_is_a_plain_text_where_it_has_no_arguments():
    assert to_table(Bicycle())["frame"] == "steel"
    assert to_table(BICYCLES[3])["frame"] == {
        "name": "mine.py:frame",
        "arguments": {"tubes": 3, "wall": 0.8, "paint": ["red", "blue"], "lugs": True},
    }


def test_a_table_without_arguments_is_the_name():
    assert parse(Bicycle, 'frame = {name = "alloy"}', "b") == Bicycle("alloy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bel = true", 'b: unknown field "bel" (did you mean "bell"?); must be one of frame, front, spare'),
        ("[front]", "b: front.inches is missing"),
        ("[front]\ninches = '28'", "b: front.inches: got '28'; must be a number"),
        ("lamps = ['front', 2]", "b: lamps: got ['front', 2]; must be a list of texts"),
        ("gears = ['a']", "b: gears: got ['a']; must be a list of numbers"),
        ("prices = {a = 'x'}", "b: prices.a: got 'x'; must be a number"),
        ("prices = 3", "b: prices: got 3; must be a table of numbers"),
        ("lock = 1", "b: lock: got 1; must be a text"),
        ("[[spare]]\ninches = 1\nspokes = 1.5", "b: spare[0].spokes: got 1.5; must be a whole number"),
        ("spare = [1]", "b: spare[0] must be a table, got 1"),
        (f"gears = [1, {10**400}]", f"b: gears: got {10**79}..., which is too large for a number"),
        (f"[front]\ninches = {10**400}", f"b: front.inches: got {10**79}..., which is too large"),
        (f"prices = {{a = {10**400}}}", f"b: prices.a: got {10**79}..., which is too large"),
        ("gears = 3", "b: gears: got 3; must be a list of numbers"),
        ("frame = 3", "b: frame: got 3; must be a text"),
        ("[frame]\narguments = {}", "b: frame.name is missing"),
        ("[frame]\nname = 3", "b: frame.name: got 3; must be a text"),
        (
            "[frame]\nname = 'x'\nargumets = {}",
            'b: unknown field "frame.argumets" (did you mean "arguments"?)',
        ),
        ("[frame]\nname = 'x'\narguments = 3", "b: frame.arguments must be a table, got 3"),
        (
            "[frame]\nname = 'x'\n[frame.arguments]\na = {b = 1}",
            "b: frame.arguments.a: got {'b': 1}; must be a number, a text, true or false, or a list of these",
        ),
        (
            "[frame]\nname = 'x'\n[frame.arguments]\na = nan",
            "b: frame.arguments.a: got nan; must be a number",
        ),
        ("frame_arguments = {a = 1}", 'b: unknown field "frame_arguments"'),
    ],
)
def test_a_mistake_says_where_it_is_and_what_is_allowed(text, message):
    with pytest.raises(UserError) as caught:
        parse(Bicycle, text, "b")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("relu", "relu"),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("", ""),
        ("a = b", "a = b"),
        ("1\nb = 2", "1\nb = 2"),
        ("1979-05-27", "1979-05-27"),
        ("nan", "nan"),
    ],
)
def test_an_argument_on_the_command_line_is_a_toml_value_or_a_bare_word(text, value):
    assert parse_argument(text) == value
    assert type(parse_argument(text)) is type(value)


def test_shipped_files_have_names():
    assert "digits" in shipped_names("recipes")
    assert 'model = "digits"' in read_text("digits", "recipes", "recipe")


@pytest.mark.parametrize(("text", "lock"), [("true", "chain"), ("false", "none"), ("'chain'", "chain")])
def test_a_value_of_an_earlier_version_is_read(text, lock):
    assert parse(Bicycle, f"lock = {text}", "b").lock == lock


def test_tables_of_numbers_keep_their_order():
    assert list(parse(Bicycle, "prices = {b = 2, a = 1}", "b").prices.items()) == [("b", 2.0), ("a", 1.0)]
