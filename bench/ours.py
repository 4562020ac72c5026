"""The engine as the benchmarks drive it: one rank, one minibatch, step by step."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.recipe import OptimizerFields, Recipe
from engine.data.loader import Batch
from engine.graph import Graph, Node
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from engine.training.optimizer import SGD
from engine.training.rank import build_rank
from engine.training.rank_settings import settings_of
from engine.training.step import forward, train_step
from layers.dropout import Dropout
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Context, Layer
from layers.precision import FP32
from layers.wrapped import WatchedLayer

RATE, MOMENTUM = 1e-3, 0.9
"""Of both sides; a small rate, as the one minibatch comes again and again."""

SEED = 1


def minibatch(graph: Graph, samples: int) -> tuple[Array, np.ndarray]:
    """Return the samples and labels that both sides train on: noise, the same in each process."""
    generator = np.random.default_rng(SEED)
    x = generator.standard_normal((samples, *graph.input_shape), dtype=np.float32)
    return x, generator.integers(0, graph.output_shape[0], samples).astype(np.int32)


@dataclass
class Steps:
    """What a side did on one command."""

    seconds: list[float]
    losses: list[float]
    processor_seconds: list[float] = field(default_factory=list)
    """Of all threads of the process: what others do beside it has less part in them."""


@final
@dataclass(frozen=True)
class _Dropping(WatchedLayer):
    """A dropout that can be turned off while all other layers train."""

    drops: list[bool] = field(repr=False, compare=False)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self.layer.forward(at, replace(run, training=self.drops[0]))

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.layer.backward_data(at, replace(run, training=self.drops[0]))


class Ours:
    """One rank with all its memory, made as the train command makes it."""

    def __init__(
        self,
        model: str,
        *,
        samples: int,
        leaves: int,
        threads: int,
        fuse: bool = True,
        accumulate: int = 1,
        norm_groups: int = 0,
        precision: str = FP32,
        pinned: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ):
        recipe = Recipe(
            model=model, data="synthetic", batch=samples, leaves=leaves, steps=1, seed=SEED, threads=threads,
            fuse=fuse, accumulate=accumulate, norm_groups=norm_groups, precision=precision,
            optimizer=OptimizerFields(momentum=MOMENTUM),
        )  # fmt: skip
        recipe.check(MODELS)
        network = MODELS[model](**(arguments or {}))
        collectives = Collectives(single_rank(), Tree.of(1, leaves))
        recorder, self._drops = Recorder(), [True]
        self.rank = build_rank(
            network, settings_of(recipe, threads), Plan(), Grid.of(collectives, 1), CommThread(),
            wrap=partial(_watched, recorder=recorder, drops=self._drops),
        )  # fmt: skip
        recorder.watch(self.rank.queue)
        self.rank.initialise(SEED)
        cores = tuple(sorted(os.sched_getaffinity(0)))[:threads] if pinned else None
        self._run = Context(Threads(threads, cores), seed=SEED)
        self._update = SGD(MOMENTUM).at(0, RATE)
        x, labels = minibatch(network, samples)
        indices = np.arange(samples, dtype=np.int64)
        self._samples, self.rank.memory.minibatch[:] = samples, indices
        self._batches = tuple(
            Batch(x[own.rows], labels[own.rows], indices[own.rows], 0, number)
            for number, own in enumerate(self.rank.memory.microbatches)
        )

    def train(self, steps: int, *, dropout: bool = True) -> Steps:
        """Run whole steps, the update included; without dropout two sides have the same loss."""
        run, done = self._run, Steps([], [])
        run.training, self._drops[0] = True, dropout
        for _ in range(steps):
            start, worked = time.perf_counter(), time.process_time()
            outcome = train_step(self.rank, self._batches, run, self._update)
            self.rank.parameters.wait()
            done.seconds.append(time.perf_counter() - start)
            done.processor_seconds.append(time.process_time() - worked)
            done.losses.append(outcome.loss / self._samples)
            run.step += 1
        return done

    def score(self, passes: int) -> Steps:
        """Run forward only, without dropout."""
        done = Steps([], [])
        self._run.training = False
        for _ in range(passes):
            start = time.perf_counter()
            for batch in self._batches:
                forward(self.rank, batch, self._run)
            done.seconds.append(time.perf_counter() - start)
        return done

    def weights_sha256(self) -> str:
        """Hash the weights."""
        return self.rank.parameters.weights_sha256()

    def layers(self) -> dict[str, list[str]]:
        """Return the passes of each layer that a step runs, by the layer's name."""
        found = {}
        for node in self.rank.graph:
            at = self.rank.memory[node.name]
            wanted = {"forward": True, "backward_data": at.dx, "backward_weights": at.gradients}
            found[node.name] = [direction for direction, runs in wanted.items() if runs]
        return found

    def layer(self, name: str, direction: str, calls: int) -> Steps:
        """Run one pass of one layer, where a step has left it."""
        done = Steps([], [])
        (layer,) = (node.layer for node in self.rank.graph if node.name == name)
        at = self.rank.memory[name]
        self._run.training = True
        work: Any = getattr(layer, direction)
        for _ in range(calls):
            # An in-place layer over its own result would shrink numbers until they are denormal.
            for array in (*at.x, *at.dy) if layer.in_place else ():
                array[...] = 0.5
            start = time.perf_counter()
            work(at, self._run)
            done.seconds.append(time.perf_counter() - start)
        return done


def _watched(node: Node, recorder: Recorder, drops: list[bool]) -> Layer:
    layer = timed(node, recorder)
    return _Dropping(layer, node.name, drops) if isinstance(node.layer, Dropout) else layer


def main() -> int:
    """Run one step and print when: the child process of `bench.startup`."""
    imported = time.time()
    model, samples, leaves, threads = sys.argv[1], *map(int, sys.argv[2:5])
    ours = Ours(model, samples=samples, leaves=leaves, threads=threads)
    built = time.time()
    ours.train(1)
    first = time.time()
    ours.train(1)
    print(imported, built, first, time.time())
    return 0


if __name__ == "__main__":
    sys.exit(main())
