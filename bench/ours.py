"""The engine as the benchmarks drive it: a Trainer's parts on one rank, one minibatch, step by step."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.threads import alone
from comm.tree import Tree
from engine.config.recipe import OptimizerFields, Recipe
from engine.data.loader import Batch
from engine.data.sources import open_data
from engine.models import MODELS
from engine.run.trainer import Trainer
from engine.training.step import forward, train_step
from layers.layer import Array

RATE, MOMENTUM = 1e-3, 0.9
"""Of both sides; a small rate, as the one minibatch comes again and again."""

SEED = 1


def minibatch(model: str, samples: int) -> tuple[Array, np.ndarray]:
    """Return the samples and labels that both sides train on: noise, the same in each process."""
    graph = MODELS[model]()
    generator = np.random.default_rng(SEED)
    x = generator.standard_normal((samples, *graph.input_shape), dtype=np.float32)
    return x, generator.integers(0, graph.output_shape[0], samples).astype(np.int32)


@dataclass
class Steps:
    """What a side did on one command."""

    seconds: list[float]
    losses: list[float]


class Ours:
    """One rank with all its memory, made as the train command makes it."""

    def __init__(self, model: str, *, samples: int, leaves: int, threads: int, fuse: bool = True):
        recipe = Recipe(
            model=model, data="synthetic", batch=samples, leaves=leaves, steps=1, seed=SEED, threads=threads,
            fuse=fuse, optimizer=OptimizerFields(momentum=MOMENTUM),
        )  # fmt: skip
        recipe.check(MODELS)
        graph = MODELS[model]()
        data = open_data("synthetic", graph.input_shape, graph.output_shape[0], SEED)
        collectives = Collectives(alone(), Tree.of(1, leaves))
        self.trainer = Trainer(recipe, graph, data, collectives, CommThread(), threads=threads)
        self.trainer.initialise()
        x, labels = minibatch(model, samples)
        self._batch = Batch(x, labels, np.arange(samples, dtype=np.int64), 0)
        self.trainer.memory.minibatch[:] = self._batch.samples

    def train(self, steps: int, *, dropout: bool = True) -> Steps:
        """Run whole steps, the update included; without dropout two sides have the same loss."""
        trainer, done = self.trainer, Steps([], [])
        trainer.context.training = dropout
        for _ in range(steps):
            start = time.perf_counter()
            train_step(
                trainer.model, trainer.memory, self._batch, trainer.loss, trainer.context,
                lambda weights, gradients, velocity: trainer.optimizer.update(
                    weights, gradients, velocity, RATE
                ),
            )  # fmt: skip
            loss = trainer.loss.wait().loss / len(self._batch.labels)
            trainer.model.wait()
            done.seconds.append(time.perf_counter() - start)
            done.losses.append(loss)
            trainer.context.step += 1
        return done

    def score(self, passes: int) -> Steps:
        """Run forward only, without dropout."""
        trainer, done = self.trainer, Steps([], [])
        trainer.context.training = False
        for _ in range(passes):
            start = time.perf_counter()
            forward(trainer.model, trainer.memory, self._batch, trainer.context)
            done.seconds.append(time.perf_counter() - start)
        return done

    def layers(self) -> dict[str, list[str]]:
        """Return the passes of each layer that a step runs, by the layer's name."""
        found = {}
        for node in self.trainer.model.graph:
            at = self.trainer.memory[node.name]
            wanted = {"forward": True, "backward_data": at.dx, "backward_weights": at.gradients}
            found[node.name] = [direction for direction, runs in wanted.items() if runs]
        return found

    def layer(self, name: str, direction: str, calls: int) -> Steps:
        """Run one pass of one layer, where a step has left it."""
        trainer, done = self.trainer, Steps([], [])
        (layer,) = (node.layer for node in trainer.model.graph if node.name == name)
        at = trainer.memory[name]
        trainer.context.training = True
        work: Any = getattr(layer, direction)
        for _ in range(calls):
            # An in-place layer over its own result would shrink numbers until they are denormal.
            for array in (*at.x, *at.dy) if layer.in_place else ():
                array[...] = 0.5
            start = time.perf_counter()
            work(at, trainer.context)
            done.seconds.append(time.perf_counter() - start)
        return done


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
