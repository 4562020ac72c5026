"""Work on several threads, as many as the system gives; where it gives none, on the calling one."""

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

from engine.host.unpinned import run_anywhere

T = TypeVar("T")
Result = TypeVar("Result")


def on_threads(
    call: Callable[[T], Result], items: Iterable[T], threads: int, *, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield what `call` returns for each item, in their order; items are taken in that order too.

    An error is raised in its item's place. When the iterator is closed, no further item is begun.

    Parameters
    ----------
    ahead
        Items that are begun, at most, before they are asked for; None: any number.
    """
    todo = [(item, Future[Result]()) for item in items]
    queue, over = iter(todo), threading.Event()
    taking = threading.Lock()  # an iterator of a list is not to be shared without one
    room = threading.Semaphore(len(todo) if ahead is None else ahead)

    def serve() -> None:
        run_anywhere()
        while room.acquire() and not over.is_set():
            with taking:
                item, future = next(queue, (None, None))
            if future is None:
                return
            try:
                future.set_result(call(item))  # type: ignore[arg-type]
            except BaseException as error:  # raised where it is waited for
                future.set_exception(error)

    started = _start(serve, min(threads, len(todo)))
    try:
        for item, future in todo:
            room.release()
            yield future.result() if started else call(item)
    finally:
        over.set()
        for _ in started:
            room.release()  # nobody waits for room any more
        for thread in started:
            thread.join()


def _start(serve: Callable[[], None], wanted: int) -> list[threading.Thread]:
    """Start threads; fewer where the system allows no more (ulimit -u, a container's limit on processes)."""
    started: list[threading.Thread] = []
    for _ in range(wanted):
        thread = threading.Thread(target=serve, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started
