"""A warm start reads machine code and nothing else; what is compiled later still finds the rest."""

from tests.layers.test_shared_cache import compiled, start

THREADS = """
import sys
import numpy as np
from numba.core import event
from layers.kernels.threads import INLINE_WORK, Threads
from tests.layers.variants import fill

class Counter(event.Listener):
    names = []
    def on_start(self, event):
        self.names.append(event.data["dispatcher"].__name__)
    def on_end(self, event):
        pass

event.register("numba:compile", Counter())
print("ready", flush=True)
sys.stdin.readline()
threads, x = Threads(2), np.zeros(1000, np.int64)
threads.run(fill(7), 1000, INLINE_WORK, x)
threads.close()
assert (x == 7).all()
print(*Counter.names)
if {order}:
    print(*(name for name in ("numba.np.arraymath", "numba.np.npyimpl") if name in sys.modules))
"""


def test_a_warm_start_imports_nothing_that_only_compiling_needs(tmp_path):
    assert "numba.np.arraymath" in compiled([start(tmp_path, "True", THREADS)])
    assert not compiled([start(tmp_path, "True", THREADS)])


def test_a_function_is_compiled_against_helpers_that_were_read_from_the_cache(tmp_path):
    assert {"serve", "work"} <= set(compiled([start(tmp_path, "False", THREADS)]))
    lost = list(tmp_path.rglob("job.serve-*"))
    for file in lost:
        file.unlink()
    again = compiled([start(tmp_path, "False", THREADS)])
    assert lost and "serve" in again and "work" not in again
    assert not compiled([start(tmp_path, "False", THREADS)])
