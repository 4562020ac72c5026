"""The memory plan: what shares storage, and what must not."""

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.data.loader import Batch
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.plan import Plan
from engine.host.aligned_arrays import aligned_zeros
from engine.training.memory import Memory
from engine.training.optimizer import SGD
from engine.training.rank import Rank, build_rank
from engine.training.rank_parameters import RankParameters
from engine.training.rank_settings import RankSettings
from engine.training.step import train_step
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.kernels.threads import Threads
from layers.layer import Context
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.cluster import Samples
from tests.engine.graphs import branches, residual


def rank_of(graph: Graph) -> Rank:
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    return build_rank(graph, RankSettings(8, 1, fuse=False), Plan(), grid, InlineCommThread())


def plan(graph: Graph) -> Memory:
    return rank_of(graph).memory


def test_relu_writes_over_the_output_of_a_convolution():
    memory = plan(residual())
    (x,), (y,) = memory["relu1"].x, memory["relu1"].y
    assert np.shares_memory(x, y)
    assert x.ctypes.data == y.ctypes.data
    assert memory["relu1"].dx[0].ctypes.data == memory["relu1"].dy[0].ctypes.data


def test_working_memory_begins_on_cache_lines():
    arrays = plan(branches()).working_arrays()
    assert len(arrays) > 3
    assert all(array.ctypes.data % 64 == 0 for array in arrays if array.size)


def test_nothing_writes_over_what_a_backward_pass_still_reads():
    net = GraphBuilder((3, 6, 6))
    net.add("conv", Conv2d(8, 3, padding=1))
    net.add("relu", ReLU())
    net.add("drop", Dropout(0.5))  # relu reads its own output in the backward pass
    net.add("flatten", Flatten())
    net.add("fc", Linear(3))
    memory = plan(net.graph())
    assert not np.shares_memory(memory["drop"].x[0], memory["drop"].y[0])


def test_the_readers_of_a_fork_see_one_value_and_have_gradients_of_their_own():
    memory = plan(branches())
    fork = memory["fork relu"]
    assert all(y.ctypes.data == fork.x[0].ctypes.data for y in fork.y)
    first, second = fork.dy
    assert not np.shares_memory(first, second)
    assert not any(np.shares_memory(fork.dx[0], dy) for dy in fork.dy)


def test_no_gradient_is_made_for_the_input():
    memory = plan(branches())
    assert memory["conv1x1"].dx == ()
    assert memory["conv3x3"].dx == ()
    assert memory["fork input"].dx == ()


def test_gradients_take_turns_in_the_same_storage():
    net = GraphBuilder((16, 8, 8))
    for index in range(6):
        net.add(f"conv{index}", Conv2d(16, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(3))
    memory = plan(net.graph())
    starts = {memory[f"conv{index}"].dy[0].ctypes.data for index in range(6)}
    assert len(starts) == 2
    for index in range(1, 6):
        at = memory[f"conv{index}"]
        assert not np.shares_memory(at.dx[0], at.dy[0])


def beside_rows(array: np.ndarray) -> np.ndarray:
    """Return what lies behind each row of an image, up to the next row."""
    columns = array.strides[2] // array.strides[3]
    shape = (*array.shape[:2], array.shape[2] - 1, columns, array.shape[4])  # nothing is behind the last
    return np.lib.stride_tricks.as_strided(array, shape, array.strides)[:, :, :, array.shape[3] :]


def test_images_have_the_halo_that_their_readers_ask_for_before_and_after_steps():
    graph = residual()
    rank, run = rank_of(graph), Context(Threads(1))
    rank.initialise(1)
    memory = rank.memory
    samples = Samples.draw(graph.input_shape, graph.output_shape[0], 8)
    batch = Batch(samples.x, samples.labels.astype(np.int32), np.arange(8), 0)
    for step in range(3):
        if step:
            train_step(rank, (batch,), run, SGD().at(step, 0.1))
        for name in ("conv2", "conv3"):
            at = memory[name]
            for image in (at.x[0], at.dy[0]):
                assert image.any() == (step > 0)
                assert beside_rows(image).shape[3] >= 2
                assert not beside_rows(image).any()


def test_a_minibatch_is_copied_into_an_input_without_padded_channels():
    net = GraphBuilder((3, 4, 5))
    net.add("conv", Conv2d(8, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(3))
    memory = plan(net.graph())
    x = np.random.default_rng(0).standard_normal((8, 3, 4, 5), dtype=np.float32)
    memory.load(Batch(x, np.zeros(8, np.int32), np.arange(8), 0), Threads(1))
    assert (memory["conv"].x[0][:, 0] == x.transpose(0, 2, 3, 1)).all()
    assert not beside_rows(memory["conv"].x[0]).any()


def test_arrays_start_on_a_cache_line():
    assert all(aligned_zeros((size,)).ctypes.data % 64 == 0 for size in (1, 7, 100, 4096))


def test_initial_weights_do_not_depend_on_the_order_in_which_nodes_are_drawn():
    models = []
    for reverse in (False, True):
        grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
        parameters = RankParameters(residual(), grid, InlineCommThread())
        tasks = parameters.initialisation_tasks(1, {})
        for draw in reversed(tasks) if reverse else tasks:
            draw()
        models.append(parameters.gather_weights())
    first, second = models
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(array.any() for array in first.values())


def test_memory_to_be_touched_is_all_but_the_weights():
    rank = rank_of(residual())
    arrays = [*rank.parameters.arrays(), *rank.memory.arrays()]
    for parameters in rank.parameters:
        for name, weights in parameters.weights.items():
            assert not any(np.shares_memory(weights, array) for array in arrays)
            assert any(np.shares_memory(parameters.gradients[name], array) for array in arrays)
