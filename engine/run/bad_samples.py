"""Samples that cannot be read, in a run that goes on without them: each is said once, and all are kept."""

from threading import Lock

from comm import terminal
from engine.data.dataset import DataError

MOST_SAID = 20
"""Lines of a rank; the others are in run.json."""


class BadSamples:
    """What this rank could not read; threads of loaders note it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], str] = {}
        self._lock = Lock()

    def note_training(self, sample: int, error: DataError) -> None:
        """Note a training sample, in whose place others are taken."""
        self._note("training", sample, error, "another sample takes its place")

    def note_test(self, sample: int, error: DataError) -> None:
        """Note a test sample, which counts as if it were not there."""
        self._note("test", sample, error, "it is left out")

    def lines(self) -> list[str]:
        """Return a line for each, sorted."""
        with self._lock:
            return sorted(self._found.values())

    def _note(self, split: str, sample: int, error: DataError, done: str) -> None:
        with self._lock:
            if (split, sample) in self._found:
                return
            self._found[split, sample] = str(error)
            count = len(self._found)
        if count <= MOST_SAID:
            others = "; more are in run.json" if count == MOST_SAID else ""
            terminal.say(f"warning: {error}; {done}{others}")
