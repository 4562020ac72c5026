"""CPU limits of containers, as the kernel's files tell them."""

import math
from pathlib import Path

import pytest

from engine.host.cpu_quota import cpu_quota


def quota(tmp_path: Path, groups: str, files: dict[str, str]) -> float:
    (tmp_path / "cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cpu_quota(tmp_path / "cgroup", tmp_path / "mount")


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("", {}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "300000 100000"}, 3.0),
        (
            "5:cpu,cpuacct:/docker/1f\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "5:cpuset:/\n4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            math.inf,
        ),
    ],
)
def test_the_tightest_limit_up_to_the_root_holds(tmp_path, groups, files, cores):
    assert quota(tmp_path, groups, files) == cores


def test_a_host_without_control_groups_has_no_limit(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path) == math.inf
