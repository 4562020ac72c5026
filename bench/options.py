"""Options of several commands: the model, and the samples of a minibatch."""

import argparse

from bench.shapes import NETWORKS
from engine.models import MODELS


def model_option(parser: argparse.ArgumentParser) -> None:
    """Add ``MODEL`` and ``--minibatch``."""
    parser.add_argument(
        "model", nargs="?", default="vgg_a", metavar="MODEL", help=f"{', '.join(MODELS)}; default vgg_a"
    )
    parser.add_argument("--minibatch", type=int, metavar="N", help="samples; default the model's own, or 32")


def models_option(parser: argparse.ArgumentParser, *, default: str = "all") -> None:
    """Add any number of ``MODEL``."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"{', '.join(NETWORKS)}; default {default}"
    )


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
