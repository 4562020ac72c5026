"""Say once that kernels are being compiled, when and only when the first one is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comm import terminal
from layers.kernels.shared_cache import SharedCache

LINE = "compiling kernels, which are kept for the next run"


class CompilationNotice:
    """Says that kernels are being compiled, once."""

    def __init__(self) -> None:
        self.say: Callable[[str], None] = terminal.say
        self._said = False

    def __call__(self) -> None:
        """Say it for the first kernel that this process misses in the cache."""
        if not self._said:
            self._said = True
            self.say(LINE)


@contextmanager
def compilation_said(say: Callable[[str], None] = terminal.say) -> Iterator[None]:
    """Say that kernels are being compiled, inside the `with`; inside another such `with` only once."""
    before = SharedCache.on_miss
    notice = before if isinstance(before, CompilationNotice) else CompilationNotice()
    said_before, notice.say = notice.say, say
    SharedCache.on_miss = notice
    try:
        yield
    finally:
        notice.say = said_before
        SharedCache.on_miss = before
