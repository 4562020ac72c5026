"""What the launcher says of an end."""

import pytest

from engine.run.supervise import End, exit_code_of_wish


@pytest.mark.parametrize(
    ("status", "lost", "code", "said"),
    [
        (0, None, 0, ""),  # the wish came when all was done
        (130, None, 130, "interrupted\n"),
        (-15, "a rank has died", 130, "interrupted\n"),
        (0, "all ranks have died", 130, "interrupted\n"),  # before they listened, which mpirun calls success
        (2, None, 2, ""),
    ],
)
def test_a_run_that_was_asked_to_end_says_so_unless_it_was_done(status, lost, code, said, capsys):
    end = End(status, was_asked=True, said_interrupted=False, said_why=False, lost=lost, error=None)
    assert exit_code_of_wish(end) == code
    assert capsys.readouterr().err == said
