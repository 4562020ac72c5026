"""Collectives give the bits of the balanced tree on any number of ranks, in any chunks, at any speed."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from comm.collectives import Collectives, _rounds_since_write, _with_tag
from comm.communicator import CONTROL_TAG, Communicator, Window
from comm.job import Job
from comm.scheduler import run_job
from comm.threads import run_ranks
from comm.tree import Tree, tree_sum
from tests.comm.sums import leaf_gradients, naive_tree

Array = npt.NDArray[np.float32]

LEAVES, FLOATS = 16, 3000
every_size = pytest.mark.parametrize("size", [*range(1, 10), 16])
every_host = pytest.mark.parametrize("ranks_per_host", [1, 2, 3, 16])
"""Those of one host read each other's memory."""


def random_delays(seed: int = 0) -> Callable[[], None]:
    rng = random.Random(seed)
    return lambda: time.sleep(rng.choice([0.0, 0.0, 0.0002, 0.0005]))


def collectives(
    communicator: Communicator, chunk_floats: int = 100, chunks_in_flight: int = 3
) -> Collectives:
    tree = Tree.of(communicator.size, LEAVES)
    return Collectives(communicator, tree, chunk_floats=chunk_floats, chunks_in_flight=chunks_in_flight)


def zeros(collective: Collectives, floats: int) -> Window:
    """Return a padded buffer, shared with the ranks of the host if there are any."""
    floats = collective.tree.padded(floats)
    return collective.share(floats) or Window(np.zeros(floats, np.float32), {})


def fill(collective: Collectives, buffer: Array, leaves: Array) -> None:
    """Leave in a buffer what backward leaves: the sum of the rank's own leaves."""
    held = collective.tree.leaves_of(collective.communicator.rank)
    buffer[: leaves.shape[1]] = tree_sum(leaves[held.start : held.stop])


@every_size
@every_host
def test_part_reduce_leaves_the_tree_sum_in_every_strip(size: int, ranks_per_host: int) -> None:
    leaves = leaf_gradients(LEAVES, FLOATS)

    def work(communicator: Communicator) -> list[tuple[slice, Array]]:
        collective = collectives(communicator)
        window = zeros(collective, FLOATS)
        buffer = window.own
        fill(collective, buffer, leaves)
        run_job(collective.part_reduce(buffer, window.peers))
        return [(strip, buffer[strip]) for strip in collective.tree.strips_of(communicator.rank, buffer.size)]

    summed = np.full(Tree.of(size, LEAVES).padded(FLOATS), np.nan, np.float32)
    for strips in run_ranks(size, work, random_delays(), ranks_per_host=ranks_per_host):
        for strip, content in strips:
            summed[strip] = content
    assert summed[:FLOATS].tobytes() == naive_tree(leaves).tobytes()
    assert not summed[FLOATS:].any()


@every_size
@every_host
@pytest.mark.parametrize(("chunk_floats", "chunks_in_flight"), [(1, 8), (64, 1), (77, 2), (1 << 18, 4)])
def test_no_bit_depends_on_ranks_or_chunks(
    size: int, ranks_per_host: int, chunk_floats: int, chunks_in_flight: int
) -> None:
    leaves = leaf_gradients(LEAVES, 300, seed=1)

    def work(communicator: Communicator) -> bytes:
        collective = collectives(communicator, chunk_floats, chunks_in_flight)
        window = zeros(collective, 300)
        fill(collective, window.own, leaves)
        run_job(collective.part_reduce(window.own, window.peers))
        run_job(collective.part_broadcast(window.own, window.peers))
        return window.own[: leaves.shape[1]].tobytes()

    assert run_ranks(size, work, ranks_per_host=ranks_per_host) == [naive_tree(leaves).tobytes()] * size


@every_size
@every_host
def test_part_broadcast_brings_every_strip_to_every_rank(size: int, ranks_per_host: int) -> None:
    whole = np.arange(Tree.of(size, LEAVES).padded(FLOATS), dtype=np.float32)

    def work(communicator: Communicator) -> bool:
        collective = collectives(communicator)
        window = zeros(collective, FLOATS)
        buffer = window.own
        buffer[:] = np.nan
        for strip in collective.tree.strips_of(communicator.rank, whole.size):
            buffer[strip] = whole[strip]
        run_job(collective.part_broadcast(buffer, window.peers))
        return bool((buffer == whole).all())

    assert all(run_ranks(size, work, random_delays(), ranks_per_host=ranks_per_host))


