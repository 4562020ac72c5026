"""Fields of files that anybody may have written."""

import pytest

from engine.report import fields

JUNK = [None, True, "text", [], {}, [1], float("nan"), float("inf"), 10**400, 1.5]


@pytest.mark.parametrize("value", JUNK)
def test_what_is_not_of_the_kind_is_not_there(value):
    record = {"a": {"b": value}}
    assert fields.number(record, "a", "b") == (1.5 if value == 1.5 else None)
    assert fields.whole(record, "a", "b") is None
    assert fields.text(record, "a", "b") == (value if value == "text" else None)
    assert fields.truth(record, "a", "b") is (True if value is True else None)
    assert fields.texts(record, "a", "b") == []
    assert fields.numbers(record, "a", "b") == ([1.0] if value == [1] else [])
    assert fields.table(record, "a", "b") == {}
    assert fields.number(value, "a", "b") is None


def test_what_is_of_the_kind_is_there():
    record = {"n": 3, "list": [1, 2.5], "mixed": [1, "a", None], "t": {"x": 1}}
    assert fields.whole(record, "n") == 3
    assert fields.numbers(record, "list") == [1.0, 2.5]
    assert fields.numbers(record, "mixed") == []
    assert fields.texts(record, "mixed") == ["a"]
    assert fields.table(record, "t") == {"x": 1}
