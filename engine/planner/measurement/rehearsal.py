"""Rehearse the training steps of one rank without the others, to time each layer in the order of a step.

Kernels measured one by one find their data in caches that in a step other layers have used, and nobody beside
them who reads the next minibatch.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import final

from comm.absent import AbsentCommunicator
from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from engine.data.loader import Loader
from engine.data.readers.synthetic import Synthetic
from engine.data.sampler import Sampler
from engine.graph.parallel.overlapped_exchange import layers_of
from engine.planner.costs import load_problem, loss_problem, problem
from engine.planner.design import Design, Members, build_rank_of
from engine.profile.recorder import PASS, Recorder, Span
from engine.profile.timed_layer import TimedLayer, timed
from engine.training.step import train_step
from engine.training.update import NOTHING
from layers.kernels.threads import Threads
from layers.layer import Buffers, Context
from layers.work import BACKWARD_WEIGHTS, FORWARD
from layers.wrapped import unwrapped

_UNTIMED_STEPS = 2  # the first compiles; fewer than a run leaves out, as a large network's steps take seconds
_LEAST_STEPS = 3
_SEED, _EPOCH_STEPS = 1, 4

CONVOLUTION, WEIGHT_GRADIENT, FULLY_CONNECTED = KINDS = (
    "convolution",
    "weight_gradient",
    "fully_connected",
)
"""Kinds of passes, for which `engine.planner.cluster.Machine` has efficiencies."""

Problem = tuple[str, int, int]
"""Text of the layer and its inputs, samples, threads."""


@dataclass
class Times:
    """Seconds of some steps."""

    passes: dict[Problem, dict[str, list[float]]] = field(default_factory=dict)
    """Seconds by problem and pass."""
    work: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """FLOP and seconds of one thread, of each pass that multiplies, by its kind."""
    rest: list[float] = field(default_factory=list)
    """Seconds of each step outside all layers."""

    def note(self, key: Problem, direction: str, *seconds: float) -> None:
        """Add seconds of a pass."""
        self.passes.setdefault(key, {}).setdefault(direction, []).extend(seconds)

    def rate(self, kind: str) -> float | None:
        """Return the FLOP/s of one thread in all passes of a kind; None where there was none."""
        work = self.work.get(kind)
        return sum(flop for flop, _ in work) / sum(seconds for _, seconds in work) if work else None


class Rehearsal:
    """One rank of a design point, ready to take steps.

    Parameters
    ----------
    rank
        Its number among the design's ranks.
    cores
        See `Threads`.
    """

    def __init__(self, design: Design, rank: int, cores: tuple[int, ...] | None = None):
        self._design, self._cores = design, cores
        self._recorder = Recorder(keep=True)
        parts = design.plan.parts
        group, part = divmod(rank, parts)
        members = Members(
            AbsentCommunicator(rank, design.ranks),
            AbsentCommunicator(part, parts),
            AbsentCommunicator(group, design.ranks // parts),
        )
        self._rank = build_rank_of(
            design, members, _EndsAtOnce(), wrap=partial(timed, recorder=self._recorder)
        )
        self._timed: dict[str, tuple[TimedLayer, Buffers]] = {}
        for node in self._rank.graph:
            for layer, at in layers_of(node.layer, self._rank.memory[node.name]):
                assert isinstance(layer, TimedLayer)
                self._timed[layer.node] = layer, at

    def problems(self) -> set[Problem]:
        """Return the problems that a step measures."""
        return {self._problem(name) for name in self._timed}

    def measure(self, *, seconds: float) -> Times:
        """Take steps for some time, a few at least, and return their times."""
        rank, graph, times = self._rank, self._rank.graph, Times()
        sampler = Sampler(_EPOCH_STEPS * self._design.batch, self._design.batch, _SEED)
        (classes,) = graph.output_shape
        data = Synthetic.make(graph.input_shape, classes=classes, length=sampler.length, seed=_SEED)
        shares = (minibatch.rows(rank.memory.own_samples) for minibatch in sampler.training(0))
        with (
            closing(Threads(self._design.threads, self._cores)) as threads,
            Loader(data, shares) as batches,
        ):
            run = Context(threads)
            rank.initialise(_SEED)  # memory that nobody has touched is one page of zeros
            for _ in range(_UNTIMED_STEPS):
                self._step(batches, run, Times())
            deadline = time.perf_counter() + seconds
            while len(times.rest) < _LEAST_STEPS or time.perf_counter() < deadline:
                self._step(batches, run, times)
        return times

    def _step(self, batches: Loader, run: Context, times: Times) -> None:
        self._recorder.spans.clear()
        begin = time.perf_counter()
        batch = next(iter(batches))
        start = time.perf_counter()
        train_step(self._rank, (batch,), run, NOTHING)
        wall = time.perf_counter() - begin
        spans = self._recorder.spans
        forward = [span for span in spans if span.attributes[PASS] == FORWARD]
        loading = forward[0].start - start
        losing = spans[len(forward)].start - forward[-1].end
        for span in spans:
            self._note(span, times)
        graph, samples, threads = self._rank.graph, len(batch.x), self._design.threads
        times.note((load_problem(graph.input_shape), samples, threads), FORWARD, loading)
        times.note((loss_problem(graph.output_shape[0]), samples, threads), FORWARD, losing)
        times.rest.append(wall - loading - losing - sum(span.end - span.start for span in spans))

    def _note(self, span: Span, times: Times) -> None:
        name, direction = str(span.attributes["layer"]), str(span.attributes[PASS])
        seconds, key = span.end - span.start, self._problem(name)
        times.note(key, direction, seconds)
        layer, at = self._timed[name]
        extents = layer.extents(*at.shapes)
        if extents is not None:
            kind = CONVOLUTION
            if extents.is_fully_connected:
                kind = FULLY_CONNECTED
            elif direction == BACKWARD_WEIGHTS:
                kind = WEIGHT_GRADIENT
            times.work.setdefault(kind, []).append((key[1] * extents.flops, seconds * key[2]))

    def _problem(self, name: str) -> Problem:
        layer, at = self._timed[name]
        return problem(unwrapped(layer), at.shapes), len(at.samples), self._design.threads


def merged(many: Sequence[Times]) -> Times:
    """Return the times of several ranks or design points as one."""
    total = Times()
    for each in many:
        total.rest += each.rest
        for kind, work in each.work.items():
            total.work[kind] = total.work.get(kind, []) + work
        for key, passes in each.passes.items():
            for direction, seconds in passes.items():
                total.note(key, direction, *seconds)
    return total


@final
class _EndsAtOnce(CommandQueue):
    """A queue whose jobs end at once, without being run."""

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        request = Request(self, name)
        request.end(None)
        return request

    def close(self) -> None:
        pass
