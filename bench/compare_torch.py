"""The command ``python -m bench.compare_torch``: training and scoring, ours against PyTorch, in turns."""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import machine
from bench.options import arguments_option, minibatch, models_option, named_arguments
from bench.peak import Gauge
from bench.shapes import NETWORKS
from bench.worker import TUNED, Worker
from comm.tree import is_power_of_two
from engine.config.errors import UserError
from engine.graph import Graph
from engine.models import build_model
from layers.kernels.threads import Threads
from layers.precision import BF16, FP32, PRECISIONS

MODES = ("train", "score")
VARIANTS: dict[str, dict[str, str]] = {"as installed": {}, "tuned": TUNED}
LAYOUTS = ("contiguous", "channels_last")
LOSS_STEPS = 3
LOSS_TOLERANCE = {FP32: 1e-3, BF16: 3e-2}
"""Relative, after LOSS_STEPS - 1 updates from the same weights, without dropout. Both sides round each sum in
another order (1e-6), and a maximum or a ReLU that falls the other way moves the next steps a little more.
In bf16 both round values to 8 bits, and not all of the same."""

_EPILOG = """\
examples:
  python -m bench.compare_torch                     VGG-A, OverFeat-FAST and CD-DNN, training and scoring
  python -m bench.compare_torch vgg_a --mode train --rounds 9
  python -m bench.compare_torch resnet50 --mode train --minibatch 32
  python -m bench.compare_torch vgg_a --model-argument norm=true --mode train
  python -m bench.compare_torch resnet18 --precision bf16      beside torch.autocast
  python -m bench.compare_torch overfeat_fast --layers    each layer and pass, instead of whole steps

What is compared: the same network, weights, minibatch and threads. A training step is forward, loss, backward
and the update of SGD with momentum; ours also copies the minibatch into its own layout, PyTorch gets it in
the right memory format. PyTorch runs as installed and tuned (no memory returned to the system between steps,
huge pages, pinned threads; ours are pinned as in a run), each in the better of contiguous and channels_last,
found by a trial; its SGD is the fused one. Each side is a process, and the sides take turns, so that none
computes while another is timed. Before and after each sample the multiply-add peak is measured; a sample is
repeated when the cores were slow. The ratio is that of the medians. Memory is the peak resident set of the
side's process. With --precision bf16 PyTorch's forward passes and losses run under torch.autocast("cpu",
dtype=torch.bfloat16), and the weights are fp32 on both sides.

The minibatches are those of one host: VGG-A 32, OverFeat-FAST 64, CD-DNN 1024; 32 of all others. The
seconds of processors are those of all threads of a side, also of those that wait without sleeping.
PyTorch comes with the extra: pip install -e '.[bench]'
"""


@dataclass
class Side:
    """One process, and what was measured on it."""

    name: str
    worker: Worker
    trial_s: float
    losses: list[float]
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    repeated: int = 0
    peak_bytes: int = 0

    def row(self, samples: int) -> dict[str, Any]:
        """Return the figures of this side."""
        return {
            "side": self.name,
            "samples_per_second": samples / statistics.median(self.seconds),
            "seconds_median": statistics.median(self.seconds),
            "seconds": self.seconds,
            "processor_seconds_median": statistics.median(self.processor_seconds or [0.0]),
            "samples_repeated": self.repeated,
            "peak_resident_bytes": self.peak_bytes,
            "losses": self.losses,
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare_torch",
        description="Time training steps and scoring (forward only) of this engine against PyTorch on the "
        "same cores, in alternating rounds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models_option(parser)
    arguments_option(parser)
    parser.add_argument("--mode", action="append", choices=MODES, help="only this; default both")
    parser.add_argument("--variant", action="append", choices=[*VARIANTS], help="of PyTorch; default both")
    parser.add_argument("--layout", action="append", choices=LAYOUTS, help="of PyTorch; default both")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=FP32, help="of products, on both sides; default fp32"
    )
    parser.add_argument("--layers", action="store_true", help="compare layer by layer instead")
    machine.threads_option(parser)
    parser.add_argument("--minibatch", type=int, metavar="N", help="samples; default each model's own")
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="of our sums; default 16")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="samples of each side; default 5")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        models = _models(options)
    except (ValueError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    threads = Threads(options.threads)
    gauge = Gauge(threads)
    report = _Report(quiet=options.json)
    report.say(machine.line(machine.describe(options.threads, gauge)))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            comparison = _Comparison(model, options, gauge, report, Path(folder))
            if options.layers:
                results.append(comparison.layers())
            else:
                results += [comparison.steps(mode) for mode in options.mode or MODES]
    threads.close()
    if options.json:
        described = machine.describe(options.threads, gauge)
        described["versions"]["torch"] = metadata.version("torch")
        kind = "compare_torch_layers" if options.layers else "compare_torch"
        machine.print_json(
            kind, described, leaves=options.leaves, precision=options.precision, results=results
        )
    return 0 if all(result["right"] for result in results) else 1


def _models(options: argparse.Namespace) -> list[str]:
    if find_spec("torch") is None:
        raise ValueError("PyTorch is not installed; it comes with the extra: pip install -e '.[bench]'")
    models = options.models or list(NETWORKS)
    for model in models:
        samples = minibatch(model, options.minibatch)
        if not is_power_of_two(options.leaves) or samples % options.leaves:
            raise ValueError(f"leaves: got {options.leaves}; must be a power of two that divides {samples}")
        build_model(model, named_arguments(options.arguments))
    return models


class _Report:
    """Prints progress, unless the output is JSON."""

    def __init__(self, *, quiet: bool):
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)


