"""One node's parameters: where they lie in a bucket, their standard layout, and a node without any."""

import hashlib
from zlib import crc32

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks, single_rank
from comm.tree import STRIP_FLOATS, Tree
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.partition import partition
from engine.graph.parallel.plan import Plan
from engine.training import parameters as module
from engine.training.held import Copy, Held, made
from engine.training.parameters import Parameters, padded_floats
from engine.training.rank_parameters import RankParameters
from engine.training.update import NOTHING
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.layer import write_identity
from layers.linear import Linear
from layers.relu import ReLU

LEAVES = 4


def network() -> Graph:
    net = GraphBuilder((12,))
    net.add("fc1", Linear(256))
    net.add("relu1", ReLU())
    net.add("fc2", Linear(10))
    return net.graph()


def split(ranks: int, plan: str, work):
    """Return `work(rank, parameters)` of all ranks."""

    def rank(world):
        planned, queue = Plan.parse(plan), InlineCommThread()
        grid = Grid.of(Collectives(world, Tree.of(ranks, LEAVES)), planned.parts)
        made = RankParameters(partition(network(), planned, grid, queue), grid, queue)
        for task in made.initialisation_tasks(seed=7, given={}):
            task()
        return work(world.rank, made)

    return run_ranks(ranks, rank)


def test_a_node_takes_whole_cache_lines_of_a_bucket():
    for outputs in (1, 10, 256):
        described = Linear(outputs).parameters((12,))
        floats = sum(int(np.prod(parameter.blocked)) for parameter in described.values())
        assert 0 <= padded_floats(described) - floats < STRIP_FLOATS
        assert padded_floats(described) % STRIP_FLOATS == 0


def test_what_is_not_drawn_starts_at_its_initial_value_with_zeros_behind():
    for layer, value in ((BatchNorm(), 1.0), (BatchNorm(initial_scale=0.0), 0.0)):
        made = Parameters("norm1", layer.parameters((20,)), None)
        made.initialise(seed=1, given={})
        np.testing.assert_array_equal(made.weights["weight"], [value] * 20 + [0.0] * 12)
        assert not made.weights["bias"].any()


@pytest.mark.parametrize("drawn", [1 << 22, 1000, 16])
def test_parts_of_the_initial_weights_are_rows_of_the_whole(monkeypatch, drawn):
    (whole,) = split(1, "data", lambda _, made: made.gather_weights())
    monkeypatch.setattr(module, "_DRAWN_FLOATS", drawn)  # how far a part is skipped at a time
    for gathered in split(2, "fc1=2", lambda _, made: made.gather_weights()):
        assert gathered.keys() == whole.keys()
        assert all(np.array_equal(gathered[name], whole[name]) for name in whole)


def test_the_initial_weights_of_a_seed_never_change():
    # Recipes of old runs rest on these: a normal distribution by Philox, keyed by seed and name.
    generator = np.random.Generator(np.random.Philox(key=[7, crc32(b"fc1.weight")]))
    drawn = generator.standard_normal((256, 12), dtype=np.float32) * np.float32((2 / 12) ** 0.5)
    (whole,) = split(1, "data", lambda _, made: made.gather_weights())
    np.testing.assert_array_equal(whole["fc1.weight"], drawn)


@pytest.mark.parametrize(
    "layer, image", [(Linear(200), (30,)), (Linear(100), (7,)), (Conv2d(100, 3), (5, 6, 6))]
)
@pytest.mark.parametrize("floats", [1, 5000, 1 << 30])
def test_a_parameter_that_is_packed_in_pieces_is_the_whole(layer, image, floats):
    for parameter in layer.parameters(image).values():
        standard = np.random.default_rng(1).standard_normal(parameter.shape).astype(np.float32)
        whole, pieces = (np.full(parameter.blocked, 7, np.float32) for _ in range(2))
        parameter.pack(standard, whole)
        first = 0
        for shape, part in parameter.pieces(pieces, floats):
            parameter.pack(standard[first : first + shape[0]], part)
            first += shape[0]
        assert first == len(standard) and pieces.tobytes() == whole.tobytes()
        assert parameter.unpack(pieces).tobytes() == standard.tobytes()


def test_initial_weights_are_one_run_of_numbers_however_they_are_packed(monkeypatch):
    monkeypatch.setattr(module, "_PACKED_FLOATS", 1)
    (drawn,) = split(1, "data", lambda _, made: made.gather_weights())
    generator = np.random.Generator(np.random.Philox(key=[7, crc32(b"fc1.weight")]))
    weights = generator.standard_normal((256, 12), np.float32)
    variance = Linear(256).parameters((12,))["weight"].variance
    assert drawn["fc1.weight"].tobytes() == (weights * np.float32(variance**0.5)).tobytes()


def test_a_layer_of_one_output_is_drawn_too():
    described = Linear(1).parameters((12,))
    parameters = Parameters("fc", described, None)
    parameters.weights = {name: np.zeros(each.blocked, np.float32) for name, each in described.items()}
    parameters.initialise(7, {})
    assert parameters.weights["weight"].any()


def test_ranks_that_keep_nothing_take_part_and_get_nothing():
    gathered = split(2, "fc1=2", lambda rank, made: made.gather_weights(keep=rank == 1))
    assert gathered[0] == {}
    assert set(gathered[1]) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}


