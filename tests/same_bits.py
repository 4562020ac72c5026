"""The command ``python -m tests.same_bits``: one hash for all ways to run, drawn at random."""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from comm.collectives import Collectives
from comm.comm_thread import CommThread, InlineCommThread
from comm.communicator import Communicator
from comm.threads import run_ranks
from comm.tree import Tree
from engine.config.errors import UserError
from engine.config.recipe import OptimizerFields, Recipe, ScheduleFields
from engine.data.dataset import DataSource
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.norm_groups import grouped
from engine.run.session import run_session
from engine.training.microbatches import allowed_microbatches
from engine.training.rank_settings import settings_of
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.group_norm import GroupNorm
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from layers.precision import PRECISIONS
from tests.engine.cluster import Samples, make_trainer
from tests.engine.graphs import (
    bottlenecks,
    convolutional,
    mixed,
    normed,
    normed_samples,
    normed_split,
    residual,
    wide,
    with_dropout,
)
from tests.golden import networks

NETWORKS: dict[str, Callable[[], Graph]] = {
    "mixed": mixed,
    "wide": wide,
    "images": convolutional,
    "norm_plan": normed_split,
    "residual": residual,
    "dropout": with_dropout,
    "normed": normed,
    "norm_blocks": bottlenecks,
    "samples": normed_samples,
    "separable": networks.separable,
    "grouped": networks.grouped,
}
RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "clip": {"optimizer": OptimizerFields(weight_decay=0.01, decay_exempt=("*.bias",), clip_norm=0.5)},
    "adamw": {"optimizer": OptimizerFields("adamw", weight_decay=0.1), "ema": 0.75},
    "lars": {
        "optimizer": OptimizerFields("lars", trust_coefficient=0.1, decay_exempt=("*.bias",)),
        "label_smoothing": 0.1,
        "mixup": 0.5,
    },
    "lamb": {"optimizer": OptimizerFields("lamb", weight_decay=0.1, clip_norm=0.5), "ema": 0.75},
    "weighted": {"class_weights": "balanced", "label_smoothing": 0.1, "mixup": 0.5},
    "drawn": {"sampling": "balanced", "class_weights": "balanced"},
    "windows": {"shuffle_window": 12},
}
"""Fields of a recipe that decide how gradients become steps."""
RANKS = (1, 2, 3, 4, 5, 6, 8, 16)
RECIPE = Recipe(
    batch=32, leaves=16, steps=3, overlap=False, fuse=False, checkpoint_every=0,
    schedule=ScheduleFields(rate=0.05),
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What to train: network, feature leaves of convolutions, which layers; and how, which changes no bit."""

    network: str
    feature_leaves: int = 1
    freeze: tuple[str, ...] = ()
    fast: str = ""
    """A layer with a learning rate of its own."""
    norm_groups: int = 0
    """Of batch normalisations; 0: as many as the minibatch allows."""
    rules: str = "sgd"
    precision: str = "fp32"
    ranks: int = 1
    ranks_per_host: int = 1
    threads: int = 1
    plan: str = "data"
    accumulate: int = 1
    overlap: bool = False
    fuse: bool = False
    chunk_floats: int = 1 << 18
    chunks_in_flight: int = 4
    bytes_in_flight: int = 4 << 20
    bucket_floats: int = 1 << 16
    late: float = 0.0
    """Share of messages, and of submitted jobs, that are held up at random."""
    shuffled: bool = False
    """Whether each rank has priorities of its own."""
    seed: int = 0
    """Of what is late, and of the priorities."""

    def alone(self) -> "Setting":
        """Return the same run on one rank: what decides its bits."""
        deciding = ("network", "feature_leaves", "freeze", "fast", "norm_groups", "rules", "precision")
        return Setting(**{name: getattr(self, name) for name in deciding})

    def __str__(self) -> str:
        return (
            f"{self.network:<9}/ {self.feature_leaves} {self.ranks:>2} ranks x {self.threads}  "
            f"{self.ranks_per_host:>2} a host  plan {self.plan:<22} "
            f"accumulate {self.accumulate:>2}  overlap {self.overlap:d}  fuse {self.fuse:d}  "
            f"chunk {self.chunk_floats:>6} x {self.chunks_in_flight}  flying {self.bytes_in_flight:>7}  "
            f"bucket {self.bucket_floats:>5}  groups {self.norm_groups:>2}  late {self.late:.2f}  "
            f"shuffled {self.shuffled:d}  frozen {','.join(self.freeze) or 'none'}  "
            f"fast {self.fast or 'none'}  {self.rules}  {self.precision}"
        )


def draw(rng: random.Random) -> Setting:
    """Draw one of all the ways to run."""
    weights = (3, 3, 3, 3, 1, 1, 2, 2, 1, 1, 1)  # the first four can be split
    (network,) = rng.choices(list(NETWORKS), weights)
    ranks, feature_leaves = rng.choice(RANKS), rng.choice((1, 2, 4))
    norm_groups = rng.choice((0, 1, 2, 4, 8, 16)) if "norm" in network else 0
    graph = grouped(NETWORKS[network](), norm_groups, RECIPE.batch, RECIPE.leaves)
    trained = (Conv2d, Linear, BatchNorm, GroupNorm, LayerNorm)
    names = [node.name for node in NETWORKS[network]() if isinstance(node.layer, trained)]
    frozen = rng.sample(names, rng.choice((0, 0, 1, 2, len(names) - 1)))
    return Setting(
        network=network,
        feature_leaves=feature_leaves,
        freeze=tuple(sorted(frozen)),
        fast=rng.choice(("", rng.choice(names))),
        norm_groups=norm_groups,
        rules=rng.choice(tuple(RULES)),
        precision=rng.choice(PRECISIONS),
        ranks=ranks,
        ranks_per_host=rng.choice((1, 2, 3, 4, 16)),
        threads=rng.choice((1, 1, 2, 3)),
        plan=_draw_plan(rng, set_convolutions(NETWORKS[network](), "auto", feature_leaves), ranks),
        accumulate=rng.choice(allowed_microbatches(Tree.of(ranks, RECIPE.leaves), graph)),
        overlap=rng.random() < 0.8,
        fuse=rng.random() < 0.5,
        chunk_floats=rng.choice((100, 1000, 10_000, 1 << 18)),
        chunks_in_flight=rng.randint(1, 5),
        bytes_in_flight=rng.choice((1, 10_000, 4 << 20)),
        bucket_floats=rng.choice((0, 1000, 1 << 16)),
        late=rng.choice((0.0, 0.1, 0.5)),
        shuffled=rng.random() < 0.5,
        seed=rng.randrange(2**31),
    )


def _draw_plan(rng: random.Random, graph: Graph, ranks: int) -> str:
    """Draw some layers that so many ranks can split; three times of four there is one, if it can be."""
    parts = [p for p in (2, 4, 8, 16) if ranks % p == 0]
    if not parts or rng.random() < 0.25:
        return "data"
    chosen = rng.choice(parts)
    names = [node.name for node in graph if isinstance(node.layer, (Conv2d, Linear))]
    able = [name for name in names if _fits(f"{name}={chosen}", graph, ranks)]
    split = [name for name in able if rng.random() < 0.7] or able[:1]
    return ",".join(f"{name}={chosen}" for name in split) or "data"


def _fits(plan: str, graph: Graph, ranks: int) -> bool:
    try:
        Plan.parse(plan).check(graph, ranks)
    except UserError:
        return False
    return True


def weights_sha256(setting: Setting) -> str:
    """Train as the setting says, ranks being threads; AssertionError where they end with other weights.

    Behind the hash of the weights is that of the state.
    """
    graph = NETWORKS[setting.network]()
    data = DataSource(Samples.draw(graph.input_shape, graph.output_shape[0], 64), None)
    rng = random.Random(setting.seed)

    def hold_up() -> None:
        if rng.random() < setting.late:
            time.sleep(rng.random() * 1e-3)

    def work(world: Communicator) -> str:
        return _train(world, setting, graph, data)

    hashes = set(run_ranks(setting.ranks, work, hold_up, ranks_per_host=setting.ranks_per_host))
    assert len(hashes) == 1, f"{setting}: the ranks ended with other weights"
    return hashes.pop()


def _train(world: Communicator, setting: Setting, graph: Graph, data: DataSource) -> str:
    recipe = replace(
        RECIPE, plan=setting.plan, fuse=setting.fuse, overlap=setting.overlap,
        conv_feature_leaves=setting.feature_leaves, freeze=setting.freeze, norm_groups=setting.norm_groups,
        accumulate=setting.accumulate, precision=setting.precision,
        schedule=replace(RECIPE.schedule, rates={setting.fast: 3.0} if setting.fast else {}),
        **RULES[setting.rules],
    )  # fmt: skip
    queue = _Unsteady(setting, world.rank) if setting.overlap else InlineCommThread()
    collectives = Collectives(
        world.split(0),
        Tree.of(world.size, recipe.leaves),
        chunk_floats=setting.chunk_floats,
        chunks_in_flight=setting.chunks_in_flight,
    )
    settings = replace(settings_of(recipe, setting.threads), bucket_floats=setting.bucket_floats)
    trainer = make_trainer(recipe, settings, graph, data, collectives, queue)
    trainer.rank.initialise(recipe.seed)
    results = run_session(trainer)
    queue.close()
    return f"{results['weights_sha256']} {results['state_sha256']}"


class _Unsteady(CommThread):
    """A communication thread that gets its jobs late, and in an order of priorities of its own."""

    def __init__(self, setting: Setting, rank: int):
        super().__init__(bytes_in_flight=setting.bytes_in_flight)
        self._setting, self._rng = setting, random.Random(f"{setting.seed} {rank}")

    def submit(self, job, *, name="", priority=0, after=None):
        if self._rng.random() < self._setting.late:
            time.sleep(self._rng.random() * 1e-3)
        if self._setting.shuffled:
            priority = self._rng.randrange(10)
        return super().submit(job, name=name, priority=priority, after=after)


@lru_cache
def reference(alone: Setting) -> str:
    """Return the hash of a run on one rank (`Setting.alone`): nothing overlapped, fused or split."""
    return weights_sha256(alone)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.same_bits",
        description="Train small networks in ways drawn at random; exit code 1 if one ends with other bits.",
    )
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="default 20")
    parser.add_argument("--seed", type=int, metavar="S", help="of the draws; default: another each time")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"{options.runs} runs, --seed {seed}", flush=True)
    rng, others = random.Random(seed), 0
    for index in range(1, options.runs + 1):
        setting = draw(rng)
        start = time.perf_counter()
        same = weights_sha256(setting) == reference(setting.alone())
        others += not same
        seconds = time.perf_counter() - start
        print(
            f"{index:>3}/{options.runs} {'same ' if same else 'OTHER'} {setting}  {seconds:.1f} s", flush=True
        )
    print(f"{others} of {options.runs} runs ended with other bits" if others else "all the same bits")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
