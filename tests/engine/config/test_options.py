"""Options that are made from the settings of a recipe."""

import argparse

import pytest

from engine.config.options import add_options, given_options
from engine.config.recipe import HEADINGS, Recipe, override
from engine.config.settings import all_settings


@pytest.fixture
def parser():
    made = argparse.ArgumentParser(allow_abbrev=False)
    add_options(made, Recipe, HEADINGS, more={"data": "digits, or nothing"})
    return made


def given(parser, *arguments):
    return given_options(Recipe, parser.parse_args(arguments))


def test_every_field_has_an_option(parser):
    known = {action.dest for action in parser._actions}
    assert {each.path for each in all_settings(Recipe)} <= known


def test_names_that_users_know_stay(parser):
    names = {name for action in parser._actions for name in action.option_strings}
    assert names >= {
        "--data", "--augment", "--batch", "--leaves", "--epochs", "--steps", "--lr", "--momentum",
        "--weight-decay", "--seed", "--plan", "--cluster", "--bucket-kib", "--chunk-kib", "--conv",
        "--conv-feature-leaves", "--threads", "--evaluate-every", "--checkpoint-every", "--checkpoint-steps",
        "--out", "--trace", "--overlap", "--shared-memory", "--fuse",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ((), {}),
        (("--lr", "0.5"), {"schedule.rate": 0.5}),
        (("--overlap", "off", "--nesterov", "on"), {"overlap": False, "optimizer.nesterov": True}),
        (("--schedule", "step", "--milestones", "3,4.5"),
         {"schedule.kind": "step", "schedule.milestones": (3.0, 4.5)}),
        (("--milestones", ""), {"schedule.milestones": ()}),
        (("--model", "net.py:net", "--model-argument", "width=3", "--model-argument", "act=relu"),
         {"model": "net.py:net", "model_arguments.width": 3, "model_arguments.act": "relu"}),
        (("--data-argument", "shape=[3, 8]"), {"data_arguments.shape": [3, 8]}),
        (("--freeze", "conv*,fc4"), {"freeze": ("conv*", "fc4")}),
        (("--freeze", ""), {"freeze": ()}),
        (("--class-weights", "1,2,0.5"), {"class_weights": (1.0, 2.0, 0.5)}),
        (("--class-weights", "balanced", "--sampling", "3"),
         {"class_weights": "balanced", "sampling": (3.0,)}),
        (("--rate-factor", "conv*=0.1", "--rate-factor", "a=b=2"),
         {"schedule.rates": {"conv*": 0.1, "a=b": 2.0}}),
    ],
)  # fmt: skip
def test_given_options_are_fields_of_the_recipe(parser, arguments, fields):
    assert given(parser, *arguments) == fields
    override(Recipe(), fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "many"), 'argument --steps: got "many"; must be a whole number'),
        (("--lr", "fast"), 'argument --lr: got "fast"; must be a number'),
        (("--fuse", "yes"), 'argument --fuse: got "yes"; must be on or off'),
        (("--milestones", "1;2"), 'argument --milestones: got "1;2"; must be numbers with commas between'),
        (("--model-argument", "width"), 'argument --model-argument: got "width"; must be KEY=VALUE'),
        (("--data-argument", "a-b=1"), 'argument --data-argument: got "a-b=1"; must be KEY=VALUE'),
        (("--class-weights", "balancd"),
         'argument --class-weights: got "balancd"; must be one of none, balanced, or numbers with commas'),
        (("--sampling", "1,,2"), 'argument --sampling: got "1,,2"; must be one of shuffled, balanced, or n'),
        (("--rate-factor", "conv"), 'argument --rate-factor: got "conv"; must be PATTERN=NUMBER'),
        (("--rate-factor", "=2"), 'argument --rate-factor: got "=2"; must be PATTERN=NUMBER'),
        (("--rate-factor", "fc=x"), 'argument --rate-factor: got "fc=x"; must be PATTERN=NUMBER'),
    ],
)  # fmt: skip
def test_a_mistaken_value_says_what_is_allowed(parser, capsys, arguments, message):
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_the_help_groups_options_and_names_fields_and_defaults(parser):
    text = " ".join(parser.format_help().split())
    for part in (
        *HEADINGS,
        "--lr RATE learning rate, at its highest (schedule.rate); default 0.01",
        "--schedule constant|step|cosine",
        "training and test samples: digits, or nothing; default digits",
        "off: after each layer; default on",
    ):
        assert part in text
