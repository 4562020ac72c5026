"""Whether the weights in memory are what they should be, while a run goes on: hashes, and copies compared."""

import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

from comm.communicator import Communicator
from engine.run.failures import RunEndedError
from engine.training.rank import Rank


def hashes(rank: Rank) -> dict[str, Any]:
    """Return `weights_sha256` and `state_sha256` as `run.json` would have them now (collective)."""
    rank.parameters.wait()
    with rank.averaged():
        return {"weights_sha256": rank.parameters.weights_sha256(), "state_sha256": rank.states.sha256()}


def check_copies(rank: Rank, control: Communicator, step: int, saved: Callable[[], int]) -> None:
    """End the run on all ranks where those that should hold the same weights or state do not (collective).

    Only a memory that has changed by itself, or a message that was damaged on its way, can do that.

    Parameters
    ----------
    saved
        Returns the step of the newest checkpoint that is whole (collective); 0: there is none.
    """
    rank.parameters.wait()
    mine = (socket.gethostname(), dict(_checksums(rank)))
    everyone: list[tuple[str, dict[tuple[str, int], int]]] = control.gather_objects(mine)
    held = defaultdict[tuple[str, int], list[tuple[int, int]]](list)
    for number, (_, sums) in enumerate(everyone):
        for place, checksum in sums.items():
            held[place].append((checksum, number))
    for (name, _), copies in held.items():
        if len({checksum for checksum, _ in copies}) > 1:
            hosts = [host for host, _ in everyone]
            older = saved()
            newest = f"the checkpoint of step {older} is older" if older else "nothing is saved"
            raise RunEndedError(f"step {step}: {_said(name, copies, hosts)}; {newest}")


def _checksums(rank: Rank) -> Iterator[tuple[tuple[str, int], int]]:
    """Yield checksums of the nodes' weights, with the part that this rank holds, and of their state."""
    for parameters in rank.parameters:
        part = rank.grid.part if parameters.is_split else 0
        for name, array in parameters.weights.items():
            yield (f"{parameters.node}.{name}", part), crc32(array.data)
    for node in rank.graph:
        for name, array in rank.states.state(node.name).items():
            yield (f"{node.name}.{name}", 0), crc32(array.data)


def _said(name: str, copies: list[tuple[int, int]], hosts: list[str]) -> str:
    """Return who holds other values than most; of two ranks nobody knows which one is wrong."""
    (usual, count), *_ = Counter(checksum for checksum, _ in copies).most_common()
    others = [number for checksum, number in copies if checksum != usual]
    if 2 * count > len(copies):
        where = ", ".join(f"rank {number} on {hosts[number]}" for number in others)
        return f"{name} has changed in the memory of {where}: have the memory tested, and --resume without it"
    where = ", ".join(f"{number} on {hosts[number]}" for _, number in copies)
    return f"{name} is not the same on ranks {where}: have their memory tested, and --resume"