def test_the_digest_is_of_the_standard_layout():
    def digests(_, made):
        digest, gathered = hashlib.sha256(), made["fc1"].gather_weights()
        made["fc1"].digest_into(digest, "weight")
        return digest.hexdigest(), hashlib.sha256(gathered["fc1.weight"].tobytes()).hexdigest()

    (one,), two = split(1, "data", digests), split(2, "fc1=2", digests)
    assert {*one, *two[0], *two[1]} == {one[0]}


def test_what_is_restored_is_gathered_again():
    (before,) = split(1, "data", lambda _, made: made.gather_weights())
    tensors = {name: array + 1 for name, array in before.items()}
    tensors |= {f"momentum.{name}": array - 1 for name, array in before.items()}

    def restored(_, made):
        made.restore(tensors)
        return made.gather_weights() | made.gather_moments(keep=True)

    for ranks, plan in ((1, "data"), (2, "fc1=2"), (4, "fc1=2")):
        for gathered in split(ranks, plan, restored):
            assert gathered.keys() == tensors.keys()
            assert all(np.array_equal(gathered[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(("ranks", "plan"), [(1, "data"), (2, "data"), (2, "fc1=2"), (4, "fc1=2")])
def test_a_copy_stays_what_the_weights_were_and_its_memory_is_taken_again(ranks, plan):
    def copied(rank, found):
        copy = Copy(keep=rank == 0)
        before = found.gather_weights(keep=rank == 0)
        held = found.copy_weights(copy) | found.copy_moments(copy)
        rooms = {id(array) for array in copy._rooms.values()}
        moments = found.gather_moments(keep=rank == 0)
        for parameters in found:
            for weights in parameters.weights.values():
                np.add(weights, 1, out=weights)
        now = {name: made(tensor) for name, tensor in held.items()}
        again = found.copy_weights(copy) | found.copy_moments(copy)
        assert {id(array) for array in copy._rooms.values()} == rooms
        assert all(tensor.shape == made(tensor).shape for tensor in again.values())
        return before | moments, now, {name: made(tensor) for name, tensor in again.items()}, held

    first, *others = split(ranks, plan, copied)
    before, now, again, held = first
    assert before.keys() == now.keys() == again.keys() != set()
    assert all(now[name].tobytes() == before[name].tobytes() for name in before)
    assert all(np.array_equal(again[name], before[name] + ("momentum" not in name)) for name in before)
    assert any(isinstance(tensor, Held) for tensor in held.values())
    assert all(other == ({}, {}, {}, {}) for other in others)


def test_a_node_without_parameters_does_nothing():
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, LEAVES)), 1)
    queue = InlineCommThread()
    relu = RankParameters(network(), grid, queue)["relu1"]
    assert isinstance(relu, Parameters)
    relu.submit_reduce()
    relu.submit_update(NOTHING)
    relu.wait()
    relu.initialise(1, {})
    relu.restore({})
    assert (relu.floats, relu.gather_weights(), relu.copy_moments(Copy(keep=True))) == (0, {}, {})
    assert queue.blocked_by_name == {}


def test_initial_weights_have_the_variance_that_their_layer_asks_for():
    weights, described = split(
        1, "data", lambda _, made: (made.gather_weights(), made["fc1"].described["weight"])
    )[0]
    assert weights["fc1.weight"].var() == pytest.approx(described.variance, rel=0.1)
    assert described.variance == pytest.approx(2 / 12)


def test_initial_weights_without_variance_are_zero_with_the_sign_of_zero():
    for name, weights in split(1, "data", lambda _, made: made.gather_weights())[0].items():
        if name.endswith(".bias"):
            assert not weights.view(np.uint32).any()


@pytest.mark.parametrize("channels, outputs", [(5, 40), (40, 20)])
def test_rows_of_the_identity_pass_their_input_on_and_the_others_are_drawn(monkeypatch, channels, outputs):
    monkeypatch.setattr(module, "_PACKED_FLOATS", 16 * channels * 3 * 2)  # several pieces
    drawn, made = (
        Parameters("conv1", Conv2d(outputs, (3, 2), identity=identity).parameters((channels, 6, 6)), None)
        for identity in (False, True)
    )
    for each in (drawn, made):
        each.initialise(7, {})
    usual, weights = (each.gather_weights()["conv1.weight"] for each in (drawn, made))
    count = min(channels, outputs)
    expected = np.zeros((count, channels, 3, 2), np.float32)
    expected[range(count), range(count), 1, 1] = 1
    np.testing.assert_array_equal(weights[:count], expected)
    np.testing.assert_array_equal(weights[count:], usual[count:])


def test_a_parameter_without_rows_of_the_identity_stays_as_drawn():
    for shape in ((5,), (5, 2), (5, 2, 3, 3)):
        drawn = np.full(shape, 0.5, np.float32)
        write_identity(drawn, 0, 0)
        assert (drawn == 0.5).all()


def test_parts_of_the_identity_are_rows_of_the_whole():
    shards = Conv2d(64, 3, identity=True, feature_leaves=2).shard(2)
    whole = np.zeros((64, 48, 3, 3), np.float32)
    write_identity(whole, 0, Conv2d(64, 3, identity=True).parameters((48, 5, 5))["weight"].identity_rows)
    parts = []
    for number, shard in enumerate(shards):
        part = np.zeros((32, 48, 3, 3), np.float32)
        write_identity(part, 32 * number, shard.parameters((48, 5, 5))["weight"].identity_rows)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.sum() == 48
