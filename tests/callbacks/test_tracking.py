"""Metrics on file and in MLflow, and the record of a run."""

import csv
import sqlite3
import subprocess
import sys

import pytest

from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.callbacks.run_record import revision, versions

WRITER = """
import sys
from pathlib import Path
from lightning_zoo.callbacks.mlflow_store import MLflowStore
store = MLflowStore()
store.place("shared", Path(sys.argv[1]))
store.log_hyperparams({"lr": 0.1})
for step in range(20):
    store.log_metrics({"val/loss": float(step)}, step)
store.finalize("success")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def log(folder, steps, resume_step=None):
    logger = RunFolder(str(folder))
    logger.place("a", "version_0", resume_step)
    for step in steps:
        logger.log_metrics({"train/loss" if step % 2 else "val/loss": float(step)}, step)
    logger.finalize("success")


def test_a_resumed_run_keeps_its_metrics_up_to_the_checkpoint(tmp_path):
    log(tmp_path, range(6))
    log(tmp_path, [4, 5, 6], resume_step=4)
    folder = tmp_path / "a/version_0"
    assert [row["step"] for row in rows(folder)] == [0, 1, 2, 3, 4, 5, 6]
    assert rows(folder)[1] == {"step": 1.0, "train/loss": 1.0}
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


def test_a_kill_while_resuming_loses_no_metric(tmp_path):
    log(tmp_path, range(6))
    folder = tmp_path / "a/version_0"
    (folder / "metrics.csv").rename(folder / "metrics.before_resume.csv")  # where a kill leaves it
    log(tmp_path, [4], resume_step=4)
    assert [row["step"] for row in rows(folder)] == [0, 1, 2, 3, 4]


def test_two_processes_may_create_the_database_at_once(here):
    code = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*code, f"run_{i}"], stderr=subprocess.PIPE, text=True) for i in range(2)]
    for writer in writers:
        _, error = writer.communicate(timeout=120)
        assert writer.returncode == 0, error
    base = sqlite3.connect(here / "mlflow.db")
    assert base.execute("select count(*) from experiments where name = 'shared'").fetchone() == (1,)
    assert base.execute("select run_uuid, count(*) from metrics group by run_uuid").fetchall() == [
        (run_id, 20) for run_id in sorted((here / f"run_{i}/mlflow_run_id").read_text().strip() for i in range(2))
    ]
    base.close()


def test_a_run_goes_on_and_changed_parameters_become_tags(here):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    ids = []
    for rate, resume in ((0.1, False), (0.2, True), (0.3, False)):
        store = MLflowStore()
        store.place("a", here / "version_0", resume=resume)
        store.log_hyperparams({"lr": rate, "_instantiator": "x"})
        ids.append(store.run_id)
        store.finalize("success")
    assert ids[0] == ids[1] != ids[2]
    base = sqlite3.connect(here / "mlflow.db")
    assert base.execute("select key, value from params where run_uuid = ?", [ids[0]]).fetchall() == [("lr", "0.1")]
    assert base.execute("select run_uuid, value from tags where key = 'resumed.lr'").fetchall() == [(ids[0], "0.2")]
    base.close()


def test_a_lost_database_is_no_reason_to_stop(here):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    (here / "version_0").mkdir()
    (here / "version_0/mlflow_run_id").write_text("0123456789abcdef\n")
    store = MLflowStore()
    store.place("a", here / "version_0", resume=True)
    assert store.run_id not in (None, "0123456789abcdef")
    store.finalize("success")


def test_the_environment_names_the_store(here, monkeypatch):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    uri = f"sqlite:///{here}/elsewhere/tracking.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = MLflowStore()
    assert store.run_id
    store.finalize("success")
    assert (here / "elsewhere/tracking.db").is_file()
    assert not (here / "mlflow.db").exists()
    assert store.tracking_uri == uri


def test_a_run_that_has_ended_takes_more(here):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore, log_to_run

    assert not log_to_run("0123456789abcdef", {"f1": 0.5})
    assert not (here / "mlflow.db").exists()
    store = MLflowStore()
    store.place("a", here / "version_0")
    run_id = store.run_id
    store.finalize("success")
    (here / "table.json").write_text("{}")
    assert log_to_run(run_id, {"probe/f1 (mean)": 0.5}, [here / "table.json"])
    assert not log_to_run("0123456789abcdef", {"f1": 0.5})
    base = sqlite3.connect(here / "mlflow.db")
    assert base.execute("select run_uuid, key, value from metrics").fetchall() == [(run_id, "probe/f1 mean", 0.5)]
    base.close()
    assert (here / f"mlruns/a/{run_id}/artifacts/table.json").is_file()


def test_revisions(tmp_path):
    assert revision(tmp_path) is None

    def git(*words):
        done = subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    git("init", "-q")
    assert revision(tmp_path) is None
    file = tmp_path / "a.py"
    file.write_text("1")
    git("add", "a.py")
    git("commit", "-qm", "first")
    state = {"commit": git("rev-parse", "HEAD"), "dirty": False}
    assert revision(tmp_path) == revision(file) == state
    file.write_text("2")
    assert revision(file) == state | {"dirty": True}
    untracked = tmp_path / "installed.py"
    untracked.write_text("")
    assert revision(untracked) is None


def test_versions_name_what_can_change_a_result():
    import torch

    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__
    assert versions()["python"] == sys.version.split()[0]
