"""A recipe: everything that describes a run, read from TOML and checked field by field."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from engine.config.errors import UserError
from engine.config.toml_fields import did_you_mean, one_of, parse, read_text, shipped_names, toml_lines

KINDS = ("constant", "step", "cosine")
ALGORITHMS = ("auto", "direct")  # of convolutions: Winograd where it gains, or never
MOST_FEATURE_LEAVES = 1024
MOST_THREADS = 1024  # of a rank: more is a slip of the finger, and no host starts a million
_FOLDER = "recipes"
FLOATS_PER_KIB = 256
_MOST_KIB = 1 << 20
_LARGE = 1e30  # a float32, with room for a factor or two


@dataclass(frozen=True)
class OptimizerFields:
    """Momentum SGD."""

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class ScheduleFields:
    """The learning rate; times are in epochs, fractions allowed."""

    kind: str = "constant"
    rate: float = 0.01
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    factor: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """A whole run. Exactly one of `epochs` and `steps` is not zero."""

    model: str = "digits"
    data: str = "digits"
    augment: str = "none"
    batch: int = 64
    leaves: int = 16
    epochs: int = 0
    steps: int = 0
    seed: int = 1
    plan: str = "data"
    cluster: str = ""
    bucket_kib: int = 256
    chunk_kib: int = 1024
    shared_memory: bool = True
    conv: str = "auto"
    conv_feature_leaves: int = 1
    fuse: bool = True
    overlap: bool = True
    threads: int = 0
    evaluate_every: int = 1
    checkpoint_every: int = 1
    checkpoint_steps: int = 0
    out: str = ""
    trace: str = ""
    optimizer: OptimizerFields = field(default_factory=OptimizerFields)
    schedule: ScheduleFields = field(default_factory=ScheduleFields)

    NOT_IN_THE_BITS: ClassVar[tuple[str, ...]] = (
        "fuse",
        "overlap",
        "threads",
        "evaluate_every",
        "checkpoint_every",
        "checkpoint_steps",
        "out",
        "trace",
        "plan",
        "cluster",
        "bucket_kib",
        "chunk_kib",
        "shared_memory",
    )
    """Fields that change no weight: a resumed run may change them."""

    @property
    def data_kind(self) -> str:
        """What `data` says before the colon, behind which a folder stands: "images"."""
        return self.data.partition(":")[0]

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the minibatches of the whole run."""
        return self.steps or self.epochs * steps_per_epoch

    def check(self, models: Mapping[str, object]) -> None:
        """Raise UserError for the first field that is out of its range."""
        self._check_choices(models)
        self._check_minibatch()
        for name, value, below in (
            ("epochs", self.epochs, 2**31),
            ("steps", self.steps, 2**40),
            ("seed", self.seed, 2**63),
            ("threads", self.threads, MOST_THREADS + 1),
            ("bucket_kib", self.bucket_kib, _MOST_KIB + 1),
            ("chunk_kib", self.chunk_kib, _MOST_KIB + 1),
            ("evaluate_every", self.evaluate_every, 2**31),
            ("checkpoint_every", self.checkpoint_every, 2**31),
            ("checkpoint_steps", self.checkpoint_steps, 2**40),
            ("optimizer.momentum", self.optimizer.momentum, 1.0),
            ("optimizer.weight_decay", self.optimizer.weight_decay, _LARGE),
            ("schedule.rate", self.schedule.rate, _LARGE),
            ("schedule.warmup_epochs", self.schedule.warmup_epochs, _LARGE),
            ("schedule.factor", self.schedule.factor, 10.0),
            *(("schedule.milestones", milestone, _LARGE) for milestone in self.schedule.milestones),
        ):
            if not 0 <= value < below:  # also refuses NaN
                limit = f"at most {below - 1}" if isinstance(below, int) else f"below {below:g}"
                raise UserError(f"{name}: got {value}; must be at least 0 and {limit}")
        if self.chunk_kib == 0:
            raise UserError("chunk_kib: got 0; must be at least 1")

    def _check_choices(self, models: Mapping[str, object]) -> None:
        if self.model not in models:
            raise UserError(f'model: got "{self.model}"{did_you_mean(self.model, models)}; {one_of(models)}')
        if self.schedule.kind not in KINDS:
            hint = did_you_mean(self.schedule.kind, KINDS)
            raise UserError(f'schedule.kind: got "{self.schedule.kind}"{hint}; {one_of(KINDS)}')
        if self.conv not in ALGORITHMS:
            raise UserError(
                f'conv: got "{self.conv}"{did_you_mean(self.conv, ALGORITHMS)}; {one_of(ALGORITHMS)}'
            )

    def _check_minibatch(self) -> None:
        if self.leaves < 1 or self.leaves & (self.leaves - 1):
            raise UserError(f"leaves: got {self.leaves}; must be a power of two")
        cut = self.conv_feature_leaves
        if not 1 <= cut <= MOST_FEATURE_LEAVES or cut & (cut - 1):
            raise UserError(
                f"conv_feature_leaves: got {cut}; must be a power of two up to {MOST_FEATURE_LEAVES}"
            )
        if self.batch < 1 or self.batch % self.leaves:
            raise UserError(f"batch: got {self.batch}; must be a multiple of leaves = {self.leaves}")
        if (self.epochs > 0) == (self.steps > 0):
            raise UserError(
                f"epochs, steps: got {self.epochs} and {self.steps}; exactly one must be at least 1"
            )

    def to_toml(self) -> str:
        """Return the recipe as TOML that `read_recipe` reads back to an equal one, but for `out` and `trace`.

        Where a run was written is no part of what it computes, and must not be written over by the next.
        """
        values = {name: value for name, value in asdict(self).items() if name not in ("out", "trace")}
        return "\n".join(toml_lines(values)) + "\n"


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
    return parse_recipe(read_text(name, _FOLDER, "recipe"), name)


def parse_recipe(text: str, where: str) -> Recipe:
    """Return the recipe that TOML text describes; `where` names it in errors."""
    return parse(Recipe, text, where)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with single fields changed; a dot names a field of a table."""
    for name, value in changes.items():
        table, dot, entry = name.partition(".")
        if dot:
            recipe = replace(recipe, **{table: replace(getattr(recipe, table), **{entry: value})})
        else:
            recipe = replace(recipe, **{name: value})
    return recipe
