"""Known survivors: changes that no test needs to notice, each with its reason."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.changes import Change

PATH = Path(__file__).with_name("survivors.toml")
KINDS = ("equivalent", "performance")


@dataclass(frozen=True)
class Known:
    """An entry of the list: a change that may survive, or several of one line."""

    file: str
    scope: str
    line: str
    what: tuple[str, ...]
    kind: str
    reason: str

    def holds(self, change: Change) -> bool:
        """Return whether a change is one of these."""
        return (change.file, change.scope, change.line) == (self.file, self.scope, self.line) and (
            change.what in self.what
        )


def read_known(path: Path = PATH) -> list[Known]:
    """Read the list."""
    if not path.exists():
        return []
    known = []
    for entry in tomllib.loads(path.read_text("utf-8")).get("survivor", []):
        what = entry.pop("what")
        known.append(Known(what=tuple([what] if isinstance(what, str) else what), **entry))
        assert known[-1].kind in KINDS and known[-1].reason, f"{path}: {known[-1]}"
    return known


def stale(known: Iterable[Known], changes: Iterable[Change]) -> list[Known]:
    """Return entries that name a change that the code does not have any more."""
    keys = {change.key for change in changes}
    return [
        each for each in known if any((each.file, each.scope, each.line, w) not in keys for w in each.what)
    ]
