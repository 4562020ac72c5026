"""What single checks make of what they see."""

import math
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from engine.doctor import clock_checks, extra_checks, memory_checks, python_checks, simd_checks
from engine.doctor.cache_checks import kernel_cache
from engine.doctor.core_checks import Seen, judged, seen
from engine.doctor.finding import NOTE, OK, PROBLEM
from engine.doctor.slurm_checks import slurm
from layers.kernels import cache_folder, target, tile_host


def states(found):
    """Return the states by what was looked at."""
    return {each.check: each.state for each in found}


@pytest.mark.parametrize(
    ("found", "notes"),
    [
        (Seen(8, 8, math.inf, 8), set()),
        (Seen(8, 2, math.inf, 8), {"cores"}),
        (Seen(8, 8, 1.5, 8), {"CPU quota"}),
        (Seen(8, 8, math.inf, 4), {"hardware threads"}),
        (Seen(8, 8, 8.0, None), set()),
    ],
)
def test_cores_that_are_held_back_are_noted(found, notes):
    assert {name for name, state in states(judged(found)).items() if state == NOTE} == notes


def test_without_a_list_of_processors_all_else_is_counted(monkeypatch):
    def missing(**_):
        raise FileNotFoundError

    monkeypatch.setattr("psutil.cpu_count", missing)
    assert (seen().physical, seen().machine) == (None, os.cpu_count())


def test_a_processor_without_fused_multiply_adds_is_a_problem(monkeypatch):
    assert states(simd_checks.simd())["SIMD"] == OK
    monkeypatch.setattr(target, "TARGET", target.Target("x86-64", "", target.SSE2))
    assert states(simd_checks.simd()) == {"SIMD": PROBLEM}


@pytest.mark.parametrize(
    ("usable", "has", "state", "said"),
    [
        (False, False, OK, "has none"),
        (True, True, OK, "right to the bit"),
        (True, False, NOTE, "not used"),
    ],
)
def test_tiles_are_there_permitted_and_right_or_not_used(monkeypatch, usable, has, state, said):
    monkeypatch.setattr(tile_host, "usable", lambda *_: usable)
    monkeypatch.setattr(tile_host, "has_tiles", lambda: has)
    (found,) = simd_checks.tiles()
    assert (found.state, said in found.found) == (state, True)


def test_kernels_that_can_be_kept_nowhere_are_a_problem(monkeypatch):
    monkeypatch.setattr(cache_folder, "base_folder", lambda: None)
    assert states(kernel_cache()) == {"kernel cache": PROBLEM}


def test_a_disk_that_is_nearly_full_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr(cache_folder, "base_folder", lambda: tmp_path / "new")
    assert states(kernel_cache()) == {"kernel cache": OK}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    assert states(kernel_cache()) == {"kernel cache": NOTE}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_noted(tmp_path):
    (found,) = memory_checks.shared_memory(tmp_path / "missing")
    assert (found.state, found.found.partition(":")[0]) == (NOTE, "No such file or directory")


def test_a_folder_that_cannot_be_written_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = memory_checks.shared_memory(tmp_path)
    assert (found.state, "cannot be written" in found.found) == (NOTE, True)


def test_a_small_folder_is_noted(tmp_path, monkeypatch):
    assert states(memory_checks.shared_memory(tmp_path)) == {"/dev/shm": OK}
    status = os.statvfs_result((4096, 4096, 16384, 100, 100, 0, 0, 0, 0, 255))  # Docker's 64 MB
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    (found,) = memory_checks.shared_memory(tmp_path)
    assert (found.state, "--shm-size" in found.mend) == (NOTE, True)


@pytest.mark.parametrize(
    ("text", "state"), [("always [madvise] never\n", OK), ("always madvise [never]\n", NOTE), ("?", OK)]
)
def test_huge_pages_that_nobody_gets_are_noted(tmp_path, text, state):
    file = tmp_path / "enabled"
    file.write_text(text)
    assert states(memory_checks.huge_pages(file)) == {"huge pages": state}


def test_a_system_without_huge_pages_is_no_note(tmp_path):
    assert states(memory_checks.huge_pages(tmp_path / "missing")) == {"huge pages": OK}


def test_memory_that_nobody_counts_is_said_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_checks, "physical_bytes", lambda: (math.inf, math.inf))
    found = next(iter(memory_checks.memory(tmp_path)))
    assert (found.state, found.found.partition(";")[0]) == (OK, "how much is not known")


def test_memory_that_is_nearly_full_is_a_problem(monkeypatch, tmp_path):
    assert states(memory_checks.memory(tmp_path))["memory"] == OK
    monkeypatch.setattr(memory_checks, "room", lambda: 1e8)
    assert states(memory_checks.memory(tmp_path))["memory"] == PROBLEM


def test_infiniband_wants_memory_that_may_be_locked(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    assert "InfiniBand" not in states(memory_checks.memory(tmp_path))
    (tmp_path / "mlx5_0").mkdir()
    for limit, state in ((1 << 23, NOTE), (resource.RLIM_INFINITY, OK)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert states(memory_checks.memory(tmp_path))["InfiniBand"] == state


@pytest.mark.parametrize(("answer", "state"), [(0, OK), (5, NOTE), (None, OK)])
def test_a_clock_that_nobody_keeps_right_is_noted(monkeypatch, answer, state):
    monkeypatch.setattr(clock_checks, "_state", lambda: answer)
    assert states(clock_checks.clock()) == {"clock": state}


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{text}'\n")
    (folder / name).chmod(0o755)


def test_a_machine_without_slurm_is_no_note(tmp_path):
    assert states(slurm({"PATH": str(tmp_path)})) == {"Slurm": OK}
    assert states(slurm({"PATH": str(tmp_path), "SLURM_JOB_ID": "7"})) == {"Slurm": NOTE}


@pytest.mark.parametrize(("ways", "state"), [("none pmix pmix_v4", OK), ("none openmpi", NOTE)])
def test_srun_says_how_it_starts_ranks(tmp_path, ways, state):
    _program(tmp_path, "srun", ways)
    job = {"PATH": str(tmp_path), "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"}
    found = list(slurm(job))
    assert states(found) == {"Slurm": OK, "srun": state}
    assert found[0].found == "srun found, inside job 7 on 2 nodes"


def test_what_is_missing_or_too_old_is_named():
    wrong = python_checks.wrong_of(["numpy>=2.0", "numpy>=999.1,<1000", "no-package-of-this-name>=1"])
    assert wrong == [
        f"numpy>=999.1,<1000: {python_checks.version_of('numpy')} is installed",
        "no-package-of-this-name is missing",
    ]


def test_an_extra_that_is_half_there_is_not_installed(monkeypatch):
    needs = {"data": ["numpy>=2.0", "no-package-of-this-name"], "plot": ["numpy>=2.0"]}
    monkeypatch.setattr(extra_checks, "requirements", lambda name: needs.get(name, []))
    there, missing = extra_checks.extras()
    assert (there.state, "plot (pictures)" in there.found, "data" in there.found) == (OK, True, False)
    assert missing.found == "not installed: data (images): no-package-of-this-name is missing"
    assert missing.mend.endswith("pip install 'lockstep-sgd[data]'")


def test_every_extra_for_users_says_what_it_is_for():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"dev", "bench", "docs"} == set(extra_checks.PURPOSES)
