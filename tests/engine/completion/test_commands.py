"""What can be completed, as the parsers have it."""

import re

import pytest

from engine.completion.commands import Command, lockstep
from engine.config.recipe import shipped
from engine.lockstep_command import COMMANDS


@pytest.fixture(scope="module")
def whole() -> Command:
    return lockstep()


def inside(command: Command, *words: str) -> Command:
    """Return a command inside another one."""
    for word in words:
        (command,) = (each for each in command.commands if each.name == word)
    return command


def option(command: Command, name: str):
    (found,) = (each for each in command.options if name in each.names)
    return found


def test_every_command_is_there_with_its_help(whole):
    assert [each.name for each in whole.commands] == list(COMMANDS)
    assert all(each.help and (each.options or each.commands) for each in whole.commands)


def test_a_command_has_its_options_and_what_they_take(whole):
    train = inside(whole, "train")
    assert set(train.values) == set(shipped())
    assert option(train, "--optimizer").values == ("sgd", "adamw", "lars", "lamb")
    assert (option(train, "--steps").metavar, option(train, "--steps").files) == ("N", False)
    assert (option(train, "--out").values, option(train, "--out").files) == ((), True)
    assert option(train, "--check-data").metavar == ""
    assert option(inside(whole, "export"), "--to").values == ("onnx", "torch", "safetensors")


def test_names_that_come_along_stand_beside_files(whole):
    model = option(inside(whole, "plan"), "--model")
    assert ("vgg_a" in model.values, model.files) == (True, True)
    assert "cori_phase1" in option(inside(whole, "train"), "--cluster").values
    assert option(inside(whole, "evaluate"), "--model").values == ()


def test_a_command_that_starts_another_takes_its_options(whole):
    train, run = inside(whole, "train"), inside(whole, "run")
    assert run.values == train.values
    own = [name for each in run.options for name in each.names]
    assert len(own) == len(set(own))
    assert {name for each in train.options for name in each.names} | {"-n", "--survive"} <= set(own)


def test_commands_inside_a_command_are_found(whole):
    assert [each.name for each in inside(whole, "data").commands] == ["check", "pack", "show", "align"]
    assert option(inside(whole, "data", "pack"), "--quality").metavar == "Q"


def test_every_word_is_one_word_of_any_shell(whole):
    def words(command):
        for each in command.options:
            yield from (*each.names, *each.values)
        yield from command.values
        for each in command.commands:
            yield each.name
            yield from words(each)

    assert not [word for word in words(whole) if not re.fullmatch(r"[\w.:+-]+", word, re.ASCII)]


def test_help_is_short_and_on_one_line(whole):
    helps = [each.help for each in inside(whole, "train").options]
    assert max(map(len, helps)) <= 74
    assert not any("\n" in each or "%%" in each for each in helps)
