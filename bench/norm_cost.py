"""The command ``python -m bench.norm_cost``: the share of normalisations in a training step."""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.options import minibatch, model_option
from bench.places import Place, RunError
from bench.shapes import PASSES

GROUPS = (2, 1)
NORMS, FORKS = ("BatchNorm", "FusedBatchNorm", "SharedNorm"), ("Fork",)

_EPILOG = """\
examples:
  python -m bench.norm_cost                              ResNet-50 at 32: 1 rank and 2, 2 groups and 1
  python -m bench.norm_cost resnet18 --place 2x1 --rounds 3
  python -m bench.norm_cost resnet9 --minibatch 128 --groups 4 --groups 1

Each line is a run of the train command on synthetic samples: at a place (RANKSxTHREADS), with so many
groups of samples that share statistics (`norm_groups`; 1: all samples do). Runs take turns. Norms are the
batch normalisations with the ReLU and the sum with a shortcut that the engine computes in the same passes
over memory, and the waits for their statistics of other ranks; forks add up the gradients of a value that a
block and its shortcut both read. Shares are of the step's seconds, medians over rounds; means over ranks.
"""


@dataclass
class Case:
    """Groups at a place, and what each round gave: seconds of a step, of its parts, and waited for norms."""

    place: Place
    groups: int
    steps: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the figures of this case."""
        rounds = [*zip(self.steps, self.parts, strict=True)]
        shares = {
            name: statistics.median(part[name] / step for step, part in rounds) for name in self.parts[0]
        }
        return {
            "place": self.place.name,
            "norm_groups": self.groups,
            "step_seconds": statistics.median(self.steps),
            "shares": shares,
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.norm_cost",
        description="Measure the share of a step that batch normalisation takes, and what is fused with it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_option(parser, default="resnet50")
    parser.add_argument("--place", action="append", metavar="PLACE", help="default 1xCORES and 2x1")
    parser.add_argument("--groups", action="append", type=int, metavar="G", help="default 2 and 1")
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="of our sums; default 16")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="of each run; default 4")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each; default 1")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        samples = minibatch(options.model, options.minibatch)
        places = [Place.parse(text) for text in options.place or (f"1x{machine.cores()}", "2x1")]
        cases = [Case(place, groups) for place in places for groups in options.groups or GROUPS]
        if options.steps < 2 or options.rounds < 1:
            raise ValueError(f"got {options.steps} steps, {options.rounds} rounds; must be 2 and 1 at least")
        with tempfile.TemporaryDirectory() as folder:
            for round_ in range(options.rounds):
                for number, case in enumerate(cases):
                    _run(case, options, samples, Path(folder) / f"{round_}-{number}")
    except (ValueError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    rows = [case.row() for case in cases]
    if options.json:
        told = {"model": options.model, "minibatch": samples, "leaves": options.leaves}
        machine.print_json("norm_cost", machine.describe(machine.cores()), **told, rows=rows)
    else:
        print("\n".join(_lines(options.model, samples, rows)))
    return 0


def _run(case: Case, options: argparse.Namespace, samples: int, folder: Path) -> None:
    folder.mkdir()
    recipe = folder / "recipe.toml"
    fields = {
        "model": options.model, "data": "synthetic", "batch": samples, "leaves": options.leaves,
        "steps": options.steps, "norm_groups": case.groups,
    }  # fmt: skip
    recipe.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    out = folder / "run"
    case.place.run(
        [
            sys.executable, "-m", "engine.train", str(recipe), "--augment", "none", "--lr", "1e-3",
            "--threads", str(case.place.threads), "--evaluate-every", "0", "--checkpoint-every", "0",
            "--out", str(out),
        ]
    )  # fmt: skip
    results = json.loads((out / "run.json").read_text())
    step, parts = parts_of(results)
    case.steps.append(step)
    case.parts.append(parts)


def parts_of(results: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    """Return the seconds of a mean step of a run, and of parts of it, given what run.json holds."""
    spent, kinds = results["where_the_time_went"], results["predicted"]["layers"]
    layers = spent["seconds_by_layer"]

    def of_kinds(wanted: Sequence[str]) -> dict[str, float]:
        chosen = [seconds for node, seconds in layers.items() if kinds[node]["kind"] in wanted]
        return {name: sum(seconds.get(name, 0.0) for seconds in chosen) for name in PASSES}

    norms = of_kinds(NORMS)
    waited = sum(
        seconds
        for node, seconds in spent["exposed_communication_seconds_by_layer"].items()
        if node in kinds and kinds[node]["kind"] in NORMS
    )
    parts = {**norms, "waits": waited, "norms": sum(norms.values()) + waited}
    return spent["step_seconds"], parts | {"forks": sum(of_kinds(FORKS).values())}


def _lines(model: str, samples: int, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shares = (*PASSES, "waits", "norms", "forks")
    return [
        f"{model}, minibatch {samples}: share of the step, %",
        f"{'place':>8} {'groups':>7} {'ms a step':>10}" + "".join(f"{name:>18}" for name in shares),
        *(
            f"{row['place']:>8} {row['norm_groups']:>7} {1e3 * row['step_seconds']:10.1f}"
            + "".join(f"{100 * row['shares'][name]:18.2f}" for name in shares)
            for row in rows
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
