"""The command ``python -m bench.collectives``: part-reduce and part-broadcast against MPI's collectives."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import machine
from bench.hosts import cluster, leave_on_signals
from bench.link import LinkFigures
from bench.namespaces import Link
from comm import mpi
from comm.collectives import CHUNK_FLOATS, CHUNKS_IN_FLIGHT, Collectives
from comm.communicator import Communicator, Window
from comm.launcher import launched_rank, launched_ranks
from comm.scheduler import run_job
from comm.tree import Tree, ceil_div, is_power_of_two
from tests.mpi.launch import REPOSITORY, mpirun

SIZES = (100_000, 3_097_600, 4_194_304, 6_553_600, 16_777_217, 38_360_000, 64_500_000)
"""Floats: the all-reduce problems of DeepBench."""
LARGE_BYTES = 1 << 20  # above this ours must be at least as fast
TRANSPORTS = {
    "shared memory": {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "sm,self"},
    "tcp": {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_btl_tcp_if_include": "lo"},
}
"""Open MPI's settings for each; tcp on the loopback device."""
PAIRS = {
    "part_reduce": "Reduce_scatter_block",
    "part_broadcast": "Allgather",
    "part_reduce + part_broadcast": "Allreduce",
}
"""Our operation, and MPI's that does the same."""

LIMITS = ("rounds", "chunk_floats", "chunks_in_flight")  # options that must be at least 1
MOST_RANKS = 64

_SAMPLE_FLOATS = 1 << 22  # small problems are repeated until a sample moves so much
_TIMEOUT_S = 600  # on one machine, or at 1 Gb/s; slower links take longer

_EPILOG = """\
examples:
  python -m bench.collectives                              2 and 4 ranks, shared memory and TCP, all sizes
  python -m bench.collectives --ranks 2 --transport tcp --floats 4194304 --rounds 21
  python -m bench.collectives --ranks 2 --rate 1gbit       2 hosts with links of this speed (see bench.hosts)
  mpirun -n 8 --host a:4,b:4 python -m bench.collectives   on these ranks, as MPI connects them

Both sides work on the same buffers in turns, in one job; a sample is the time of the slowest rank from a
barrier to its end, and what is shown are medians over the rounds. The ratio is MPI's time over ours.

In shared memory ours read each other's buffers, as in training; over TCP, and with --shared-memory off, they
send messages. MPI moves its own buffers as it sees fit.

With --rate each rank has a host of its own. "of TCP" is the bandwidth that our messages get, over that of
plain TCP streams between two of these hosts, both ways at once, just before.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.collectives",
        description="Time this engine's part-reduce and part-broadcast against MPI's Reduce_scatter_block, "
        "Allgather and Allreduce, at the sizes of DeepBench.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ranks", type=int, action="append", metavar="N", help="repeatable; default 2 and 4")
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="only this; default both")
    parser.add_argument(
        "--rate",
        action="append",
        metavar="LINK",
        help="on hosts with such links instead: 1gbit, 1gbit+2ms; repeatable",
    )
    parser.add_argument("--floats", type=int, action="append", metavar="N", help="only this size; repeatable")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="samples of each; default 9")
    parser.add_argument(
        "--chunk-floats", type=int, default=CHUNK_FLOATS, metavar="N",
        help=f"of our messages; default {CHUNK_FLOATS}",
    )  # fmt: skip
    parser.add_argument(
        "--chunks-in-flight", type=int, default=CHUNKS_IN_FLIGHT, metavar="N",
        help=f"of ours; default {CHUNKS_IN_FLIGHT}",
    )  # fmt: skip
    parser.add_argument(
        "--shared-memory", choices=("on", "off"), default="on",
        help="off: ours send messages within a host too; default on, but not over TCP",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 1 if a result is wrong."""
    options = _parser().parse_args(arguments)
    mistake = _mistake(options)
    if mistake is not None:
        if launched_rank() == 0:
            print(f"error: {mistake}", file=sys.stderr)
        return 2
    if launched_ranks() > 1:
        return _measure_here(options)
    rows = []
    for ranks in options.ranks or (2, 4):
        for transport in [*(options.transport or ()), *(options.rate or ())] or TRANSPORTS:
            try:
                found = _launch(ranks, transport, options)
            except (RuntimeError, ValueError, FileNotFoundError) as error:
                print(f"error: mpirun -n {ranks}, {transport}: {error}", file=sys.stderr)
                return 2
            rows += found
            if not options.json:
                print(f"{ranks} ranks, {transport}\n{table(found)}\n", flush=True)
    return _finish(options, rows)


