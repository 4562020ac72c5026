"""Numbers below the smallest normal one are kept, whatever mode a thread was in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import lockstep
import numpy as np
import pytest
from numba import float32, int64

from layers.kernels.float_mode import set_float_mode
from layers.kernels.jit import kernel
from layers.kernels.threads import INLINE_WORK, Threads

SMALL = np.float32(1e-40)


def flush_to_zero() -> None:
    """Compute as libraries do that were built for fast arithmetic."""
    set_float_mode(x86=0x9FC0, arm=1 << 24)


def on_a_thread(call: Callable[[], bool]) -> bool:
    """Return what a call says on a thread that ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def keeps_small_numbers() -> bool:
    """Say whether half of a subnormal number is more than 0 on this thread."""
    return bool((np.full(64, SMALL) * np.float32(0.5)).all())


def test_the_mode_is_that_of_one_thread_and_can_be_set_back() -> None:
    def changed() -> bool:
        flush_to_zero()
        flushed = not keeps_small_numbers()
        set_float_mode()
        return flushed and keeps_small_numbers()

    assert on_a_thread(changed)
    assert keeps_small_numbers()


@kernel(int64, int64, int64, float32[::1])
def halve(worker, first, last, values):  # noqa: ARG001
    for at in range(first, last):
        values[at] *= float32(0.5)


def test_workers_and_their_caller_keep_small_numbers_even_if_the_caller_did_not() -> None:
    def work() -> bool:
        flush_to_zero()
        values = np.full(10_000, SMALL)
        with closing(Threads(3)) as threads:
            threads.run(halve, len(values), INLINE_WORK, values)
        return bool(values.all()) and keeps_small_numbers()

    assert on_a_thread(work)


NETWORK = """
from lockstep import Flatten, GraphBuilder, Linear

def net(classes=10, image=(1, 8, 8)):
    built = GraphBuilder(image)
    built.add("flatten", Flatten())
    built.add("fc", Linear(classes, gain=1e-78))
    return built.graph()
"""


class Flushing(lockstep.Callback):
    """Loads, so to speak, a library that changes the mode."""

    def on_step(self, run: lockstep.RunView, record: object) -> None:
        flush_to_zero()
        assert all(weight.any() for weight in run.weights().values())  # which waits for the update
        flush_to_zero()


@pytest.mark.parametrize("overlap", [False, True])
def test_neither_a_caller_nor_a_callback_that_changes_the_mode_moves_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, overlap: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)

    def trained(out: str, *callbacks: lockstep.Callback) -> dict[str, object]:
        changes = {"model": "net.py:net", "overlap": overlap, "schedule.rate": 1e-37}
        done = lockstep.train("digits", out=out, callbacks=callbacks, steps=3, threads=1, changes=changes)
        set_float_mode()  # else this thread sees zeros only
        assert 0 < np.abs(done.weights["fc.weight"]).max() < np.finfo(np.float32).tiny
        return done.results

    usual = trained("a")["weights_sha256"]
    flush_to_zero()
    assert trained("b", Flushing())["weights_sha256"] == usual
