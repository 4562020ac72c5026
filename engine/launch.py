"""From a recipe to a finished run: check everything on all ranks, agree, then train."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from comm import failure
from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, CommThread, InlineCommThread
from comm.communicator import Communicator
from comm.tree import Tree
from engine.affinity import Cores, cores
from engine.checkpoint import State, read_state, read_tensors
from engine.data.augment import Augment
from engine.data.dataset import DataSource
from engine.data.sampler import Sampler
from engine.data.sources import open_data
from engine.errors import UserError
from engine.graph import Graph
from engine.models import MODELS
from engine.recipe import Recipe
from engine.trainer import Trainer
from layers.kernels.jit import fingerprint
from layers.layer import Array

T = TypeVar("T")
Resolve = Callable[[], tuple[Recipe, Path | None]]


@dataclass(frozen=True)
class _Prepared:
    """What a rank has read and checked before the first step."""

    recipe: Recipe
    graph: Graph
    data: DataSource
    tree: Tree
    state: State | None
    tensors: dict[str, Array]


def run(world: Communicator, resolve: Resolve) -> dict[str, Any]:
    """Train what `resolve` describes and return the results (collective).

    Raises
    ------
    UserError
        On all ranks, with the same message: before the first step, any rank's mistake in what was given.
    """
    prepared = _agreed(world, lambda: _prepare(world, resolve))
    seen = cores(world)
    _agreed(world, lambda: _check_hosts(world, prepared.recipe))
    folder = _agreed(world, lambda: _make_folder(world, prepared.recipe))
    recipe = prepared.recipe
    threads = recipe.threads or seen.threads
    _warn(world, seen, threads)
    queue = _queue(world, recipe)
    collectives = Collectives(world.split(0), prepared.tree)
    try:
        trainer = Trainer(
            recipe, prepared.graph, prepared.data, collectives, queue, threads=threads, folder=folder
        )
        if prepared.state is None:
            trainer.initialise()
        else:
            trainer.restore(prepared.state, prepared.tensors)
            prepared.tensors.clear()
        results = trainer.train()
    except UserError as error:  # found by this rank alone, in the middle of the run
        failure.fail(world, str(error))
    queue.close()
    if folder is not None:
        _say_goodbye(folder, results)
    return results


def _prepare(world: Communicator, resolve: Resolve) -> _Prepared:
    recipe, checkpoint = resolve()
    recipe.check(MODELS)
    try:
        tree = Tree.of(world.size, recipe.leaves)
    except ValueError as error:
        raise UserError(str(error)) from error
    graph = MODELS[recipe.model]()
    data = open_data(recipe.data, graph.input_shape, graph.output_shape[0], recipe.seed)
    Sampler(len(data.train), recipe.batch, recipe.seed)
    Augment.parse(recipe.augment).check(data.train.sample_shape)
    if checkpoint is None:
        return _Prepared(recipe, graph, data, tree, None, {})
    return _Prepared(recipe, graph, data, tree, read_state(checkpoint), read_tensors(checkpoint, graph))


def _agreed(world: Communicator, work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise the first rank's UserError on all ranks (collective)."""
    try:
        result = work()
    except UserError as error:
        raise UserError(failure.agree(world, str(error))) from error
    elsewhere = failure.agree(world, None)
    if elsewhere is not None:
        raise UserError(elsewhere)
    return result


def _check_hosts(world: Communicator, recipe: Recipe) -> None:
    """Refuse ranks that would not compute the same bits: other SIMD width, versions, sources or recipe."""
    bits = {name: value for name, value in vars(recipe).items() if name not in Recipe.NOT_IN_THE_BITS}
    mine = fingerprint() | {name: str(value) for name, value in bits.items()}
    first, *others = world.gather_objects(mine)
    for rank, other in enumerate(others, start=1):
        for name in mine:
            if other[name] != first[name]:
                raise UserError(
                    f"rank {rank} has {name} {other[name]}, rank 0 has {first[name]}; must be the same on all"
                )


def _make_folder(world: Communicator, recipe: Recipe) -> Path | None:
    """Make the run's folder with the resolved recipe; rank 0 only."""
    if world.rank != 0:
        return None
    folder = Path(recipe.out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"out: {folder}: cannot be written: {error.strerror}") from error
    return folder


def _warn(world: Communicator, seen: Cores, threads: int) -> None:
    """Say on rank 0 when ranks and threads do not fit the cores that the launcher gave."""
    if world.rank == 0 and threads * seen.ranks > seen.available:
        hint = "; give each rank its cores: mpirun --bind-to none" if threads > seen.available else ""
        print(
            f"warning: {seen.ranks} ranks x {threads} threads share {seen.available} cores{hint}",
            file=sys.stderr,
        )


def _queue(world: Communicator, recipe: Recipe) -> CommandQueue:
    hook = failure.job_hook(world)
    return CommThread(on_failure=hook) if recipe.overlap else InlineCommThread(on_failure=hook)


def _say_goodbye(folder: Path, results: dict[str, Any]) -> None:
    shown = ("samples_per_second", "final_loss", "test_accuracy", "seconds_total", "weights_sha256")
    print(json.dumps({name: results[name] for name in shown}))
    end = "interrupted; go on with --resume" if results["interrupted"] else "done; results in"
    print(f"{end} {folder}", file=sys.stderr, flush=True)
