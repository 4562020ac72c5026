"""MLflow: a run on a tracking server, or in a folder on this machine."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.config.paths import expand
from engine.tracking.notes import note, noted
from engine.tracking.tracker import DONE, FAILED, INTERRUPTED, About, Line

KIND = "mlflow"
EXPERIMENT = "lockstep"
"""Where MLFLOW_EXPERIMENT_NAME names no other."""
_STATUS = {DONE: "FINISHED", INTERRUPTED: "KILLED", FAILED: "FAILED"}
_USUAL = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # without, recent versions refuse a folder
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # what fails is kept, and tried again later
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of MLflow's that are made where the user has not made them."""
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # of one request
_LONGEST_PARAMETER = 500  # which every version takes


def configure() -> None:
    """Make MLflow's settings, before it is imported."""
    for name, value in _USUAL.items():
        os.environ.setdefault(name, value)


class MlflowTracker:
    """Writes metrics by "step/loss", the recipe as parameters, and results as "result/..." and tags."""

    def __init__(self, about: About):
        self._about = about
        self._client: Any = None
        self._run = ""
        self._last = dict[str, int]()  # step that there is of each metric

    def begin(self) -> int:
        """Make a run, or find the one that goes on, and what it has: steps are never there twice."""
        from mlflow import MlflowClient  # noqa: PLC0415 -- an extra: only its users need it

        about = self._about
        self._client = MlflowClient(tracking_uri=self._uri())
        former = str(noted(about.folder, KIND, about.place).get("run_id", ""))
        run = None if about.is_changed and not self._run else self._found(self._run or former)
        if run is None:
            run = self._made(former)
        self._run = run.info.run_id
        note(about.folder, KIND, about.place, {"run_id": self._run})
        self._client.update_run(self._run, status="RUNNING")
        self._write_recipe(run.data.params)
        self._last = {
            name: max(
                (int(each.step) for each in self._client.get_metric_history(self._run, name)), default=0
            )
            for name in run.data.metrics
        }
        return self._last.get("step/loss", 0)

    def write(self, lines: Sequence[Line]) -> None:
        """Write what is not there yet."""
        from mlflow.entities import Metric  # noqa: PLC0415 -- an extra

        metrics = [
            Metric(name, value, int(line.time * 1000), line.step)
            for line in lines
            for name, value in line.values.items()
            if line.step > self._last.get(name, -1)
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[first : first + _MOST_METRICS])

    def end(self, ending: str, results: Mapping[str, Any]) -> None:
        """Write results: numbers as metrics, texts as tags."""
        from mlflow.entities import RunTag  # noqa: PLC0415 -- an extra

        texts = {name: value for name, value in results.items() if isinstance(value, str) and value}
        tags = [RunTag(name, value) for name, value in {**texts, "ended": ending}.items()]
        self._client.log_batch(self._run, tags=tags)
        self.write(list(_as_line(results)))
        self._client.set_terminated(self._run, status=_STATUS[ending])

    def _uri(self) -> str:
        about = self._about
        place = about.place or os.environ.get("MLFLOW_TRACKING_URI", "") or "mlruns"
        if "://" in place or place.startswith(("databricks", "file:", "uc:")):
            return place
        return (about.started_in / expand(place, "track")).absolute().as_uri()

    def _found(self, run_id: str) -> Any:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 -- an extra

        if not run_id:
            return None
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _made(self, former: str) -> Any:
        about = self._about
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        held = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"lockstep.folder": str(about.folder)} | ({"lockstep.goes_on_from": former} if former else {})
        return self._client.create_run(held, tags=tags, run_name=about.name)

    def _write_recipe(self, held: Mapping[str, str]) -> None:
        """Write the recipe: parameters never change, so what has changed since becomes a tag."""
        from mlflow.entities import Param, RunTag  # noqa: PLC0415 -- an extra

        wanted = {name: str(value)[:_LONGEST_PARAMETER] for name, value in self._about.recipe.items()}
        new = [Param(name, value) for name, value in wanted.items() if name not in held]
        for first in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=new[first : first + _MOST_PARAMETERS])
        changed = [
            RunTag(f"recipe.{name}", value)
            for name, value in wanted.items()
            if held.get(name, value) != value
        ]
        if changed:
            self._client.log_batch(self._run, tags=changed[:_MOST_PARAMETERS])


def _as_line(results: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the numbers of the results as a line of the run's last step, if there are any."""
    values = {
        f"result/{name}": float(value)
        for name, value in results.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "format"
    }
    if values:
        yield Line("result", int(results["steps"]), time.time(), values)
