"""List the results reported by Das et al. 2016 (arXiv:1602.06709); no prediction uses them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One result of the paper."""

    model: str
    cluster: str
    """The shipped cluster nearest to the one of the run."""
    nodes: int
    batch: int
    speed_up: float
    """Speed-up over one node."""
    samples_per_second: float | None = None
    """Throughput of all nodes together; None where unknown."""


PAPER = (
    Reported("vgg_a", "cori_phase1", 128, 512, 90.0, 2510.0),
    Reported("vgg_a", "cori_phase1", 64, 256, 53.0),
    Reported("overfeat_fast", "cori_phase1", 64, 256, 42.0),
    Reported("cd_dnn", "endeavor_fdr", 16, 1024, 6.5, 29500.0),
    Reported("vgg_a", "aws_c4_8xlarge", 16, 256, 14.2, 397.0),
    Reported("overfeat_fast", "aws_c4_8xlarge", 16, 256, 11.9, 1027.0),
)
"""The five results that the paper claims, and OverFeat-FAST on Ethernet, whose minibatch is an assumption."""

SINGLE_NODE = {
    ("vgg_a", "cori_phase1"): (28.0, 33.0),
    ("overfeat_fast", "cori_phase1"): (90.0, 95.0),
    ("cd_dnn", "endeavor_fdr"): (4600.0, 4600.0),
    ("vgg_a", "aws_c4_8xlarge"): (397.0 / 14.2, 397.0 / 14.2),
    ("overfeat_fast", "aws_c4_8xlarge"): (1027.0 / 11.9, 1027.0 / 11.9),
}
"""Training samples/s of one node, lowest and highest; on Ethernet throughput over speed-up."""


def reported(model: str, cluster: str, batch: int) -> dict[int, float]:
    """Return the reported speed-ups of a network, cluster and minibatch, by nodes."""
    return {
        each.nodes: each.speed_up
        for each in PAPER
        if (each.model, each.cluster, each.batch) == (model, cluster, batch)
    }
