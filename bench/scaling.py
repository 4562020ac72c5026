"""The command ``python -m bench.scaling``: training on several ranks and hosts, beside PyTorch's DDP."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import machine
from bench.hosts import leave_on_signals
from bench.link import LinkFigures
from bench.mpi_reductions import WAYS
from bench.namespaces import ClusterError
from bench.options import minibatch, models_option
from bench.places import Place, RunError
from bench.scaling_cases import SIDES, Case, Size, sample
from comm.tree import is_power_of_two
from engine.config.errors import UserError
from engine.models import MODELS
from engine.planner.auto import resolve

_MODELS = ("vgg_a", "cd_dnn")
_PLANS = ("data", "auto")

_EPILOG = """\
examples:
  python -m bench.scaling                                 VGG-A and CD-DNN, half an hour and more
  python -m bench.scaling vgg_a --place 1x2 --place 2x1 --plan data --rounds 3
  python -m bench.scaling cd_dnn --place 2x1@1gbit --overlap on --side ours --steps 4
  python -m bench.scaling vgg_a --place 4x1@10gbit+0.1ms --plan data --plan fc6=2,fc7=2

A place is RANKSxTHREADS on this machine, where ranks meet in shared memory, or RANKSxTHREADS@RATE on so many
hosts, which are network namespaces with shaped links (see bench.hosts: root and iproute2). "ours" is
python -m engine.train on synthetic data; "mpi" the same with MPI's own collectives instead of ours, in both
ways of bench.mpi_reductions, on a power of two of ranks, with the first --overlap; "ddp" PyTorch's
DistributedDataParallel over Gloo, channels_last for images, fused SGD, memory kept between steps and huge
pages, on the same minibatch, ranks, threads and links; "alone" our compute alone: as many processes that do
not know each other, each on its part of the minibatch.

