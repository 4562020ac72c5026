"""Project: which files are changed, and which tests may notice."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.changes import Change, changes_of

_FOLDERS = {
    "comm": "backoff clock collectives comm_thread communicator grid host_memory job scheduler threads tree",
    "engine/data": "augment counter labels loader sampler weighted_sampling",
    "engine/graph/parallel": "exchange overlapped_exchange partition plan",
    "engine/run": "checkpoint kept_checkpoints",
    "engine/training": "bucket layer_states loss memory optimizer parameters rank_parameters schedule step",
}
TARGETS = tuple(f"{folder}/{name}.py" for folder, names in _FOLDERS.items() for name in names.split())
TESTS = ("tests/comm", "tests/engine", "tests/test_naive.py", "tests/test_new_layer.py")
"""Not those that start programs: a mutant lives in the process that imports it."""


@dataclass(frozen=True)
class Project:
    """A folder with code and tests, on `sys.path`."""

    root: Path
    targets: tuple[str, ...] = TARGETS
    tests: tuple[str, ...] = TESTS

    @property
    def packages(self) -> frozenset[str]:
        """Packages that a mutant imports anew: those of the targets and of the tests."""
        return frozenset(path.split("/")[0].removesuffix(".py") for path in (*self.targets, *self.tests))

    def changes(self) -> list[Change]:
        """List all changes of all targets."""
        return [
            change
            for file in self.targets
            for change in changes_of(file, (self.root / file).read_text("utf-8"))
        ]

    def test_files(self) -> list[str]:
        """List the files of tests, relative to the root."""
        found = []
        for path in self.tests:
            whole = self.root / path
            found += [whole] if whole.is_file() else sorted(whole.rglob("test_*.py"))
        return [path.relative_to(self.root).as_posix() for path in found]

    def digest(self, *files: str) -> str:
        """Hash the content of files."""
        hashed = hashlib.sha256()
        for file in sorted(files):
            hashed.update(file.encode() + b"\0" + (self.root / file).read_bytes() + b"\0")
        return hashed.hexdigest()[:16]

    def sources_digest(self) -> str:
        """Hash the targets."""
        return self.digest(*self.targets)
