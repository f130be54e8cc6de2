"""TensorBoard and MLflow trackers. Both are optional extras of the package, enabled by `--tracker`."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fschemas.failures import EnvironmentProblem, FashionkitError, UsageError, did_you_mean
from fschemas.json_file import read_json
from fschemas.preflight import check_installed
from fschemas.publish import publish_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from torch.utils.tensorboard.writer import SummaryWriter

EXPERIMENT = "fashionkit"
TRACKERS = ("dvclive", "tensorboard", "mlflow", "none")


def default_trackers() -> tuple[str, ...]:
    """DVCLive, if installed. The CSV files of the run folder are always written."""
    return ("none",) if find_spec("dvclive") is None else ("dvclive",)


def check_trackers(names: Sequence[str]) -> None:
    """Check the names of trackers.

    Raises `UsageError` for an unknown name and for other names besides `none`, `EnvironmentProblem` if a tracker is not
    installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--tracker {name}: {did_you_mean(name, TRACKERS)}choose from {', '.join(TRACKERS)}")
    if "none" in names and len(set(names)) > 1:
        raise UsageError("--tracker none cannot be combined with others; omit one of them")
    check_installed(*(name for name in names if name != "none"))


class TensorboardTracker:
    """Event files in `tensorboard/` of the run folder: `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder = folder / "tensorboard"
        self.writer: SummaryWriter | None = None
        self._open = SummaryWriter

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log the values as `series/<name>` and flush them to disk."""
        writer = self.writer or self._start(None)
        for name, value in values.items():
            writer.add_scalar(f"{series}/{name}", value, step)
        writer.flush()

    def rewind(self, step: int, *, validated: bool = True) -> None:  # noqa: ARG002 - repeating it gives the same values
        """Start a new file that makes readers discard events after `step`."""
        if self.folder.exists():
            self._start(step + 1)

    def _start(self, purge_step: int | None) -> SummaryWriter:
        if self.writer is not None:
            self.writer.close()
        self.writer = self._open(str(self.folder), purge_step=purge_step)
        weakref.finalize(self, self.writer.close)
        return self.writer


class MlflowTracker:
    """A run of the experiment `fashionkit`, in `mlflow/` of the run folder or at MLFLOW_TRACKING_URI.

    Its id is kept in `mlflow.json`, so that a resumed run continues it. MLflow cannot delete metrics, so those of
    repeated steps are not logged again. `parameters` are logged as well. MLflow's telemetry is disabled.
    """

    def __init__(self, folder: Path, parameters: dict[str, Any] | None = None) -> None:
        os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # its other local store needs SQLAlchemy
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from mlflow.utils.time import get_current_time_millis

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._metric, self._now = Metric, get_current_time_millis
        self._failures = (MlflowException, ImportError, OSError)
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlflow").resolve().as_uri()
        self.last_steps: dict[str, int] = {}  # last logged steps at the time of resuming
        try:
            self.client = MlflowClient(tracking_uri=self.uri)
            self.run = self._resume(folder / "mlflow.json") or self._create(folder, parameters or {})
        except self._failures as error:
            raise self._trouble(error) from None
        weakref.finalize(self, _finish, self.client, self.run)

    def log(self, series: str, step: int, values: dict[str, float]) -> None:
        """Log the values as `series/<name>`, except for steps that the run already has."""
        now = self._now()  # the timestamp that MLflow's clients set
        metrics = {f"{series}/{name}": value for name, value in values.items()}
        fresh = [
            self._metric(name, value, now, step)
            for name, value in metrics.items()
            if step > self.last_steps.get(name, -1)
        ]
        try:
            self.client.log_batch(self.run, metrics=fresh)
        except self._failures as error:
            raise self._trouble(error) from None

    def rewind(self, step: int, *, validated: bool = True) -> None:
        """Do nothing: values logged after `step` stay and are not logged again."""

    def _resume(self, file: Path) -> str | None:
        """The earlier MLflow run of this folder, if the store still has it."""
        try:
            run = str(read_json(file, {"run": str})["run"])
            metrics = self.client.get_run(run).data.metrics
        except (*self._failures, FashionkitError):
            return None
        for name in metrics:
            self.last_steps[name] = max(entry.step for entry in self.client.get_metric_history(run, name))
        self.client.update_run(run, status="RUNNING")
        return run

    def _create(self, folder: Path, parameters: dict[str, Any]) -> str:
        from mlflow.entities import Param

        known = self.client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known is not None else self.client.create_experiment(EXPERIMENT)
        run = self.client.create_run(experiment, run_name=folder.resolve().name).info.run_id
        shown = [Param(name, str(value)[:500]) for name, value in parameters.items()]
        for start in range(0, len(shown), 100):  # maximum batch of a server
            self.client.log_batch(run, params=shown[start : start + 100])
        publish_json(folder / "mlflow.json", {"run": run})
        return run

    def _trouble(self, error: Exception) -> EnvironmentProblem:
        words = " ".join(str(error).split())[:200]
        return EnvironmentProblem(
            f"{self.uri}: MLflow cannot write here ({words}); set MLFLOW_TRACKING_URI to another location"
        )


def _finish(client: MlflowClient, run: str) -> None:
    """Mark a run as finished when its process exits; a killed run stays active until it is resumed."""
    with suppress(Exception):
        client.set_terminated(run)
