"""Runs any layer on plain arrays: makes its buffers, surrounds them with guards, packs and unpacks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from layers import layout
from layers.kernels.threads import Threads
from layers.layer import NO_HALO, Array, Buffers, Context, Halo, Layer, Shape
from layers.reference import Problem

SEED, STEP, KEY = 11, 5, 1234
GUARD: Halo = (1, 2)
"""Columns beside the rows of values that nobody may read or write there."""
GUARD_VALUE = 7.0
GUARD_BYTES, FILL = 1 << 16, 0xAB
"""Behind working memory and gradients."""


@dataclass
class Value:
    """One stored value: `view` is what the layer sees of `storage`."""

    storage: Array
    view: Array
    shape: Shape
    halo: Halo

    def plain(self) -> Array:
        """Return [N, C, H, W] or [N, F]."""
        return layout.from_blocked(self.view, self.shape)

    def padding(self) -> Array:
        """Return all lanes or features that stand behind the last one of the value."""
        if len(self.shape) == 1:
            return self.view[:, self.shape[0] :]
        lanes = self.view.transpose(0, 2, 3, 1, 4)
        return lanes.reshape(*lanes.shape[:3], -1)[..., self.shape[0] :]

    def beside_rows(self) -> Array:
        """Return the columns outside the view."""
        if len(self.shape) == 1:
            return self.storage[:0]
        left, right = self.halo
        return np.delete(self.storage, np.s_[left : self.storage.shape[3] - right], axis=3)


@dataclass
class Result:
    """What forward, backward_weights and backward_data wrote."""

    x: tuple[Value, ...]
    y: tuple[Value, ...]
    dx: tuple[Value, ...]
    dy: tuple[Value, ...]
    gradients: dict[str, Array] = field(default_factory=dict)
    leaf_values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """One row for each leaf."""


def problem(layer: Layer, shapes: tuple[Shape, ...], samples: int, seed: int = 0) -> Problem:
    """Draw a problem from the normal distribution, values that float32 holds."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float64]:
        return generator.standard_normal(shape, dtype=np.float32).astype(np.float64)

    inputs = tuple(draw(samples, *shape) for shape in shapes)
    parameters = {name: draw(*parameter.shape) for name, parameter in layer.parameters(*shapes).items()}
    dys = tuple(draw(samples, *layer.output_shape(*shapes)) for _ in range(layer.outputs))
    return Problem(inputs, parameters, dys, generator.integers(0, 2**40, samples), SEED, STEP, KEY)


def run(
    layer: Layer,
    given: Problem,
    *,
    threads: int = 1,
    leaves: int = 1,
    in_place: bool = False,
    training: bool = True,
    first: int = 0,
    data_first: bool = False,
    state: Mapping[str, Array] | None = None,
    others: NDArray[np.float64] | None = None,
) -> Result:
    """Run forward, backward_weights and backward_data once; unwritten results are NaN.

    `data_first` swaps the last two; `state` is taken instead of the initial one; `others` is the gradient by
    another reader of x, for a layer that joins.

    What is written behind working memory or gradients, where a rank has other arrays, is an error.
    """
    shapes = tuple(x.shape[1:] for x in given.inputs)
    shape, samples = layer.output_shape(*shapes), len(given.samples)
    x = tuple(_given(plain, layer.halo(*shapes)) for plain in given.inputs)
    dy = tuple(_given(plain, layer.gradient_halo(*shapes)) for plain in given.dys)
    aliases = (in_place and not layer.reads_x) or layer.outputs > 1  # several outputs are the input itself
    y = x * layer.outputs if aliases else (_result(shape, samples),)
    over = dy if in_place else ()  # an in-place layer writes its first dx over dy
    dx = (*over, *(_result(each, samples) for each in shapes[len(over) :]))
    at = Buffers(
        given.key, shapes, shape, _views(x), _views(y), _views(dx), _views(dy),
        leaves=leaves, samples=given.samples, first=first, data_first=data_first,
        others=None if others is None else _given(others, NO_HALO).view,
    )  # fmt: skip
    parameters, behind = layer.parameters(*shapes), dict[str, NDArray[np.uint8]]()
    for name, parameter in parameters.items():
        at.weights[name] = np.full(parameter.blocked, np.nan, np.float32)
        parameter.pack(given.parameters[name].astype(np.float32), at.weights[name])
        at.gradients[name], behind[f"gradient of {name}"] = guarded(parameter.blocked, np.dtype(np.float32))
    for name, described in layer.state(*shapes).items():
        at.state[name] = np.full(described.shape, described.initial, np.float32)
    at.state.update(state or {})
    for name, values in layer.leaf_values(*shapes).items():
        at.leaf_values[name] = np.full((leaves, *values), np.nan)
    for name, wanted in layer.scratch(samples, leaves, threads, *shapes).items():
        at.scratch[name], behind[name] = guarded(wanted.shape, np.dtype(wanted.dtype))
    context = Context(workers(threads), training, given.seed, given.step)
    layer.forward(at, context)
    backward = [layer.backward_weights, layer.backward_data]
    for run_pass in reversed(backward) if data_first else backward:
        run_pass(at, context)
    for name, guard in behind.items():
        assert (guard == FILL).all(), f"{layer} has written behind its {name}"
    gradients = {name: parameter.unpack(at.gradients[name]) for name, parameter in parameters.items()}
    return Result(x, y, dx, dy, gradients, at.leaf_values)


def guarded(shape: Any, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return an array of NaN, or of what means nothing, and the bytes behind it."""
    size = int(np.prod(shape)) * dtype.itemsize
    storage = np.full(size + GUARD_BYTES, FILL, np.uint8)
    array = storage[:size].view(dtype).reshape(shape)
    if np.issubdtype(dtype, np.floating):
        array[...] = np.nan
    return array, storage[size:]


@contextmanager
def working_memory(sizes: Iterable[int | Shape]) -> Iterator[tuple[Array, ...]]:
    """Give arrays that hold NaN; what is written behind them is an error."""
    made = [guarded(np.atleast_1d(size), np.dtype(np.float32)) for size in sizes]
    yield tuple(array for array, _ in made)
    for number, (_, guard) in enumerate(made):
        assert (guard == FILL).all(), f"written behind array {number}"


@lru_cache
def workers(count: int) -> Threads:
    """Return the threads that all tests share."""
    return Threads(count)


def assembly(kernel: Any) -> str:
    """Return the machine code of a kernel, compiled afresh: a cached one has none to read."""
    afresh = numba.njit(kernel.signatures[0], error_model="numpy")(kernel.py_func)
    (code,) = afresh.inspect_asm().values()
    return str(code)


def _views(values: tuple[Value, ...]) -> tuple[Array, ...]:
    return tuple(value.view for value in values)


def _given(plain: NDArray[np.float64], halo: Halo) -> Value:
    """Store an input with the zero columns that were asked for, and not one more; else with guards."""
    shape = plain.shape[1:]
    around, fill = (GUARD, GUARD_VALUE) if halo == NO_HALO else (halo, 0.0)
    value = _stored(shape, len(plain), around, fill)
    layout.to_blocked(plain.astype(np.float32), value.view)
    return value


def _result(shape: Shape, samples: int) -> Value:
    value = _stored(shape, samples, GUARD, GUARD_VALUE)
    value.view[...] = np.nan
    return value


def _stored(shape: Shape, samples: int, halo: Halo, fill: float) -> Value:
    storage = np.full(layout.storage_shape(shape, samples, halo), fill, np.float32)
    return Value(storage, layout.interior(storage, shape, halo), shape, halo)
