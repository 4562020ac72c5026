"""Limits on memory, as the kernel's files tell them."""

import math
import resource

import pytest

from engine.host import memory_limit
from engine.host.memory_limit import container_limit, own_bytes, physical_bytes, process_limits, room


@pytest.mark.parametrize(
    ("groups", "files", "limit", "group"),
    [
        ("0::/\n", {"memory.max": "1000\n"}, 1000, "."),
        ("0::/\n", {"memory.max": "max\n"}, math.inf, None),
        ("0::/\n", {}, math.inf, None),
        ("", {}, math.inf, None),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "2000", "memory.max": "3000"}, 2000, "a"),
        ("0::/a/b\n", {"a/b/memory.max": "500", "a/memory.max": "2000"}, 500, "a/b"),
        ("5:memory:/docker/1f\n0::/\n", {"memory/memory.limit_in_bytes": "700\n"}, 700, "memory"),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, math.inf, None),
        ("5:cpu:/\nwhat is this\n", {"memory/memory.limit_in_bytes": "1\n"}, math.inf, None),
        ("0::/\n", {"memory.max": "\xff\n"}, math.inf, None),
    ],
)
def test_the_tightest_limit_up_to_the_root_holds(tmp_path, groups, files, limit, group):
    (tmp_path / "cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "latin-1")
    found = "" if group is None else str(tmp_path / group)
    assert container_limit(tmp_path / "cgroup", tmp_path) == (limit, found)


def test_without_the_kernels_files_there_is_no_limit(tmp_path):
    assert container_limit(tmp_path / "none", tmp_path) == (math.inf, "")
    assert physical_bytes(tmp_path / "none") == (math.inf, math.inf)
    assert own_bytes(tmp_path / "none") == 0


def test_the_machines_memory_is_read(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       65 kB\nMemFree: 1 kB\nMemAvailable:  30 kB\n")
    assert physical_bytes(path) == (65 * 1024, 30 * 1024)
    path.write_text("MemTotal: many\n")
    assert physical_bytes(path) == (math.inf, math.inf)
    total, free = physical_bytes()
    assert 0 < own_bytes() < total and free < total


def test_a_process_has_limits_of_its_own(monkeypatch):
    limits = {resource.RLIMIT_AS: 5, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], 9))
    assert process_limits() == {"-v": 5}


@pytest.mark.parametrize(("limit", "free", "left"), [(900, 500, 500), (900, 5000, 800), (math.inf, 7, 7)])
def test_room_is_what_the_container_and_the_machine_have_left(monkeypatch, limit, free, left):
    monkeypatch.setattr(memory_limit, "container_limit", lambda: (limit, ""))
    monkeypatch.setattr(memory_limit, "physical_bytes", lambda: (9000, free))
    monkeypatch.setattr(memory_limit, "own_bytes", lambda: 100)
    assert room() == left
