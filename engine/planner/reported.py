"""What Das et al. 2016 (arXiv:1602.06709) report of their runs: nothing here is used in a prediction."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One result of the paper."""

    model: str
    cluster: str
    """The shipped description that comes nearest."""
    nodes: int
    batch: int
    speed_up: float
    """Over one node."""
    samples_per_second: float | None = None
    """Of all nodes, where it is known."""


PAPER = (
    Reported("vgg_a", "cori_phase1", 128, 512, 90.0, 2510.0),
    Reported("vgg_a", "cori_phase1", 64, 256, 53.0),
    Reported("overfeat_fast", "cori_phase1", 64, 256, 42.0),
    Reported("cd_dnn", "endeavor_fdr", 16, 1024, 6.5, 29500.0),
    Reported("vgg_a", "aws_c4_8xlarge", 16, 256, 14.2, 397.0),
    Reported("overfeat_fast", "aws_c4_8xlarge", 16, 256, 11.9, 1027.0),
)
"""The five rows of the paper's claims, and OverFeat-FAST on Ethernet, where the minibatch is not known."""

SINGLE_NODE = {
    ("vgg_a", "cori_phase1"): (28.0, 33.0),
    ("overfeat_fast", "cori_phase1"): (90.0, 95.0),
    ("cd_dnn", "endeavor_fdr"): (4600.0, 4600.0),
    ("vgg_a", "aws_c4_8xlarge"): (397.0 / 14.2, 397.0 / 14.2),
    ("overfeat_fast", "aws_c4_8xlarge"): (1027.0 / 11.9, 1027.0 / 11.9),
}
"""Training samples/s of one node, from and to; on Ethernet the quotient of the two figures."""


def reported(model: str, cluster: str, batch: int) -> dict[int, float]:
    """Return the speed-ups that the paper has for a network, cluster and minibatch, by nodes."""
    return {
        each.nodes: each.speed_up
        for each in PAPER
        if (each.model, each.cluster, each.batch) == (model, cluster, batch)
    }
