"""MLflow on a local SQLite file, safe for several runs at once and for runs that are taken up again."""

import logging
import os
import re
import shutil
import sqlite3
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

RUN_ID_FILE = "mlflow_run_id"
_SQLITE = "sqlite:///"
_NOT_IN_A_KEY = re.compile(r"[^\w/. -]+")
_URI_VARIABLE = "MLFLOW_TRACKING_URI"


class MLflowStore(MLFlowLogger):
    """MLflow logger of a run: `mlflow.db` and `mlruns/` in the working directory, unless told otherwise.

    Creating the database and the experiment is under a file lock, because two processes that do it at once break it.
    Metrics are written in the background, in SQLite's WAL mode. Checkpoints are not copied; a tag holds their folder.

    Args:
        experiment_name: None takes the run's name.
        tracking_uri: None takes MLFLOW_TRACKING_URI of the environment, else `sqlite:///<working directory>/mlflow.db`.
        run_name: None takes the name of the run's folder.
        tags: Tags of the run.
        prefix: Put before each metric's name.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        tags: dict[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        _import_quietly()
        uri = tracking_uri or default_uri()
        self._database = _database(uri)
        with self._locked():
            super().__init__(
                experiment_name or "default",
                run_name,
                tracking_uri=uri,
                tags=tags,
                prefix=prefix,
                synchronous=False,
            )
        self.tracking_uri = uri
        self._named = experiment_name is not None
        self._folder: Path | None = None

    def place(self, name: str, folder: Path, resume: bool = False) -> None:
        """Settle the experiment's name and the run's folder; with `resume` the run noted there goes on."""
        if not self._named:
            self._experiment_name = name
        self._run_name = self._run_name or f"{name}/{folder.name}"
        self._folder = folder
        noted = folder / RUN_ID_FILE
        if resume and noted.is_file():
            self._run_id = self._known_run(noted.read_text().strip())

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The MLflow client; experiment and run are made on first use."""
        if self._initialized:
            return self._mlflow_client
        given = os.environ.get(_URI_VARIABLE)
        with self._locked():
            if self._database:
                self._artifact_location = (self._database.parent / "mlruns" / self._experiment_name).as_uri()
            client = super().experiment
        # mlflow.set_tracking_uri, called within, leaves its URI in the environment; a later run would take it for the
        # user's wish.
        os.environ.pop(_URI_VARIABLE, None)
        if given is not None:
            os.environ[_URI_VARIABLE] = given
        client.update_run(self._run_id, status="RUNNING")
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / RUN_ID_FILE).write_text(f"{self._run_id}\n")
            client.set_tag(self._run_id, "run_folder", str(self._folder.resolve()))
        return client

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log parameters; one that differs from an earlier start of the same run becomes the tag `resumed.<name>`."""
        from lightning.fabric.utilities.logger import _convert_params, _flatten_dict

        flat = {key: str(value)[:250] for key, value in _flatten_dict(_convert_params(params)).items()}
        flat.pop("_instantiator", None)
        known = self.experiment.get_run(self.run_id).data.params
        for key, value in flat.items():
            if key in known and known[key] != value:
                self.experiment.set_tag(self.run_id, f"resumed.{key}", value)
        super().log_hyperparams({key: value for key, value in flat.items() if key not in known})

    @rank_zero_only
    def discard(self) -> None:
        """Delete the run and its files, if it was made; for runs that ended before they did anything."""
        if not self._initialized or self._run_id is None:
            return
        self._mlflow_client.delete_run(self._run_id)
        if self._database:
            folder = self._database.parent / "mlruns" / self._experiment_name / self._run_id
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._database is None:
            yield
            return
        from filelock import FileLock

        self._database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._database}.lock"):
            if not self._database.exists():
                connection = sqlite3.connect(self._database)
                connection.execute("PRAGMA journal_mode=WAL")
                connection.close()
            yield

    def _known_run(self, run_id: str) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._mlflow_client.get_run(run_id).info.run_id)
        except MlflowException:
            return None


def default_uri() -> str:
    """MLFLOW_TRACKING_URI of the environment, else `mlflow.db` in the working directory."""
    return os.environ.get(_URI_VARIABLE) or f"{_SQLITE}{Path('mlflow.db').resolve()}"


def log_to_run(run_id: str, metrics: Mapping[str, float], files: Sequence[Path] = ()) -> bool:
    """Add metrics and files to a run that has ended, in the store of `default_uri`.

    Returns:
        Whether the store knows the run; nothing is logged, and no store is made, where it does not.
    """
    uri = default_uri()
    database = _database(uri)
    if database is not None and not database.is_file():
        return False
    _import_quietly()
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    now = int(time.time() * 1000)
    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    client.log_batch(
        run_id, metrics=[Metric(_NOT_IN_A_KEY.sub("", key), value, now, 0) for key, value in metrics.items()]
    )
    for file in files:
        client.log_artifact(run_id, str(file))
    return True


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def _import_quietly() -> None:
    # Telemetry is decided when mlflow is imported, and alembic's INFO lines come with the first database.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import mlflow  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
