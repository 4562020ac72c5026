"""The driver of mutants: it kills what a test notices, finds what none does, and goes on where it was."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.changes import changes_of
from tests.mutants.known import KINDS, read_known

SOURCE = '''
def larger(a, b):
    """Return the larger one."""
    if a > b:
        return a
    return b


def wait(steps):
    while steps > 0:
        steps -= 1


def forgotten(a):
    return a + 7
'''
TESTS = """
import toy

def test_the_larger_one_is_returned():
    assert toy.larger(1, 2) == 2 and toy.larger(5, 3) == 5

def test_waiting_ends():
    assert toy.wait(2) is None
"""
KNOWN = """
[[survivor]]
file = "toy.py"
scope = "larger"
line = "if a > b:"
what = "a > b -> a >= b"
kind = "equivalent"
reason = "equal ones are equal"
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(SOURCE)
    (tmp_path / "test_toy.py").write_text(TESTS)
    (tmp_path / "known.toml").write_text(KNOWN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutants", f"--root={root}", f"--work={root}/work"]
    command += ["--targets", "toy.py", "--tests", "test_toy.py", f"--known={root}/known.toml", "--hang=1"]
    return subprocess.run([*command, *options], check=False, capture_output=True, text=True, timeout=120)


def test_mutants_are_killed_or_named_and_a_second_run_knows_them(toy: Path) -> None:
    first = run(toy)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "uncovered: toy.py:15 forgotten: a + 7 -> a - 7" in first.stdout
    assert "3 killed, 2 hang and count as killed" in first.stdout
    assert "1 on the list ({'equivalent': 1})" in first.stdout
    alive = [line for line in first.stdout.splitlines() if line.startswith("  toy.py")]
    assert "  toy.py:11 wait: 1 -> 2" in alive
    assert not any("larger" in each for each in alive)
    again = run(toy)
    assert "15 mutants, 15 of them done before" in again.stdout
    assert again.stdout.splitlines()[-len(alive) :] == alive


def test_a_test_that_is_added_is_tried_on_the_survivors(toy: Path) -> None:
    run(toy, "--match=forgotten")
    with (toy / "test_toy.py").open("a") as file:
        file.write("def test_seven_is_added():\n    assert toy.forgotten(1) == 8\n")
    found = run(toy, "--match=forgotten")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "4 mutants: 4 killed" in found.stdout


def test_a_sample_is_the_same_for_the_same_seed(toy: Path) -> None:
    listed = [run(toy, "--list", "--sample=5", "--seed=3").stdout for _ in range(2)]
    assert listed[0] == listed[1]
    assert len(listed[0].splitlines()) == 6


def test_each_change_has_a_name_of_its_own_and_still_is_python() -> None:
    for file in ("comm/collectives.py", "engine/training/step.py", "engine/data/loader.py"):
        source = Path(file).read_text("utf-8")
        changes = changes_of(file, source)
        assert len({change.key for change in changes}) == len(changes)
        for change in changes:
            compile(change.applied(source), file, "exec")
            assert change.applied(source) != source


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("comm/collectives.py", "yield from self._wait_for_readers(tag, peers) -> removed"),
        ("engine/data/loader.py", "share.epoch -> 0"),
        ("engine/training/step.py", "rank.parameters[node.name].wait() -> removed"),
    ],
)
def test_the_mistakes_that_went_unnoticed_once_are_among_the_changes(file: str, what: str) -> None:
    assert what in {change.what for change in changes_of(file, Path(file).read_text("utf-8"))}


def test_every_survivor_on_the_list_has_a_kind_and_a_reason() -> None:
    for known in read_known():
        assert known.kind in KINDS
        assert len(known.reason.split()) > 2, known
