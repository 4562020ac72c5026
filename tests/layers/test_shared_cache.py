"""Kernels are compiled once, however many processes want them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COUNTER = """
class Counter(event.Listener):
    names = []
    def on_start(self, event):
        self.names.append(event.data["dispatcher"].__name__)
    def on_end(self, event):
        pass

event.register("numba:compile", Counter())
print("ready", flush=True)
sys.stdin.readline()
"""

PROGRAM = f"""
import sys, time
import numpy as np
from numba.core import event
from layers.kernels import relu, sigmoid
from layers.kernels.threads import Threads
{COUNTER}x = np.ones((4, 64), np.float32)
for module in {{order}}:
    module.forward(Threads(1), x, np.zeros_like(x))
print(*Counter.names)
"""

VARIANTS = """
import sys
import numpy as np
from layers.kernels.threads import INLINE_WORK, Threads
from tests.layers.variants import fill

print("ready", flush=True)
sys.stdin.readline()
kernels = [fill(value) for value in {order}]
threads = Threads(2)
for value, kernel in zip({order}, kernels):
    x = np.zeros(100, np.int64)
    threads.run(kernel, 100, INLINE_WORK, x)
    assert (x == value).all(), (value, x)
threads.close()
"""


def start(cache: Path, order: str = "(relu, sigmoid)", program: str = PROGRAM) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program.replace("{order}", order)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)}, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def compiled(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all go on together and return the functions that they compile."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return sorted(name for output in outputs for name in output.split())


def test_processes_that_start_together_compile_each_function_once(tmp_path):
    alone = compiled([start(tmp_path / "alone")])
    assert len(set(alone)) == len(alone) and {"relu_forward", "sigmoid_forward"} <= set(alone)
    assert compiled([start(tmp_path / "both"), start(tmp_path / "both")]) == alone
    assert not compiled([start(tmp_path / "both")])


def test_processes_that_compile_in_another_order_do_not_wait_for_each_other_in_a_circle(tmp_path):
    orders = ["(relu, sigmoid)", "(sigmoid, relu)"]
    found = compiled([start(tmp_path, order) for order in orders])
    assert len(set(found)) == len(found)


def test_a_process_that_dies_while_it_compiles_holds_nobody_up(tmp_path):
    holder = start(tmp_path)
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.lock")) and time.monotonic() < deadline:
        time.sleep(1e-3)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert {"relu_forward", "sigmoid_forward"} & set(compiled([start(tmp_path)]))


@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_without_a_lock_everybody_compiles(tmp_path, monkeypatch, patience):
    from layers.kernels import shared_cache  # noqa: PLC0415 -- imports numba

    path = tmp_path / "folder" if patience else tmp_path / "file.lock"
    held = shared_cache._locked(tmp_path / "file.lock")
    assert held is not None
    monkeypatch.setattr(shared_cache, "PATIENCE_S", patience)
    if patience:
        path.mkdir()  # a lock file cannot be opened there
    assert shared_cache._locked(path) is None


def test_variants_of_a_kernel_that_were_compiled_by_several_processes_are_told_apart(tmp_path):
    """Each process counts the functions that it compiles, and the count is in their names."""
    for order in ("[1]", "[2]", "[3]", "[1, 2, 3]", "[3, 1, 2]"):
        compiled([start(tmp_path, order, VARIANTS)])
