"""A problem with all its arrays in the form that the engine's memory plan gives them, filled with noise."""

from dataclasses import dataclass

import numpy as np

from bench.shapes import Problem
from engine.host.aligned_arrays import aligned_zeros
from layers import layout
from layers.kernels import bf16
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import NO_HALO, Array, Buffers, Context, Halo, Shape
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD

SEED, STEP, KEY = 1, 3, 77

_PATTERN = np.random.default_rng(0).standard_normal(1_000_003, dtype=np.float32)
"""Repeated to fill an array: drawing VGG-A's would take seconds. Prime, so that no two rows are the same."""

_GRADIENTS = 104_729
"""Where the noise of dy begins: of a dy that is x, batch normalisation leaves nothing but rounding errors."""


@dataclass
class Setup:
    """A problem ready to run: call ``run(direction)``."""

    problem: Problem
    at: Buffers
    context: Context
    weights: dict[str, Array]
    """In standard layout."""

    def run(self, direction: str) -> None:
        """Run one of `layers.work.PASSES`."""
        getattr(self.problem.layer, direction)(self.at, self.context)

    def standard_gradients(self) -> dict[str, Array]:
        """Return copies of the parameters' gradients in standard layout."""
        described = self.problem.layer.parameters(*self.problem.inputs)
        return {name: described[name].unpack(blocked) for name, blocked in self.at.gradients.items()}

    def executed_flops(self, direction: str) -> int:
        """Return the FLOP of the multiply-adds that the kernels of a pass execute."""
        problem = self.problem
        return problem.layer.executed_flops(direction, problem.minibatch, self.at.leaves, *problem.inputs)

    def is_winograd(self, direction: str) -> bool:
        """Return whether a pass uses Winograd's algorithm."""
        samples_per_leaf = self.problem.minibatch // self.at.leaves
        return self.problem.layer.is_winograd(direction, samples_per_leaf, *self.problem.inputs)

    def moved_bytes(self, direction: str) -> int:
        """Return the least bytes that a pass reads and writes: each of its arrays once."""
        at, layer = self.at, self.problem.layer
        kept = layer.scratch(1, 1, 1, *self.problem.inputs)
        noted = [at.scratch[name] for name, scratch in kept.items() if scratch.kept]
        weights, gradients = list(at.weights.values()), list(at.gradients.values())
        saved = [] if weights else [*(at.x if layer.reads_x else ()), *(at.y if layer.reads_y else ())]
        arrays = {
            FORWARD: [*at.x, *at.y, *weights, *noted],
            BACKWARD_WEIGHTS: [*at.x, *at.dy, *gradients],
            BACKWARD_DATA: [*at.dy, *at.dx, *weights, *noted, *saved],
        }
        return sum(array.size * array.itemsize for array in arrays[direction])


def prepare(problem: Problem, threads: Threads, *, leaves: int) -> Setup:
    """Allocate and fill every array that the passes of a problem's layer touch.

    In-place layers get arrays of their own for y and dx: run again and again over their own result, they
    would drift away from ordinary numbers.
    """
    layer, inputs, minibatch = problem.layer, problem.inputs, problem.minibatch
    parameters = layer.parameters(*inputs)
    lanes = layer.input_lanes(*inputs) if problem.first else LANES
    x = tuple(_filled(shape, minibatch, layer.halo(*inputs), lanes) for shape in inputs)
    at = Buffers(
        KEY,
        inputs,
        problem.output,
        x=x,
        y=x * layer.outputs if layer.outputs > 1 else (_stored(problem.output, minibatch, NO_HALO),),
        dx=tuple(_stored(shape, minibatch, NO_HALO) for shape in inputs),
        dy=tuple(
            _filled(problem.output, minibatch, layer.gradient_halo(*inputs), first=_GRADIENTS)
            for _ in range(layer.outputs)
        ),
        leaves=leaves,
        samples=np.arange(minibatch, dtype=np.int64),
        data_first=not problem.first,
        state={
            name: np.full(state.shape, state.initial, np.float32)
            for name, state in layer.state(*inputs).items()
        },
        leaf_values={name: np.zeros((leaves, *shape)) for name, shape in layer.leaf_values(*inputs).items()},
    )
    if problem.is_bf16:
        for value in (*x, *at.dy):
            _round(threads, value)
    weights = {}
    for name, parameter in parameters.items():
        scale = np.float32(max(parameter.variance, 1e-4) ** 0.5)
        weights[name] = np.resize(_PATTERN, parameter.shape) * scale
        if problem.is_bf16:
            _round(threads, weights[name])
        at.weights[name], at.gradients[name] = (aligned_zeros(parameter.blocked) for _ in range(2))
        parameter.pack(weights[name], at.weights[name])
    for name, scratch in layer.scratch(minibatch, leaves, threads.count, *inputs).items():
        at.scratch[name] = aligned_zeros(scratch.shape, scratch.dtype)
    return Setup(problem, at, Context(threads, True, SEED, STEP), weights)


def _round(threads: Threads, value: Array) -> None:
    """Round to bf16 in place."""
    flat = value.reshape(-1)  # a copy where there is a halo
    bf16.round_values(threads, flat, flat)
    value[...] = flat.reshape(value.shape)


def _stored(shape: Shape, samples: int, halo: Halo, lanes: int = LANES) -> Array:
    return layout.interior(aligned_zeros(layout.storage_shape(shape, samples, halo, lanes)), shape, halo)


def _filled(shape: Shape, samples: int, halo: Halo, lanes: int = LANES, *, first: int = 0) -> Array:
    """Return noise with zeros in the halo and behind the last channel or feature."""
    view = _stored(shape, samples, halo, lanes)
    for n in range(samples):
        view[n] = np.resize(np.roll(_PATTERN, -7919 * n - first), view.shape[1:])
    if len(shape) == 1:
        view[:, shape[0] :] = 0
    elif shape[0] % lanes:
        view[:, -1, :, :, shape[0] % lanes :] = 0
    return view
