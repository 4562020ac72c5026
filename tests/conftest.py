"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let signals reach the programs that tests start, also where this one is started with them ignored.

    A shell ignores Ctrl-C in what it runs in the background, nohup SIGHUP, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
