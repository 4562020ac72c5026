"""Words of messages."""

import pytest

from engine.config.wording import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 ranks"), (1, "1 rank"), (2, "2 ranks")])
def test_a_noun_goes_with_its_number(number: int, text: str) -> None:
    assert counted(number, "rank") == text
