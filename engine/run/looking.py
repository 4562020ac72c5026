"""A thread that looks after a run from beside, once a second."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.host.unpinned import run_anywhere

POLL_S = 1.0


@contextmanager
def looking(look: Callable[[float], None], name: str) -> Iterator[None]:
    """Call `look` with the time of `time.monotonic` every second inside the `with`, from a thread."""
    over = threading.Event()

    def work() -> None:
        run_anywhere()
        while not over.wait(POLL_S):
            look(time.monotonic())

    with suppress(RuntimeError):  # where the system gives no thread, nobody looks
        threading.Thread(target=work, name=name, daemon=True).start()
    try:
        yield
    finally:
        over.set()
