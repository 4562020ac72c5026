"""A recipe: the description of a whole run, read from TOML, changed by options and checked field by field."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from engine.config.arguments import check_text
from engine.config.errors import UserError
from engine.config.paths import function_in_file
from engine.config.settings import Setting, all_settings, check_settings, meant
from engine.config.toml_fields import dumps, parse, read_text, shipped_names, to_table
from engine.config.wording import did_you_mean, one_of

OPTIMIZERS = ("sgd", "adamw", "lars", "lamb")
ENDING_KINDS = ("cosine", "polynomial", "exponential", "one_cycle")
"""Schedules in which every rate depends on the length of the run."""
KINDS = ("constant", "step", *ENDING_KINDS)
ALGORITHMS = ("auto", "direct")  # of convolutions: Winograd where it gains, or never
PRECISIONS = ("fp32", "bf16")
MOST_FEATURE_LEAVES = 1024
MOST_MICROBATCHES = 1 << 20  # of a rank, which has as many leaves at least
MOST_THREADS = 1024  # of a rank: more is a slip of the finger, and no host starts a million
_FOLDER = "recipes"
FLOATS_PER_KIB = 256
_MOST_KIB = 1 << 20
_MOST_STEPS = (1 << 40) - 1
_MOST_EPOCHS = (1 << 31) - 1
_MOST_POWER = 100
_LARGE = 1e30  # a float32, with room for a factor or two
_MOST_FACTOR = 1e6  # such a factor
_LEAST_EPS = 1e-30  # a float32 that is not 0, with room for a root
_LEAST_CROP = 0.1
_LEAST_SHARE = 1e-30
BALANCED = "balanced"
"""By the inverse of the number of samples that a class has."""
WEIGHTINGS = ("none", BALANCED)
SAMPLINGS = ("shuffled", BALANCED)
_METRICS = ("test_accuracy", "test_loss")
_OFF = "off"
STOP, SKIP, IGNORE = "stop", "skip", "ignore"
"""What `on_nan` may be, and `on_bad_sample` without the last."""
TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Programs that a run's figures may be written for; each may have a place behind a colon."""
_KEPT = ((True, _METRICS[0]), ("on", _METRICS[0]), (False, _OFF), ("none", _OFF))

TRAINED = "what is trained"
DATA = "data"
SCHEDULE = "optimizer and schedule"
RUNNING = "how it runs"
FILES = "files"
HEADINGS = {
    TRAINED: "",
    DATA: "",
    SCHEDULE: "",
    RUNNING: "No bit of the weights depends on these.",
    FILES: "",
}
"""Headings of the options in their order, each with a sentence about it."""


@dataclass(frozen=True)
class OptimizerFields:
    """How gradients become steps: momentum SGD, or another rule."""

    kind: Annotated[
        str, Setting("rule by which gradients change weights", SCHEDULE, "optimizer", choices=OPTIMIZERS)
    ] = "sgd"
    momentum: Annotated[
        float, Setting("momentum of sgd and lars", SCHEDULE, metavar="M", least=0, below=1.0)
    ] = 0.9
    nesterov: Annotated[bool, Setting("on: Nesterov's momentum, of sgd", SCHEDULE)] = False
    betas: Annotated[
        tuple[float, ...],
        Setting(
            "adamw, lamb: decay of the averages of gradients and of their squares",
            SCHEDULE,
            metavar="B1,B2",
            least=0,
            below=1.0,
        ),
    ] = (0.9, 0.999)
    eps: Annotated[
        float,
        Setting(
            "adamw, lamb: added to the root of the average square; 0: 1e-8 and 1e-6",
            SCHEDULE,
            metavar="X",
            least=0,
            below=1.0,
        ),
    ] = 0.0
    trust_coefficient: Annotated[
        float,
        Setting(
            "lars: a tensor's step over the length of its weights",
            SCHEDULE,
            metavar="X",
            above=0,
            below=_LARGE,
        ),
    ] = 1e-3
    weight_decay: Annotated[
        float,
        Setting(
            "L2 weight decay; with adamw and lamb apart from the gradients",
            SCHEDULE,
            metavar="W",
            least=0,
            below=_LARGE,
        ),
    ] = 0.0
    decay_exempt: Annotated[
        tuple[str, ...],
        Setting(
            "parameters that do not decay, nor have lars's and lamb's own rate: *.bias,norm*",
            SCHEDULE,
            metavar="PATTERN,PATTERN",
        ),
    ] = ()
    clip_norm: Annotated[
        float,
        Setting(
            "longest norm of all gradients together, to which longer ones are scaled; 0: any",
            SCHEDULE,
            metavar="X",
            least=0,
            below=_LARGE,
        ),
    ] = 0.0

    def check(self) -> None:
        """Raise UserError where fields do not go together."""
        if len(self.betas) != 2:
            raise UserError(f"optimizer.betas: got {list(self.betas)}; must be two numbers, as [0.9, 0.999]")
        if self.nesterov and self.kind != "sgd":
            raise UserError(f'optimizer.nesterov: got true with kind = "{self.kind}"; must be false')
        if 0 < self.eps < _LEAST_EPS:
            raise UserError(f"optimizer.eps: got {self.eps}; must be 0, or at least {_LEAST_EPS}")
        if 0 < self.clip_norm < _LEAST_EPS:
            raise UserError(f"optimizer.clip_norm: got {self.clip_norm}; must be 0, or at least {_LEAST_EPS}")


