"""MPICH and Intel MPI train with the bits that Open MPI and threads train with: the golden ones."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.golden import hashes
from tests.golden.runs import RUNS
from tests.mpi.launch import REPOSITORY, run

GOLDEN = RUNS["digits"]


@dataclass(frozen=True)
class Library:
    """An MPI in an environment of its own, as `make other-mpis` installs it."""

    name: str
    folder: str

    def __str__(self) -> str:
        return self.name

    def train(self, ranks: int, out: Path, *options: str) -> dict:
        """Train as the golden run, with this Python; return what is in `run.json`."""
        home = REPOSITORY / self.folder
        mpirun, library = home / "bin/mpirun", home / "lib/libmpi.so.12"
        if not mpirun.exists():
            pytest.skip(f"{self.name} is not installed in {self.folder}: make other-mpis")
        done = run(
            str(mpirun), "-n", str(ranks), sys.executable, "-m", "engine.train", "digits", "--steps",
            str(GOLDEN.recipe.steps), "--threads", "1", "--out", str(out), *options,
            env={"PATH": f"{mpirun.parent}{os.pathsep}{os.environ['PATH']}", "MPI4PY_LIBMPI": str(library)},
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads((out / "run.json").read_text())


LIBRARIES = [Library("MPICH", ".venv-mpich"), Library("Intel(R) MPI", ".venv-impi")]


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
@pytest.mark.parametrize(
    ("ranks", "options"),
    [(2, ()), (3, ("--overlap", "off")), (4, ("--plan", "fc4=2")), (2, ("--shared-memory", "off"))],
)
def test_the_weights_have_the_golden_bits(tmp_path, library, ranks, options):
    results = library.train(ranks, tmp_path / "run", *options)
    golden = hashes.read()["digits"]
    assert {name: results[name] for name in golden} == golden
    assert results["ranks"] == ranks
    assert results["environment"]["mpi"].startswith(library.name)
