"""The settings that decide the form of a rank: its graph, and the sizes of its buffers."""

from dataclasses import dataclass

from engine.config.recipe import FLOATS_PER_KIB, SKIP, Recipe
from engine.training.bucket import USUAL_FORM
from engine.training.optimizer import optimizer_of
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.update import UpdateForm
from layers.precision import BF16, FP32
from layers.products import Unit, unit_of_process


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
    norm_groups: int = 0
    """Groups of samples by which batch normalisations compute; 0: see `norm_groups.groups_asked`."""
    fuse: bool = True
    """Whether a convolution takes in the ReLU and the pooling behind it."""
    bucket_floats: int = BUCKET_FLOATS
    accumulate: int = 1
    """Microbatches in which a rank computes its share of a minibatch, one after the other."""
    freeze: tuple[str, ...] = ()
    """Patterns of the nodes that are not trained."""
    rate_factors: tuple[tuple[str, float], ...] = ()
    """Patterns of nodes and what their learning rate is multiplied by; the first that fits counts."""
    decay_exempt: tuple[str, ...] = ()
    """Patterns of parameters whose weights do not decay."""
    form: UpdateForm = USUAL_FORM
    clip_norm: float = 0.0
    """What gradients are clipped to; 0: they are not."""
    skips: bool = False
    """Whether a step whose gradients are not finite changes nothing."""
    ema: float = 0.0
    """Decay of the averages of weights; 0: there are none."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    buddies: int = 0
    """Ranks that keep a copy of each rank's strips; 0: none."""
    data_threads: int = 1
    """Threads that read samples."""
    precision: str = FP32
    """Of what products read and layers hand on."""
    unit: Unit = Unit.REGISTERS
    """What makes products of bf16; it changes no bit."""


def settings_of(
    recipe: Recipe, threads: int, *, data_threads: int = 1, survives: bool = False
) -> RankSettings:
    """Return the settings that a recipe implies for a rank with some kernel threads.

    Parameters
    ----------
    data_threads
        That read samples.
    survives
        Whether ranks can go on when others die: only then copies for that are kept.
    """
    return RankSettings(
        batch=recipe.batch,
        threads=threads,
        data_threads=data_threads,
        conv=recipe.conv,
        conv_feature_leaves=recipe.conv_feature_leaves,
        norm_groups=recipe.norm_groups,
        fuse=recipe.fuse,
        bucket_floats=recipe.bucket_kib * FLOATS_PER_KIB,
        accumulate=recipe.accumulate,
        freeze=tuple(recipe.freeze),
        rate_factors=tuple(recipe.schedule.rates.items()),
        decay_exempt=tuple(recipe.optimizer.decay_exempt),
        form=form_of(recipe),
        clip_norm=recipe.optimizer.clip_norm,
        skips=recipe.on_nan == SKIP,
        ema=recipe.ema,
        label_smoothing=recipe.label_smoothing,
        buddies=recipe.buddies if survives else 0,
        precision=recipe.precision,
        unit=unit_of_process() if recipe.precision == BF16 else Unit.REGISTERS,
    )


def form_of(recipe: Recipe) -> UpdateForm:
    """Return the form of the update that a recipe asks for."""
    optimizer = optimizer_of(recipe.optimizer)
    return UpdateForm(
        optimizer.moments,
        per_tensor=optimizer.per_tensor,
        holds_back=recipe.optimizer.clip_norm > 0 or recipe.on_nan == SKIP,
        averages=recipe.ema > 0,
    )
