"""Print whose memory each rank can read, by rank; with an argument that rank can read nobody's."""

import json
import sys
from typing import NoReturn

from comm import host_memory, mpi


def refuse(handle: host_memory.Handle) -> NoReturn:
    raise PermissionError(handle.process)


def main() -> None:
    world = mpi.world()
    if sys.argv[1:] == [str(world.rank)]:
        host_memory.attach = refuse
    seen = []
    for _ in range(2):
        window = world.share(100)
        seen.append(sorted(window.peers) if window else None)
    everybody = world.gather_objects(seen)
    if world.rank == 0:
        print(json.dumps(everybody))


main()
