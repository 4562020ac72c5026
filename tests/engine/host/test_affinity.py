"""Cores, ranks and threads of simulated hosts."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from comm.launcher import RANKS
from comm.threads import run_ranks
from engine.host import affinity
from engine.host.affinity import Cores


def look(
    monkeypatch,
    masks: list[set[int]],
    *,
    quota=math.inf,
    launcher: set[int] | None = None,
    machines: str = "",
    hosts: str = "",
) -> list[Cores]:
    """Return what ranks with these masks see; a letter each for their machines and hosts, by default one."""
    around = launcher or set().union(*masks)
    monkeypatch.setattr(affinity, "cpu_quota", lambda: quota)
    for name, values in (
        ("_masks", [(mask, around) for mask in masks]),
        ("machine_name", machines or "m" * len(masks)),
        ("socket.gethostname", hosts or "h" * len(masks)),
    ):
        monkeypatch.setattr(f"engine.host.affinity.{name}", partial(next, iter(values)))
    return sorted(run_ranks(len(masks), affinity.find_cores), key=lambda cores: (cores.mask, cores.place))


def pins(seen: list[Cores], threads: int) -> list[tuple[int, ...] | None]:
    return [each.pinned(threads) for each in seen]


@pytest.mark.parametrize(
    ("limit", "ranks", "threads"), [(math.inf, 1, 8), (4.0, 2, 2), (0.5, 1, 1), (2.9, 1, 2)]
)
def test_ranks_share_what_the_quota_leaves_of_the_mask(monkeypatch, limit, ranks, threads):
    seen = look(monkeypatch, [set(range(8))] * ranks, quota=limit)
    assert [cores.threads(beside=True) for cores in seen] == [threads] * ranks


def test_hosts_that_are_containers_of_one_machine_share_its_cores(monkeypatch):
    for seen in look(monkeypatch, [{0, 1}] * 2, hosts="ab"):
        assert (seen.ranks, seen.threads(beside=True)) == (2, 1)
    assert pins(look(monkeypatch, [{0, 1}] * 2, hosts="ab"), 1) == [(0,), (1,)]
    for seen in look(monkeypatch, [{0, 1}] * 2, hosts="ab", machines="mn"):
        assert (seen.ranks, seen.threads(beside=True)) == (1, 2)


def test_containers_have_a_quota_each(monkeypatch):
    for hosts, available in (("ab", 6), ("aa", 3)):
        assert {
            seen.available for seen in look(monkeypatch, [set(range(8))] * 2, quota=3.0, hosts=hosts)
        } == {available}


def test_a_core_is_left_for_the_communication_thread_where_there_are_many(monkeypatch):
    for share, beside, threads in ((8, True, 8), (9, True, 8), (9, False, 9), (64, True, 63)):
        (seen,) = look(monkeypatch, [set(range(share))])
        assert seen.threads(beside=beside) == threads


def test_one_rank_alone_has_each_thread_on_a_core_of_its_own(monkeypatch):
    assert pins(look(monkeypatch, [{3, 1, 5, 7}]), 4) == [(1, 3, 5, 7)]
    assert pins(look(monkeypatch, [{3, 1, 5, 7}]), 3) == [(1, 3, 5)]


def test_ranks_that_share_a_mask_divide_it(monkeypatch):
    assert pins(look(monkeypatch, [set(range(6))] * 2), 2) == [(0, 1), (3, 4)]
    assert pins(look(monkeypatch, [{0, 1}] * 2), 1) == [(0,), (1,)]


def test_ranks_bound_to_cores_of_their_own_keep_them(monkeypatch):
    assert pins(look(monkeypatch, [{0, 1}, {2, 3}]), 2) == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("masks", "threads", "why"),
    [
        ([{0, 1}], 3, "threads would share a core"),
        ([{0, 1}] * 3, 1, "ranks would share a core"),
        ([{0, 1, 2}, {2, 3}], 1, "masks overlap in part"),
        ([set(range(8))], 4, "half of the cores are left over"),
    ],
)
def test_nobody_is_pinned_where_it_could_hurt(monkeypatch, masks, threads, why):
    assert pins(look(monkeypatch, masks), threads) == [None] * len(masks), why


def test_nobody_is_pinned_where_a_quota_allows_less_than_the_mask(monkeypatch):
    assert pins(look(monkeypatch, [set(range(4))], quota=3.0), 3) == [None]


def test_cores_that_fit_are_not_worth_a_word(monkeypatch):
    for masks, threads in (([{0, 1}], 2), ([{0, 1}] * 2, 1), ([{0}, {1}], 1)):
        assert not any(seen.complaints(threads) for seen in look(monkeypatch, masks))


def test_a_launcher_that_binds_ranks_to_a_part_of_the_host_is_told(monkeypatch):
    (seen,) = look(monkeypatch, [{0}], launcher={0, 1, 2, 3})
    assert seen.complaints(1) == [
        "the launcher bound 1 rank to 1 core and left 3 of the host idle; use them with "
        "mpirun --bind-to none, or srun --cpus-per-task=N"
    ]
    assert seen.complaints(4)[1] == (
        "1 rank x 4 threads share 1 core; give each rank its cores: mpirun --bind-to none, or "
        "srun --cpus-per-task=N"
    )


def test_oversubscribed_hosts_are_told(monkeypatch):
    for masks, threads, said in (
        ([{0, 1}] * 3, 1, "3 ranks x 1 thread share 2 cores; start fewer ranks on each host"),
        ([{0, 1, 2, 3}] * 2, 3, "2 ranks x 3 threads share 4 cores; lower --threads to 2"),
        ([{0, 1}], 3, "1 rank x 3 threads share 2 cores; lower --threads to 2"),
    ):
        assert {tuple(seen.complaints(threads)) for seen in look(monkeypatch, masks)} == {(said,)}


def test_without_a_launcher_only_the_mask_counts(monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0} if pid == 0 else {0, 1}, raising=False)
    assert affinity._masks() == ({0}, {0})
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert affinity._masks() == ({0}, {0, 1})


def test_hosts_whose_ranks_are_not_neighbours_are_told(monkeypatch):
    masks = [{0}, {1}, {2}, {3}]
    for hosts, told in (("aabb", False), ("abab", True), ("abcd", False), ("abba", True)):
        for seen in look(monkeypatch, masks, hosts=hosts, machines=hosts):
            assert any("--map-by slot" in each for each in seen.complaints(1)) == told, hosts


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_launcher_is_found_behind_a_script(tmp_path):
    """A process called mpirun starts a shell, which starts the rank."""
    launcher, seen = tmp_path / "mpirun", tmp_path / "seen"
    launcher.symlink_to(sys.executable)
    rank = f"from engine.host.affinity import _launcher; open({str(seen)!r}, 'w').write(str(_launcher()))"
    start = f"import subprocess; subprocess.run(['sh', '-c', '{sys.executable} -c \"$RANK\"; true'])"
    process = subprocess.Popen(
        [launcher, "-c", start], env={**os.environ, "RANK": rank}, cwd=Path(__file__).parents[3]
    )
    assert process.wait(60) == 0
    assert int(seen.read_text()) == process.pid


@pytest.mark.parametrize(
    ("cores", "ranks", "beside", "threads"),
    [(8, 1, True, 8), (9, 1, True, 8), (9, 1, False, 9), (18, 2, True, 8), (3, 2, True, 1), (1, 4, True, 1)],
)
def test_ranks_share_cores_fairly(cores, ranks, beside, threads):
    assert affinity.fair_threads(cores, ranks, beside=beside) == threads


def test_a_machine_is_named_also_where_the_system_does_not_tell(monkeypatch):
    def missing() -> str:
        raise FileNotFoundError

    assert affinity.machine_name() == affinity.machine_name() != ""
    monkeypatch.setattr("comm.host_memory.boot_id", missing)
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    assert affinity.machine_name() == "here"
