"""PyTorch beside a measurement of ours: a convolution's pass in each of its memory formats, in turns."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bench.peak import Gated, Gauge, Timing
from bench.shapes import Problem
from bench.worker import TUNED, Worker
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.grouped_conv2d import GroupedConv2d

CONVOLUTIONS = (Conv2d, DepthwiseConv2d, GroupedConv2d)
"""Kinds of layers that are compared."""

LAYOUTS = ("contiguous", "channels_last", "blocked")
"""blocked: tensors in the form that oneDNN chooses for them, as between layers of ``to_mkldnn``."""

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Versus:
    """Ours and PyTorch's seconds of one pass, from the same rounds."""

    ours: Timing
    torch: dict[str, float]
    """Medians by layout."""

    @property
    def layout(self) -> str:
        """PyTorch's best layout."""
        return min(self.torch, key=lambda layout: self.torch[layout])

    @property
    def ratio(self) -> float:
        """How many times faster ours is than PyTorch's best layout."""
        return self.torch[self.layout] / self.ours.median


class Peer:
    """PyTorch in a process of its own, which keeps its memory and uses huge pages (`worker.TUNED`)."""

    def __init__(self, gauge: Gauge):
        self._gauge = gauge
        self._worker = Worker(TUNED, side="torch_conv", threads=gauge.threads.count)

    def versus(self, problem: Problem, direction: str, ours: Callable[[], float], samples: int) -> Versus:
        """Time a pass on all sides, `samples` rounds of them.

        Parameters
        ----------
        ours
            Returns the seconds of one of our calls.
        """
        peers: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
        taken: list[Gated[float]] = []
        for _ in range(samples):
            taken.append(self._gauge.gated(ours, patience_s=PATIENCE_S))
            for layout, seconds in peers.items():
                asked = {"problem": problem.name, "layout": layout, "direction": direction}
                sample = self._gauge.gated(
                    lambda asked=asked: self._worker.ask(
                        "seconds", **asked, minibatch=problem.minibatch, least_s=LEAST_S
                    ),
                    patience_s=PATIENCE_S,
                )
                seconds.append(sample.result)
        timing = Timing(
            tuple(s.result for s in taken), tuple(s.peak for s in taken), sum(s.repeated for s in taken)
        )
        medians = {layout: statistics.median(seconds) for layout, seconds in peers.items()}
        return Versus(timing, medians)

    def close(self) -> None:
        """End the process."""
        self._worker.close()


LEAST_S = 0.004
"""A sample repeats short calls until it takes so long."""


def check(chosen: Sequence[Problem]) -> None:
    """Raise ValueError where there is no PyTorch, or a problem is no convolution."""
    if find_spec("torch") is None:
        raise ValueError("PyTorch is not installed; it comes with the extra: pip install -e '.[bench]'")
    others = [problem.name for problem in chosen if not isinstance(problem.layer, CONVOLUTIONS)]
    if others:
        raise ValueError(f"--against torch: {others[0]} is no convolution; only those are compared")


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each pass: the geometric mean of its ratios, the least, how many are below 1."""
    lines = []
    for direction in dict.fromkeys(row["pass"] for row in rows):
        ratios = [row["ratio"] for row in rows if row["pass"] == direction and "ratio" in row]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            lines.append(
                f"{direction:17} ours x {mean:.2f} (geometric mean of {len(ratios)}), "
                f"least {min(ratios):.2f}, {sum(ratio < 1 for ratio in ratios)} below 1"
            )
    return lines
