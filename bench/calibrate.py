"""One rank of a measurement of the machines at hand: kernels and pings, for `bench.validate_model`.

Started by mpirun: ``python -m bench.calibrate OUT DESIGN...``; a design is
``model:batch:leaves:threads:plan``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from comm import failure, mpi
from engine.graph.parallel.plan import Plan
from engine.planner.design import Design
from engine.planner.measurement.measure import measure

SECONDS = 2.0
"""For each design, and each kind of link."""


def text_of(design: Design) -> str:
    """Return what `read_design` reads."""
    return f"{design.model}:{design.batch}:{design.leaves}:{design.threads}:{design.plan}"


def read_design(text: str, ranks: int) -> Design:
    """Return the design point that `text_of` was called on."""
    model, batch, leaves, threads, plan = text.split(":")
    return Design(model, ranks, int(batch), int(leaves), Plan.parse(plan), int(threads))


def main(arguments: Sequence[str]) -> None:
    """Measure; rank 0 writes the cluster."""
    world = mpi.world()
    failure.install(world)
    out, *texts = arguments
    designs = [read_design(text, world.size) for text in texts]
    found = measure(world, designs, name="here", seconds=SECONDS)
    if world.rank == 0:
        Path(out).write_text(found.to_toml(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
