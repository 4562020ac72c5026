"""What the ranks find out together before a first step."""

import sys

import pytest

from comm.threads import run_ranks
from engine.config.errors import UserError
from engine.run.agreement import agreed


def test_a_rank_whose_code_would_end_the_program_ends_all_with_its_message():
    def work(world):
        with pytest.raises(UserError, match=r"^run: SystemExit: 0; code of yours must not end the program$"):
            agreed(world, lambda: sys.exit(0) if world.rank == 1 else world.rank)
        return True

    assert run_ranks(3, work) == [True] * 3
