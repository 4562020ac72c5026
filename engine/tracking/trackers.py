"""All trackers by the names that users give them: "tensorboard", "mlflow:http://host:5000"."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from engine.config.errors import UserError
from engine.tracking import mlflow_tracker, tensorboard_tracker, wandb_tracker
from engine.tracking.tracker import About, Tracker


@dataclass(frozen=True)
class _Kind:
    make: Callable[[About], Tracker]
    library: str
    """What is imported."""
    package: str
    """What pip calls it; the extra is called as the tracker."""
    configure: Callable[[], None] = lambda: None


_KINDS = {
    tensorboard_tracker.KIND: _Kind(tensorboard_tracker.TensorBoardTracker, "tensorboardX", "tensorboardX"),
    mlflow_tracker.KIND: _Kind(
        mlflow_tracker.MlflowTracker, "mlflow", "mlflow-skinny", mlflow_tracker.configure
    ),
    wandb_tracker.KIND: _Kind(wandb_tracker.WandbTracker, "wandb", "wandb", wandb_tracker.configure),
}


def load(wanted: Iterable[str]) -> None:
    """Import the libraries of all trackers in a recipe's list.

    Raises
    ------
    UserError
        One is not installed.
    """
    for each in wanted:
        name = each.partition(":")[0]
        kind = _KINDS[name]
        kind.configure()
        try:
            import_module(kind.library)
        except ImportError as error:
            why = "is not installed" if error.name == kind.library else f"cannot be imported: {error}"
            raise UserError(
                f"track: {kind.package} {why}; install it with pip install 'lockstep-sgd[{name}]'"
            ) from error


def make(name: str, about: About) -> Tracker:
    """Return a tracker of one run, which does nothing before it begins.

    Where another rank than that of `load` goes on with a run, its library is imported only then.
    """
    kind = _KINDS[name]
    kind.configure()
    return kind.make(about)
