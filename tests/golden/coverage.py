"""What the golden runs reach: layers, the algorithm of every pass, and kernels."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import layers
from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.communicator import Communicator
from comm.threads import run_ranks
from comm.tree import Tree
from engine.graph import parallel, passes
from engine.graph.parallel.overlapped_exchange import OverlappedExchange, layers_of
from engine.training.rank_settings import settings_of
from layers.conv2d import Conv2d
from layers.convolution.algorithm import Algorithm
from layers.convolution.winograd import Winograd
from layers.kernels import tile_host
from layers.kernels.conv_algorithm import winograd_outputs
from layers.layer import Buffers, Layer
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES
from layers.wrapped import WrappedLayer
from tests.engine.cluster import make_trainer
from tests.golden.runs import Run

_LARGEST = 12  # of the kernels that are asked whether Winograd has an algorithm


def wanted() -> set[str]:
    """Return all that must be reached: every layer of the packages, every algorithm in every pass."""
    for package in (layers, parallel, passes):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith("layers.reference"):
                import_module(module.name)
    found = {kind.__name__ for kind in _kinds(Layer)}
    outputs = {winograd_outputs((size, size), 1) for size in range(1, _LARGEST)} - {0}
    for kind in _kinds(Algorithm):
        names = {f"{kind.__name__} F({each})" for each in outputs} if kind is Winograd else {kind.__name__}
        found |= {f"{name} {direction}" for name in names for direction in PASSES}
    return found


def _kinds(base: type) -> Iterator[type]:
    """Yield the classes of the engine that nobody derives from, from a base on."""
    below = [
        kind for kind in base.__subclasses__() if kind.__module__.startswith(("layers.", "engine.graph."))
    ]
    for kind in below:
        yield from _kinds(kind)
    if not below and not inspect.isabstract(base):
        yield base


def reached(run: Run, folder: Path) -> set[str]:
    """Return what a run reaches, without running it: what is in the graphs of its ranks."""
    graph, data = run.graph(), run.data(run.graph(), folder)

    def names(world: Communicator) -> set[str]:
        collectives = Collectives(world.split(0), Tree.of(world.size, run.recipe.leaves))
        settings = settings_of(run.recipe, run.threads)
        settings = replace(settings, unit=run.unit or settings.unit)
        trainer = make_trainer(run.recipe, settings, graph, data, collectives, InlineCommThread())
        trainer.context.threads.close()
        rank = trainer.rank
        return {name for node in rank.graph for name in _names(node.layer, rank.memory[node.name])}

    return set[str]().union(*run_ranks(run.ranks, names, ranks_per_host=run.ranks_per_host))


def _names(layer: Layer, at: Buffers) -> Iterator[str]:
    if isinstance(layer, OverlappedExchange):
        yield type(layer).__name__
    for inside, its in layers_of(layer, at):
        each: Layer = inside
        while True:
            yield type(each).__name__
            if not isinstance(each, WrappedLayer):
                break
            each = each.inner
        if isinstance(each, Conv2d):
            yield from _algorithms(each, its)


def _algorithms(conv: Conv2d, at: Buffers) -> Iterator[str]:
    runs = {FORWARD: True, BACKWARD_WEIGHTS: bool(at.gradients), BACKWARD_DATA: bool(at.dx)}
    for direction in (direction for direction in PASSES if runs[direction]):
        algorithm = conv.algorithm_of(direction, len(at.samples) // at.leaves, *at.shapes)
        outputs = f" F({algorithm.outputs})" if isinstance(algorithm, Winograd) else ""
        yield f"{type(algorithm).__name__}{outputs} {direction}"


def kernels() -> dict[str, bool]:
    """Return all kernels of the package by ``module.factory``, and whether this process has used each.

    Those that only try the processor out are left out.
    """
    found = dict[str, bool]()
    for module in walk_packages(import_module("layers.kernels").__path__, "layers.kernels."):
        if module.name == tile_host.__name__:
            continue
        for name, factory in vars(import_module(module.name)).items():
            if _is_factory(factory) and factory.__module__ == module.name:
                short = module.name.removeprefix("layers.kernels.")
                found[f"{short}.{name}"] = factory.cache_info().currsize > 0
    return found


def _is_factory(value: Any) -> bool:
    """Say whether a value is a cached function that compiles a kernel."""
    return hasattr(value, "cache_info") and "@kernel(" in inspect.getsource(value.__wrapped__)
