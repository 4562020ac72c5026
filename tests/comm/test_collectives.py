"""Collectives give the bits of the balanced tree on any number of ranks, in any chunks, at any speed."""

import random
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from comm.collectives import Collectives, run_alone
from comm.communicator import Communicator
from comm.threads import run_ranks
from comm.tree import Tree, tree_sum
from tests.comm.sums import leaf_gradients, naive_tree

LEAVES, FLOATS = 16, 3000
every_size = pytest.mark.parametrize("size", [*range(1, 10), 16])


def random_delays(seed: int = 0) -> Callable[[], None]:
    rng = random.Random(seed)
    return lambda: time.sleep(rng.choice([0.0, 0.0, 0.0002, 0.0005]))


def collectives(
    communicator: Communicator, chunk_floats: int = 100, chunks_in_flight: int = 3
) -> Collectives:
    tree = Tree.of(communicator.size, LEAVES)
    return Collectives(communicator, tree, chunk_floats=chunk_floats, chunks_in_flight=chunks_in_flight)


def own_sum(collective: Collectives, leaves: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the rank's padded buffer, as backward leaves it."""
    tree, floats = collective.tree, leaves.shape[1]
    buffer = np.zeros(tree.padded(floats), np.float32)
    held = tree.leaves_of(collective.communicator.rank)
    buffer[:floats] = tree_sum(leaves[held.start : held.stop])
    return buffer


@every_size
def test_part_reduce_leaves_the_tree_sum_in_every_strip(size: int) -> None:
    leaves = leaf_gradients(LEAVES, FLOATS)

    def work(communicator: Communicator) -> list[tuple[slice, npt.NDArray[np.float32]]]:
        collective = collectives(communicator)
        buffer = own_sum(collective, leaves)
        run_alone(collective.part_reduce(buffer))
        return [(strip, buffer[strip]) for strip in collective.tree.strips_of(communicator.rank, buffer.size)]

    summed = np.full(Tree.of(size, LEAVES).padded(FLOATS), np.nan, np.float32)
    for strips in run_ranks(size, work, random_delays()):
        for strip, content in strips:
            summed[strip] = content
    assert summed[:FLOATS].tobytes() == naive_tree(leaves).tobytes()
    assert not summed[FLOATS:].any()


@every_size
@pytest.mark.parametrize(("chunk_floats", "chunks_in_flight"), [(1, 8), (64, 1), (77, 2), (1 << 18, 4)])
def test_no_bit_depends_on_ranks_or_chunks(size: int, chunk_floats: int, chunks_in_flight: int) -> None:
    leaves = leaf_gradients(LEAVES, 300, seed=1)

    def work(communicator: Communicator) -> bytes:
        collective = collectives(communicator, chunk_floats, chunks_in_flight)
        buffer = own_sum(collective, leaves)
        run_alone(collective.part_reduce(buffer))
        run_alone(collective.part_broadcast(buffer))
        return buffer[: leaves.shape[1]].tobytes()

    assert run_ranks(size, work) == [naive_tree(leaves).tobytes()] * size


@every_size
def test_part_broadcast_brings_every_strip_to_every_rank(size: int) -> None:
    whole = np.arange(Tree.of(size, LEAVES).padded(FLOATS), dtype=np.float32)

    def work(communicator: Communicator) -> bool:
        collective = collectives(communicator)
        buffer = np.full(whole.size, np.nan, np.float32)
        for strip in collective.tree.strips_of(communicator.rank, whole.size):
            buffer[strip] = whole[strip]
        run_alone(collective.part_broadcast(buffer))
        return bool((buffer == whole).all())

    assert all(run_ranks(size, work, random_delays()))


@every_size
def test_all_gather_leaves_fills_the_rows_of_all_ranks(size: int) -> None:
    whole = np.random.default_rng(0).standard_normal((LEAVES, 3))

    def work(communicator: Communicator) -> bool:
        collective = collectives(communicator)
        values, held = np.full_like(whole, np.nan), collective.tree.leaves_of(communicator.rank)
        values[held.start : held.stop] = whole[held.start : held.stop]
        run_alone(collective.all_gather_leaves(values))
        return bool((values == whole).all())

    assert all(run_ranks(size, work, random_delays()))


@every_size
def test_broadcast_copies_the_array_of_any_root(size: int) -> None:
    def work(communicator: Communicator) -> list[int]:
        collective, got = collectives(communicator), []
        for root in range(size):
            array = np.array([communicator.rank * 10], np.int16)
            run_alone(collective.broadcast(array, root))
            got.append(int(array[0]))
        return got

    assert run_ranks(size, work, random_delays()) == [[10 * root for root in range(size)]] * size


@every_size
def test_all_to_all_transposes_ranks_and_rows(size: int) -> None:
    def work(communicator: Communicator) -> list[list[int]]:
        send = np.stack([np.array([communicator.rank, peer]) for peer in range(size)])
        recv = np.empty_like(send)
        run_alone(collectives(communicator).all_to_all(send, recv))
        return recv.tolist()

    received = run_ranks(size, work, random_delays())
    assert received == [[[peer, rank] for peer in range(size)] for rank in range(size)]


def test_an_error_in_one_rank_ends_a_collective_in_the_others() -> None:
    def work(communicator: Communicator) -> None:
        collective = collectives(communicator)
        if communicator.rank == 2:
            raise FloatingPointError("loss is nan")
        run_alone(collective.part_reduce(np.zeros(collective.tree.padded(FLOATS), np.float32)))

    started = time.monotonic()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        run_ranks(5, work)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("chunk_floats", "chunks_in_flight"), [(0, 4), (100, 0)])
def test_collectives_refuse_empty_chunks(chunk_floats: int, chunks_in_flight: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        run_ranks(1, lambda c: collectives(c, chunk_floats, chunks_in_flight))
