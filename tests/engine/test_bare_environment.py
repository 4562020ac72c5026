"""A rank alone needs nothing of its environment: no HOME, no TMPDIR, no MPI, no terminal."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_needs_no_variable_and_no_temporary_folder(tmp_path):
    environment = {
        name: os.environ[name] for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME") if name in os.environ
    }
    done = subprocess.run(
        [sys.executable, "-m", "engine.train", "--steps", "2", "--out", tmp_path / "run"],
        check=False, cwd=ROOT, env=environment | {"TMPDIR": "/proc"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("warning"), done.stderr.count("Traceback")) == (0, 0, 0), done
    assert "weights_sha256" in (tmp_path / "run" / "run.json").read_text()
