"""The settings that decide the form of a rank: its graph, and the sizes of its buffers."""

from dataclasses import dataclass

from engine.config.recipe import FLOATS_PER_KIB, Recipe
from engine.training.rank_parameters import BUCKET_FLOATS


@dataclass(frozen=True)
class RankSettings:
    """Settings of one rank, beside its network, its plan and its place among the ranks."""

    batch: int
    """Samples of the global minibatch."""
    threads: int
    """Kernel threads; each has working memory of its own."""
    conv: str = "auto"
    """Algorithms that convolutions may use: "auto" or "direct"."""
    conv_feature_leaves: int = 1
    """Runs of output channels into which convolutions cut the sum of backward_data."""
    fuse: bool = True
    """Whether a convolution takes in the ReLU and the pooling behind it."""
    bucket_floats: int = BUCKET_FLOATS
    accumulate: int = 1
    """Microbatches in which a rank computes its share of a minibatch, one after the other."""
    freeze: tuple[str, ...] = ()
    """Patterns of the nodes that are not trained."""
    rate_factors: tuple[tuple[str, float], ...] = ()
    """Patterns of nodes and what their learning rate is multiplied by; the first that fits counts."""


def settings_of(recipe: Recipe, threads: int) -> RankSettings:
    """Return the settings that a recipe implies for a rank with some kernel threads."""
    return RankSettings(
        batch=recipe.batch,
        threads=threads,
        conv=recipe.conv,
        conv_feature_leaves=recipe.conv_feature_leaves,
        fuse=recipe.fuse,
        bucket_floats=recipe.bucket_kib * FLOATS_PER_KIB,
        accumulate=recipe.accumulate,
        freeze=tuple(recipe.freeze),
        rate_factors=tuple(recipe.schedule.rates.items()),
    )
