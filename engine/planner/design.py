"""A design point: everything about a run that decides how fast it is, but the cluster."""

from dataclasses import dataclass

from comm.collectives import CHUNK_FLOATS
from comm.scheduler import BYTES_IN_FLIGHT
from engine.graph.parallel.plan import Plan
from engine.training.rank_parameters import BUCKET_FLOATS


@dataclass(frozen=True)
class Design:
    """One way to train a network on some ranks."""

    model: str
    ranks: int
    batch: int
    """Global minibatch."""
    leaves: int
    plan: Plan
    threads: int
    """Of each rank's kernels."""
    overlap: bool = True
    prioritised: bool = True
    """Whether what the next forward needs first goes first; else first come, first served."""
    bucket_floats: int = BUCKET_FLOATS
    chunk_floats: int = CHUNK_FLOATS
    bytes_in_flight: int = BYTES_IN_FLIGHT
    conv: str = "auto"
    fuse: bool = True
