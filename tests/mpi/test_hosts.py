"""Training across hosts of this machine, whose links are shaped; skipped where hosts cannot be made."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import namespaces
from bench.hosts import Cluster, cluster
from bench.link import MESSAGES
from bench.namespaces import ClusterError
from tests.mpi.launch import REPOSITORY, run

TRAIN = (sys.executable, "-m", "engine.train", "digits", "--steps", "10", "--threads", "1")
RATE_BITS = 1e8
LATENCY_S = 5e-3


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    try:
        with cluster(hosts=2, rate_bits=RATE_BITS) as made:
            made.mpirun_arguments()
            yield made
    except ClusterError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def far_hosts() -> Iterator[Cluster]:
    """Return hosts with a delay line between them, netem or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespaces, "has_netem", lambda: False)
        try:
            with cluster(hosts=2, rate_bits=RATE_BITS, latency_s=LATENCY_S) as made:
                made.mpirun_arguments()
                yield made
        except ClusterError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("one") / "run"
    done = run(*TRAIN, "--out", str(out), timeout=120)
    assert done.returncode == 0, done.stderr
    return weights(out)


def weights(out: Path) -> str:
    return str(json.loads((out / "run.json").read_text())["weights_sha256"])


@pytest.mark.parametrize(("ranks_per_host", "overlap"), [(1, "on"), (1, "off"), (2, "on")])
def test_two_hosts_train_the_same_bits_as_one_process(
    hosts: Cluster, one_process: str, tmp_path: Path, ranks_per_host: int, overlap: str
) -> None:
    command = [*TRAIN, "--overlap", overlap, "--out", str(tmp_path / "run")]
    done = hosts.mpirun(command, ranks_per_host=ranks_per_host, cwd=REPOSITORY, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert f"{2 * ranks_per_host} ranks" in done.stderr
    assert weights(tmp_path / "run") == one_process


def test_ranks_are_spread_over_hosts_in_order(hosts: Cluster) -> None:
    code = "import os, socket; print(os.environ['OMPI_COMM_WORLD_RANK'], socket.gethostname())"
    done = hosts.mpirun([sys.executable, "-c", code], ranks_per_host=2, timeout_s=60)
    first, second = hosts.names
    assert sorted(done.stdout.splitlines()) == [f"0 {first}", f"1 {first}", f"2 {second}", f"3 {second}"]


def test_memory_is_shared_within_a_host_and_not_between(hosts: Cluster) -> None:
    command = [sys.executable, "-m", "tests.mpi.workers.share"]
    for ranks_per_host, seen in ((1, [None, None]), (2, [[1], [0], [3], [2]])):
        done = hosts.mpirun(command, ranks_per_host=ranks_per_host, cwd=REPOSITORY, timeout_s=60)
        assert json.loads(done.stdout) == [[peers] * 2 for peers in seen], done.stderr


def test_a_link_carries_no_more_than_its_rate(hosts: Cluster) -> None:
    figures = hosts.measure(seconds=0.5)
    allowed = 1.1 * RATE_BITS
    assert figures.one_way_bits_per_s < allowed
    assert figures.both_ways_bits_per_s < allowed
    for size, seconds in zip(MESSAGES, figures.message_s, strict=True):
        assert seconds > 0.8 * (8 * size - 8 * 4000) / RATE_BITS, "no more than the burst comes at once"


def test_a_delay_line_adds_its_latency_each_way_and_leaves_the_rate(far_hosts: Cluster) -> None:
    figures = far_hosts.measure(seconds=0.5)
    assert figures.round_trip_s >= 2 * LATENCY_S
    allowed = 1.1 * RATE_BITS
    assert figures.one_way_bits_per_s < allowed
    assert figures.both_ways_bits_per_s < allowed


def test_latency_changes_no_bit(far_hosts: Cluster, one_process: str, tmp_path: Path) -> None:
    done = far_hosts.mpirun([*TRAIN, "--out", str(tmp_path / "run")], cwd=REPOSITORY, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == one_process


def test_a_command_that_takes_too_long_is_ended_on_all_hosts(hosts: Cluster) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        hosts.mpirun(["sleep", "1000"], timeout_s=2)
    for name in hosts.names:
        shown = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
        assert shown.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_command_that_is_ended(far_hosts: Cluster, tmp_path: Path, number: int) -> None:
    work = ["sh", "-c", f"touch {tmp_path}/started; sleep 1000"]
    command = [sys.executable, "-m", "bench.hosts", "--latency", "1ms", "--", *work]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    if number == signal.SIGINT:  # a terminal tells all
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait(timeout=30)
    cleaned = run(sys.executable, "-m", "bench.hosts", "--clean")
    assert (f"lockstep-{process.pid}-" in cleaned.stdout) == (number == signal.SIGKILL)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"lockstep-{process.pid}-" not in listed
    assert far_hosts.names[0] in listed
