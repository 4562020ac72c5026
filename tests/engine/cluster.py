"""A whole training run on threads as ranks, small enough for unit tests."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, CommThread, InlineCommThread
from comm.communicator import Communicator
from comm.grid import Grid
from comm.scheduler import BYTES_IN_FLIGHT
from comm.threads import run_ranks, single_rank
from comm.tree import Tree
from engine.config.recipe import Recipe, ScheduleFields
from engine.data.dataset import Dataset, DataSource, digest
from engine.graph import Graph
from engine.graph.passes.convolution import set_convolutions
from engine.planner.auto import resolve
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from engine.run.saver import Task
from engine.run.session import run_session
from engine.run.trainer import Trainer
from engine.training.rank import build_rank
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.rank_settings import RankSettings, settings_of
from layers.kernels.threads import Threads
from layers.products import Unit


@dataclass(frozen=True, eq=False)
class Samples(Dataset):
    """Samples that lie in memory."""

    x: np.ndarray
    labels: np.ndarray

    @classmethod
    def draw(cls, shape, classes, count, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((count, *shape), np.float32)
        return cls("samples", shape, classes, x, rng.integers(0, classes, count))

    def __len__(self):
        return len(self.x)

    def read(self, index, x):
        x[...] = self.x[index]
        return int(self.labels[index])

    def all_labels(self):
        return self.labels

    def fingerprint(self):
        return digest(self.x, self.labels)


RECIPE = Recipe(batch=16, leaves=8, steps=4, checkpoint_every=0, schedule=ScheduleFields(rate=0.05))


def train(
    ranks: int,
    graph: Graph,
    recipe: Recipe = RECIPE,
    *,
    data: DataSource | None = None,
    threads: int = 1,
    folder: Path | None = None,
    restore: Any = None,
    given: Any = None,
    delays: Any = None,
    ranks_per_host: int = 1,
    unit: Unit | None = None,
    **sizes: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what run.json would hold, and the final weights; checks that all ranks agree on both.

    `sizes` are those of `train_rank`.
    """
    source = data or DataSource(Samples.draw(graph.input_shape, graph.output_shape[0], 64), None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)

    def work(world):
        own_folder = folder if world.rank == 0 else None
        return train_rank(
            world,
            graph,
            recipe,
            source,
            threads=threads,
            folder=own_folder,
            restore=restore,
            given=given,
            unit=unit,
            **sizes,
        )

    everyone = run_ranks(ranks, work, delays, ranks_per_host=ranks_per_host)
    hashes = {(results["weights_sha256"], results["state_sha256"]) for results, _ in everyone}
    assert len(hashes) == 1, "the ranks ended with other weights or another state"
    return everyone[0]


def train_rank(
    world: Communicator,
    graph: Graph,
    recipe: Recipe,
    data: DataSource,
    *,
    threads: int = 1,
    folder: Path | None = None,
    restore: Any = None,
    given: Any = None,
    chunk_floats: int = 1000,
    chunks_in_flight: int = 4,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    bucket_floats: int = BUCKET_FLOATS,
    unit: Unit | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train as one rank, on the calling thread; `unit`: None for what this process has."""
    queue = CommThread(bytes_in_flight=bytes_in_flight) if recipe.overlap else InlineCommThread()
    tree = Tree.of(world.size, recipe.leaves)
    collectives = Collectives(
        world.split(0), tree, chunk_floats=chunk_floats, chunks_in_flight=chunks_in_flight
    )
    settings = replace(settings_of(recipe, threads), bucket_floats=bucket_floats)
    settings = replace(settings, unit=unit or settings.unit)
    trainer = make_trainer(recipe, settings, graph, data, collectives, queue, control=world, folder=folder)
    if restore is None:
        trainer.rank.initialise(recipe.seed, given)
    else:
        trainer.restore(*restore)
    results = run_session(trainer)
    with trainer.rank.averaged():
        weights = trainer.rank.parameters.gather_weights()
    queue.close()
    return results, weights


def make_trainer(
    recipe: Recipe,
    settings: RankSettings,
    graph: Graph,
    data: DataSource,
    collectives: Collectives,
    queue: CommandQueue,
    *,
    control: Communicator | None = None,
    folder: Path | None = None,
) -> Trainer:
    """Return one rank's trainer, as `engine.run.launch` makes it."""
    configured = set_convolutions(graph, recipe.conv, recipe.conv_feature_leaves)
    ranks = collectives.communicator.size
    plan = resolve(recipe.plan, configured, ranks=ranks, batch=recipe.batch, cluster=recipe.cluster)
    recorder = Recorder()
    rank = build_rank(
        graph, settings, plan, Grid.of(collectives, plan.parts), queue,
        wrap=partial(timed, recorder=recorder),
    )  # fmt: skip
    return Trainer(
        rank, Task(recipe, data), Threads(settings.threads),
        control=control or single_rank(), recorder=recorder, folder=folder,
    )  # fmt: skip


def changed(recipe: Recipe = RECIPE, **fields: Any) -> Recipe:
    """Return a recipe with other fields."""
    return replace(recipe, **fields)