@pytest.mark.parametrize("size", [2, 3, 4, 6, 8])
def test_a_buffer_that_others_read_is_theirs_until_the_job_ends(size: int) -> None:
    """Each rank writes the next step's gradients as soon as its own job has ended, at all kinds of times."""
    steps = [leaf_gradients(LEAVES, FLOATS, seed) for seed in range(6)]

    def work(communicator: Communicator) -> list[bytes]:
        collective = collectives(communicator, chunk_floats=20)
        window, sums = zeros(collective, FLOATS), []
        for leaves in steps:
            fill(collective, window.own, leaves)
            run_job(collective.part_reduce(window.own, window.peers))
            run_job(collective.part_broadcast(window.own, window.peers))
            sums.append(window.own[:FLOATS].tobytes())
        return sums

    expected = [naive_tree(leaves).tobytes() for leaves in steps]
    assert run_ranks(size, work, random_delays(size), ranks_per_host=size) == [expected] * size


def test_ranks_share_memory_with_those_of_their_host_only() -> None:
    def work(communicator: Communicator) -> list[int]:
        half = communicator.split(communicator.rank % 2)
        window = Collectives(half, Tree.of(half.size, LEAVES)).share(8)
        assert window is not None and not any(peer.flags.writeable for peer in window.peers.values())
        window.own[:] = communicator.rank
        half.gather_objects(None)
        return [int(peer[0]) for peer in window.peers.values()]

    assert run_ranks(8, work, ranks_per_host=4) == [[2], [3], [0], [1], [6], [7], [4], [5]]


def test_without_shared_memory_there_is_no_window() -> None:
    def work(communicator: Communicator) -> bool:
        tree = Tree.of(communicator.size, LEAVES)
        return Collectives(communicator, tree, shared_memory=False).share(8) is None

    assert run_ranks(2, work, ranks_per_host=2) == [True, True]


@every_size
@every_host
def test_part_broadcast_prepares_each_own_part_once_before_it_leaves(size: int, ranks_per_host: int) -> None:
    whole = np.arange(Tree.of(size, LEAVES).padded(FLOATS), dtype=np.float32)

    def work(communicator: Communicator) -> list[int]:
        collective = collectives(communicator)
        window, prepared = zeros(collective, FLOATS), list[int]()
        buffer = window.own
        buffer[:] = np.nan

        def prepare(part: slice) -> Job:
            buffer[part] = whole[part]
            prepared.extend(range(part.start, part.stop))
            yield None

        run_job(collective.part_broadcast(buffer, window.peers, prepare))
        assert (buffer == whole).all()
        return prepared

    found = run_ranks(size, work, random_delays(), ranks_per_host=ranks_per_host)
    assert sorted(place for each in found for place in each) == [*range(whole.size)]


@every_size
def test_all_gather_leaves_fills_the_rows_of_all_ranks(size: int) -> None:
    whole = np.random.default_rng(0).standard_normal((LEAVES, 3))

    def work(communicator: Communicator) -> bool:
        collective = collectives(communicator)
        values, held = np.full_like(whole, np.nan), collective.tree.leaves_of(communicator.rank)
        values[held.start : held.stop] = whole[held.start : held.stop]
        run_job(collective.all_gather_leaves(values))
        return bool((values == whole).all())

    assert all(run_ranks(size, work, random_delays()))


@every_size
def test_all_gather_fills_one_row_of_each_rank(size: int) -> None:
    def work(communicator: Communicator) -> list[list[int]]:
        values = np.zeros((size, 2), np.int64)
        job = collectives(communicator).all_gather(values)
        values[communicator.rank] = communicator.rank, -communicator.rank  # before the job runs
        run_job(job)
        return [[int(each) for each in row] for row in values]

    assert run_ranks(size, work, random_delays()) == [[[rank, -rank] for rank in range(size)]] * size


