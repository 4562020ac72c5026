"""What a check has found: its state, in words, and what mends it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"
"""As it should be; something to know; something that hinders training, for which the exit code is 1."""


@dataclass(frozen=True)
class Finding:
    """One line about the machine."""

    check: str
    """What was looked at."""
    state: str
    """OK, NOTE or PROBLEM."""
    found: str
    mend: str = ""
    """What mends it; empty where nothing has to be."""

    def to_json(self) -> dict[str, str]:
        """Return it as it stands in the document."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """A subject, and the function that looks at it, which may raise or hang."""

    name: str
    look: Callable[[], Iterable[Finding]]
    slow: bool = False
    """It waits for other programs: it is begun first and reported last."""
