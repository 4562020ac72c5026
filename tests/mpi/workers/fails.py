"""End badly on the last rank, in the way that the argument names, while the others wait in a collective."""

import sys
import threading
import time

import numpy as np

from comm import failure, mpi
from comm.collectives import Collectives
from comm.comm_thread import CommThread
from comm.communicator import Communicator
from comm.job import Job
from comm.tree import Tree


def main(way: str) -> None:
    world = mpi.world()
    failure.install(world)
    if way == "agree":
        agree(world)
    world.gather_objects(None)
    if world.rank == world.size - 1:
        FAILURES[way](world)
    collective = Collectives(world, Tree.of(world.size, 16))
    buffer = np.zeros(collective.tree.padded(1 << 20), np.float32)
    comm_thread = CommThread(on_failure=failure.abort_on_error(world))
    comm_thread.submit(collective.part_reduce(buffer)).wait()
    sys.exit("the last rank did not fail")


def agree(world: Communicator) -> None:
    last = world.rank == world.size - 1
    error = failure.agree(world, "no such folder: data" if last else None)
    if world.rank == 0:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def fail_in_main_thread(_world: Communicator) -> None:
    raise ArithmeticError("the sum is wrong")


def fail_in_comm_thread(world: Communicator) -> None:
    def job() -> Job:
        raise ConnectionError("the link is down")
        yield

    request = CommThread(on_failure=failure.abort_on_error(world)).submit(job())
    if world.size > 1:
        time.sleep(60)  # a main thread that is busy for long
    request.wait()


def fail_in_reader_thread(_world: Communicator) -> None:
    def read() -> None:
        raise OSError("the disk is gone")

    threading.Thread(target=read).start()
    time.sleep(60)


def fail_in_words(world: Communicator) -> None:
    failure.fail(world, "minibatch=10 does not divide into 16 leaves")


def wait_for_ctrl_c(_world: Communicator) -> None:
    print("running", flush=True)
    time.sleep(60)


FAILURES = {
    "main thread": fail_in_main_thread,
    "comm thread": fail_in_comm_thread,
    "reader thread": fail_in_reader_thread,
    "fail": fail_in_words,
    "interrupt": wait_for_ctrl_c,
}

main(sys.argv[1])
