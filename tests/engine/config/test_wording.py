"""Words of messages."""

import pytest

from engine.config.wording import counted, printable, shortened


@pytest.mark.parametrize(("number", "text"), [(0, "0 ranks"), (1, "1 rank"), (2, "2 ranks")])
def test_a_noun_goes_with_its_number(number: int, text: str) -> None:
    assert counted(number, "rank") == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("caf\u00e9 \u732b", "caf\u00e9 \u732b"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2Jx", r"\x1b[2Jx"),
        ("\udcff\udce9", r"\xff\xe9"),
        ("\u2028\u202e", r"\u2028\u202e"),
    ],
)
def test_a_name_of_any_bytes_stays_on_its_line(name: str, text: str) -> None:
    assert printable(name) == text


def test_what_is_quoted_has_an_end() -> None:
    assert shortened("x" * 80) == "x" * 80
    assert shortened(["x" * 100], 5) == "['xxx..."