@dataclass(frozen=True)
class ScheduleFields:
    """The learning rate; times are in epochs, fractions allowed."""

    kind: Annotated[
        str, Setting("course of the learning rate, after the warm-up", SCHEDULE, "schedule", choices=KINDS)
    ] = "constant"
    rate: Annotated[
        float,
        Setting("learning rate, at its highest", SCHEDULE, "lr", metavar="RATE", least=0, below=_LARGE),
    ] = 0.01
    warmup_epochs: Annotated[
        float, Setting("epochs in which the rate rises from 0", SCHEDULE, metavar="X", least=0, below=_LARGE)
    ] = 0.0
    milestones: Annotated[
        tuple[float, ...],
        Setting("step: epochs after which the rate changes, 30,50", SCHEDULE, least=0, below=_LARGE),
    ] = ()
    factor: Annotated[
        float,
        Setting("step: what the rate is multiplied by", SCHEDULE, metavar="X", least=0, below=10.0),
    ] = 0.1
    power: Annotated[
        int,
        Setting(
            "polynomial: exponent of the share of steps that are left",
            SCHEDULE,
            "poly-power",
            metavar="N",
            least=1,
            most=_MOST_POWER,
        ),
    ] = 1
    start: Annotated[
        float,
        Setting(
            "one_cycle: share of the rate to begin with",
            SCHEDULE,
            "start-share",
            metavar="X",
            least=0,
            most=1.0,
        ),
    ] = 0.04
    peak_epochs: Annotated[
        float,
        Setting(
            "one_cycle: epochs after the warm-up until the rate is at its highest",
            SCHEDULE,
            metavar="X",
            least=0,
            below=_LARGE,
        ),
    ] = 0.0
    end: Annotated[
        float,
        Setting(
            "one_cycle, polynomial, exponential: share of the rate to end with; above 1 an exponential rises",
            SCHEDULE,
            "end-share",
            metavar="X",
            least=0,
            below=_LARGE,
        ),
    ] = 0.0
    rates: Annotated[
        dict[str, float],
        Setting(
            "layers with a rate of their own, as a factor of it: fc*=10; may be repeated, the first that "
            "fits a layer counts",
            SCHEDULE,
            "rate-factor",
            metavar="PATTERN=X",
            above=0,
            below=_MOST_FACTOR,
        ),
    ] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError where fields do not go together."""
        if self.kind == "exponential":
            if self.end < _LEAST_SHARE:
                raise UserError(
                    f'schedule.end: got {self.end} with kind = "exponential"; must be at least {_LEAST_SHARE}'
                )
            if self.rate * self.end >= _LARGE:
                raise UserError(
                    f"schedule.end: got {self.end} with rate = {self.rate}; the last rate must be below "
                    f"{_LARGE:g}"
                )
        elif self.end > 1:
            raise UserError(f'schedule.end: got {self.end} with kind = "{self.kind}"; must be at most 1')


@dataclass(frozen=True)
class Recipe:
    """A whole run. Exactly one of `epochs` and `steps` is not zero."""

    model: Annotated[
        str,
        Setting(
            "a network of engine/models, or a function of yours: FILE.py:function", TRAINED, metavar="NAME"
        ),
    ] = "digits"
    model_arguments: Annotated[
        dict[str, Any], Setting("argument of that function; may be repeated", TRAINED, arguments_of="model")
    ] = field(default_factory=dict)
    data: Annotated[
        str, Setting("training and test samples", DATA, metavar="DATA", same_on_all_ranks=False)
    ] = "digits"
    data_arguments: Annotated[
        dict[str, Any], Setting("argument of your own data; may be repeated", DATA, arguments_of="data")
    ] = field(default_factory=dict)
    augment: Annotated[
        str,
        Setting(
            "none, or words joined by commas: flip or alternating_flip; crop<N>, shift<N> or resized_crop; "
            "jitter<X>, hue<X>, randaugment<N>x<M>, erase<X>, cutout<N>",
            DATA,
            metavar="LIST",
        ),
    ] = "none"
    centre_crop: Annotated[
        float,
        Setting(
            "share of the shorter side of stored images that is kept where no part at random is taken, as in "
            "tests: 0.875 is 224 of 256 pixels",
            DATA,
            metavar="X",
            least=_LEAST_CROP,
            most=1.0,
        ),
    ] = 1.0
    mixup: Annotated[
        float,
        Setting(
            "mix samples by shares of Beta(X, X): 1, 0.5, 0.2; 0: not", DATA, metavar="X", least=0, most=1.0
        ),
    ] = 0.0
    cutmix: Annotated[
        float,
        Setting(
            "put boxes of other images into each, by shares of Beta(X, X); 0: not",
            DATA,
            metavar="X",
            least=0,
            most=1.0,
        ),
    ] = 0.0
    sampling: Annotated[
        str | tuple[float, ...],
        Setting(
            "shuffled: an epoch has each training sample once; balanced: they are drawn, all classes alike; "
            "2,1,0.5: drawn by a weight of each class",
            DATA,
            metavar="WEIGHTS",
            choices=SAMPLINGS,
            least=0,
            below=_LARGE,
        ),
    ] = SAMPLINGS[0]
    shuffle_window: Annotated[
        int,
        Setting(
            "samples of a window: data is read in the order in which it lies, each rank its own part, and "
            "shuffled in windows, as large files on slow disks want it; 0: anywhere",
            DATA,
            least=0,
            most=1 << 40,
        ),
    ] = 0
    batch: Annotated[int, Setting("global minibatch, over all ranks", DATA)] = 64
    leaves: Annotated[
        int,
        Setting(
            "units of the reproducible sum: a power of two that divides the minibatch",
            DATA,
            power_of_two=True,
        ),
    ] = 16
    norm_groups: Annotated[
        int,
        Setting(
            "batch normalisation: groups of samples that share statistics, a power of two up to the leaves; "
            "1: all samples; 0: as many as leave each 32 samples",
            TRAINED,
            least=0,
        ),
    ] = 0
    epochs: Annotated[int, Setting("passes over the training set", SCHEDULE, least=0, most=_MOST_EPOCHS)] = 0
    steps: Annotated[int, Setting("minibatches, instead of epochs", SCHEDULE, least=0, most=_MOST_STEPS)] = 0
    label_smoothing: Annotated[
        float,
        Setting(
            "share of each label that is spread over all classes, in training",
            SCHEDULE,
            metavar="X",
            least=0,
            below=1.0,
        ),
    ] = 0.0
    class_weights: Annotated[
        str | tuple[float, ...],
        Setting(
            "2,1,0.5: weights of the classes in the loss, in training; balanced: by the inverse of their "
            "samples",
            SCHEDULE,
            metavar="WEIGHTS",
            choices=WEIGHTINGS,
            least=0,
            below=_LARGE,
        ),
    ] = WEIGHTINGS[0]
    ema: Annotated[
        float,
        Setting(
            "decay of an average of the weights, which is evaluated and saved in their place: 0.999; 0: none",
            SCHEDULE,
            metavar="D",
            least=0,
            below=1.0,
        ),
    ] = 0.0
    seed: Annotated[
        int, Setting("of weights, order and augmentation", TRAINED, least=0, most=(1 << 63) - 1)
    ] = 1
    plan: Annotated[
        str,
        Setting(
            "data: all weights on every rank; fc6=2,fc7=2: pairs share these layers; auto",
            RUNNING,
            metavar="PLAN",
            changes_bits=False,
        ),
    ] = "data"
    cluster: Annotated[
        str,
        Setting(
            "for --plan auto: see python -m engine.plan --help",
            RUNNING,
            metavar="NAME_OR_FILE",
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = ""
    bucket_kib: Annotated[
        int,
        Setting(
            "the most KiB of a message that small layers share",
            RUNNING,
            least=0,
            most=_MOST_KIB,
            changes_bits=False,
        ),
    ] = 256
    chunk_kib: Annotated[
        int,
        Setting(
            "KiB of the pieces into which messages are cut",
            RUNNING,
            least=1,
            most=_MOST_KIB,
            changes_bits=False,
        ),
    ] = 1024
    shared_memory: Annotated[
        bool,
        Setting(
            "on: ranks of one host read each other's gradients and weights; off: they send them",
            RUNNING,
            changes_bits=False,
        ),
    ] = True
    conv: Annotated[
        str,
        Setting("convolutions; auto: by Winograd where it gains, direct: never", TRAINED, choices=ALGORITHMS),
    ] = "auto"
    precision: Annotated[
        str,
        Setting(
            "bf16: products of bf16 values, with sums and weights in fp32; the same bits on every CPU",
            TRAINED,
            choices=PRECISIONS,
        ),
    ] = "fp32"
    conv_feature_leaves: Annotated[
        int,
        Setting(
            "parts into which a plan may split a convolution: a power of two; part of the bits",
            TRAINED,
            most=MOST_FEATURE_LEAVES,
            power_of_two=True,
        ),
    ] = 1
    accumulate: Annotated[
        int,
        Setting(
            "microbatches, a power of two, in which a rank computes its minibatch, with memory for one",
            RUNNING,
            most=MOST_MICROBATCHES,
            power_of_two=True,
            changes_bits=False,
        ),
    ] = 1
    fuse: Annotated[
        bool,
        Setting(
            "on: neighbouring layers in one pass over memory, such as a convolution and its ReLU",
            RUNNING,
            changes_bits=False,
        ),
    ] = True
    overlap: Annotated[
        bool,
        Setting(
            "on: communicate beside the backward pass; off: after each layer",
            RUNNING,
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = True
    threads: Annotated[
        int,
        Setting(
            "kernel threads of each rank; 0: its fair share of the cores, but one of more than 8 is left",
            RUNNING,
            least=0,
            most=MOST_THREADS,
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = 0
    data_threads: Annotated[
        int,
        Setting(
            "threads of each rank that read and decode samples; 0: as many as its kernels leave cores, but 4 "
            "where it has as many",
            RUNNING,
            least=0,
            most=MOST_THREADS,
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = 0
    init: Annotated[
        str,
        Setting(
            "begin with the weights of a run, a checkpoint, a .safetensors or a .pth: what fits by name",
            TRAINED,
            metavar="WEIGHTS",
            same_on_all_ranks=False,
        ),
    ] = ""
    freeze: Annotated[
        tuple[str, ...],
        Setting("layers that are not trained: conv1,conv2 or conv*", TRAINED, metavar="PATTERN,PATTERN"),
    ] = ()
    evaluate_every: Annotated[
        int,
        Setting(
            "epochs between evaluations; 0: at the end only",
            RUNNING,
            least=0,
            most=_MOST_EPOCHS,
            changes_bits=False,
        ),
    ] = 1
    hash_every: Annotated[
        int,
        Setting(
            "steps between hashes of the weights in metrics.jsonl, for engine.audit; 0: none",
            FILES,
            least=0,
            most=_MOST_STEPS,
            changes_bits=False,
        ),
    ] = 0
    buddies: Annotated[
        int,
        Setting(
            "under mpirun --with-ft ulfm: how many ranks keep a copy of what each rank alone has, for the "
            "others to go on without it; 0: none",
            RUNNING,
            least=0,
            changes_bits=False,
        ),
    ] = 1
    buddy_every: Annotated[
        int,
        Setting(
            "steps between such copies: so many are computed again after a loss, at most",
            RUNNING,
            least=1,
            most=_MOST_STEPS,
            changes_bits=False,
        ),
    ] = 4
    lost_after: Annotated[
        float,
        Setting(
            "where ranks go on without others: seconds after which one that is stopped (SIGSTOP) is ended, "
            "and lost; 0: never",
            RUNNING,
            least=0,
            changes_bits=False,
        ),
    ] = 60.0
    stalled_after: Annotated[
        float,
        Setting(
            "seconds without any progress of a rank after which the run ends, with what each rank says of "
            "itself; 0: never",
            RUNNING,
            least=0,
            changes_bits=False,
        ),
    ] = 600.0
    on_bad_sample: Annotated[
        str,
        Setting(
            "when a sample cannot be read: stop the run; or skip it: in training another one, drawn by its "
            "key, takes its place, and tests leave it out",
            RUNNING,
            choices=(STOP, SKIP),
            changes_bits=False,  # while samples can be read; a run that has stopped may go on with another
        ),
    ] = STOP
    on_nan: Annotated[
        str,
        Setting(
            "when loss or gradients are NaN or infinite: stop the run; skip the step, which then changes "
            "nothing (updates wait for all gradients, as for clip_norm); or ignore it",
            RUNNING,
            choices=(STOP, SKIP, IGNORE),
            changes_bits=False,  # while numbers are finite; a run that has stopped may go on with another
        ),
    ] = STOP
    verify_every: Annotated[
        int,
        Setting(
            "steps between comparisons of the ranks' copies of the weights, which end a run whose memory has "
            "gone wrong; 0: none",
            RUNNING,
            least=0,
            most=_MOST_STEPS,
            changes_bits=False,
        ),
    ] = 0
    checkpoint_every: Annotated[
        int,
        Setting("epochs between checkpoints; 0: none", FILES, least=0, most=_MOST_EPOCHS, changes_bits=False),
    ] = 1
    checkpoint_steps: Annotated[
        int,
        Setting(
            "steps between checkpoints, besides; 0: none",
            FILES,
            least=0,
            most=_MOST_STEPS,
            changes_bits=False,
        ),
    ] = 0
    keep_checkpoints: Annotated[
        int,
        Setting(
            "newest checkpoints that are kept; older ones are removed",
            FILES,
            least=1,
            most=_MOST_STEPS,
            changes_bits=False,
        ),
    ] = 2
    keep_best: Annotated[
        str,
        Setting(
            "keep the one with the best figure of the test set too; checkpoints/best.json names it",
            FILES,
            choices=(_OFF, *_METRICS),
            formerly=_KEPT,
            changes_bits=False,
        ),
    ] = _OFF
    stop_after: Annotated[
        int,
        Setting(
            "end the run after so many evaluations without a better one, by keep_best or else the test "
            "accuracy; 0: never",
            SCHEDULE,
            least=0,
            most=_MOST_EPOCHS,
            changes_bits=False,
        ),
    ] = 0
    out: Annotated[
        str,
        Setting(
            "folder of the run; default runs/<recipe>-<time>",
            FILES,
            metavar="DIR",
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = ""
    trace: Annotated[
        str,
        Setting(
            "write when each rank computed, sent, waited and read; for ui.perfetto.dev, engine.explain",
            FILES,
            metavar="FILE",
            changes_bits=False,
        ),
    ] = ""
    track: Annotated[
        tuple[str, ...],
        Setting(
            "write the run's figures for other programs too: tensorboard[:FOLDER], mlflow[:URI or FOLDER], "
            "wandb[:PROJECT]",
            FILES,
            metavar="TRACKER,TRACKER",
            changes_bits=False,
            same_on_all_ranks=False,
        ),
    ] = ()
    optimizer: OptimizerFields = field(default_factory=OptimizerFields)
    schedule: ScheduleFields = field(default_factory=ScheduleFields)

    NOT_IN_THE_BITS: ClassVar[tuple[str, ...]]
    """Fields that change no weight: a resumed run may change them."""
    MAY_DIFFER: ClassVar[tuple[str, ...]]
    """Fields that may differ between ranks, which compare samples, weights and the chosen plan instead."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_best", meant(self.keep_best, Setting(formerly=_KEPT)))

    @property
    def data_kind(self) -> str:
        """The part of `data` before the folder, "images"; all of it where it is a user's function."""
        return self.data if function_in_file(self.data) else self.data.partition(":")[0]

    @property
    def metric(self) -> str:
        """The figure of evaluations by which one is better than another; empty where nobody asks."""
        return self.keep_best if self.keep_best != _OFF else _METRICS[0] if self.stop_after else ""

    @property
    def keeps_best(self) -> bool:
        """Whether the best checkpoint is kept."""
        return self.keep_best != _OFF

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the minibatches of the whole run."""
        return self.steps or self.epochs * steps_per_epoch

    def check(self, models: Mapping[str, object]) -> None:
        """Raise UserError for the first field that is out of its range.

        `models` are the shipped ones; a function in a user's file is not looked for here.
        """
        check_settings(self)
        self.optimizer.check()
        self.schedule.check()
        if self.model not in models and function_in_file(self.model) is None:
            hint = did_you_mean(self.model, models)
            raise UserError(f'model: got "{self.model}"{hint}; {one_of(models)}, or FILE.py:function')
        if self.batch < 1 or self.batch % self.leaves:
            raise UserError(f"batch: got {self.batch}; must be a multiple of leaves = {self.leaves}")
        if self.shuffle_window and self.sampling != SAMPLINGS[0]:
            raise UserError(
                f"shuffle_window: got {self.shuffle_window} with sampling = {self.sampling!r}, which draws "
                f'samples anywhere; must be 0, or sampling "{SAMPLINGS[0]}"'
            )
        _check_trackers(self.track)
        groups = self.norm_groups
        if groups & (groups - 1) or groups > self.leaves:
            raise UserError(
                f"norm_groups: got {groups}; must be a power of two up to leaves = {self.leaves}, or 0"
            )
        if (self.epochs > 0) == (self.steps > 0):
            raise UserError(
                f"epochs, steps: got {self.epochs} and {self.steps}; exactly one must be at least 1"
            )
        course = self.schedule
        rise = course.warmup_epochs + course.peak_epochs
        if course.kind == "one_cycle" and self.epochs and rise > self.epochs:
            most = max(0, self.epochs - course.warmup_epochs)
            raise UserError(
                f"schedule.peak_epochs: got {course.peak_epochs} in a run of epochs = {self.epochs}; must be "
                f"at most {most}, what the warm-up leaves"
            )
        if self.stop_after and not self.evaluate_every:
            raise UserError(
                f"evaluate_every: got 0 with stop_after = {self.stop_after}, which compares evaluations; "
                "must be at least 1"
            )

    def to_toml(self) -> str:
        """Return the recipe as TOML that `read_recipe` reads back to an equal one, but for `out` and `trace`.

        Where a run was written is no part of what it computes, and must not be written over by the next.
        """
        return dumps({name: entry for name, entry in to_table(self).items() if name not in ("out", "trace")})


def _check_trackers(wanted: tuple[str, ...]) -> None:
    names = [each.partition(":")[0] for each in wanted]
    for name, each in zip(names, wanted, strict=True):
        if name not in TRACKERS:
            raise UserError(f'track: got "{each}"{did_you_mean(name, TRACKERS)}; {one_of(TRACKERS)}')
        if names.count(name) > 1:
            raise UserError(f"track: got {name} more than once; must be there once")


Recipe.NOT_IN_THE_BITS = tuple(each.path for each in all_settings(Recipe) if not each.setting.changes_bits)
Recipe.MAY_DIFFER = tuple(each.path for each in all_settings(Recipe) if not each.setting.same_on_all_ranks)


def shipped() -> list[str]:
    """Return the names of the recipes that come with the engine."""
    return shipped_names(_FOLDER)


def read_recipe(name: str) -> Recipe:
    """Read a shipped recipe by name, or a TOML file by path.

    Raises
    ------
    UserError
        No such recipe, text that is not TOML, an unknown field, or a value of the wrong type.
    """
    check_text("recipe", name)
    return parse_recipe(read_text(name, _FOLDER, "recipe"), name)


def parse_recipe(text: str, where: str) -> Recipe:
    """Return the recipe that TOML text describes; `where` names the text in errors."""
    return parse(Recipe, text, where)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with single fields changed; a dot names a field of a table, or one argument.

    Another model, or data of another kind, begins without the arguments that the recipe had for the old one.
    """
    for given in ({"model": recipe.model, "data": recipe.data}, changes):
        for name in ("model", "data"):
            if name in given:
                check_text(name, given[name])
    changed = _renamed(recipe, changes)
    for name, value in changes.items():
        table, dot, entry = name.partition(".")
        if not dot:
            changed = replace(changed, **{name: value})
            continue
        held = getattr(changed, table)
        inside: Any = held | {entry: value} if isinstance(held, dict) else replace(held, **{entry: value})
        changed = replace(changed, **{table: inside})
    return changed


def _renamed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the model and data of the changes, without arguments that no longer belong."""
    changed = replace(recipe, **{name: changes[name] for name in ("model", "data") if name in changes})
    if changed.model != recipe.model:
        changed = replace(changed, model_arguments={})
    if changed.data_kind != recipe.data_kind:
        changed = replace(changed, data_arguments={})
    return changed
