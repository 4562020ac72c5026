"""The command ``python -m bench.checkpoints``: how long a checkpoint holds training up.

The state is that of a network in training, on one rank: weights and moments. Checkpoints are written by the
thread and, where none can be had, while the main thread waits, in turns; nothing else goes on meanwhile.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.recipe import Recipe
from engine.data.sources import open_data
from engine.graph.parallel.plan import Plan
from engine.models import build_model
from engine.run.finite import find_in_weights
from engine.run.saver import Saver, Task
from engine.training.rank import build_rank
from engine.training.rank_settings import settings_of


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _seconds(saver: Saver, step: int) -> tuple[float, float]:
    """Save once; return how long it held the main thread up, and how long it took until all was written."""
    started = time.perf_counter()
    saver.wait_for_room()
    assert find_in_weights(saver._rank, single_rank()) is None  # as before each checkpoint of a run
    saver.save(step, 0.0, None)
    held_up = time.perf_counter() - started
    saver.drain()
    return held_up, time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints", description=__doc__)
    parser.add_argument("model", nargs="?", default="vgg_a", metavar="MODEL", help="default vgg_a")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="checkpoints of each; default 3")
    parser.add_argument("--out", default=None, metavar="DIR", help="the disk that is written to")
    options = parser.parse_args(arguments)
    recipe = Recipe(model=options.model, data="synthetic", batch=16, leaves=16, keep_checkpoints=1)
    graph = build_model(recipe.model, {})
    data = open_data("synthetic", graph.input_shape, graph.output_shape[0], 1)
    collectives = Collectives(single_rank(), Tree.of(1, recipe.leaves))
    rank = build_rank(graph, settings_of(recipe, 1), Plan(), Grid.of(collectives, 1), InlineCommThread())
    weights = [array for parameters in rank.parameters for array in parameters.weights.values()]
    for array in (*rank.parameters.arrays(), *weights):
        array[...] = np.float32(0.5)
    held, whole = dict[str, list[float]](), dict[str, list[float]]()
    with tempfile.TemporaryDirectory(dir=options.out) as out:
        saver = Saver(rank, Task(recipe, data), single_rank(), Path(out), check_folder=lambda: None)
        for number in range(2 * (options.rounds + 1)):
            how = ("by a thread", "waited for")[number % 2]
            start = _no_thread if number % 2 else threading.Thread.start
            with (
                patch.object(threading.Thread, "start", start),
                saver.saving(number, warn=print, say=print),
            ):
                held_up, seconds = _seconds(saver, number + 1)
            first = ", the first" if number < 2 else ""
            print(f"{how}{first}: held up {held_up:.3f} s of {seconds:.3f} s", flush=True)
            if number > 1:  # the first ones touch the copy's memory for the first time
                held.setdefault(how, []).append(held_up)
                whole.setdefault(how, []).append(seconds)
    for how, each in held.items():
        written = statistics.median(whole[how])
        print(f"{how:<12} held up {statistics.median(each):.3f} s, written after {written:.3f} s")
    share = statistics.median(held["by a thread"]) / statistics.median(held["waited for"])
    megabytes = 4 * graph.parameter_count() / 1e6
    print(f"{options.model}, {megabytes:.0f} MB of weights: {share:.1%} of the wait is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
