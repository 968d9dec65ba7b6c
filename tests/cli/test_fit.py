"""What a run leaves behind, and how it is taken up again."""

import csv
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lightning_zoo
from lightning_zoo.checkpoints import load

FIT = ("fit", "--config", "toy_pong.yaml")
SHORT = (*FIT, "--config", "short.yaml")
SHORT_RUN = "runs/toy_pong_short/version_0"


def read_metrics(folder):
    with (Path(folder) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_keeps_all_in_its_folder(zoo, project, capsys):
    assert zoo(*FIT) == 0
    output = capsys.readouterr()
    folder = project / "runs/toy_pong/version_0"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    best = next(name for name in names if name.startswith("checkpoints/best-epoch"))
    assert names == {
        "config.yaml", "record.json", "metrics.csv", "hparams.yaml", "mlflow_run_id", "checkpoints/last.ckpt", best,
    }  # fmt: skip
    top = {path.name for path in project.iterdir()} - {"zoo_toy.py", "toy_pong.yaml", "short.yaml", "__pycache__"}
    assert top <= {"runs", "mlruns", "mlflow.db", "mlflow.db.lock", "mlflow.db-wal", "mlflow.db-shm"}
    assert f"Checkpoint: runs/toy_pong/version_0/{best} (best val/loss: " in output.out
    assert "Next:       lightning_zoo probe --ckpt_path runs/toy_pong/version_0/checkpoints/last.ckpt" in output.out
    assert output.err == ""
    assert load(folder / "checkpoints/last.ckpt").hparams.width == 5


def test_the_record_repeats_the_run(zoo, project):
    assert zoo(*SHORT, "--model.width", "6") == 0
    folder = project / SHORT_RUN
    record = json.loads((folder / "record.json").read_text())
    assert record["command"] == ["lightning_zoo", *SHORT, "--model.width", "6"]
    assert record["seed"] == 3
    assert record["dataset"] == {"source": "noise", "rows": 8}
    assert {"python", "torch", "lightning", "lightning_zoo"} <= set(record["versions"])
    assert zoo("fit", "--config", str(folder / "config.yaml")) == 0
    again = project / "runs/toy_pong_short/version_1"
    assert read_metrics(again) == read_metrics(folder)
    assert (again / "config.yaml").read_text().replace("name: toy_pong_short", "name: null") == (
        folder / "config.yaml"
    ).read_text()


def test_mlflow_holds_what_the_folder_holds(zoo, project):
    assert zoo(*SHORT) == 0
    run_id = (project / SHORT_RUN / "mlflow_run_id").read_text().strip()
    base = sqlite3.connect(project / "mlflow.db")
    tags = dict(base.execute("select key, value from tags where run_uuid = ?", [run_id]))
    assert tags["method"] == "Toy"
    assert tags["dataset.rows"] == "8"
    assert tags["seed"] == "3"
    assert Path(tags["run_folder"]) == project / SHORT_RUN
    assert tags["version.torch"]
    assert base.execute("select status from runs where run_uuid = ?", [run_id]).fetchall() == [("FINISHED",)]
    logged = base.execute("select value from metrics where run_uuid = ? and key = 'val/loss'", [run_id]).fetchall()
    assert [f"{value:.6f}" for (value,) in logged] == [
        f"{float(row['val/loss']):.6f}" for row in read_metrics(project / SHORT_RUN) if row["val/loss"]
    ]
    artifacts = {path.name for path in (project / "mlruns").rglob("*") if path.is_file()}
    assert artifacts == {"config.yaml", "record.json"}
    assert base.execute("pragma journal_mode").fetchone() == ("wal",)
    base.close()


def test_last_goes_on_in_the_same_folder_and_mlflow_run(zoo, project, capsys):
    assert zoo(*FIT, "--trainer.max_epochs", "2") == 0
    folder = project / "runs/toy_pong/version_0"
    run_id = (folder / "mlflow_run_id").read_text()
    first = read_metrics(folder)
    capsys.readouterr()
    assert zoo(*FIT, "--ckpt_path", "last", "--trainer.max_epochs", "4", "--model.lr", "0.02") == 0
    assert "Resuming runs/toy_pong/version_0" in capsys.readouterr().out
    assert [path.name for path in (project / "runs/toy_pong").iterdir()] == ["version_0"]
    assert (folder / "mlflow_run_id").read_text() == run_id
    rows = read_metrics(folder)
    assert [row for row in rows if int(row["step"]) < 12] == first
    assert sorted({int(row["epoch"]) for row in rows}) == [0, 1, 2, 3]
    record = json.loads((folder / "record.json").read_text())
    assert record["resumes"][0]["command"][-4:] == ["--trainer.max_epochs", "4", "--model.lr", "0.02"]
    assert yaml.safe_load((folder / "config.resume_1.yaml").read_text())["trainer"]["max_epochs"] == 4
    with sqlite3.connect(project / "mlflow.db") as base:
        assert base.execute("select count(*) from runs").fetchone() == (1,)
        assert base.execute("select value from tags where key = 'resumed.lr'").fetchall() == [("0.02",)]


def test_a_run_does_not_go_on_with_other_data(zoo, project, capsys):
    assert zoo(*SHORT) == 0
    capsys.readouterr()
    assert zoo(*FIT, "--ckpt_path", "last", "--trainer.max_epochs", "1") == 0
    output = capsys.readouterr()
    assert "starting anew" in output.err
    assert "Resuming" not in output.out
    last = f"{SHORT_RUN}/checkpoints/last.ckpt"
    before = (project / last).read_bytes()
    other = (*FIT, "--name", "toy_pong_short", "--trainer.max_epochs", "2", "--ckpt_path")
    assert zoo(*other, "last") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --data.rows is 24, but the run of {last} has 8: ")
    assert "--name" in error
    assert f"--ckpt_path {last}" in error
    assert (project / last).read_bytes() == before
    assert zoo(*other, "last", "--data.rows", "8", "--data.num_workers", "2") == 0
    assert zoo(*other, last, "--trainer.max_epochs", "3") == 0
    assert (project / "runs/toy_pong_short/version_1").is_dir()


def test_last_without_a_run_says_so_and_starts(zoo, project, capsys):
    assert zoo(*SHORT, "--ckpt_path", "last") == 0
    assert capsys.readouterr().err == "No last checkpoint in runs/toy_pong_short: starting anew.\n"
    assert (project / SHORT_RUN / "checkpoints/last.ckpt").is_file()
    assert yaml.safe_load((project / SHORT_RUN / "config.yaml").read_text())["ckpt_path"] is None


def test_another_game_and_another_name_are_other_runs(zoo, project):
    assert zoo(*SHORT, "--data.game", "boxing") == 0
    assert zoo(*SHORT, "--name", "mine") == 0
    assert zoo("fit", "--model", "zoo_toy.Toy", "--data", "zoo_toy.ToyData", "--trainer.max_epochs", "1") == 0
    assert {path.name for path in (project / "runs").iterdir()} == {"toy_boxing_short", "mine", "toy"}


def test_a_run_without_validation_metric_keeps_its_last(zoo, project):
    assert zoo(*SHORT, "--model.validated", "false") == 0
    names = [path.name for path in (project / "runs").rglob("*.ckpt")]
    assert names == ["last.ckpt"]


def test_evaluation_takes_the_checkpoints_settings_and_no_mlflow(zoo, project):
    assert zoo(*SHORT, "--model.width", "7") == 0
    before = (project / "mlflow.db").stat().st_mtime_ns
    code = "import sys; from lightning_zoo.cli.main import main; main(); sys.exit('mlflow' in sys.modules)"
    words = ("validate", "--config", "toy_pong.yaml", "--config", "short.yaml", "--ckpt_path", "best")
    subprocess.run([sys.executable, "-c", code, *words], cwd=project, check=True, timeout=120, capture_output=True)
    assert (project / "mlflow.db").stat().st_mtime_ns == before
    row = read_metrics(project / "runs/toy_pong_short/validate_0")[-1]
    trained = [row for row in read_metrics(project / SHORT_RUN) if row["val/loss"]][-1]
    assert float(row["val/loss"]) == pytest.approx(float(trained["val/loss"]), abs=1e-7)


def test_print_config_round_trips(zoo, project, capsys):
    assert zoo(*SHORT, "--trainer.callbacks+=LearningRateMonitor", "--print_config") == 0
    first = capsys.readouterr().out
    (project / "whole.yaml").write_text(first)
    assert zoo("fit", "--config", "whole.yaml", "--print_config") == 0
    assert capsys.readouterr().out == first
    content = yaml.safe_load(first)
    assert content["data"]["init_args"]["rows"] == 8
    names = [entry["class_path"].rpartition(".")[2] for entry in content["trainer"]["callbacks"]]
    assert names[0] == "BestCheckpoint"
    assert names[-1] == "LearningRateMonitor"


@pytest.mark.parametrize(
    ("words", "bars"),
    [
        ((), ["LossBar"]),
        (("--trainer.callbacks+=TQDMProgressBar",), ["TQDMProgressBar"]),
        (("--trainer.enable_progress_bar=false",), []),
        (("--trainer.barebones=true", "--trainer.logger=false", "--trainer.callbacks=null"), []),
    ],
)
def test_the_bar_with_losses_is_there_unless_another_or_none_is_wanted(project, words, bars):
    from lightning.pytorch.callbacks import ProgressBar

    from lightning_zoo.cli.zoo import ZooCLI

    config = (project / "toy_pong.yaml").read_text()
    left_out = ("enable_", "log_every_n_steps")
    lines = [line for line in config.splitlines() if not line.strip().startswith(left_out)]
    (project / "toy_bar.yaml").write_text("\n".join(lines))
    trainer = ZooCLI(["--config", "toy_bar.yaml", *words], run=False).trainer
    assert [type(bar).__name__ for bar in trainer.callbacks if isinstance(bar, ProgressBar)] == bars


def test_what_comes_next_fits_the_method():
    from lightning_zoo.cli.zoo import next_command

    methods = {name: getattr(lightning_zoo, name) for name in ("STDIM", "VAE", "VideoAutoencoder", "BlockSTN")}
    found = {name: next_command(cls()) for name, cls in methods.items()}
    assert found == {"STDIM": "probe", "VAE": "sample", "VideoAutoencoder": "retrieve", "BlockSTN": None}
