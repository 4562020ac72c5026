"""The command ``python -m engine.plan``: how fast a network will train on some nodes, and how best."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from comm import failure, terminal
from comm.communicator import Communicator
from comm.threads import single_rank
from engine.config.command_line import Parser, add_overwrite, start_ranks
from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.config.options import add_model_argument, model_arguments
from engine.config.paths import expand
from engine.config.recipe import OPTIMIZERS, PRECISIONS, OptimizerFields, Recipe, read_recipe, shipped
from engine.graph.parallel.plan import AUTO, Plan
from engine.graph.passes.freeze import check_frozen
from engine.host.affinity import find_cores
from engine.host.stop_signals import listening
from engine.models import MODELS, build_model
from engine.planner.auto import DEFAULT_CLUSTER
from engine.planner.cluster import Cluster, read_cluster, shipped_clusters
from engine.planner.described_cluster import FLOP_A_CYCLE, INFINIBAND, Described
from engine.planner.design import Design
from engine.planner.layer_balance import NetworkBalance
from engine.planner.plans import plans
from engine.planner.report import Report
from engine.planner.scaling_picture import draw_curve
from engine.planner.search import Point, check_minibatch, default_leaves, search, starting_point
from engine.planner.sweep import Sweep, read_nodes
from engine.profile.figure import figure_class
from engine.profile.trace_file import check_writable, write_spans
from engine.run.output_place import check_output
from engine.training.rank_settings import form_of
from layers.precision import FP32

_PEAK = (
    "flops_per_s is the rate of the fastest kind of kernels, in the multiply-adds of a direct convolution: "
    "Winograd does with fewer, and may come out above the peak of the cores."
)
_SHOWN_RANKS = 2  # in a trace of ranks that all do the same

_EPILOG = f"""\
examples:
  python -m engine.plan --model vgg_a --nodes 128 --batch 512 --cluster cori_phase1
  python -m engine.plan --model cd_dnn --nodes 16 --cluster endeavor_fdr --plan data    what one plan would do
  python -m engine.plan --model vgg_a --batch 512 --cluster cori_phase1 --sweep nodes=1..256 --out curve.png
  python -m engine.plan --model vgg_a --nodes 16 --batch 256 --layers      the equations, layer by layer
  python -m engine.plan --model overfeat_fast --nodes 3 --cluster my.toml --json
  python -m engine.plan --nodes 16 --batch 256 --cores 32 --ghz 2.4 --simd avx512 --network 10gbit
  python -m engine.plan --model vgg_a --nodes 16 --batch 256 --cluster aws_c4_8xlarge --trace step.json
  mpirun -n 2 python -m engine.plan --measure --model vgg_a --nodes 16 --batch 256 --out mine.toml
  python -m engine.plan --model vgg_a --nodes 16 --batch 256 --cluster mine.toml

Nothing is trained and no cluster is needed: steps are simulated, with the engine's own schedule, on the
description of a cluster: {", ".join(shipped_clusters())}, or a TOML file
of your own.

The search: the balance equations of Das et al. 2016 rule plans out; the promising ones are simulated, and for
the best of them other schedules and sizes of buckets (small layers that share a message) and chunks (into
which large ones are cut). "speed-up" is over one node that does the whole minibatch. "bound by" names what
would shorten the step most, were it twice as good. docs/planning.md walks through an example.

