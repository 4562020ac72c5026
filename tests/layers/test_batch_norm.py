"""Batch normalisation: groups of leaves, safe statistics, running ones, and PyTorch's beside them."""

from dataclasses import replace

import numpy as np
import pytest

from engine.host.aligned_arrays import aligned_zeros
from layers.batch_norm import BatchNorm
from layers.fused_norm import FusedBatchNorm
from layers.group_norm import GroupNorm
from layers.kernels import batch_norm, batch_norm_blocks
from layers.kernels.caches import Caches
from layers.kernels.simd import LANES
from layers.layer_norm import LayerNorm
from layers.layout import interior, storage_shape
from layers.moments import add_rows, merge_moments
from layers.reference import Problem, reference_of
from tests.layers import harness, like_torch

IMAGES, VECTORS = (17, 5, 7), (20,)


def _same_bits(one, other):
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("shape", [IMAGES, VECTORS], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_a_group_alone_has_the_bits_it_has_among_others(shape, groups):
    layer, leaves, samples = BatchNorm(group_leaves=8 // groups), 8, 24
    given = harness.problem(layer, (shape,), samples)
    whole = harness.run(layer, given, leaves=leaves)
    each = samples // groups
    for first in range(0, samples, each):
        alone = harness.run(layer, given.part(first, first + each), leaves=leaves // groups)
        for made, part in ((whole.y, alone.y), (whole.dx, alone.dx)):
            _same_bits(made[0].plain()[first : first + each], part[0].plain())


@pytest.mark.parametrize("shape", [IMAGES, VECTORS], ids=str)
def test_statistics_are_those_of_all_samples_of_a_group(shape):
    layer = BatchNorm(group_leaves=4)
    given = harness.problem(layer, (shape,), 24)
    done, reference = harness.run(layer, given, leaves=8), reference_of(layer)
    for index, first in enumerate((0, 12)):
        part = given.part(first, first + 12)
        for made, right in ((done.y, reference.forward), (done.dx, reference.backward_data)):
            wanted = right(layer, part)[0]
            # Values around 1, computed from float32 in a few operations.
            np.testing.assert_allclose(made[0].plain()[first : first + 12], wanted, rtol=0, atol=4e-6)
        for name, wanted in reference.leaf_values(layer, part).items():
            rows = done.leaf_values[name][4 * index : 4 * index + 4]
            np.testing.assert_allclose(rows, np.tile(wanted, (4, 1)), rtol=1e-6, atol=1e-7)
            assert (rows == rows[0]).all()


def test_the_gradients_are_those_of_all_groups_together():
    layer = BatchNorm(group_leaves=4)
    given = harness.problem(layer, (IMAGES,), 24)
    computed = harness.run(layer, given, leaves=8).gradients
    parts = [reference_of(layer).backward_weights(layer, given.part(first, first + 12)) for first in (0, 12)]
    for name, gradient in computed.items():
        wanted = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", [(16, 61, 67), (16, 3, 3), (16,)], ids=str)
def test_a_mean_far_from_zero_costs_no_accuracy(shape):
    """E[x^2] - E[x]^2 in float32 would leave nothing of a variance of 1 beside a mean of 10,000."""
    x = np.random.default_rng(0).standard_normal((64, *shape)) + 1e4
    x = x.astype(np.float32).astype(np.float64)
    layer = BatchNorm()
    given = Problem((x,), {"weight": np.ones(16), "bias": np.zeros(16)}, (np.ones_like(x),), np.arange(64))
    found = harness.run(layer, given).leaf_values
    wanted = reference_of(layer).leaf_values(layer, given)
    np.testing.assert_allclose(found["variance"][0], wanted["variance"], rtol=1e-6)
    np.testing.assert_allclose(found["mean"][0] - 1e4, wanted["mean"] - 1e4, rtol=0, atol=1e-6)


def test_a_long_sum_is_as_accurate_as_a_short_one():
    x = np.random.default_rng(1).random((4, 16, 500, 512), np.float32).astype(np.float64)
    moments = np.empty((1, 2, LANES))
    blocked = np.ascontiguousarray(x.transpose(0, 2, 3, 1)[:, None]).astype(np.float32)
    batch_norm.moments(harness.workers(1), blocked, 1, moments)
    np.testing.assert_allclose(moments[0, 0], x.mean(axis=(0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(moments[0, 1] / (x.size / 16), x.var(axis=(0, 2, 3)), rtol=1e-7)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 19, 40), (5, 2, 300), (40, 1, 1)])
def test_zeros_beside_the_rows_change_no_bit(shape):
    """Whether there are any depends on who else reads a value."""
    samples, rows, columns = shape
    x, dy = np.random.default_rng(2).standard_normal((2, samples, 2, rows, columns, LANES), np.float32)
    apart = np.zeros((2, samples, 2, rows, columns + 3, LANES), np.float32)[..., 1:-2, :]
    apart[0], apart[1] = x, dy
    statistics = np.stack([x[0, :, 0, 0, :].reshape(-1), dy[0, :, 0, 0, :].reshape(-1)])[None]
    weight, bias = np.ones((2, 2 * LANES), np.float32)
    found = []
    for source, slope in ((x, dy), apart):
        sums = [np.empty((1, 2, 2 * LANES)) for _ in range(2)]
        batch_norm.moments(harness.workers(1), source, 1, sums[0])
        batch_norm.slopes(harness.workers(1), source, slope, 1, statistics, weight, bias, sums[1])
        found.append(np.stack(sums))
    np.testing.assert_array_equal(found[0], found[1])


def test_a_channel_of_one_value_becomes_the_bias_and_has_no_gradient():
    x = np.full((6, 3, 4, 4), 3.7)
    given = Problem((x,), {"weight": np.full(3, 2.0), "bias": np.array([1.0, -2.0, 0.0])}, (x,), np.arange(6))
    done = harness.run(BatchNorm(), given)
    np.testing.assert_array_equal(
        done.y[0].plain(), np.broadcast_to(given.parameters["bias"][:, None, None], x.shape)
    )
    # 48 roundings of a sum, of 6e-8 of its mean of 3.7, times 2 / sqrt(epsilon)
    np.testing.assert_allclose(done.dx[0].plain(), 0, atol=7e-3)
    assert (done.leaf_values["variance"] == 0).all()


def test_a_nan_spoils_its_channel_and_no_other():
    given = harness.problem(BatchNorm(), (IMAGES,), 4)
    given.inputs[0][1, 5, 2, 3] = np.nan
    y = harness.run(BatchNorm(), given).y[0].plain()
    assert np.isnan(y[:, 5]).all()
    assert np.isfinite(np.delete(y, 5, axis=1)).all()


def test_backward_passes_may_run_in_either_order():
    layer = BatchNorm(group_leaves=2)
    given = harness.problem(layer, (IMAGES,), 8)
    usual, other = (harness.run(layer, given, leaves=4, data_first=first) for first in (False, True))
    _same_bits(usual.dx[0].plain(), other.dx[0].plain())
    for name, gradient in usual.gradients.items():
        _same_bits(gradient, other.gradients[name])


@pytest.mark.parametrize("shape", [IMAGES, VECTORS, (33, 3, 300), (16, 20, 20)], ids=str)
@pytest.mark.parametrize("group_leaves", [1, 2, 8])
@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm(),
        BatchNorm(scaled=False),
        FusedBatchNorm(activation="relu6"),
        FusedBatchNorm(adds=True),
        FusedBatchNorm(adds=True, activation="relu"),
    ],
    ids=str,
)
def test_a_block_of_channels_at_a_time_has_the_bits_of_two_calls(layer, group_leaves, shape, monkeypatch):
    layer = replace(layer, group_leaves=group_leaves)
    given = harness.problem(layer, (shape,) * (2 if getattr(layer, "adds", False) else 1), 16)
    done = harness.run(layer, given, leaves=8)
    over = harness.run(layer, given, leaves=8, in_place=True)
    monkeypatch.setattr(batch_norm_blocks, "suits", lambda _blocks, _threads: False)
    wanted = harness.run(layer, given, leaves=8)
    for found in (done, over):
        for one, other in zip((*found.y, *found.dx), (*wanted.y, *wanted.dx), strict=True):
            _same_bits(one.plain(), other.plain())
            assert not one.padding().any()
        for name, gradient in wanted.gradients.items():
            _same_bits(found.gradients[name], gradient)
        for name, rows in wanted.leaf_values.items():
            np.testing.assert_array_equal(found.leaf_values[name], rows)


@pytest.mark.parametrize(("blocks", "threads", "suits"), [(4, 2, True), (4, 3, False), (16, 15, False)])
def test_blocks_of_channels_are_tasks_where_they_keep_the_threads_at_work(blocks, threads, suits):
    assert batch_norm_blocks.suits(blocks, threads) is suits
    assert batch_norm_blocks.suits(64 * blocks, threads)


@pytest.mark.parametrize("kind", [BatchNorm, FusedBatchNorm])
def test_a_subclass_with_a_pass_of_its_own_keeps_it(kind):
    class Straight(kind):
        def backward_data(self, at, run):
            at.dx[0][...] = at.dy[0]

    given = harness.problem(kind(), (IMAGES,), 4)
    found = harness.run(Straight(), given, in_place=True)
    _same_bits(found.dx[0].plain(), given.dys[0].astype(np.float32))
    for name, gradient in harness.run(kind(), given).gradients.items():
        _same_bits(found.gradients[name], gradient)


@pytest.mark.parametrize("wrong", [{}, {"adds": True}, {"activation": "relu"}], ids=str)
def test_only_a_rectified_sum_can_be_given_the_gradient_before_it(wrong):
    with pytest.raises(ValueError, match="rectified is for a sum behind which there is a ReLU"):
        FusedBatchNorm(rectified=True, **wrong)


def test_a_gradient_from_before_the_relu_is_the_addends_own():
    layer = FusedBatchNorm(adds=True, activation="relu")
    given = harness.problem(layer, (IMAGES, IMAGES), 4)
    wanted = harness.run(layer, given)
    before = replace(given, dys=(np.where(wanted.y[0].plain() <= 0, 0, given.dys[0]),))
    rectified = replace(layer, rectified=True)
    found = harness.run(rectified, before)
    assert rectified.shared_gradients == ((1, 0),)
    assert not rectified.in_place
    _same_bits(found.dx[0].plain(), wanted.dx[0].plain())
    _same_bits(before.dys[0].astype(np.float32), wanted.dx[1].plain())
    for name, gradient in wanted.gradients.items():
        _same_bits(found.gradients[name], gradient)


@pytest.mark.parametrize("layer", [BatchNorm(), FusedBatchNorm(adds=True, activation="relu")], ids=str)
def test_what_is_stored_past_the_caches_is_the_same(layer, monkeypatch):
    given = harness.problem(layer, (IMAGES,) * (2 if getattr(layer, "adds", False) else 1), 4)
    wanted = harness.run(layer, given)
    monkeypatch.setattr(batch_norm, "caches", lambda: Caches(0, 0, 0))
    monkeypatch.setattr(harness, "_result", _aligned_result)
    chosen, decide = [], batch_norm.stored

    def noted(*given):
        chosen.append(decide(*given).past)
        return replace(decide(*given))

    for module in (batch_norm, batch_norm_blocks):
        monkeypatch.setattr(module, "stored", noted)
    found = harness.run(layer, given)
    assert chosen == [1, 1], "y and dx"
    for one, other in zip((*found.y, *found.dx), (*wanted.y, *wanted.dx), strict=True):
        _same_bits(one.plain(), other.plain())


def _aligned_result(shape, samples):
    storage = aligned_zeros(storage_shape(shape, samples, harness.GUARD))
    storage[...] = harness.GUARD_VALUE
    view = interior(storage, shape, harness.GUARD)
    assert view.ctypes.data % (4 * LANES) == 0
    return harness.Value(storage, view, shape, harness.GUARD)


def test_running_statistics_are_the_mean_over_the_groups_moved_by_the_momentum():
    layer = BatchNorm(momentum=0.25)
    state = {"running_mean": np.float32([1, 2]), "running_var": np.float32([1, 1])}
    mean, variance = np.array([[5.0, 0], [5, 0], [9, 4], [9, 4]]), np.full((4, 2), 3.0)
    layer.update_state(state, {"mean": mean, "variance": variance}, 0)
    np.testing.assert_array_equal(state["running_mean"], [0.75 + 0.25 * 7, 1.5 + 0.25 * 2])
    np.testing.assert_array_equal(state["running_var"], [1.5, 1.5])
    assert state["running_mean"].dtype == np.float32


@pytest.mark.parametrize("groups", [1, 4])
def test_statistics_of_equal_groups_do_not_depend_on_how_many_leaves_note_them(groups):
    rows = np.repeat(np.random.default_rng(3).standard_normal((groups, 5)), 16 // groups, axis=0)
    np.testing.assert_array_equal(
        add_rows(rows, 16)[0] / 16, add_rows(rows[:: 16 // groups], groups)[0] / groups
    )


def test_moments_merge_as_those_of_all_values_together():
    x = np.random.default_rng(4).standard_normal((8, 6, 3)) + 5
    mean = x.mean(axis=1)
    rows = np.stack([mean, ((x - mean[:, None]) ** 2).sum(axis=1)], axis=1)
    merged = merge_moments(rows, 6, 4)
    assert merged.shape == (2, 2, 3)
    for run, values in zip(merged, x.reshape(2, 24, 3), strict=True):
        np.testing.assert_allclose(run, [values.mean(axis=0), 24 * values.var(axis=0)], rtol=1e-13)
    np.testing.assert_array_equal(merged, merge_moments(merge_moments(rows, 6, 2), 12, 2))


def test_wrong_numbers_are_refused():
    for wrong, named in (
        ({"groups": 3}, "powers of two"),
        ({"group_leaves": 0}, "powers of two"),
        ({"momentum": 1.5}, "momentum must be"),
        ({"epsilon": 0.0}, "epsilon must be"),
    ):
        with pytest.raises(ValueError, match=named):
            BatchNorm(**wrong)
    with pytest.raises(ValueError, match=r"wants images or vectors, got samples of shape \(3, 4\)"):
        BatchNorm().output_shape((3, 4))


@pytest.mark.parametrize("shape", [IMAGES, VECTORS], ids=str)
@pytest.mark.parametrize("scaled", [True, False])
def test_pytorch_computes_the_same_in_training_and_after(shape, scaled):
    torch = pytest.importorskip("torch")
    layer = BatchNorm(momentum=0.3, epsilon=1e-3, scaled=scaled)
    given = harness.problem(layer, (shape,), 12)
    kind = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
    theirs = kind(shape[0], eps=layer.epsilon, momentum=layer.momentum)
    done = like_torch.agree(layer, theirs, given)
    state = {name: np.full(each.shape, each.initial, np.float32) for name, each in layer.state(shape).items()}
    layer.update_state(state, done.leaf_values, 0)
    for name, values in state.items():
        np.testing.assert_allclose(values, getattr(theirs, name).numpy(), rtol=2e-6, atol=1e-6)
    theirs.eval()
    again = harness.run(layer, given, training=False, state=state).y[0].plain()
    x = torch.from_numpy(given.inputs[0].astype(np.float32))
    np.testing.assert_allclose(again, theirs(x).detach().numpy(), rtol=0, atol=4e-6)


def test_outside_training_the_state_is_left_alone_and_no_sample_sees_another():
    layer = BatchNorm()
    given = harness.problem(layer, (IMAGES,), 4)
    state = {"running_mean": np.arange(17, dtype=np.float32), "running_var": np.full(17, 4, np.float32)}
    whole = harness.run(layer, given, training=False, state=state)
    assert np.isnan(whole.leaf_values["mean"]).all()  # nothing noted
    alone = harness.run(layer, given.part(2, 3), training=False, state=state)
    _same_bits(whole.y[0].plain()[2:3], alone.y[0].plain())
    assert not whole.y[0].padding().any()
    assert state["running_mean"][3] == 3


@pytest.mark.parametrize("layer", [BatchNorm(group_leaves=2), GroupNorm(1), LayerNorm()], ids=str)
@pytest.mark.parametrize("huge", [np.inf, 3e38])
def test_numbers_beyond_float32_spoil_the_result_without_a_warning(layer, huge):
    given = harness.problem(layer, ((20,),), 8)
    given.inputs[0][3] = given.dys[0][5] = huge
    done = harness.run(layer, given, leaves=4)
    assert not np.isfinite(done.dx[0].plain()).all()
    state = {name: np.full(each.shape, each.initial, np.float32) for name, each in layer.state((20,)).items()}
    layer.update_state(state, done.leaf_values, 0)
