"""What every layer promises, tested on all rows of `cases`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.adaptive_avg_pool import AdaptiveAvgPool
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.dropout import Dropout
from layers.fork import Fork
from layers.global_avg_pool import GlobalAvgPool
from layers.kernels import threads
from layers.kernels.simd import LANES
from layers.layer import Layer, Shape
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.reference import Problem, reference_of
from layers.relu import ReLU
from layers.scale import Scale
from layers.sigmoid import Sigmoid
from tests.layers import harness
from tests.layers.cases import CASES, Case
from tests.layers.harness import Value

TOLERANCE = 1e-5
"""Of the largest element: sums of up to 7,000 float32 terms have errors of about sqrt(7000) * 6e-8."""


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


every_layer = pytest.mark.parametrize("case", CASES, ids=str)
with_parameters = pytest.mark.parametrize(
    "case", [case for case in CASES if case.layer.parameters(*case.shapes)], ids=str
)
of_samples_alone = pytest.mark.parametrize(
    "case", [case for case in CASES if not isinstance(case.layer, BatchNorm)], ids=str
)
in_place = pytest.mark.parametrize("case", [case for case in CASES if case.layer.in_place], ids=str)


def _problem(case: Case, samples: int | None = None) -> Problem:
    return harness.problem(case.layer, case.shapes, samples or case.samples)


def _assert_close(computed: Sequence[Value], expected: Sequence[NDArray[np.float64]]) -> None:
    for value, reference in zip(computed, expected, strict=True):
        _assert_array_close(value.plain(), reference)


def _assert_array_close(computed: NDArray[np.float32], reference: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(computed, reference, rtol=0, atol=TOLERANCE * np.abs(reference).max())


def _assert_same_bits(a: Sequence[Value], b: Sequence[Value]) -> None:
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.plain().view(np.uint32), other.plain().view(np.uint32))


@every_layer
def test_forward_equals_the_reference(case: Case) -> None:
    given, reference = _problem(case), reference_of(case.layer)
    _assert_close(harness.run(case.layer, given).y, reference.forward(case.layer, given))


@every_layer
def test_backward_data_equals_the_reference(case: Case) -> None:
    given, reference = _problem(case), reference_of(case.layer)
    _assert_close(harness.run(case.layer, given).dx, reference.backward_data(case.layer, given))


@with_parameters
def test_backward_weights_equals_the_reference(case: Case) -> None:
    given = _problem(case)
    computed = harness.run(case.layer, given).gradients
    expected = reference_of(case.layer).backward_weights(case.layer, given)
    assert computed.keys() == expected.keys()
    for name, gradient in computed.items():
        _assert_array_close(gradient, expected[name])


@every_layer
def test_leaf_values_equal_the_reference(case: Case) -> None:
    named = case.layer.leaf_values(*case.shapes)
    given, leaves = _problem(case, samples=4), 2
    expected = [
        reference_of(case.layer).leaf_values(case.layer, given.part(first, first + 2)) for first in (0, 2)
    ]
    assert all(values.keys() == named.keys() for values in expected)
    if named:
        computed = harness.run(case.layer, given, leaves=leaves).leaf_values
        for name in named:
            want = np.stack([values[name] for values in expected])
            np.testing.assert_allclose(computed[name], want, rtol=0, atol=TOLERANCE * np.abs(want).max())


@every_layer
def test_gradients_of_the_reference_equal_finite_differences(case: Case) -> None:
    given, reference = _problem(case), reference_of(case.layer)
    generator = np.random.default_rng(1)

    def objective(at: Problem) -> float:
        ys = reference.forward(case.layer, at)
        return sum(float(np.vdot(y, dy)) for y, dy in zip(ys, at.dys, strict=True))

    def check(
        value: NDArray[np.float64],
        gradient: NDArray[np.float64],
        moved: Callable[[NDArray[np.float64]], Problem],
    ) -> None:
        direction = generator.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-5
        change = objective(moved(value + step * direction)) - objective(moved(value - step * direction))
        # The error is of second order in the step; the objective's rounding stays far below it.
        scale = np.linalg.norm(gradient)
        np.testing.assert_allclose(
            change / (2 * step), np.vdot(gradient, direction), rtol=0, atol=1e-6 * scale
        )

    for index, dx in enumerate(reference.backward_data(case.layer, given)):

        def move_input(value: NDArray[np.float64], index: int = index) -> Problem:
            inputs = given.inputs
            return replace(given, inputs=(*inputs[:index], value, *inputs[index + 1 :]))

        check(given.inputs[index], dx, move_input)
    for name, gradient in reference.backward_weights(case.layer, given).items():

        def move_parameter(value: NDArray[np.float64], name: str = name) -> Problem:
            return replace(given, parameters={**given.parameters, name: value})

        check(given.parameters[name], gradient, move_parameter)


@every_layer
def test_padded_lanes_are_zero(case: Case) -> None:
    result = harness.run(case.layer, _problem(case))
    for value in (*result.y, *result.dx):
        assert not value.padding().any()


@every_layer
def test_nothing_is_written_beside_the_rows_or_over_the_inputs(case: Case) -> None:
    given = _problem(case)
    result = harness.run(case.layer, given)
    for value in (*result.y, *result.dx):
        assert (value.beside_rows() == harness.GUARD_VALUE).all()
    for values, plains in ((result.x, given.inputs), (result.dy, given.dys)):
        for value, plain in zip(values, plains, strict=True):
            np.testing.assert_array_equal(value.plain(), plain)
            assert not value.padding().any()
            assert np.unique(value.beside_rows()).size <= 1


@every_layer
@pytest.mark.parametrize("count", [2, 3])
def test_threads_change_no_bit(case: Case, count: int) -> None:
    given = _problem(case, samples=4)
    one = harness.run(case.layer, given, leaves=4)
    many = harness.run(case.layer, given, leaves=4, threads=count)
    _assert_same_bits(one.y, many.y)
    _assert_same_bits(one.dx, many.dx)
    for name, gradient in one.gradients.items():
        np.testing.assert_array_equal(gradient.view(np.uint32), many.gradients[name].view(np.uint32))


@of_samples_alone
def test_a_sample_alone_has_the_bits_it_has_in_a_minibatch(case: Case) -> None:
    given = _problem(case, samples=max(2, case.samples))
    together = harness.run(case.layer, given)
    for n in range(len(given.samples)):
        alone = harness.run(case.layer, given.part(n, n + 1))
        for all_values, one_value in zip((*together.y, *together.dx), (*alone.y, *alone.dx), strict=True):
            part, single = all_values.plain()[n : n + 1], one_value.plain()
            np.testing.assert_array_equal(part.view(np.uint32), single.view(np.uint32))


@with_parameters
@pytest.mark.parametrize("leaves", [2, 8])
def test_weight_gradients_add_their_leaves_as_a_balanced_tree(case: Case, leaves: int) -> None:
    given = _problem(case, samples=2 * leaves)
    computed = harness.run(case.layer, given, leaves=leaves).gradients
    partial = [harness.run(case.layer, given.part(2 * i, 2 * i + 2)).gradients for i in range(leaves)]
    while len(partial) > 1:
        pairs = zip(partial[::2], partial[1::2], strict=True)
        partial = [{name: left[name] + right[name] for name in left} for left, right in pairs]
    for name, gradient in computed.items():
        np.testing.assert_array_equal(gradient, partial[0][name])


VECTOR, IMAGE = (5 * LANES,), (5 * LANES, 5, 7)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layer, shape)
        for layer in (ReLU(), Sigmoid(), GELU(), HardSigmoid(), Dropout(0.4), Add(), Fork(2))
        for shape in (VECTOR, IMAGE)
    ]
    + [(layer, IMAGE) for layer in (MaxPool(2, 2), MaxPool(3, 2, 1), AvgPool(2, 2), AvgPool())]
    + [(layer, IMAGE) for layer in (AdaptiveAvgPool((3, 2)), GlobalAvgPool(), Scale())],
    ids=str,
)
def test_a_featurewise_layer_makes_any_run_of_features_from_that_run_alone(
    layer: Layer, shape: Shape
) -> None:
    assert layer.featurewise
    shapes = {Add: (shape, shape), Scale: (shape, VECTOR)}.get(type(layer), (shape,))
    given = harness.problem(layer, shapes, 3)
    whole = harness.run(layer, given)
    first, stop = 2 * LANES, 4 * LANES - 3
    inputs, dys = (tuple(v[:, first:stop] for v in values) for values in (given.inputs, given.dys))
    part = harness.run(layer, replace(given, inputs=inputs, dys=dys), first=first)
    for made, wanted in zip((*part.y, *part.dx), (*whole.y, *whole.dx), strict=True):
        np.testing.assert_array_equal(made.plain(), wanted.plain()[:, first:stop])


def test_only_featurewise_layers_say_so() -> None:
    assert {type(case.layer) for case in CASES if case.layer.featurewise} == {
        ReLU,
        Sigmoid,
        Dropout,
        Add,
        Fork,
        MaxPool,
        AvgPool,
        AdaptiveAvgPool,
        GlobalAvgPool,
        Scale,
        GELU,
        SiLU,
        HardSwish,
        HardSigmoid,
        ReLU6,
        Multiply,
    }


@in_place
def test_in_place_changes_no_bit(case: Case) -> None:
    given = _problem(case)
    apart = harness.run(case.layer, given)
    over = harness.run(case.layer, given, in_place=True)
    _assert_same_bits(apart.y, over.y)
    _assert_same_bits(apart.dx, over.dx)
    for value in (*over.y, *over.dx):
        assert not value.padding().any()
        assert (value.beside_rows() == harness.GUARD_VALUE).all()
