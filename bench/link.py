"""What a link between two hosts gives to a plain TCP stream: bandwidth one way and both ways, round trip.

As a program it is one end: ``listen ADDRESS`` on one host, ``connect ADDRESS`` on the other, which measures
and prints JSON.
"""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

PORT = 5201
ROUND_TRIPS = 200
MESSAGES = (1_000, 10_000, 100_000, 1_000_000)
"""Bytes of messages whose times are measured one by one: a link that lets bursts through shows in them."""
_TRIES = 15
_SILENCE_S = 0.01  # before a message: what a shaper saves up meanwhile is there again
CHUNK_BYTES = 1 << 16
_PATIENCE_S = 20.0


T = TypeVar("T")


@dataclass(frozen=True)
class LinkFigures:
    """What a TCP stream gets."""

    one_way_bits_per_s: float
    both_ways_bits_per_s: float
    """In each direction, while both are busy."""
    round_trip_s: float
    message_s: Sequence[float] = ()
    """Seconds that a message of each size of MESSAGES takes after silence, one way."""


def listen(address: str, seconds: float) -> None:
    """Answer one round of measurements."""
    rounds: tuple[Callable[[socket.socket], object], ...] = (
        _echo,
        _answer,
        lambda peer: _send(peer, seconds),
        lambda peer: _receive_and_send(peer, seconds),
    )
    with socket.create_server((address, PORT)) as server:
        server.settimeout(_PATIENCE_S)
        for serve in rounds:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(_PATIENCE_S)
                serve(peer)


def connect(address: str, seconds: float) -> LinkFigures:
    """Measure against a listener, which may still be starting."""
    round_trip = _with_peer(address, _round_trip)
    messages = _with_peer(address, lambda peer: _messages(peer, round_trip))
    one_way = _with_peer(address, _receive)
    both = _with_peer(address, lambda peer: _receive_and_send(peer, seconds))
    return LinkFigures(one_way, both, round_trip, messages)


def _with_peer(address: str, work: Callable[[socket.socket], T]) -> T:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with socket.create_connection((address, PORT), timeout=_PATIENCE_S) as peer:
                return work(peer)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _echo(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while byte := peer.recv(1):
        peer.sendall(byte)


def _round_trip(peer: socket.socket) -> float:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        peer.sendall(b"x")
        peer.recv(1)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _answer(peer: socket.socket) -> None:
    """Answer each message by one byte when all of it is there."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(CHUNK_BYTES))
    for size in MESSAGES:
        for _ in range(_TRIES):
            left = size
            while left and (count := peer.recv_into(room)):
                left -= count
            peer.sendall(b"x")


def _messages(peer: socket.socket, round_trip_s: float) -> list[float]:
    """Return the median time of a message of each size; the answer's way back is taken off."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found = []
    for size in MESSAGES:
        content, taken = bytes(size), []
        for _ in range(_TRIES):
            time.sleep(_SILENCE_S)
            start = time.perf_counter()
            peer.sendall(content)
            peer.recv(1)
            taken.append(time.perf_counter() - start - round_trip_s / 2)
        found.append(statistics.median(taken))
    return found


def _send(peer: socket.socket, seconds: float) -> None:
    chunk, deadline = bytes(CHUNK_BYTES), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        peer.sendall(chunk)
    peer.shutdown(socket.SHUT_WR)


def _receive(peer: socket.socket) -> float:
    """Return bits per second, from the first bytes until the sender ends."""
    room = memoryview(bytearray(CHUNK_BYTES))
    received, start = peer.recv_into(room), time.perf_counter()
    first, last = received, start
    while count := peer.recv_into(room):
        received, last = received + count, time.perf_counter()
    return 8 * (received - first) / (last - start)


def _receive_and_send(peer: socket.socket, seconds: float) -> float:
    sender = threading.Thread(target=_send, args=(peer, seconds))
    sender.start()
    rate = _receive(peer)
    sender.join()
    return rate


def main() -> int:
    """Be one end of a measurement: ``listen|connect ADDRESS SECONDS``."""
    role, address, seconds = sys.argv[1:4]
    if role == "listen":
        listen(address, float(seconds))
    else:
        print(json.dumps(asdict(connect(address, float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
