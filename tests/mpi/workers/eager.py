"""Rank 0 sends a chunk while rank 1 does nothing for MPI, and prints whether it could leave."""

import sys
import time
from pathlib import Path

import numpy as np

from comm import mpi
from comm.collectives import CHUNK_FLOATS
from comm.communicator import Message

TAG, PATIENCE_S = 5, 10.0


def main() -> None:
    world, done = mpi.world(), Path(sys.argv[1])
    world.gather_objects(None)  # the ranks are connected
    chunk, deadline = np.ones(CHUNK_FLOATS, np.float32), time.monotonic() + PATIENCE_S
    if world.rank == 0:
        transfer = world.post([Message(1, TAG, chunk)], [])
        while not (left := transfer.test()) and time.monotonic() < deadline:
            time.sleep(1e-3)
        done.touch()
        transfer.wait()
        print("left" if left else "waited for the receiver")
    else:
        while not done.exists() and time.monotonic() < 2 * deadline:
            time.sleep(1e-3)
        chunk[:] = 0
        world.send_receive([], [Message(0, TAG, chunk)])
        assert (chunk == 1).all()


main()
