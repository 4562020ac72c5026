"""Runs one algorithm of a convolution in all its passes, to compare it with another bit by bit."""

import numpy as np

from engine.host.aligned_arrays import aligned_zeros
from layers import layout
from layers.conv2d import Conv2d
from layers.convolution.algorithm import Algorithm
from layers.kernels import conv_direct, conv_direct_weights
from layers.kernels.epilogue import PLAIN, Epilogue
from layers.kernels.leaves import stack_depth
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Array, Buffers, Halo, Shape
from layers.work import PASSES
from tests.layers.harness import GUARD_VALUE, workers

SAMPLES, LEAVES = 8, 4


def run_algorithm(
    kind: type[Algorithm],
    conv: Conv2d,
    shape: Shape,
    *,
    threads: int = 1,
    epilogue: Epilogue = PLAIN,
    around: Halo = NO_HALO,
    lanes: int = LANES,
) -> list[Array]:
    """Return y, dx and the gradients as they are stored; unwritten results are NaN.

    Parameters
    ----------
    around
        Columns beside the rows of values whose reader wants no halo.
    lanes
        Values of a pixel of x in memory.
    """
    loops, output = conv.extents(shape), conv.output_shape(shape)
    algorithm = kind(loops, loops.ofm)
    at = Buffers(
        0, (shape,), output,
        (_given(shape, algorithm.halo(), around, 1, lanes),), (_stored(output, around, GUARD_VALUE),),
        (_stored(shape, around, GUARD_VALUE),), (_given(output, algorithm.gradient_halo(), around, 2),),
        leaves=LEAVES,
    )  # fmt: skip
    at.y[0][...] = at.dx[0][...] = np.nan
    for number, (name, parameter) in enumerate(conv.parameters(shape).items()):
        at.weights[name] = aligned_zeros(parameter.blocked)
        drawn = np.random.default_rng(3 + number).standard_normal(parameter.shape, dtype=np.float32)
        parameter.pack(drawn, at.weights[name])
        at.gradients[name] = np.full(parameter.blocked, np.nan, np.float32)
    for direction in PASSES:
        wanted = algorithm.scratch(direction, SAMPLES, LEAVES, threads, pools=False)
        at.scratch |= {name: np.full(each, np.nan, np.float32) for name, each in wanted.items()}
    kernel = loops.kh, loops.kw
    transposed = aligned_zeros(layout.conv_weight((loops.ifm, loops.ofm, *kernel), 0).blocked)
    pool = workers(threads)
    algorithm.forward(at, pool, epilogue)
    conv_direct.transpose_weights(pool, at.weights["weight"], transposed)
    algorithm.backward_data(at, pool, at.dy[0], transposed, at.dx[0])
    algorithm.backward_weights(at, pool, at.dy[0], PLAIN)
    if not algorithm.makes_bias_gradient:
        stack = np.zeros((threads, stack_depth(algorithm.runs(SAMPLES, LEAVES)), LANES), np.float32)
        conv_direct_weights.bias_gradient(pool, at.dy[0], stack, at.gradients["bias"], LEAVES)
    return [at.y[0], at.dx[0], *at.gradients.values()]


def assert_same_bits(one: list[Array], other: list[Array]) -> None:
    """Compare what two algorithms wrote: everything, and the same."""
    for a, b in zip(one, other, strict=True):
        assert not np.isnan(a).any()
        np.testing.assert_array_equal(
            np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32)
        )


def _given(shape: Shape, halo: Halo, around: Halo, seed: int, lanes: int = LANES) -> Array:
    view = _stored(shape, *((around, GUARD_VALUE) if halo == NO_HALO else (halo, 0.0)), lanes)
    plain = np.random.default_rng(seed).standard_normal((SAMPLES, *shape), dtype=np.float32)
    layout.to_blocked(plain, view)
    return view


def _stored(shape: Shape, halo: Halo, fill: float, lanes: int = LANES) -> Array:
    storage = aligned_zeros(layout.storage_shape(shape, SAMPLES, halo, lanes))
    storage[...] = fill
    return layout.interior(storage, shape, halo)