@every_size
def test_broadcast_copies_the_array_of_any_root(size: int) -> None:
    def work(communicator: Communicator) -> list[int]:
        collective, got = collectives(communicator), []
        for root in range(size):
            array = np.array([communicator.rank * 10], np.int16)
            run_job(collective.broadcast(array, root))
            got.append(int(array[0]))
        return got

    assert run_ranks(size, work, random_delays()) == [[10 * root for root in range(size)]] * size


@every_size
def test_all_to_all_transposes_ranks_and_rows(size: int) -> None:
    def work(communicator: Communicator) -> list[list[int]]:
        send = np.stack([np.array([communicator.rank, peer]) for peer in range(size)])
        recv = np.empty_like(send)
        run_job(collectives(communicator).all_to_all(send, recv))
        return recv.tolist()

    received = run_ranks(size, work, random_delays())
    assert received == [[[peer, rank] for peer in range(size)] for rank in range(size)]


@pytest.mark.parametrize(
    ("size", "leaves", "groups"),
    [
        (2, 8, [(0, 2)]),
        (3, 4, [(0, 1), (1, 3)]),
        (5, 8, [(0, 2), (2, 5)]),
        (5, 8, [(0, 1), (1, 2), (2, 3), (3, 5)]),
        (8, 8, [(0, 4), (4, 8)]),
    ],
)
def test_all_gather_among_fills_the_rows_of_the_ranks_of_a_group(size, leaves, groups) -> None:
    def work(communicator: Communicator) -> list[list[int]]:
        rank, collective = communicator.rank, Collectives(communicator, Tree.of(communicator.size, leaves))
        first, stop = next((low, high) for low, high in groups if low <= rank < high)
        held = [len(collective.tree.leaves_of(member)) for member in range(first, stop)]
        tree = Tree.of(stop - first, sum(held))
        assert [len(tree.leaves_of(member)) for member in range(stop - first)] == held
        values = np.full((tree.leaves, 2), -1, np.int64)
        own, mine = tree.leaves_of(rank - first), collective.tree.leaves_of(rank)
        for _ in range(2):  # one call after the other, on the tags that all ranks count alike
            values[own.start : own.stop] = np.stack([mine, [rank] * len(mine)], axis=1)
            run_job(collective.all_gather_among(values, tree, first))
        return values.tolist()

    gathered, tree = run_ranks(size, work, random_delays()), Tree.of(size, leaves)
    for first, stop in groups:
        rows = [[leaf, rank] for rank in range(first, stop) for leaf in tree.leaves_of(rank)]
        assert gathered[first:stop] == [rows] * (stop - first)


def test_an_error_in_one_rank_ends_a_collective_in_the_others() -> None:
    def work(communicator: Communicator) -> None:
        collective = collectives(communicator)
        if communicator.rank == 2:
            raise FloatingPointError("loss is nan")
        run_job(collective.part_reduce(np.zeros(collective.tree.padded(FLOATS), np.float32)))

    started = time.monotonic()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        run_ranks(5, work)
    assert time.monotonic() - started < 5


def test_jobs_made_in_one_order_run_in_any() -> None:
    def work(communicator: Communicator) -> list[float]:
        collective = collectives(communicator)
        arrays = [np.array([float(number)]) if communicator.rank == 0 else np.zeros(1) for number in range(4)]
        jobs = [collective.broadcast(array, root=0) for array in arrays]
        for job in jobs if communicator.rank else reversed(jobs):
            run_job(job)
        return [float(array[0]) for array in arrays]

    assert run_ranks(3, work) == [[0.0, 1.0, 2.0, 3.0]] * 3