def _mistake(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the options."""
    for name in LIMITS:
        if getattr(options, name) < 1:
            return f"{name}: got {getattr(options, name)}; must be at least 1"
    launched = launched_ranks()
    for ranks in options.ranks or ([launched] if launched > 1 else []):
        if not 2 <= ranks <= MOST_RANKS:
            return f"ranks: got {ranks}; must be 2 to {MOST_RANKS}"
    smallest = min(options.floats or SIZES)
    return f"floats: got {smallest}; must be at least 1" if smallest < 1 else None


def _launch(ranks: int, transport: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure in a job of its own, between hosts if the transport is a rate."""
    given = [f"--floats={floats}" for floats in options.floats or ()]
    for name in LIMITS:
        given.append(f"--{name.replace('_', '-')}={getattr(options, name)}")
    shared = "off" if transport == "tcp" else options.shared_memory
    command, link = ("-m", "bench.collectives", *given, f"--shared-memory={shared}", "--json"), None
    limit_s: float = _TIMEOUT_S
    try:
        if transport in TRANSPORTS:
            done = mpirun(ranks, *command, timeout=limit_s, env=TRANSPORTS[transport])
        else:
            asked = Link.parse(transport)
            limit_s *= max(1.0, 1e9 / (asked.rate_bits or 1e9))
            with cluster(hosts=ranks, rate_bits=asked.rate_bits, latency_s=asked.latency_s) as hosts:
                link = hosts.measure()
                done = hosts.mpirun([sys.executable, *command], cwd=REPOSITORY, timeout_s=limit_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no end within {limit_s:g} s; fewer --rounds or --floats take less") from error
    if done.returncode not in (0, 1) or not done.stdout.strip():  # 1: a result is wrong, or a rank has died
        raise RuntimeError("\n".join(done.stderr.strip().splitlines()[-15:]))
    rows = json.loads(done.stdout)["rows"]
    return [{"transport": transport, **row, "of_tcp": of_tcp(row, link)} for row in rows]


def of_tcp(row: dict[str, Any], link: LinkFigures | None) -> float | None:
    """Return the bandwidth that our messages get as a share of TCP's; None where that was not measured."""
    if link is None or not is_power_of_two(row["ranks"]):  # others send more bytes than these
        return None
    sent = 4 * row["floats"] * (row["ranks"] - 1) / row["ranks"] * len(row["operation"].split(" + "))
    return 8e3 * sent / row["ours_ms"] / link.both_ways_bits_per_s


def _finish(options: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    if options.json:
        machine.print_json("collectives", machine.describe(1), rows=rows)
    else:
        print(verdict(rows))
    return 0 if all(row["right"] for row in rows) else 1


def _measure_here(options: argparse.Namespace) -> int:
    """Measure on the ranks that a launcher has started."""
    world = mpi.world(yield_when_idle=True)  # MPI's own collectives wait without a nap
    tree = Tree.of(world.size, MOST_RANKS)
    ours = Collectives(
        world.split(0),
        tree,
        chunk_floats=options.chunk_floats,
        chunks_in_flight=options.chunks_in_flight,
        shared_memory=options.shared_memory == "on",
    )
    rows = [row for floats in options.floats or SIZES for row in measure(ours, world, floats, options.rounds)]
    if world.rank == 0:
        if options.json:
            print(json.dumps({"benchmark": "collectives", "rows": rows}))
        else:
            print(f"{table(rows)}\n{verdict(rows)}")
    return 0 if all(row["right"] for row in rows) else 1


def measure(ours: Collectives, world: Communicator, floats: int, rounds: int) -> list[dict[str, Any]]:
    """Time one size on all ranks in turns (collective); one row for each of PAIRS, the same on all ranks."""
    from mpi4py import MPI  # noqa: PLC0415 -- as in comm.mpi

    theirs = MPI.COMM_WORLD
    padded = ours.tree.padded(floats)
    window = ours.share(padded) or Window(np.zeros(padded, np.float32), {})
    buffer, peers = window.own, window.peers
    part = np.empty(ceil_div(floats, world.size), np.float32)
    whole, other = (np.zeros(part.size * world.size, np.float32) for _ in range(2))

    def reduce() -> None:
        run_job(ours.part_reduce(buffer, peers))

    def broadcast() -> None:
        run_job(ours.part_broadcast(buffer, peers))

    def both() -> None:
        reduce()
        broadcast()

    sides: dict[str, Callable[[], Any]] = {
        "part_reduce": reduce,
        "Reduce_scatter_block": lambda: theirs.Reduce_scatter_block(whole, part),
        "part_broadcast": broadcast,
        "Allgather": lambda: theirs.Allgather(part, whole),
        "part_reduce + part_broadcast": both,
        "Allreduce": lambda: theirs.Allreduce(whole, other),
    }
    buffer[:] = world.rank + 1
    both()
    right = bool((buffer == world.size * (world.size + 1) / 2).all())
    buffer[:] = 0  # sums of sums would overflow
    times: dict[str, list[float]] = {name: [] for name in sides}
    repetitions = max(1, _SAMPLE_FLOATS // floats)
    for round_ in range(rounds + 1):  # the first, which touches the memory, does not count
        order = list(sides)
        for name in order[round_ % len(order) :] + order[: round_ % len(order)]:
            theirs.Barrier()
            start = time.perf_counter()
            for _ in range(repetitions):
                sides[name]()
            slowest = max(world.gather_objects(time.perf_counter() - start))
            if round_:
                times[name].append(slowest / repetitions)
    right = all(world.gather_objects(right))
    return [_row(world.size, floats, ours_name, times, right=right) for ours_name in PAIRS]


def _row(
    ranks: int, floats: int, operation: str, times: dict[str, list[float]], *, right: bool
) -> dict[str, Any]:
    ours, theirs = (statistics.median(times[name]) for name in (operation, PAIRS[operation]))
    return {
        "ranks": ranks,
        "floats": floats,
        "operation": operation,
        "against": PAIRS[operation],
        "ours_ms": ours * 1e3,
        "mpi_ms": theirs * 1e3,
        "ratio": theirs / ours,
        "right": right,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as text, one line a size and operation."""
    shares = any(row.get("of_tcp") is not None for row in rows)
    head = f"{'floats':>11}  {'ours':28} {'ms':>9}  {'MPI':20} {'ms':>9} {'ratio':>6}"
    lines = [
        f"{row['floats']:11,}  {row['operation']:28} {row['ours_ms']:9.3f}  {row['against']:20} "
        f"{row['mpi_ms']:9.3f} {row['ratio']:6.2f}{_share(row) if shares else ''}"
        f"{'' if row['right'] else '  WRONG'}"
        for row in rows
    ]
    return "\n".join([head + ("  of TCP" if shares else ""), *lines])


def _share(row: dict[str, Any]) -> str:
    return f"{'-':>8}" if row["of_tcp"] is None else f"{row['of_tcp']:8.2f}"


def verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Say whether ours is at least as fast wherever the buffer is large, and where it is slowest."""
    large = [row for row in rows if row["floats"] * 4 > LARGE_BYTES]
    if not large:
        return "no size above 1 MB"
    slowest = min(large, key=lambda row: row["ratio"])
    fast = sum(row["ratio"] >= 1 for row in large)
    return (
        f"above 1 MB: at least as fast in {fast} of {len(large)}; the lowest ratio is {slowest['ratio']:.2f} "
        f"({slowest['operation']}, {slowest['floats']:,} floats, {slowest['ranks']} ranks)"
    )


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(main())