With --plan auto the ranks take the plan of the balance equations. Each round runs everything once, in turn;
shown are medians over the steady steps of all rounds. "compute" is that of "alone", else (~) what run.json
says of the run itself, where communication shares the cores. "comm" is what a step's communication takes
alone, as run.json says, else (~) the time of its bytes at the measured TCP bandwidth. "exposed" held the step
up; "hidden" is the share of the communication alone that did not. "x bound" is the step over the larger of
compute and communication alone, "eff." the throughput over that of the same side (of ours for "mpi") at the
first place with one rank, "x mpi" and "x ddp" over that of the fastest MPI and of DDP at the same place.
All runs of ours must end with the same weights, bit for bit; the exit code is 1 otherwise.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling",
        description="Time training steps of this engine and of PyTorch's DistributedDataParallel on several "
        "ranks and on hosts with shaped links, in alternating rounds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models_option(parser, default=" ".join(_MODELS))
    parser.add_argument("--place", action="append", metavar="PLACE", help=f"default {' '.join(_places())}")
    parser.add_argument("--side", action="append", choices=SIDES, help="only this; default all")
    parser.add_argument("--overlap", action="append", choices=("on", "off"), help="of ours; default both")
    parser.add_argument(
        "--plan", action="append", metavar="PLAN", help=f"of ours; default {' and '.join(_PLANS)}"
    )
    parser.add_argument("--minibatch", type=int, metavar="N", help="global; default each model's own")
    parser.add_argument("--leaves", type=int, default=16, metavar="N", help="of our sums; default 16")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="of each run; default 5")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each; default 1")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def _places() -> list[str]:
    cores = machine.cores()
    return [f"1x{cores}", "2x1", "2x1@1gbit", "4x1@1gbit"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    options.sides = options.side or SIDES
    options.overlaps, options.plans = options.overlap or ["on", "off"], options.plan or [*_PLANS]
    try:
        places = [Place.parse(text) for text in options.place or _places()]
        models = _models(options, places)
        links = {place.name: figures for place in places if (figures := place.measure()) is not None}
        for name, figures in links.items():
            _say(options, f"{name}: TCP gets {figures.one_way_bits_per_s / 1e9:.3f} Gbit/s one way")
        results = [_compare(model, places, options, links) for model in models]
    except (ValueError, ClusterError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    if options.json:
        _print_json(options, links, results)
    return 0 if all(result["right"] for result in results) else 1


def _models(options: argparse.Namespace, places: Sequence[Place]) -> list[str]:
    if "ddp" in options.sides and find_spec("torch") is None:
        raise ValueError("PyTorch is not installed: pip install -e '.[bench]', or --side ours --side alone")
    models = options.models or [*_MODELS]
    for model in models:
        samples = _size(model, options).batch
        for place in places:
            if samples % place.ranks:
                raise ValueError(f"minibatch: got {samples}; must divide by the {place.ranks} ranks")
            _check_plans(model, place, options)
    if options.steps < 2 or options.rounds < 1:
        raise ValueError(f"got {options.steps} steps, {options.rounds} rounds; must be 2 and 1 at least")
    return models


def _check_plans(model: str, place: Place, options: argparse.Namespace) -> None:
    """Raise ValueError where a plan does not fit: now, not when its turn comes."""
    if "ours" in options.sides and place.ranks > 1:
        for plan in options.plans:
            try:
                resolve(plan, MODELS[model](), ranks=place.ranks, batch=_size(model, options).batch)
            except UserError as error:
                raise ValueError(f"{model} at {place.name}: {error}") from error


def _size(model: str, options: argparse.Namespace) -> Size:
    return Size(minibatch(model, options.minibatch), options.leaves, options.steps)


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, flush=True)


def _cases(model: str, places: Sequence[Place], options: argparse.Namespace) -> list[Case]:
    """Return what is run of one model, in the order of a round."""
    found: list[Case] = []
    for place in places:
        if "ours" in options.sides:
            several = place.ranks > 1
            found += [
                Case(model, "ours", place, overlap == "on", plan)
                for plan in (options.plans if several else ["data"])
                for overlap in (options.overlaps if several else ["on"])
            ]
        if "mpi" in options.sides and place.ranks > 1 and is_power_of_two(place.ranks):
            found += [Case(model, "mpi", place, options.overlaps[0] == "on", way=way) for way in WAYS]
        if "ddp" in options.sides:
            found.append(Case(model, "ddp", place))
    apart = {place.alone for place in places if place.ranks > 1}
    if "alone" in options.sides:
        found += [Case(model, "alone", place) for place in sorted(apart, key=lambda place: place.ranks)]
    return found


def _compare(
    model: str, places: Sequence[Place], options: argparse.Namespace, links: dict[str, LinkFigures]
) -> dict[str, Any]:
    """Measure one model."""
    size, cases = _size(model, options), _cases(model, places, options)
    _say(options, f"\n{model}, minibatch {size.batch}")
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(options.rounds):
            first = round_ % len(cases)
            for number, case in enumerate(cases[first:] + cases[:first], start=1):
                about = f"{model}, round {round_ + 1}/{options.rounds}, {number}/{len(cases)}: {case.name}"
                print(about, end=" ", file=sys.stderr, flush=True)
                sample(case, size, Path(folder))
                print(f"{case.step_seconds:.3f} s", file=sys.stderr, flush=True)
    weights = {sha256 for case in cases for sha256 in case.weights}
    rows = [row(case, cases, size, links) for case in cases]
    for line in table(rows):
        _say(options, line)
    if len(weights) > 1:
        print(f"WRONG: {model}: the runs ended with different weights", file=sys.stderr)
    fields = {"minibatch": size.batch, "leaves": size.leaves, "steps": size.steps, "rounds": options.rounds}
    return {"model": model, **fields, "right": len(weights) <= 1, "rows": rows}


def row(case: Case, cases: Sequence[Case], size: Size, links: dict[str, LinkFigures]) -> dict[str, Any]:
    """Return the figures of a case; None where something was not measured."""
    ours, link = case.side in ("ours", "mpi"), case.place.link
    step, figures = case.step_seconds, links.get(case.place.name)
    apart = _step_of(cases, "alone", lambda other: other.place == case.place.alone) if ours else None
    base = "ours" if ours else case.side
    single = next((each for each in cases if each.side == base and each.place.ranks == 1), None)
    ddp, mpi = (
        _step_of(cases, side, lambda other: other.place == case.place) if ours else None
        for side in ("ddp", "mpi")
    )
    computing = _median([sum(table.compute_seconds_by_rank) / case.place.ranks for table in case.breakdowns])
    told = _median([table.communication_alone_seconds for table in case.breakdowns])
    wire = None
    if figures is not None and case.plan == "data" and case.side != "alone":
        parameters = MODELS[case.model]().parameter_count()
        wire = wire_seconds(parameters, case.place.ranks, figures.one_way_bits_per_s)
    communication = wire if told is None else told
    compute = computing if apart is None else apart
    bound = None if compute is None or communication is None else max(compute, communication)
    return {
        "case": case.name,
        "side": case.side,
        "ranks": case.place.ranks,
        "threads": case.place.threads,
        "link": None if link is None else asdict(link),
        "overlap": case.overlap if ours else None,
        "plan": case.plan if ours else None,
        "samples_per_second": size.batch / step,
        "step_seconds_median": step,
        "seconds": case.seconds,
        "compute_alone_seconds": apart,
        "compute_seconds": computing,
        "exposed_communication_seconds": _median(
            [table.exposed_communication_seconds for table in case.breakdowns]
        ),
        "hidden_share": _median([table.hidden_share for table in case.breakdowns]),
        "communication_alone_seconds": told,
        "wire_seconds": wire,
        "step_over_bound": None if bound is None else step / bound,
        "efficiency": None if single is None or case.side == "alone" else single.step_seconds / step,
        "ratio_to_mpi": None if mpi is None else mpi / step,
        "ratio_to_ddp": None if ddp is None else ddp / step,
    }


def _median(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _step_of(cases: Sequence[Case], side: str, wanted: Callable[[Case], bool]) -> float | None:
    """Return the step of the fastest case of a side."""
    return min((case.step_seconds for case in cases if case.side == side and wanted(case)), default=None)


def wire_seconds(parameters: int, ranks: int, bits_per_s: float) -> float:
    """Return how long the bytes of part-reduce and part-broadcast take on each rank's link, each way."""
    return 2 * (ranks - 1) / ranks * 32 * parameters / bits_per_s


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rows as text."""
    width = max(len(row["case"]) for row in rows)
    head = (
        "step s",
        "samples/s",
        "compute",
        "comm",
        "exposed",
        "hidden",
        "x bound",
        "eff.",
        "x mpi",
        "x ddp",
    )
    lines = [f"  {'':{width}} " + " ".join(f"{name:>10}" for name in head)]
    for row in rows:
        cells = (
            f"{row['step_seconds_median']:.4f}",
            f"{row['samples_per_second']:.2f}",
            _either(row["compute_alone_seconds"], row["compute_seconds"]),
            _either(row["communication_alone_seconds"], row["wire_seconds"]),
            _cell(row["exposed_communication_seconds"], 4),
            _cell(row["hidden_share"], 2),
            _cell(row["step_over_bound"], 2),
            _cell(row["efficiency"], 2),
            _cell(row["ratio_to_mpi"], 2),
            _cell(row["ratio_to_ddp"], 2),
        )
        lines.append(f"  {row['case']:{width}} " + " ".join(f"{cell:>10}" for cell in cells))
    return lines


def _either(value: float | None, about: float | None) -> str:
    return _cell(value, 4) if value is not None or about is None else f"~{about:.4f}"


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _print_json(
    options: argparse.Namespace, links: dict[str, LinkFigures], results: Sequence[dict[str, Any]]
) -> None:
    described = machine.describe(machine.cores())
    if "ddp" in options.sides:
        described["versions"]["torch"] = metadata.version("torch")
    tcp = {name: asdict(figures) for name, figures in links.items()}
    machine.print_json("scaling", described, links=tcp, results=results)


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(main())
