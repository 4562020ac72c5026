"""The machine that a result was measured on, in general terms, with versions and date.

``python -m bench.machine`` prints it for one thread up to all cores.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np

from bench.peak import Gauge
from layers.kernels.caches import caches
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads

_TOLD = ("avx2", "fma", "avx512f", "avx512vl", "amx-tile", "neon", "sve")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def are_pinned(threads: int) -> bool:
    """Say whether a run pins so many kernel threads on this machine."""
    return threads <= cores()


def threads_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        type=int,
        default=cores(),
        metavar="N",
        help=f"kernel threads; default {cores()}, all cores that this process may use",
    )


def describe(threads: int, gauge: Gauge | None = None) -> dict[str, Any]:
    """Return the machine, the versions and the date, and the rates of a gauge that ran beside the results.

    Without a gauge there are no rates: measured at another time they would say nothing about the results.
    """
    features = llvm.get_host_cpu_features()
    cache = caches()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "architecture": platform.machine(),
        "simd": TARGET.simd,
        "features": [name for name in _TOLD if features.get(name)],
        "cores": cores(),
        "threads": threads,
        "cache_bytes": {"l1": cache.l1, "l2": cache.l2, "l3_per_core": cache.l3},
        **({} if gauge is None else _rates(gauge)),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "lockstep": metadata.version("lockstep-sgd"),
        },
    }


def _rates(gauge: Gauge) -> dict[str, float]:
    return {
        "peak_gflops": round(gauge.peak / 1e9, 1),
        "read_gbytes_per_s": round(gauge.read / 1e9, 1),
        "copy_gbytes_per_s": round(gauge.copy / 1e9, 1),
    }


def line(machine: dict[str, Any]) -> str:
    """Return a description of a machine as one line of text."""
    return (
        f"{machine['cores']} cores ({machine['simd']}), {machine['threads']} threads: "
        f"peak {machine['peak_gflops']:.0f} GFLOP/s, memory {machine['read_gbytes_per_s']:.0f} GB/s read, "
        f"{machine['copy_gbytes_per_s']:.0f} copy"
    )


def print_json(benchmark: str, machine: dict[str, Any], **fields: Any) -> None:
    """Print a result as one JSON document."""
    json.dump({"benchmark": benchmark, "machine": machine, **fields}, sys.stdout, indent=1)
    print()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.machine",
        description="Measure what the machine can do: the multiply-add peak (from registers, at the host's "
        "SIMD width) and the memory's bandwidth, for 1 thread up to all.",
    )
    threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    found = []
    for count in range(1, options.threads + 1):
        threads = Threads(count)
        found.append(describe(count, Gauge(threads)))
        threads.close()
        if not options.json:
            print(line(found[-1]), flush=True)
    if options.json:
        print_json("machine", found[-1], by_threads=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
