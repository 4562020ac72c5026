"""The delay line: what it holds and where frames go; as a process, where root may make a namespace."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from bench import delay_line
from bench.delay_line import DelayLine, Forwarding
from bench.namespaces import ClusterError, check_tools

NAME = f"lockstep-{os.getpid()}-0-line"
EVERYBODY = b"\xff" * 6


def frame(to: bytes, sender: bytes) -> bytes:
    return bytes(10) + to + sender + b"\x08\x00" + b"data"


def test_nothing_comes_out_before_its_time_and_all_in_order() -> None:
    line = DelayLine[str](100)
    line.put("a", 10)
    line.put("b", 15)
    line.put("c", 300)
    assert list(line.due(109)) == []
    assert list(line.due(110)) == ["a"]
    assert list(line.due(399)) == ["b"]
    assert list(line.due(400)) == ["c"]
    assert list(line.due(10_000)) == []


def test_the_nap_is_until_the_first_is_due() -> None:
    line = DelayLine[str](100)
    assert line.is_empty
    assert line.nap_ns(0) == 0
    line.put("a", 10)
    line.put("b", 20)
    assert not line.is_empty
    assert line.nap_ns(50) == 60
    assert line.nap_ns(500) == 0


def test_what_came_first_is_first_however_late_it_is_put() -> None:
    line = DelayLine[str](100)
    line.put("by a busy port", 20)
    line.put("earlier by another", 10)
    line.put("at once with it", 10)
    assert list(line.due(110)) == ["earlier by another", "at once with it"]
    assert list(line.due(120)) == ["by a busy port"]


def test_frames_go_to_all_until_their_destination_has_been_heard() -> None:
    forwarding = Forwarding([3, 4, 5])
    one, two = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
    assert forwarding.targets(frame(EVERYBODY, one), 3) == (4, 5)
    assert forwarding.targets(frame(two, one), 3) == (4, 5)
    assert forwarding.targets(frame(one, two), 4) == (3,)
    assert forwarding.targets(frame(two, one), 3) == (4,)


def test_a_frame_for_who_is_on_its_own_port_goes_nowhere() -> None:
    forwarding = Forwarding([3, 4])
    one, two = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
    forwarding.targets(frame(EVERYBODY, one), 3)
    assert forwarding.targets(frame(one, two), 3) == ()


def test_a_host_that_has_moved_is_found() -> None:
    forwarding = Forwarding([3, 4, 5])
    one, two = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
    forwarding.targets(frame(EVERYBODY, one), 3)
    forwarding.targets(frame(EVERYBODY, one), 4)
    assert forwarding.targets(frame(one, two), 5) == (4,)


@pytest.fixture
def namespace() -> Iterator[str]:
    try:
        check_tools()
    except ClusterError as error:
        pytest.skip(str(error))
    made = subprocess.run(["ip", "netns", "add", NAME], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a network namespace cannot be made: {made.stderr.strip()}")
    subprocess.run(["ip", "-n", NAME, "link", "set", "lo", "up"], check=True)
    yield NAME
    subprocess.run(["ip", "netns", "del", NAME], check=True)


def test_the_process_ends_when_its_owner_lets_go(namespace: str) -> None:
    with delay_line.running(namespace, ["lo"], latency_s=0.001) as process:
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()  # as the kernel does for an owner that was killed
        assert process.wait(timeout=30) == 0


def test_the_process_is_gone_after_use(namespace: str) -> None:
    with delay_line.running(namespace, ["lo"], latency_s=0.001) as process:
        pass
    assert process.returncode == 0


def test_what_keeps_it_from_starting_is_said_in_one_line(namespace: str) -> None:
    expected = "a latency needs netem in the kernel, or a delay line: No such device"
    with (
        pytest.raises(ClusterError, match=expected),
        delay_line.running(namespace, ["port1"], latency_s=0.001),
    ):
        pass
