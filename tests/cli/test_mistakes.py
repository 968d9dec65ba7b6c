"""Each mistake that a user can make: one line, the nearest right name, exit status 2, nothing left behind."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import datamodules
import lightning_zoo
from lightning_zoo.cli.errors import UsageError, mistake_in

FIT = ("fit", "--config", "toy_pong.yaml")

WORDS = [
    ("--trianer.max_epochs 3", "'trianer.max_epochs'. Did you mean 'trainer.max_epochs'?"),
    ("--trainer.max_epoch 3", "'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?"),
    ("--seed_everthing 3", "Did you mean 'seed_everything'?"),
    ("--model.widht 3", "model: no argument 'widht'. Did you mean 'width'?"),
    ("--modle.width 3", "Did you mean 'model.width'?"),
    ("--data.gmae pong", "data: no argument 'gmae'. Did you mean 'game'?"),
    ("--model STDMI", "model: no class 'STDMI'. Did you mean 'STDIM'?"),
    ("--data AtariFrame", "data: no class 'AtariFrame'. Did you mean 'AtariFrames'?"),
    ("--trainer.logger CVSLogger", "trainer.logger: no class 'CVSLogger'. Did you mean 'CSVLogger'?"),
    ("--trainer.callbacks+=EarlyStoping", "Did you mean 'EarlyStopping'?"),
    ("--trainer.callbacks+=EarlyStopping", "monitor"),
    ("--config toy_pnog.yaml", "No config 'toy_pnog.yaml'"),
    ("--config toy_pnog", "Did you mean 'toy_pong'?"),
    ("--trainer.max_epochs abc", "trainer.max_epochs: expected int or null, got 'abc'."),
    ("--model.width abc", "model: width: expected int, got 'abc'."),
    ("--trainer.precision bf16-mixd", "Did you mean 'bf16-mixed'?"),
    ("--model.width 0", "width must be at least 1, got 0"),
    ("--data.game nothing", "game: 'nothing' is no game."),
    ("--trainer.accelerator gpus", "gpus"),
    ("--trainer.devices 999", "trainer.devices: 999 processes on"),
    ("--ckpt_path nope.ckpt", "No checkpoint nope.ckpt."),
    ("--ckpt_path toy_pong.yaml", "damaged or no checkpoint"),
]

CONFIGS = [
    ("trainr: {max_epochs: 1}", "'trainr.max_epochs'. Did you mean 'trainer.max_epochs'?"),
    ("trainer: {max_epoch: 1}", "'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?"),
    ("model: {init_args: {widht: 1}}", "Did you mean 'width'?"),
    ("model: {class_path: STDMI}", "Did you mean 'STDIM'?"),
    ("model: {class_path: no.such.Thing}", "No module named 'no'"),
    ("data: {class_path: zoo_toy.ToyData, game: pong}", "`init_args`"),
    ("trainer: {callbacks+: [{class_path: EarlyStopping, init_args: {monitr: a}}]}", "Did you mean 'monitor'?"),
    ("trainer: {max_epochs: two}", "expected int or null, got 'two'"),
    ("trainer: [", "bad.yaml is no YAML"),
    ("just text", "bad.yaml is no config"),
]


def check(status, captured, message):
    assert status == 2
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(("words", "message"), WORDS)
def test_words(zoo, project, capsys, words, message):
    check(zoo(*FIT, *words.split()), capsys.readouterr(), message)
    left = [path for path in (project / "runs").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize(("text", "message"), CONFIGS)
def test_configs(zoo, project, capsys, text, message):
    (project / "bad.yaml").write_text(text)
    check(zoo(*FIT, "--config", "bad.yaml"), capsys.readouterr(), message)


def test_nothing_given(zoo, capsys):
    check(zoo("fit"), capsys.readouterr(), "Missing: data, model. Give --config NAME")
    check(zoo("fit", "--config", "quick"), capsys.readouterr(), "put a config with `class_path` before the overlay")
    check(zoo("validate", *FIT[1:], "--ckpt_path", "last"), capsys.readouterr(), "no run in runs/toy_pong")


def test_checkpoints_that_do_not_fit(zoo, capsys):
    short = (*FIT, "--config", "short.yaml")
    assert zoo(*short) == 0
    capsys.readouterr()
    path = "runs/toy_pong_short/version_0/checkpoints/last.ckpt"
    check(
        zoo(*short, "--model", "zoo_toy.Other", "--ckpt_path", path),
        capsys.readouterr(),
        "holds Toy, the config asks for Other",
    )
    check(zoo(*short, "--model.width", "9", "--ckpt_path", path), capsys.readouterr(), "does not fit the model")
    check(zoo(*short, "--ckpt_path", path.replace("last", "lst")), capsys.readouterr(), f"Did you mean {path}?")


def test_a_non_finite_loss_ends_the_run(zoo, project, capsys):
    check(zoo(*FIT, "--model.lr", "1e30"), capsys.readouterr(), "Training loss is")
    assert not list(project.rglob("*.ckpt"))


CARELESS = ("fit", "--config", "toy_pong.yaml", "--model", "zoo_toy.Careless", "--model.fault")


def live_runs(project):
    with closing(sqlite3.connect(project / "mlflow.db")) as base:
        return base.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone()[0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("labels", "reads 'labels', which the batches have not: --data.serve labelled gives them"),
        ("channels", "input_channels=1 but the frames have 3 channels"),
    ],
)
def test_seen_only_when_it_runs(zoo, project, capsys, fault, message):
    check(zoo(*CARELESS, fault), capsys.readouterr(), message)
    assert list((project / "runs").iterdir()) == []
    assert live_runs(project) == 0
    assert [path for path in (project / "mlruns").rglob("*") if path.is_file()] == []


def test_a_run_that_did_something_stays(zoo, project, capsys):
    # step 4 of 6: metrics of the steps 2 and 4 are written, a checkpoint is not
    with pytest.raises(KeyError, match="later"):
        zoo(*CARELESS, "later")
    assert (project / "runs/toy_pong/version_0/metrics.csv").is_file()
    assert live_runs(project) == 1


@pytest.mark.parametrize(("fault", "kind"), [("other_entry", KeyError), ("theirs", ValueError), ("own", ValueError)])
def test_faults_of_the_code_keep_their_traceback(zoo, project, fault, kind):
    with pytest.raises(kind):
        zoo(*CARELESS, fault)
    assert list((project / "runs").iterdir()) == []


def test_a_traceback_is_shown_when_it_is_asked_for(zoo, monkeypatch):
    monkeypatch.setenv("LIGHTNING_ZOO_TRACEBACK", "1")
    with pytest.raises(UsageError) as shown:
        zoo(*CARELESS, "channels")
    assert isinstance(shown.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("statement", "package", "told"),
    [
        ("raise ValueError('on purpose')", lightning_zoo, "on purpose"),
        ("raise ValueError('on purpose')", datamodules, "on purpose"),
        ("raise ValueError('theirs')", pytest, None),
        ("int('x')", lightning_zoo, None),
        ("{}['labels']", lightning_zoo, None),
    ],
)
def test_what_counts_as_a_mistake(statement, package, told):
    file = Path(package.__file__).parent / "anything.py"
    with pytest.raises((ValueError, KeyError)) as raised:
        exec(compile(statement, file, "exec"))
    assert mistake_in(raised.value) == told


def test_the_same_callback_twice(zoo, project, capsys):
    words = ("--trainer.callbacks+=LastCheckpoint",)
    check(zoo(*FIT, *words), capsys.readouterr(), "more than one stateful callback of type `LastCheckpoint`")
