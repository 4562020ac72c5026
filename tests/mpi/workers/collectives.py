"""Run every collective once; rank 0 prints what all ranks got, as JSON."""

import hashlib
import json

import numpy as np
import numpy.typing as npt

from comm import mpi
from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.communicator import Message
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
    reduce_and_broadcast(collective, buffer)

    rows = np.full((LEAVES, 2), np.nan)
    for leaf in held:
        rows[leaf] = leaf
    collective.all_gather_leaves(rows)

    root = np.array([world.rank + 0.5])
    collective.broadcast(root, world.size - 1)

    send = np.array([[world.rank, peer] for peer in range(world.size)])
    recv = np.empty_like(send)
    collective.all_to_all(send, recv)

    twin = Collectives(world.split(0), tree)
    twice = np.full(tree.padded(FLOATS), 2.0, np.float32)
    comm_thread = CommThread()
    requests = [comm_thread.submit(lambda: reduce_and_broadcast(twin, twice)) for _ in range(5)]
    for _ in range(20):  # the main thread's messages meanwhile
        world.gather_objects(None)
    for request in requests:
        request.wait()
    comm_thread.close()
    assert (twice == 2.0 * world.size**5).all()

    odd = world.split(world.rank % 2)
    ring = np.empty(3, np.int32)
    if world.size > 1:
        to, source = (world.rank + 1) % world.size, (world.rank - 1) % world.size
        transfer = world.post([Message(to, 9, np.full(3, world.rank, np.int32))], [Message(source, 9, ring)])
        while not transfer.test():
            pass
        assert (ring == source).all()

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


def reduce_and_broadcast(collective: Collectives, buffer: npt.NDArray[np.float32]) -> None:
    collective.part_reduce(buffer)
    collective.part_broadcast(buffer)


main()
