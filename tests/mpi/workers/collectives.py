"""Run every collective once; rank 0 prints what all ranks got, as JSON."""

import hashlib
import json

import numpy as np
import numpy.typing as npt

from comm import mpi
from comm.collectives import Collectives, Peers
from comm.comm_thread import CommThread, Request
from comm.communicator import Communicator, Message
from comm.job import Job, Round
from comm.scheduler import run_job
from comm.tree import Tree, tree_sum
from tests.comm.sums import leaf_gradients

LEAVES, FLOATS = 16, 100_000


def main() -> None:
    world = mpi.world()
    tree = Tree.of(world.size, LEAVES)
    collective = Collectives(world, tree, chunk_floats=7000, chunks_in_flight=3)
    held = tree.leaves_of(world.rank)

    leaves = leaf_gradients(LEAVES, FLOATS)
    buffer = np.zeros(tree.padded(FLOATS), np.float32)
    buffer[:FLOATS] = tree_sum(leaves[held.start : held.stop])
    run_job(reduce_and_broadcast(collective, buffer))

    if world.size > 1:
        window = collective.share(tree.padded(FLOATS))
        assert window is not None
        assert set(window.peers) == {rank for rank in range(world.size) if rank != world.rank}
        window.own[:FLOATS] = tree_sum(leaves[held.start : held.stop])
        run_job(reduce_and_broadcast(collective, window.own, window.peers))
        assert window.own.tobytes() == buffer.tobytes()

    rows = np.full((LEAVES, 2), np.nan)
    for leaf in held:
        rows[leaf] = leaf
    run_job(collective.all_gather_leaves(rows))

    root = np.array([world.rank + 0.5])
    run_job(collective.broadcast(root, world.size - 1))

    send = np.array([[world.rank, peer] for peer in range(world.size)])
    recv = np.empty_like(send)
    run_job(collective.all_to_all(send, recv))

    twin = Collectives(world.split(0), tree)
    twice = np.full(tree.padded(FLOATS), 2.0, np.float32)
    comm_thread = CommThread()
    requests: list[Request] = []
    for number in range(5):
        before = requests[-1] if requests else None
        job = reduce_and_broadcast(twin, twice)
        requests.append(comm_thread.submit(job, priority=-number, after=before))
    for _ in range(20):  # the main thread's messages meanwhile
        world.gather_objects(None)
    for request in requests:
        request.wait()
    comm_thread.close()
    assert (twice == 2.0 * world.size**5).all()

    if world.size > 1:
        pass_on(world)
    odd = world.split(world.rank % 2)
    result = {
        "rank": world.rank,
        "sum": hashlib.sha256(buffer[:FLOATS].tobytes()).hexdigest(),
        "rows": rows[:, 0].tolist(),
        "root": root.tolist(),
        "received": recv.tolist(),
        "half": [odd.rank, odd.size, odd.gather_objects(world.rank)],
    }
    results = world.gather_objects(result)
    if world.rank == 0:
        print(json.dumps(results))


def pass_on(world: Communicator) -> None:
    """Test a message until it has come."""
    ring = np.empty(3, np.int32)
    to, source = (world.rank + 1) % world.size, (world.rank - 1) % world.size
    transfer = world.post([Message(to, 9, np.full(3, world.rank, np.int32))], [Message(source, 9, ring)])
    while not transfer.test():
        pass
    assert (ring == source).all()


def reduce_and_broadcast(
    collective: Collectives, buffer: npt.NDArray[np.float32], peers: Peers | None = None
) -> Job:
    reduce = collective.part_reduce(buffer, peers or {})
    broadcast = collective.part_broadcast(buffer, peers or {})

    def job() -> Job:
        yield from reduce
        yield Round(collective.communicator)  # the broadcast sends what the reduce has added
        yield from broadcast

    return job()


main()