class _Comparison:
    """One model."""

    def __init__(self, model: str, options: argparse.Namespace, gauge: Gauge, report: _Report, folder: Path):
        self._model, self._options, self._gauge, self._report = model, options, gauge, report
        self._samples = minibatch(model, options.minibatch)
        self._weights = str(folder / f"{model}.safetensors")
        self._arguments = named_arguments(options.arguments)
        self._graph: Graph = build_model(model, self._arguments)
        images = len(self._graph.input_shape) == 3
        self._layouts = (options.layout or LAYOUTS) if images else LAYOUTS[:1]
        self._variants = options.variant or [*VARIANTS]
        self._in_bf16 = ", bf16 beside autocast" if options.precision == BF16 else ""

    def _ours(self, *, fuse: bool = True) -> Worker:
        pinned = machine.are_pinned(self._options.threads)
        side = {"side": "ours", "weights": self._weights, "leaves": self._options.leaves, "fuse": fuse}
        return self._start({}, pinned=pinned, **side)

    def _torch(self, variant: str, layout: str) -> Worker:
        return self._start(VARIANTS[variant], side="torch", weights=self._weights, layout=layout)

    def _start(self, environment: dict[str, str], **side: Any) -> Worker:
        options = self._options
        common = {"model": self._model, "samples": self._samples, "threads": options.threads}
        common["precision"] = options.precision
        return Worker(environment, arguments=self._arguments, **common, **side)

    def steps(self, mode: str) -> dict[str, Any]:
        """Compare whole steps."""
        report, samples = self._report, self._samples
        report.say(f"\n{self._model}, {mode}, minibatch {samples}{self._in_bf16}")
        with ExitStack() as stack:
            ours = self._tried("ours", self._ours(), mode)
            stack.enter_context(closing(ours.worker))
            sides, right = [ours], True
            for variant in self._variants:
                best, agree = self._best_layout(variant, mode, ours)
                stack.enter_context(closing(best.worker))
                sides.append(best)
                right = right and agree
            for round_ in range(self._options.rounds):
                for side in sides[round_ % len(sides) :] + sides[: round_ % len(sides)]:
                    self._sample(side, mode)
            for side in sides:
                side.peak_bytes = side.worker.ask("peak_bytes")
        rows = [side.row(samples) for side in sides]
        rate = rows[0]["samples_per_second"]
        for row in rows:
            row["ours_is_faster_by"] = rate / row["samples_per_second"]
            report.say(
                f"  {row['side']:42} {row['samples_per_second']:9.2f} samples/s   "
                f"{row['processor_seconds_median']:7.2f} s of processors   "
                f"{row['peak_resident_bytes'] / 1e9:5.2f} GB   ours x {row['ours_is_faster_by']:.2f}"
            )
        ratio = min(row["ours_is_faster_by"] for row in rows[1:])
        report.say(f"  ratio to the better PyTorch: {ratio:.2f}")
        return {
            "model": self._model,
            "mode": mode,
            "minibatch": samples,
            "ratio": ratio,
            "precision": self._options.precision,
            "loss_tolerance": LOSS_TOLERANCE[self._options.precision],
            "right": right,
            "sides": rows,
        }

    def _sample(self, side: Side, mode: str) -> None:
        sample = self._gauge.gated(lambda: side.worker.ask(mode, **{_COUNT[mode]: 1}), patience_s=30)
        side.seconds += sample.result["seconds"]
        side.processor_seconds += sample.result["processor_seconds"]
        side.repeated += sample.repeated

    def _tried(self, name: str, worker: Worker, mode: str) -> Side:
        """Warm a side up, note its losses, and time it once without care."""
        if mode == "train":
            trial = worker.ask("train", steps=LOSS_STEPS, dropout=False)
        else:
            trial = worker.ask("score", passes=3)
        side = Side(name, worker, min(trial["seconds"][1:]), trial["losses"])
        losses = f"   losses {' '.join(f'{loss:.5f}' for loss in side.losses)}" if side.losses else ""
        self._report.say(f"  trial: {name:35} {self._samples / side.trial_s:9.2f} samples/s{losses}")
        return side

    def _best_layout(self, variant: str, mode: str, ours: Side) -> tuple[Side, bool]:
        """Return PyTorch in its faster memory format, and whether all its losses are ours."""
        best: Side | None = None
        agree = True
        for layout in self._layouts:
            side = self._tried(f"PyTorch {variant}, {layout}", self._torch(variant, layout), mode)
            agree = self._same_losses(ours, side) and agree
            slower = side
            if best is None or side.trial_s < best.trial_s:
                best, slower = side, best
            if slower is not None:
                slower.worker.close()
        assert best is not None
        return best, agree

    def _same_losses(self, ours: Side, side: Side) -> bool:
        for our, their in zip(ours.losses, side.losses, strict=True):
            if not abs(our - their) <= LOSS_TOLERANCE[self._options.precision] * abs(their):
                self._report.say(f"  WRONG: losses {ours.losses} and {side.losses} of {side.name} differ")
                return False
        return True

    def layers(self) -> dict[str, Any]:
        """Compare each layer and pass; PyTorch's best layout for each."""
        report = self._report
        report.say(f"\n{self._model}, layer by layer, minibatch {self._samples}{self._in_bf16}; ms")
        report.say(f"  {'layer':18} {'pass':17} {'ours':>9} {'installed':>10} {'tuned':>10} {'ratio':>6}")
        rows = []
        with ExitStack() as stack:
            ours = stack.enter_context(closing(self._ours(fuse=False)))  # PyTorch has layers one by one
            ours.ask("train", steps=1)  # gives every layer its input and gradient
            peers = {
                (variant, layout): stack.enter_context(closing(self._torch(variant, layout)))
                for variant in self._variants
                for layout in self._layouts
            }
            for name, directions in ours.ask("layers").items():
                if any(node.name == name for node in self._graph):
                    rows += [self._layer(name, direction, ours, peers) for direction in directions]
        return {"model": self._model, "minibatch": self._samples, "right": True, "rows": rows}

    def _layer(
        self, name: str, direction: str, ours: Worker, peers: dict[tuple[str, str], Worker]
    ) -> dict[str, Any]:
        taken: dict[Any, list[float]] = {"ours": [], **{peer: [] for peer in peers}}
        for round_ in range(self._options.rounds):
            for key, worker in {"ours": ours, **peers}.items():
                calls = 2 if round_ == 0 else 1  # the first one warms up
                sample = self._gauge.gated(
                    lambda worker=worker, calls=calls: worker.ask(
                        "layer", name=name, direction=direction, calls=calls
                    )["seconds"][-1]
                )
                taken[key].append(sample.result)
        medians = {key: 1e3 * statistics.median(seconds) for key, seconds in taken.items()}
        best = {
            variant: min((medians[variant, layout], layout) for layout in self._layouts)
            for variant in self._variants
        }
        row = {
            "layer": name,
            "pass": direction,
            "ours_ms": medians["ours"],
            "torch_ms": {variant: ms for variant, (ms, _) in best.items()},
            "torch_layout": {variant: layout for variant, (_, layout) in best.items()},
            "ratio": min(best.values())[0] / medians["ours"],
        }
        ms = " ".join(f"{row['torch_ms'].get(variant, math.nan):10.3f}" for variant in VARIANTS)
        self._report.say(f"  {name:18} {direction:17} {row['ours_ms']:9.3f} {ms} {row['ratio']:6.2f}")
        return row


_COUNT = {"train": "steps", "score": "passes"}

if __name__ == "__main__":
    sys.exit(main())