@pytest.mark.parametrize(("chunk_floats", "chunks_in_flight"), [(0, 4), (100, 0)])
def test_collectives_refuse_empty_chunks(chunk_floats: int, chunks_in_flight: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        run_ranks(1, lambda c: collectives(c, chunk_floats, chunks_in_flight))


@pytest.mark.parametrize("shared_memory", [True, False])
def test_the_collectives_of_other_ranks_have_the_same_settings(shared_memory: bool) -> None:
    def work(communicator: Communicator) -> tuple[bool, list[tuple[int, int]]]:
        world = Collectives(
            communicator,
            Tree.of(2, LEAVES),
            chunk_floats=48,
            chunks_in_flight=2,
            shared_memory=shared_memory,
        )
        others = world.with_others(communicator.split(0), Tree.of(2, LEAVES))
        shared = others.share(8) is not None
        rounds = list(others.part_reduce(np.zeros(256, np.float32)))
        return shared, sorted((r.sends[0].array.size, r.max_pending) for r in rounds if r is not None)

    expected = shared_memory, [(32, 1), (48, 1), (48, 1)]
    assert run_ranks(2, work, ranks_per_host=2) == [expected] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(64),
        np.zeros((2, 32), np.float32),
        np.zeros(128, np.float32)[::2],
        np.zeros(65, np.float32),
    ],
)
def test_a_buffer_of_another_form_is_our_own_mistake(wrong: Array) -> None:
    def work(communicator: Communicator) -> None:
        collective = collectives(communicator)
        for call in (collective.part_reduce, collective.part_broadcast):
            with pytest.raises(AssertionError):
                next(call(wrong))

    run_ranks(2, work)


def test_tags_are_those_that_mpi_has_and_come_again_late() -> None:
    def work(communicator: Communicator) -> list[int]:
        collective, array = collectives(communicator), np.zeros(1)
        rounds = (next(collective.broadcast(array, 0)) for _ in range(40_000))
        return [(*each.sends, *each.receives)[0].tag for each in rounds if each is not None]

    for tags in run_ranks(2, work):
        period = tags.index(tags[0], 1)
        used = sorted(set(tags))
        assert period == len(used) > 16_000
        assert used[0] > CONTROL_TAG
        assert used[-1] + 1 <= 32_767  # a job has the next tag too
        assert min(np.diff(used)) == 2


def waits_of(job: Callable[[Collectives, Array], Job], size: int) -> list[list[int]]:
    """Return for each rank and round how many earlier rounds it lets be in flight."""

    def work(communicator: Communicator) -> list[int]:
        collective = collectives(communicator, chunk_floats=16, chunks_in_flight=8)
        rounds = job(collective, np.zeros(collective.tree.padded(16 * 16 * size), np.float32))
        return [each.max_pending for each in rounds if each is not None]

    return run_ranks(size, work)


@pytest.mark.parametrize("size", [4, 8])
def test_a_level_starts_while_the_chunks_of_the_one_before_are_on_their_way(size: int) -> None:
    for waits in waits_of(Collectives.part_reduce, size):
        assert min(waits) == 7  # all that may be in flight: no round waits for a chunk
    for waits in waits_of(Collectives.part_broadcast, size):
        assert min(waits) == 7


def test_a_round_waits_for_the_last_one_that_writes_what_it_sends_and_for_no_other() -> None:
    written = deque([slice(40, 50), slice(10, 20), slice(15, 30)], maxlen=7)
    assert _rounds_since_write(written, slice(12, 14)) == 1
    assert _rounds_since_write(written, slice(18, 22)) == 1
    assert _rounds_since_write(written, slice(20, 22)) == 2
    assert _rounds_since_write(written, slice(29, 41)) == 0
    assert _rounds_since_write(written, slice(30, 40)) == 7  # it touches three and overlaps none
    assert _rounds_since_write(written, slice(50, 60)) == 7
    assert _rounds_since_write(written, slice(0, 10)) == 7
    assert _rounds_since_write(deque(maxlen=0), slice(0, 10)) == 0


@pytest.mark.parametrize("call", [Collectives.part_reduce, Collectives.part_broadcast])
@pytest.mark.parametrize("ranks_per_host", [1, 2])
def test_what_is_read_in_shared_memory_counts_as_moved_but_not_as_sent(
    call: Callable[..., Job], ranks_per_host: int
) -> None:
    def work(communicator: Communicator) -> tuple[int, int]:
        collective = collectives(communicator)
        window = zeros(collective, FLOATS)
        rounds = [each for each in call(collective, window.own, window.peers) if each is not None]
        return sum(each.bytes for each in rounds), sum(each.wire_bytes for each in rounds)

    half = 4 * Tree.of(2, LEAVES).padded(FLOATS) // 2
    assert run_ranks(2, work, ranks_per_host=ranks_per_host) == [(half, half * (ranks_per_host == 1))] * 2