Exit codes: 0 done; 2 a mistake in what was given, such as a minibatch too small for the nodes.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.plan",
        description="Predict how fast a network trains on some nodes of a cluster, and find the best plan.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        default="vgg_a",
        help=f"{', '.join(MODELS)}, or a function of yours: FILE.py:function; default vgg_a",
    )
    add_model_argument(parser)
    parser.add_argument("--nodes", type=int, metavar="N", help="how many; default 1")
    parser.add_argument("--batch", type=int, metavar="N", help="global minibatch; default the recipe's")
    parser.add_argument(
        "--cluster",
        metavar="NAME_OR_FILE",
        help=f"default {DEFAULT_CLUSTER}, unless the nodes are described:",
    )
    parser.add_argument("--cores", type=int, metavar="N", help="of a node, without a --cluster")
    parser.add_argument("--ghz", type=float, metavar="X", help="of the cores while all compute; default 2.5")
    parser.add_argument("--simd", metavar="NAME", help=f"{', '.join(FLOP_A_CYCLE)}; default avx2")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help=f"Ethernet such as 10gbit (default), or InfiniBand: {', '.join(INFINIBAND)}",
    )
    parser.add_argument("--memory-gb", type=float, metavar="X", help="of a node; default 4 a core")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="default what the cluster says")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of a rank's kernels; default as in training"
    )
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=OPTIMIZERS[0], help="whose updates cost time; default sgd"
    )
    parser.add_argument(
        "--clip",
        action="store_true",
        help="gradients are clipped by their norm: updates wait for all of them",
    )
    parser.add_argument("--freeze", metavar="PATTERN,PATTERN", default="", help="layers that are not trained")
    parser.add_argument("--leaves", type=int, metavar="N", help="default 16, or as many as there are ranks")
    parser.add_argument(
        "--accumulate", type=int, metavar="K", default=1, help="microbatches of a rank; default 1"
    )
    parser.add_argument(
        "--norm-groups",
        type=int,
        metavar="G",
        default=0,
        help="groups of samples that share the statistics of batch normalisations; default 0: of 32 each",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=FP32, help="of products; default fp32, bf16: no Winograd"
    )
    parser.add_argument(
        "--plan", metavar="PLAN", default=AUTO, help="data, fc6=2,fc7=2, or auto: search (default)"
    )
    parser.add_argument(
        "--sweep", metavar="nodes=A..B", help="all powers of two from A to B, or nodes=1,2,3,8"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="with --sweep: draw the scaling curve, .png or .svg (extra: plot)"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--trace", metavar="FILE", help="write the steps of the best design point for engine.explain"
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="print FLOP, bytes and FLOP per byte of each layer, by the balance equations; simulate nothing",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="under mpirun: measure the machines at hand, kernels and messages, and write a cluster to --out",
    )
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    world = start_ranks() if options.measure else single_rank()
    if world is None:
        return 2
    try:
        if options.measure:
            _measure(world, options)
        else:
            _plan(options)
    except UserError as error:
        if world.rank == 0:
            failure.say_error(str(error))
        return 2
    return 0


def _measure(world: Communicator, options: argparse.Namespace) -> None:
    """Measure what the network would need on so many nodes, data parallel and split; rank 0 writes it."""
    from engine.planner.measurement.measure import measure  # noqa: PLC0415 -- imports the kernels
    from engine.run.agreement import agreed  # noqa: PLC0415 -- as above

    _check(options)
    if options.out is None or options.sweep is not None:
        raise UserError("measure: writes a cluster: give --out FILE.toml, and no --sweep")
    path = agreed(world, lambda: _place(options) if world.rank == 0 else expand(options.out, "out"))
    ranks = world.size if options.nodes is None else options.nodes * (options.ranks_per_node or 1)
    leaves = options.leaves or default_leaves(ranks)
    batch = options.batch if options.batch is not None else _usual_batch(options.model)
    check_minibatch(ranks, batch, leaves)
    threads = options.threads or find_cores(world).threads(beside=world.size > 1)
    designs = [
        Design(
            options.model,
            ranks,
            batch,
            leaves,
            plan,
            threads,
            model_arguments=tuple(model_arguments(options).items()),
            precision=options.precision,
        )
        for plan in plans(build_model(options.model, model_arguments(options)), ranks, batch)
    ]
    found = measure(world, designs, name=path.stem)
    if world.rank == 0:
        with writing(path, "out"):
            write_whole(path, f"# {_PEAK}\n{found.to_toml()}")
        terminal.show(f"{found.description}: {path}")
        terminal.show(f"{found.machine.flops_per_s / 1e12:.2f} TFLOP/s a machine. {_PEAK}")


def _place(options: argparse.Namespace) -> Path:
    """Return the file to be written, which can be."""
    path = expand(options.out, "out")
    read = [] if options.cluster is None else [expand(options.cluster, "cluster")]
    check_output(path, "out", overwrite=options.overwrite, reads=read)
    return path


def _plan(options: argparse.Namespace) -> None:
    _check(options)
    cluster, assumed = _cluster(options)
    batch = options.batch if options.batch is not None else _usual_batch(options.model)
    if options.sweep is not None:
        _sweep(options, cluster, assumed, batch)
        return
    nodes = 1 if options.nodes is None else options.nodes
    if options.layers:
        graph = build_model(options.model, model_arguments(options))
        found = NetworkBalance.of(graph, cluster, nodes=nodes, batch=batch)
        _print(options, found, assumed)
        return
    traced = None if options.trace is None else check_writable(options.trace)
    points = _search(options, cluster, batch, nodes, plan=options.plan)
    report = Report.of(cluster, points, _single(options, cluster, batch))
    _print(options, report, assumed)
    if traced is not None:
        _trace(report.best, traced)


