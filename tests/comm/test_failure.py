"""Words and exit codes of a job that fails, seen without MPI."""

import os
import sys
from pathlib import Path

import pytest

from comm.communicator import Communicator
from comm.failure import abort_on_error, agree, fail, say_error
from comm.threads import run_ranks, single_rank


def test_agree_gives_the_first_ranks_error_to_all() -> None:
    errors = [None, None, "rank 2 has no data", "rank 3 has no data"]
    assert run_ranks(4, lambda c: agree(c, errors[c.rank])) == ["rank 2 has no data"] * 4


def test_agree_is_none_when_no_rank_has_an_error() -> None:
    assert run_ranks(3, lambda c: agree(c, None)) == [None] * 3


def test_fail_prints_one_line_and_gives_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        fail(single_rank(), "minibatch=10 does not divide into 16 leaves", 2)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: minibatch=10 does not divide into 16 leaves\n"


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    say_error('data: got "two\nlines"')
    assert capsys.readouterr().err == 'error: data: got "two lines"\n'


def test_a_failed_job_names_its_rank_and_ends_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def work(communicator: Communicator) -> None:
        if communicator.rank == 1:
            abort_on_error(communicator)(ConnectionError("the link is down"))
        communicator.gather_objects(None)

    with pytest.raises(SystemExit):
        run_ranks(2, work)
    assert "rank 1: ConnectionError: the link is down" in capsys.readouterr().err


def test_a_failed_job_ends_the_others_though_nobody_reads_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(communicator: Communicator) -> None:
        if communicator.rank == 1:
            abort_on_error(communicator)(ConnectionError("the link is down"))
        communicator.gather_objects(None)

    with Path(os.devnull).open() as unwritable:
        monkeypatch.setattr(sys, "stderr", unwritable)
        with pytest.raises(SystemExit) as end:
            run_ranks(2, work)
    assert end.value.code == 1


def test_a_failed_job_of_one_rank_alone_is_left_to_its_waiter(capsys: pytest.CaptureFixture[str]) -> None:
    abort_on_error(single_rank())(ConnectionError("the link is down"))
    assert not capsys.readouterr().err
