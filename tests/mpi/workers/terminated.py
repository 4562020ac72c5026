"""Train, and get a SIGTERM on the last rank after a step: ``terminated OUT ARGUMENTS...``."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from comm.launcher import launched_rank, launched_ranks
from engine.train import main


def watch(metrics: Path) -> None:
    while not metrics.exists() or not metrics.read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    out, *arguments = sys.argv[1:]
    if launched_rank() == launched_ranks() - 1:
        threading.Thread(target=watch, args=(Path(out) / "metrics.jsonl",), daemon=True).start()
    sys.exit(main([*arguments, "--out", out]))
