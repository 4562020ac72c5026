"""A switch in user space that holds every frame for the latency: for kernels without netem.

It stands where the bridge would: one process for all links of a cluster, with a packet socket on each port.
The kernel stamps a frame when it comes to a port; so much later it leaves by the port of its destination,
whose token bucket it passes on the way to the host. What TCP sends in one piece (64 KB) passes in one piece,
with the header by which a network card would cut it.

As a program: ``python -m bench.delay_line LATENCY_NS PORT...`` in the network namespace of the ports. It says
"ready" or what is wrong, and ends when its standard input is closed: as soon as who has started it is gone.
"""

import errno
import gc
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from bench.namespaces import ClusterError

READY = "ready"

_HEADER_BYTES = 10  # virtio's, before each frame: how to cut it into packets, which checksum is missing
_FRAME_BYTES = _HEADER_BYTES + 14 + 4 + (1 << 16)
_RECEIVE_BYTES = 64 << 20  # a port's queue: what comes within the longest nap, at 10 Gbit/s and more
_SEND_BYTES = 256 << 20  # more than any token bucket queues: the bucket decides what is dropped
_LONGEST_NAP_NS = 5_000_000
_SHORT_NAP_NS = (
    1_000_000  # before a longer one all that has come is taken: a port's queue is not for the latency
)
_GONE_S = 5.0
_FULL = (errno.ENOBUFS, errno.EAGAIN)

# Of <linux/if_packet.h>, <asm-generic/socket.h> and <linux/if_ether.h>, which Python does not name.
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 32, 33, 35
_ETH_P_ALL = 3

_STAMP = struct.Struct("qq")  # seconds and nanoseconds since 1970
_STAMP_ROOM = socket.CMSG_SPACE(_STAMP.size)

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Things that come out a fixed time after they came, in the order in which they came."""

    def __init__(self, latency_ns: int):
        self._latency_ns = latency_ns
        self._held: list[tuple[int, int, T]] = []  # a heap
        self._order = count()

    @property
    def is_empty(self) -> bool:
        """Nothing is held."""
        return not self._held

    def put(self, thing: T, came_ns: int) -> None:
        """Take something that came at that time; of the same time, what is put first is first."""
        heappush(self._held, (came_ns + self._latency_ns, next(self._order), thing))

    def nap_ns(self, now_ns: int) -> int:
        """Return how long to wait for the first; 0: it is due, or nothing is held."""
        return max(0, self._held[0][0] - now_ns) if self._held else 0

    def due(self, now_ns: int) -> Iterator[T]:
        """Take out what is due."""
        held = self._held
        while held and held[0][0] <= now_ns:
            yield heappop(held)[2]


class Forwarding:
    """Where frames go: to the port that their destination has sent from, or to all others."""

    def __init__(self, ports: Sequence[int]):
        self._others = {port: tuple(other for other in ports if other != port) for port in ports}
        self._known: dict[bytes, tuple[int, ...]] = {}

    def targets(self, frame: bytes, port: int) -> tuple[int, ...]:
        """Return the ports to which a frame, virtio's header first, goes that has come by `port`."""
        to, sender = frame[_HEADER_BYTES : _HEADER_BYTES + 6], frame[_HEADER_BYTES + 6 : _HEADER_BYTES + 12]
        self._known[sender] = (port,)
        found = self._known.get(to)
        if found is None:
            return self._others[port]
        return found if found[0] != port else ()


def forward(latency_ns: int, ports: Sequence[socket.socket], owner: int) -> None:
    """Hold and pass on what comes to these ports until the file `owner` is closed at its other end.

    While something is held, nobody waits for arrivals: whatever comes meanwhile is due later, and has its
    time of arrival from the kernel. Nor are all taken that are there: of a port, which keeps its order, one
    that is held is enough to be awake when the next is due. So a frame costs one wake-up.
    """
    line = DelayLine[tuple[bytes, int]](latency_ns)
    by_file = {port.fileno(): port for port in ports}
    forwarding = Forwarding([*by_file])
    files: list[int] = []
    with select.epoll() as arrivals:
        for file in (owner, *by_file):
            arrivals.register(file, select.EPOLLIN)
        while owner not in files:
            _receive(line, [by_file[file] for file in files])
            nap_ns = line.nap_ns(time.monotonic_ns())
            if nap_ns and (nap_ns < _SHORT_NAP_NS or not files):
                time.sleep(1e-9 * min(nap_ns, _LONGEST_NAP_NS))
            for frame, file in line.due(time.monotonic_ns()):
                for target in forwarding.targets(frame, file):
                    _send(by_file[target], frame)
            files = [file for file, _ in arrivals.poll(None if line.is_empty else 0)]


def _receive(line: DelayLine[tuple[bytes, int]], ports: Sequence[socket.socket]) -> None:
    """Take one frame from each port."""
    now_ns = time.monotonic_ns()
    ahead_ns = time.time_ns() - now_ns  # of the kernel's stamps: their clock may be set at any time
    for port in ports:
        frame, about, _, _ = port.recvmsg(_FRAME_BYTES, _STAMP_ROOM)
        seconds, rest_ns = _STAMP.unpack(about[0][2])
        line.put((frame, port.fileno()), min(now_ns, seconds * 1_000_000_000 + rest_ns - ahead_ns))


def _send(port: socket.socket, frame: bytes) -> None:
    try:
        port.send(frame)
    except OSError as error:
        if error.errno not in _FULL:  # a full queue drops what comes, as any switch does
            raise


def open_port(name: str) -> socket.socket:
    """Open a packet socket on a network interface; OSError where the kernel has none."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
    port.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BYTES)
    port.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    port.bind((name, _ETH_P_ALL))
    port.setblocking(False)
    return port


@contextmanager
def running(namespace: str, ports: Sequence[str], *, latency_s: float) -> Iterator[subprocess.Popen[str]]:
    """Join ports of a network namespace by a delay line, and end it.

    Raises
    ------
    ClusterError
        If it cannot start.
    """
    program = [sys.executable, "-m", "bench.delay_line", str(round(1e9 * latency_s)), *ports]
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        start_new_session=True,  # Ctrl-C is for the command, which needs the network until its end
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            if said != READY:
                why = said or "it ended at once"
                raise ClusterError(f"a latency needs netem in the kernel, or a delay line: {why}")
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(_GONE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> int:
    """Be a delay line: ``LATENCY_NS PORT...``."""
    latency_ns, names = int(sys.argv[1]), sys.argv[2:]
    try:
        ports = [open_port(name) for name in names]
    except OSError as error:
        print(error.strerror, flush=True)
        return 1
    with suppress(OSError):  # else it waits behind what computes, for milliseconds
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    gc.disable()
    print(READY, flush=True)
    forward(latency_ns, ports, sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
