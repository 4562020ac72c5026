"""The hosts that answer are those that a run is started again on."""

import sys
from collections.abc import Mapping

import pytest

from engine.run.ranks_left import Placement, RanksLeft


def answering(*names: str):
    def answers(commands: Mapping[str, list[str]]) -> set[str]:
        assert all(command == ["launch", "1", name, "true"] for name, command in commands.items())
        return {*names}

    return answers


def launch(ranks: int, hosts: str) -> list[str]:
    return ["launch", str(ranks), hosts]


@pytest.mark.parametrize(
    ("ranks", "hosts", "parts", "up", "left"),
    [
        (4, "a:2,b:2", 1, "ab", RanksLeft(4, "a:2,b:2")),
        (4, "a:2,b:2", 1, "a", RanksLeft(2, "a:2", ("b",))),
        (4, "a:2,b:2", 1, "", RanksLeft(0, "", ("a", "b"))),
        (2, "a:2,b:2", 1, "b", RanksLeft(2, "b:2", ("a",))),
        (6, "a,b,c", 1, "ac", RanksLeft(4, "a,c", ("b",))),
        (5, "a,b,c", 1, "c", RanksLeft(2, "c", ("a", "b"))),
        (6, "a:2,b:1,c:3", 2, "ab", RanksLeft(2, "a:2,b:1", ("c",))),  # the plan's groups are pairs
        (8, "a:4,b:3", 4, "b", RanksLeft(3, "b:3", ("a",))),  # too few for a group: by another plan
        (3, "a:1,a:1,b:1", 1, "a", RanksLeft(2, "a:1,a:1", ("b",))),
    ],
)
def test_hosts_that_do_not_answer_are_left_out(ranks, hosts, parts, up, left):
    placement = Placement(ranks, hosts, launch, parts=parts, answers=answering(*up))
    assert placement.left() == left
    assert placement.command(left, ["train"]) == ["launch", str(left.ranks), left.hosts, "train"]


def test_without_hosts_all_ranks_are_left():
    placement = Placement(3, "", launch, answers=lambda _: pytest.fail("nobody to be asked"))
    assert placement.left() == placement.all() == RanksLeft(3, "")


def test_a_host_answers_where_the_launcher_runs_a_program_on_it():
    code = "import sys; sys.exit(sys.argv[1] != 'up')"
    placement = Placement(2, "up:1,down:1", lambda _, hosts: [sys.executable, "-c", code, hosts])
    assert placement.left() == RanksLeft(1, "up:1", ("down",))


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (RanksLeft(4, "a:4"), ""),
        (RanksLeft(2, "a:2", ("b",)), "b does not answer: 2 of 4 ranks left"),
        (RanksLeft(1, "a:1", ("b", "c")), "b, c do not answer: 1 of 4 ranks left"),
    ],
)
def test_what_is_missing_is_said(left, said):
    assert left.words(4) == said
