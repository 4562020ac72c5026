"""The command ``python -m tests.torn_checkpoints --runs N``: kill -9 at a random byte of a write.

Each run is a process that trains, saves every step or two, and ends itself by SIGKILL in the middle of a
write, after so many bytes. The next start takes the newest checkpoint, which is whole, and none older than
what callbacks were told of; it ends with the bits of the run in which nothing failed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from comm.threads import single_rank
from engine.config import files
from engine.config.recipe import OptimizerFields, Recipe, parse_recipe
from engine.data.dataset import DataSource
from engine.run import checkpoint
from engine.run.callbacks import Callback
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import checkpoints_of, step_of
from engine.run.run_folder import rewind
from engine.run.session import run_session
from engine.run.start import newest_whole
from tests.engine import cluster
from tests.engine.cluster import Samples, changed, train_rank
from tests.engine.graphs import perceptron

DATA = DataSource(Samples.draw((12,), 5, 64), Samples.draw((12,), 5, 24))
STEPS = 6
_ALL = 1 << 40  # more bytes than any run writes


def recipe(rng: random.Random) -> Recipe:
    """Return a short run that saves often."""
    return changed(
        steps=STEPS,
        checkpoint_steps=rng.choice((1, 1, 2)),
        keep_best=rng.random() < 0.5,
        keep_checkpoints=rng.choice((1, 2, 3)),
        overlap=False,
        ema=rng.choice((0.0, 0.9)),
        optimizer=rng.choice((OptimizerFields(), OptimizerFields("adamw"))),
    )


class Fuse:
    """Counts the bytes that are written, and ends the process in the middle of a write."""

    def __init__(self, room: int):
        self.room = room

    def write_durably(self, path: Path, content: Iterable[bytes]) -> None:
        """Stand in for `engine.config.files.write_durably`, without a buffer: it may end at any byte."""
        path.unlink(missing_ok=True)
        with path.open("xb", buffering=0) as file:
            for piece in content:
                file.write(piece[: self.room])
                if len(piece) > self.room:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.room -= len(piece)
            os.fsync(file.fileno())


@contextmanager
def burning(fuse: Fuse):
    """Write all files by a fuse inside the `with`."""
    before = files.write_durably
    files.write_durably = checkpoint.write_durably = fuse.write_durably
    try:
        yield
    finally:
        files.write_durably = checkpoint.write_durably = before


class Telling(Callback):
    """Writes down which checkpoints it is told of."""

    def __init__(self, path: Path):
        self._path = path

    def on_checkpoint(self, run, folder):
        with self._path.open("a") as file:
            file.write(f"{step_of(folder)}\n")


def train(given: Recipe, folder: Path, restore: object = None) -> str:
    """Run to the end on this thread, and return the hash of the weights."""
    folder.mkdir(exist_ok=True)
    results, _ = train_rank(single_rank(), perceptron(), given, DATA, folder=folder, restore=restore)
    return results["weights_sha256"]


def whole(given: Recipe) -> tuple[str, int]:
    """Return the hash of a run in which nothing fails, and how many bytes it writes."""
    return _whole(given.to_toml())


@cache
def _whole(text: str) -> tuple[str, int]:
    given, fuse = parse_recipe(text, "recipe"), Fuse(_ALL)
    with tempfile.TemporaryDirectory() as folder, burning(fuse):
        sha256 = train(given, Path(folder))
    return sha256, _ALL - fuse.room


def in_a_process(work: Callable[[], object]) -> int:
    """Do something in a child of this process, and return its status as `os.waitpid` says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads here hold nothing that it needs
        child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def torn(given: Recipe, place: Path, room: int) -> str:
    """Run in a process that ends after so many bytes, and go on; AssertionError where that goes wrong.

    Returns
    -------
    What was found.
    """
    told, folder = place / "told", place / "run"

    def attacked() -> None:
        cluster.run_session = lambda trainer: run_session(trainer, [Telling(told)])
        with burning(Fuse(room)):
            train(given, folder)

    status = in_a_process(attacked)
    assert os.WIFSIGNALED(status), f"it ended with status {status}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    least = max(map(int, told.read_text().split()), default=0) if told.exists() else 0
    if not checkpoints_of(folder):
        assert not least, f"the checkpoint of step {least} is gone"
        return "nothing was saved"
    found = find_checkpoint(folder)
    saved, complaints = newest_whole(folder, found)
    assert (saved, complaints) == (found, ()), "what is found is not whole"
    state = read_state(saved)
    assert state.step >= least, f"step {state.step} is found, and {least} was whole"
    if state.step == STEPS:
        return "all was saved"
    restore = state, read_tensors(saved, perceptron())
    rewind(folder, state.step)
    assert train(given, folder, restore) == whole(given)[0], "other bits"
    left = [
        path.name for path in folder.rglob("*.*") if path.suffix in (".replaced", ".removed", ".unfinished")
    ]
    assert not left, f"{left} are left"
    return "went on"


def campaign(runs: int, seed: int, first: int = 0) -> Counter[str]:
    """Tear so many runs, and return how many of them were found how."""
    found = Counter[str]()
    for number in range(first, first + runs):
        rng = random.Random(f"{seed} {number}")
        given = recipe(rng)
        room = rng.randrange(whole(given)[1])
        with tempfile.TemporaryDirectory() as place:
            try:
                found[torn(given, Path(place), room)] += 1
            except BaseException as error:
                error.add_note(f"run {number} of seed {seed}: killed after {room} bytes")
                raise
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its short version is `tests.engine.run.test_torn_checkpoints`."""
    parser = argparse.ArgumentParser(prog="python -m tests.torn_checkpoints", description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to repeat one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with Path(os.devnull).open("w") as nothing:
        said, sys.stderr = sys.stderr, nothing
        try:
            found = campaign(options.runs, options.seed, options.first)
        finally:
            sys.stderr = said
    counts = ", ".join(f"{count} {how}" for how, count in sorted(found.items()))
    print(
        f"{options.runs} runs killed in the middle of a write: {counts}; {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
