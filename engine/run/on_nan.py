"""What a run does when its numbers are not finite: the recipe's `on_nan`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from comm.communicator import Communicator
from engine.config.recipe import IGNORE, STOP
from engine.run.failures import RunEndedError
from engine.run.finite import check_loss, check_weights, find_in_weights
from engine.training.rank import Rank

MOST_SKIPPED = 50
"""Steps in a row that are skipped; with one more the run ends, as it learns nothing."""


class OnNan:
    """Looks at each step and at what is about to be saved; all ranks see and do the same.

    Parameters
    ----------
    what
        The recipe's `on_nan`.
    saved
        Returns the step of the newest checkpoint that is whole (collective); 0: there is none.
    """

    def __init__(self, what: str, rank: Rank, control: Communicator, saved: Callable[[], int]):
        self._what, self._rank, self._control, self._saved = what, rank, control, saved
        self._skipped = 0
        self._is_said = False

    def look(self, record: Mapping[str, Any], warn: Callable[[str], None]) -> None:
        """Go on or end the run after a step (collective).

        Raises
        ------
        RunEndedError
            Its loss is not finite and the run stops then, or too many steps in a row were skipped.
        """
        step, loss = record["step"], record["loss"]
        if self._what == STOP:
            check_loss(self._rank, self._control, record, self._saved)
        elif record.get("skipped"):
            self._skipped += 1
            if self._skipped > MOST_SKIPPED:
                newest = self._saved()
                after = f"; the checkpoint of step {newest} is whole" if newest else ""
                raise RunEndedError(
                    f"step {step}: the gradients of {self._skipped} steps in a row are not finite{after}; "
                    "a lower --lr, or a warm-up, may help"
                )
            warn(f"step {step}: gradients are not finite (loss {loss}): skipped, weights stay as they were")
        else:
            self._skipped = 0
            if not math.isfinite(loss) and not self._is_said:
                warn(f'step {step}: the loss is {loss}; the run goes on, as on_nan = "{self._what}" says')
            self._is_said = not math.isfinite(loss)

    def may_save(self, step: int, warn: Callable[[str], None]) -> bool:
        """Say whether weights, moments and state are finite (collective).

        Raises
        ------
        RunEndedError
            They are not, and the recipe does not ignore it.
        """
        if self._what != IGNORE:
            check_weights(self._rank, self._control, step, self._saved)
            return True
        where = find_in_weights(self._rank, self._control)
        if where is not None:
            warn(f"step {step}: {where} is not finite: no checkpoint is written")
        return where is None