@every_size
def test_all_gather_leaves_moves_each_row_of_the_others_once(size: int) -> None:
    def work(communicator: Communicator) -> tuple[int, int]:
        collective = collectives(communicator)
        rounds = [each for each in collective.all_gather_leaves(np.zeros((LEAVES, 3))) if each is not None]
        received = sum(len(message.array) for each in rounds for message in each.receives)
        return received + len(collective.tree.leaves_of(communicator.rank)), len(rounds)

    assert run_ranks(size, work) == [(LEAVES, (size - 1).bit_length())] * size


def test_all_to_all_keeps_as_many_messages_in_flight_as_it_may() -> None:
    def work(communicator: Communicator) -> list[int]:
        job = collectives(communicator, chunks_in_flight=3).all_to_all(np.zeros((4, 1)), np.zeros((4, 1)))
        return [each.max_pending for each in job if each is not None]

    assert run_ranks(4, work) == [[2, 2, 2]] * 4


def test_buffers_of_received_chunks_are_used_again() -> None:
    def work(communicator: Communicator) -> list[set[int]]:
        collective, held = collectives(communicator, chunk_floats=32), []
        buffer = np.zeros(collective.tree.padded(FLOATS), np.float32)
        for _ in range(2):
            run_job(collective.part_reduce(buffer))
            held.append({id(chunk) for chunk in collective._free_chunks})
        return held

    for first, second in run_ranks(2, work):
        assert first
        assert first <= second
        assert len(second) <= 4  # three in flight, and the one that is posted next


def test_a_collective_takes_its_tag_in_the_call_and_not_when_its_job_runs() -> None:
    class Numbered:
        taken = 0

        def _take_tag(self) -> int:
            self.taken += 2
            return self.taken

    def two(_: Numbered, tag: int, first: str, *, second: str) -> Job:
        seen.append((tag, first, second))
        yield None

    seen: list[tuple[int, str, str]] = []
    numbered, call = Numbered(), _with_tag(two)  # type: ignore[arg-type]
    jobs = [call(numbered, text, second=text.upper()) for text in ("a", "b")]  # type: ignore[arg-type]
    for job in reversed(jobs):
        assert list(job) == [None]
    assert seen == [(4, "b", "B"), (2, "a", "A")]


@every_size
def test_every_message_that_a_job_sends_is_received(size: int) -> None:
    def work(communicator: Communicator) -> tuple[Counter[Any], Counter[Any]]:
        collective = collectives(communicator)
        buffer, rows = np.zeros(collective.tree.padded(FLOATS), np.float32), np.zeros((size, 3))
        jobs = (
            collective.part_reduce(buffer),
            collective.part_broadcast(buffer),
            collective.all_gather_leaves(np.zeros((LEAVES, 2))),
            collective.all_to_all(rows, rows.copy()),
            *(collective.broadcast(buffer, root) for root in range(size)),
        )
        sent, received, own = Counter[Any](), Counter[Any](), communicator.rank
        for each in (posted for job in jobs for posted in job if posted is not None):
            sent.update((own, m.peer, m.tag, m.array.nbytes) for m in each.sends)
            received.update((m.peer, own, m.tag, m.array.nbytes) for m in each.receives)
        return sent, received

    found = run_ranks(size, work)
    assert sum((sent for sent, _ in found), Counter()) == sum((received for _, received in found), Counter())


@every_size
def test_pass_on_brings_arrays_of_any_length_to_some_ranks(size: int) -> None:
    def length(rank: int) -> int:
        return 40 * rank + 7

    def work(communicator: Communicator) -> dict[int, list[float]]:
        rank, distances = communicator.rank, range(1, min(size, 3))
        own = np.full(length(rank), rank, np.float32)
        came = {
            (rank - each) % size: np.zeros(length((rank - each) % size), np.float32) for each in distances
        }
        sends = {(rank + each) % size: own for each in distances}
        run_job(collectives(communicator, chunk_floats=32).pass_on(sends, came))
        return {peer: sorted({float(value) for value in array}) for peer, array in came.items()}

    for received in run_ranks(size, work, random_delays()):
        assert received == {peer: [float(peer)] for peer in received}
