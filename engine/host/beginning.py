"""What every command does first, before imports that take time."""

from comm import terminal
from engine.host import stop_signals


def begin() -> None:
    """Take signals, and let nothing that is printed fail, until the process has ended."""
    stop_signals.listen()
    terminal.guard()
