"""Kill -9 at a random byte of a checkpoint: the short version of `tests.torn_checkpoints`."""

import pytest

from tests.torn_checkpoints import campaign


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_while_it_writes_goes_on_from_the_newest_whole_checkpoint(seed):
    found = campaign(12, seed)
    assert found.total() == 12
    assert found["went on"]
