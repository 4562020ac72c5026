"""The command ``python -m tests.mpi.workers.dies PLAN -- ARGUMENTS``: engine.train on ranks that die.

PLAN is JSON: a list of [rank, phase, count, seconds]; that rank, by its number at the start, is killed so
many seconds after it has entered the phase for the so-manieth time; with "stop" behind it is stopped. A rank
of the phase "import" is killed before MPI starts, for which the others wait three seconds.
"""

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

PHASES = {
    "start": ("engine.run.launch", "begin_anew"),
    "build": ("engine.run.launch", "build_trainer"),
    "forward": ("engine.training.step", "forward"),
    "backward": ("engine.training.step", "backward"),
    "reduce": ("comm.collectives", "Collectives.part_reduce"),
    "update": ("engine.training.bucket", "Bucket._update"),
    "broadcast": ("comm.collectives", "Collectives.part_broadcast"),
    "copy": ("engine.training.buddies", "Buddies._copy"),
    "send": ("comm.collectives", "Collectives.pass_on"),
    "checkpoint": ("engine.run.saver", "Saver.save"),
    "evaluation": ("engine.run.evaluator", "Evaluator.evaluate"),
    "recovery": ("engine.run.launch", "go_on"),
    "recovered": ("engine.training.buddies", "Buddies.recovered"),
    "session": ("engine.run.launch", "run_session"),
    "end": ("engine.run.session", "describe"),
}
"""Where each is entered: a function, by its module's name for it; a generator's body is what counts."""


def kill_at(phase: str, count: int, seconds: float, number: int = signal.SIGKILL) -> None:
    """Kill this process so many seconds after a phase has been entered for the so-manieth time."""
    module, path = PHASES[phase]
    *owners, name = path.split(".")
    holder: Any = importlib.import_module(module)
    for owner in owners:
        holder = getattr(holder, owner)
    setattr(holder, name, _counted(getattr(holder, name), count, seconds, number))


def _counted(work: Callable[..., Any], count: int, seconds: float, number: int) -> Callable[..., Any]:
    left = count

    @wraps(work)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            _die(seconds, number)
        return work(*args, **kwargs)

    return call


def _die(seconds: float, number: int = signal.SIGKILL) -> None:
    if seconds:
        threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
    else:
        os.kill(os.getpid(), number)


def main() -> int:
    """Run engine.train; return its exit code."""
    plan, dashes, *arguments = sys.argv[1:]
    assert dashes == "--"
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    train = importlib.import_module("engine.train")
    deaths = json.loads(plan)
    if any(phase == "import" for _, phase, *_ in deaths):
        importlib.import_module("comm.start_limit").START_S = 3.0
    for victim, phase, count, seconds, *stop in deaths:
        number = signal.SIGSTOP if stop else signal.SIGKILL
        if victim == rank and phase == "import":
            _die(0.0, number)
        elif victim == rank:
            kill_at(phase, count, seconds, number)
    return int(train.main(arguments))


if __name__ == "__main__":
    sys.exit(main())