def _print(options: argparse.Namespace, found: Report | Sweep | NetworkBalance, assumed: list[str]) -> None:
    """Print what was found as text or JSON, with what was assumed of the cluster."""
    if options.json:
        terminal.show(json.dumps({**found.to_json(), "assumed": assumed}, indent=2))
        return
    first, *lines = found.lines()
    terminal.show("\n".join([first, *(f"assumed: {', '.join(assumed)}" for _ in assumed[:1]), *lines]))


def _check(options: argparse.Namespace) -> None:
    check_frozen(build_model(options.model, model_arguments(options)), _frozen(options))
    for name in ("nodes", "batch", "ranks_per_node", "threads", "leaves", "accumulate"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"{name.replace('_', '-')}: got {value}; must be at least 1")
    groups = options.norm_groups
    if groups < 0 or groups & (groups - 1):
        raise UserError(f"norm-groups: got {groups}; must be a power of two, or 0")
    if options.sweep is not None and (options.nodes is not None or options.trace is not None):
        raise UserError(
            "sweep: goes with neither --nodes nor --trace, which are for a single number of nodes"
        )
    if options.layers and (options.sweep, options.trace, options.out) != (None, None, None):
        raise UserError("layers: a table of one number of nodes, with neither --sweep, --trace nor --out")
    if options.sweep is None and options.out is not None and not options.measure:
        raise UserError("out: a curve is drawn of a sweep: add --sweep nodes=1..256")


def _frozen(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(options.freeze.split(",")) if options.freeze else ()


def _cluster(options: argparse.Namespace) -> tuple[Cluster, list[str]]:
    """Return the cluster that is meant, and what was assumed because nobody said it."""
    described = Described(options.cores, options.ghz, options.simd, options.network, options.memory_gb)
    if not described.given():
        cluster = read_cluster(options.cluster or DEFAULT_CLUSTER)
        default = f"the cluster {DEFAULT_CLUSTER}; name yours by --cluster, or describe its nodes by --cores"
        assumed = [] if options.cluster else [default]
    elif options.cluster:
        raise UserError("cluster: goes without --cores, --ghz, --simd, --network and --memory-gb")
    else:
        cluster, assumed = described.cluster()
    if options.ranks_per_node is not None:
        cluster = replace(cluster, machine=replace(cluster.machine, ranks=options.ranks_per_node))
    return cluster, assumed


def _usual_batch(model: str) -> int:
    if model in shipped():
        return read_recipe(model).batch
    raise UserError(f"batch: {model} has no recipe that says the minibatch; give --batch")


def _search(
    options: argparse.Namespace,
    cluster: Cluster,
    batch: int,
    nodes: int,
    *,
    plan: str,
) -> list[Point]:
    design = starting_point(options.model, nodes, batch, cluster, leaves=options.leaves or 0)
    asked = Recipe(optimizer=OptimizerFields(options.optimizer))
    design = replace(
        design,
        model_arguments=tuple(model_arguments(options).items()),
        freeze=_frozen(options),
        accumulate=options.accumulate,
        norm_groups=options.norm_groups,
        form=replace(form_of(asked), holds_back=options.clip),
        precision=options.precision,
    )
    if options.threads is not None:
        design = replace(design, threads=options.threads)
    allowed = None
    if plan != AUTO:
        allowed = [Plan.parse(plan)]
        allowed[0].check(design.network(), design.ranks)
    return search(design, cluster, allowed=allowed)


def _single(options: argparse.Namespace, cluster: Cluster, batch: int) -> Point:
    return _search(options, cluster, batch, 1, plan=AUTO)[0]


def _sweep(options: argparse.Namespace, cluster: Cluster, assumed: list[str], batch: int) -> None:
    nodes = read_nodes(options.sweep)
    picture = None if options.out is None else _place(options)
    if picture is not None:
        figure_class(picture)
    sweep = Sweep.of(
        cluster,
        nodes,
        lambda count: _search(options, cluster, batch, count, plan=options.plan),
        model=options.model,
        batch=batch,
        single=_single(options, cluster, batch),
    )
    _print(options, sweep, assumed)
    if picture is not None:
        draw_curve(sweep, picture)


def _trace(best: Point, path: Path) -> None:
    """Write the spans of a simulation; where one rank stood for all, twice: it waits for somebody."""
    ranks = best.prediction.ranks
    if len(ranks) < best.design.ranks:
        ranks *= _SHOWN_RANKS
    write_spans(path, ranks, communication_alone=best.prediction.communication_alone_seconds)
    terminal.say(f"trace in {path}: python -m engine.explain, or https://ui.perfetto.dev")


if __name__ == "__main__":
    sys.exit(main())
