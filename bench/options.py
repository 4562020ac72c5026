"""Options of several commands: the model, and the samples of a minibatch."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from bench.shapes import NETWORKS
from engine.config.options import read_argument
from engine.models import MODELS


def model_option(parser: argparse.ArgumentParser, *, default: str = "vgg_a") -> None:
    """Add ``MODEL`` and ``--minibatch``."""
    parser.add_argument(
        "model", nargs="?", default=default, metavar="MODEL", help=f"{', '.join(MODELS)}; default {default}"
    )
    parser.add_argument("--minibatch", type=int, metavar="N", help="samples; default the model's own, or 32")


def models_option(parser: argparse.ArgumentParser, *, default: str = ", ".join(NETWORKS)) -> None:
    """Add any number of ``MODEL``."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(MODELS)}; default {default}")


def arguments_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--model-argument``, any number of times."""
    parser.add_argument(
        "--model-argument",
        dest="arguments",
        action="append",
        type=read_argument,
        metavar="KEY=VALUE",
        help="argument of the network's function, as of the train command (norm=true); may be repeated",
    )


def named_arguments(given: Sequence[tuple[str, Any]] | None) -> Mapping[str, Any]:
    """Return what `arguments_option` has read, by name."""
    return dict(given or ())


def minibatch(model: str, given: int | None) -> int:
    """Return the samples of a minibatch: the number given, or the model's on one host.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    if model not in MODELS:
        raise ValueError(f"model: got {model!r}; must be one of {', '.join(MODELS)}")
    return given or NETWORKS.get(model, 32)
