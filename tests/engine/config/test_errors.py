"""Mistakes of users, said in one line."""

from engine.config.errors import UserError


def test_whatever_a_message_quotes_it_is_one_line_that_can_be_printed() -> None:
    assert str(UserError("my.toml: got \x1b[2J\nfield\udcff")) == r"my.toml: got \x1b[2J field\xff"
    assert str(UserError("caf\u00e9: is no folder")) == "caf\u00e9: is no folder"
