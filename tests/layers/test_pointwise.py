"""Convolutions of 1x1 have the bits of the direct algorithm, wherever their pixels lie and blocks are cut."""

import numpy as np
import pytest

from layers import layout
from layers.conv2d import Conv2d
from layers.convolution.direct import Direct
from layers.convolution.pointwise import Pointwise
from layers.kernels import conv_direct, conv_direct_weights, conv_pointwise, conv_pointwise_weights, threads
from layers.kernels.epilogue import PLAIN, RECTIFIED, Epilogue
from layers.kernels.leaves import stack_depth
from layers.kernels.simd import LANES
from layers.layer import NO_HALO, Array, Buffers, Halo, Shape
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES
from tests.layers.harness import GUARD, GUARD_VALUE, workers

SAMPLES, LEAVES = 8, 4
SHAPES = [
    (Conv2d(4 * LANES, 1), (2 * LANES, 7, 7)),  # tiles that the image cuts
    (Conv2d(3 * LANES + 1, 1), (3 * LANES - 1, 5, 9)),  # one vector, padded channels
    (Conv2d(6 * LANES, 1), (5, 1, 3)),
    (Conv2d(18 * LANES, 1), (17 * LANES, 3, 2)),  # several blocks of weights
    (Conv2d(2 * LANES, 1, stride=2), (2 * LANES, 9, 8)),
    (Conv2d(10 * LANES, 1, stride=3), (LANES, 5, 7)),
]


def _values(shape: Shape, halo: Halo, seed: int | None) -> Array:
    """Return the view of a value between guards: noise, or NaN without a seed."""
    storage = np.full(layout.storage_shape(shape, SAMPLES, halo), GUARD_VALUE, np.float32)
    view = layout.interior(storage, shape, halo)
    view[...] = np.nan
    if seed is not None:
        plain = np.random.default_rng(seed).standard_normal((SAMPLES, *shape), dtype=np.float32)
        layout.to_blocked(plain, view)
    return view


def _run(kind: type, conv: Conv2d, shape: Shape, halo: Halo, count: int, epilogue: Epilogue) -> list[Array]:
    """Return y, dx and the gradients of all passes by one algorithm, as stored."""
    loops, output = conv.extents(shape), conv.output_shape(shape)
    algorithm = kind(loops, loops.ofm)
    at = Buffers(
        0, (shape,), output, (_values(shape, halo, 1),), (_values(output, halo, None),),
        (_values(shape, halo, None),), (_values(output, halo, 2),), leaves=LEAVES,
    )  # fmt: skip
    for number, (name, parameter) in enumerate(conv.parameters(shape).items()):
        at.weights[name] = np.zeros(parameter.blocked, np.float32)
        drawn = np.random.default_rng(3 + number).standard_normal(parameter.shape, dtype=np.float32)
        parameter.pack(drawn, at.weights[name])
        at.gradients[name] = np.full(parameter.blocked, np.nan, np.float32)
    for direction in PASSES:
        wanted = algorithm.scratch(direction, SAMPLES, LEAVES, count, pools=False)
        at.scratch |= {name: np.full(each, np.nan, np.float32) for name, each in wanted.items()}
    transposed = np.zeros(layout.conv_weight((loops.ifm, loops.ofm, 1, 1), 0).blocked, np.float32)
    pool = workers(count)
    algorithm.forward(at, pool, epilogue)
    conv_direct.transpose_weights(pool, at.weights["weight"], transposed)
    algorithm.backward_data(at, pool, at.dy[0], transposed, at.dx[0])
    algorithm.backward_weights(at, pool, at.dy[0], PLAIN)
    if not algorithm.makes_bias_gradient:
        stack = np.zeros((count, stack_depth(LEAVES), LANES), np.float32)
        conv_direct_weights.bias_gradient(pool, at.dy[0], stack, at.gradients["bias"], LEAVES)
    return [at.y[0], at.dx[0], *at.gradients.values()]


def _assert_same_bits(one: list[Array], other: list[Array]) -> None:
    for a, b in zip(one, other, strict=True):
        assert not np.isnan(a).any()
        np.testing.assert_array_equal(
            np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32)
        )


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


@pytest.mark.parametrize("halo", [NO_HALO, GUARD], ids=["in place", "gathered"])
@pytest.mark.parametrize("epilogue", [PLAIN, RECTIFIED], ids=["plain", "relu"])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_all_passes_have_the_bits_of_the_direct_algorithm(
    conv: Conv2d, shape: Shape, halo: Halo, epilogue: Epilogue
) -> None:
    direct = _run(Direct, conv, shape, halo, 1, epilogue)
    _assert_same_bits(_run(Pointwise, conv, shape, halo, 1, epilogue), direct)


@pytest.mark.parametrize("halo", [NO_HALO, GUARD], ids=["in place", "gathered"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("conv", "shape"), SHAPES, ids=str)
def test_small_blocks_and_threads_change_no_bit(
    conv: Conv2d, shape: Shape, halo: Halo, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _run(Pointwise, conv, shape, halo, 1, PLAIN)
    monkeypatch.setattr(conv_pointwise, "_most_tiles", lambda _channels: 2)
    monkeypatch.setattr(conv_pointwise_weights, "chunk_pixels", lambda _outputs, _inputs: 4)
    monkeypatch.setattr(conv_pointwise_weights, "BLOCK", 2 * LANES)
    _assert_same_bits(_run(Pointwise, conv, shape, halo, count, PLAIN), whole)


def test_a_task_has_as_much_as_its_cache_holds_and_there_are_enough_of_them() -> None:
    outputs, inputs, runs = conv_pointwise_weights.cuts(32, 32, 1, 16, 1)
    assert (
        outputs * conv_pointwise_weights.panel_width(32) * inputs * LANES == conv_pointwise_weights.BLOCK**2
    )
    assert runs == 1
    assert conv_pointwise_weights.cuts(4, 4, 1, 16, 2)[2] == 8  # one block of weights, shared by leaves
    assert conv_pointwise_weights.cuts(4, 4, 1, 1, 2)[2] == 1


@pytest.mark.parametrize("direction", PASSES)
def test_only_kernels_of_1x1_without_padding_are_pointwise(direction: str) -> None:
    image = (2 * LANES, 6, 6)
    assert isinstance(Conv2d(LANES, 1).algorithm_of(direction, 2, image), Pointwise)
    assert isinstance(Conv2d(LANES, 1, stride=2).algorithm_of(direction, 2, image), Pointwise)
    assert not isinstance(Conv2d(LANES, 1, padding=1).algorithm_of(direction, 2, image), Pointwise)
    assert not isinstance(Conv2d(LANES, (1, 3)).algorithm_of(direction, 2, image), Pointwise)


def test_passes_share_no_working_memory() -> None:
    layer, image = Conv2d(LANES, 1), (2 * LANES, 6, 6)
    names = [
        name
        for direction in (FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA)
        for name in layer.algorithm_of(direction, 2, image).scratch(direction, 4, 2, 1, pools=False)
    ]
    assert len(names) == len(set(names))
