"""A warm start reads machine code and nothing else; what is compiled later still finds the rest."""

import subprocess
from pathlib import Path

from tests.layers import test_shared_cache

PROGRAM = f"""
import sys, threading
import numpy as np
from numba.core import event
from layers.kernels import relu
from layers.kernels.threads import INLINE_WORK, Threads
{test_shared_cache.COUNTER}if {{foreign}}:
    from tests.layers.variants import fill
    Threads(1).run(fill(7), 1, 1, np.zeros(1, np.int64))
threads, x, y = Threads(2), np.ones((4, INLINE_WORK), np.float32), np.zeros((4, INLINE_WORK), np.float32)
relu.forward(threads, x, y)
threads.close()
for worker in set(threading.enumerate()) - {{threading.current_thread()}}:
    worker.join()  # which may compile only now
assert (y == 1).all()
print(*Counter.names)
print(*(name for name in ("numba.np.arraymath", "numba.np.npyimpl") if name in sys.modules))
"""


LIBRARIES = {"numba.np.arraymath", "numba.np.npyimpl"}


def start(cache: Path, *, foreign: bool = False) -> subprocess.Popen[str]:
    return test_shared_cache.start(cache, program=PROGRAM.replace("{foreign}", str(foreign)))


def compiled(process: subprocess.Popen[str]) -> set[str]:
    """Return the names of the functions that a process compiles, and of numba's libraries that it imports."""
    return set(test_shared_cache.compiled([process]))


def test_a_warm_start_imports_nothing_that_only_compiling_needs(tmp_path):
    assert compiled(start(tmp_path)) > LIBRARIES
    assert not compiled(start(tmp_path))


def test_a_kernel_from_elsewhere_finds_all_of_numba(tmp_path):
    assert compiled(start(tmp_path, foreign=True)) > LIBRARIES
    assert compiled(start(tmp_path, foreign=True)) == LIBRARIES


def test_a_function_is_compiled_against_helpers_that_were_read_from_the_cache(tmp_path):
    assert {"serve", "work"} <= compiled(start(tmp_path))
    lost = list(tmp_path.rglob("job.serve-*"))
    for file in lost:
        file.unlink()
    again = compiled(start(tmp_path))
    assert lost and "serve" in again and "work" not in again
    assert not compiled(start(tmp_path))
