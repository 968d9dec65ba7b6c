"""Two processes through the command line: one run, one folder, one record, and an exact resume."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from lightning_zoo.checkpoints import read

pytestmark = pytest.mark.slow

FIT = ("fit", "--config", "toy_pong.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp")


@pytest.fixture
def finish(project):
    """Run in two processes; Lightning starts the second one by the script of the first."""

    script = project / "zoo.py"
    script.write_text("from lightning_zoo.cli.main import main\nmain()\n")

    def run(*words):
        return subprocess.run(
            [sys.executable, script, *words], cwd=project, capture_output=True, text=True, timeout=200
        )

    return run


def test_two_processes_are_one_run_and_resume_exactly(project, finish):
    assert finish(*FIT, "--name", "whole").returncode == 0
    assert finish(*FIT, "--name", "parts", "--trainer.max_epochs", "1").returncode == 0
    resumed = finish(*FIT, "--name", "parts", "--ckpt_path", "last")
    assert resumed.returncode == 0
    assert resumed.stdout.count("Resuming") == resumed.stdout.count("Run: ") == 1
    whole, parts = (project / "runs" / name / "version_0" for name in ("whole", "parts"))
    assert [path.name for path in parts.parent.iterdir()] == ["version_0"]
    record = json.loads((parts / "record.json").read_text())
    assert record["devices"]["count"] == 2
    assert len(record["resumes"]) == 1
    left, right = (read(folder / "checkpoints/last.ckpt") for folder in (whole, parts))
    assert len(left["callbacks"]["ExactResume"]["ranks"]) == 2
    for name, value in left["state_dict"].items():
        assert torch.equal(value, right["state_dict"][name]), name


def test_a_loss_that_is_no_number_ends_both(finish):
    done = finish(*FIT, "--model.lr", "1e30")
    assert done.returncode == 2
    assert done.stderr.count("error: Training loss is") == 1


def test_ctrl_c_ends_a_run_in_order(project, zoo_process):
    process = zoo_process("fit", "--config", "toy_pong.yaml", "--model.pause", "0.2", "--trainer.max_epochs", "100")
    while not (project / "runs/toy_pong/version_0/checkpoints/last.ckpt").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.endswith("Interrupted; the same command with `--ckpt_path last` goes on.\n")


def test_two_processes_write_two_files_of_predictions(project, finish):
    assert finish("fit", "--config", "toy_pong.yaml", "--trainer.max_epochs", "1").returncode == 0
    done = finish("predict", *FIT[1:], "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    files = sorted((project / "runs/toy_pong/predict_0").glob("*.npz"))
    assert [file.name for file in files] == ["predictions_rank0.npz", "predictions_rank1.npz"]
    for file in files:
        assert f"Predictions: {file.relative_to(project)} " in done.stdout
        assert np.load(file)["features"].shape == (24, 5)  # the toy shows every row to each process
