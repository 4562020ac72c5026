"""Variables by which no kernel would be compiled are named before numba is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config.errors import UserError
from engine.config.numba_settings import check_numba_settings
from layers.kernels.target import NEON, SSE2, TARGET, Target, target

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NUMBA_DISABLE_JIT", "1", "kernels must be compiled: unset it"),
        ("NUMBA_NUM_THREADS", "0", "must be a whole number of at least 1: unset it"),
        ("NUMBA_NUM_THREADS", "abc", "must be a whole number of at least 1: unset it"),
    ],
)
def test_a_variable_that_stops_numba_is_named(name, value, said):
    with pytest.raises(UserError, match=f"^{name}: got {value}; {said}$"):
        check_numba_settings({name: value})


def test_variables_that_numba_takes_are_left_to_it():
    check_numba_settings({})
    check_numba_settings({"NUMBA_DISABLE_JIT": "0", "NUMBA_NUM_THREADS": "2"})
    check_numba_settings({"NUMBA_DISABLE_JIT": "", "NUMBA_NUM_THREADS": ""})


@pytest.mark.skipif(TARGET.simd == NEON, reason="names x86 processors")
def test_a_processor_that_this_one_is_not_is_refused(monkeypatch):
    check_numba_settings({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "-fma"})
    check_numba_settings({"NUMBA_CPU_FEATURES": ""})
    asked = target

    def on_an_old_host(name, listed):
        return Target("nehalem", "", SSE2) if (name, listed) == (None, None) else asked(name, listed)

    monkeypatch.setattr("layers.kernels.target.target", on_an_old_host)
    line = "NUMBA_CPU_NAME=haswell, NUMBA_CPU_FEATURES=: kernels need avx2, this processor has sse2: unset it"
    with pytest.raises(UserError, match=f"^{line}$"):
        check_numba_settings({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""})


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_command_says_it_in_one_line_and_python_with_a_user_error(tmp_path, value):
    name = "NUMBA_NUM_THREADS" if value == "0" else "NUMBA_DISABLE_JIT"
    uses = "import lockstep\ntry:\n    lockstep.train\nexcept lockstep.UserError as error:\n    print(error)"
    for arguments, output in ((("-m", "engine.train", "--out", str(tmp_path / "run")), 2), (("-c", uses), 1)):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env={**os.environ, name: value},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        lines = (done.stderr if output == 2 else done.stdout).splitlines()
        assert len(lines) == 1
        assert f"{name}: got {value}; " in lines[0]
        assert done.returncode == (2 if output == 2 else 0)
    assert not (tmp_path / "run").exists()
