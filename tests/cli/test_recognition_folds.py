"""`lightning_zoo recognize` on classifiers, each of which is tested on those whom its own run held out."""

import json

import pytest
import torch
from video_checkpoints import checkpoint, write_walkers
from video_toy import shaken, trainer

from datamodules import RAVDESS, MovingMNIST, Weizmann
from lightning_zoo import StaticsDynamics, VideoClassifier
from lightning_zoo.cli.recognition_folds import fold_result, published_accuracy
from lightning_zoo.cli.video_data import clips_of

SMALL = {"base_channels": 2, "frame_channels": 3, "head": "pooled"}
NAMES = Weizmann().class_names


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_walkers(tmp_path_factory.mktemp("weizmann")) | {"val_actors": []}


def classifier(seed=0, **options):
    torch.manual_seed(seed)
    return shaken(VideoClassifier(class_names=NAMES, **SMALL | options), seed=seed)


def fold_of(path, videos, actor, module=None, **data):
    return checkpoint(
        path, classifier() if module is None else module, "Weizmann", **videos | {"test_actors": [actor]} | data
    )


@pytest.fixture
def folds(project, videos):
    """Of the three actors, with weights of their own."""
    return [
        fold_of(project / f"{actor}.ckpt", videos, actor, classifier(seed))
        for seed, actor in enumerate(("daria", "lena", "shahar"))
    ]


def entry_in(file):
    [entry] = json.loads(file.read_text()).values()
    return entry


def test_each_fold_is_tested_on_its_own_people(zoo, folds, videos, project, capsys):
    words = ("--published", "--device", "cpu", "--output", str(project / "folds.png"))
    assert zoo("recognize", "--ckpt_path", *map(str, folds), *words) == 0
    said = capsys.readouterr().out
    assert "mean +- s.d." in said
    line = next(line for line in said.splitlines() if "mean +- s.d." in line)
    assert line.split()[-1] == "75", "Weizmann, supervised"
    entry = entry_in(project / "folds.json")
    assert [(fold["name"], fold["num_videos"]) for fold in entry["folds"]] == [("daria", 2), ("lena", 3), ("shahar", 2)]
    assert [fold["checkpoint"] for fold in entry["folds"]] == list(map(str, folds))
    accuracies = torch.tensor([fold["accuracy"] for fold in entry["folds"]], dtype=torch.float64)
    assert entry["accuracy"] == pytest.approx(accuracies.mean().item())
    assert entry["accuracy_deviation"] == pytest.approx(accuracies.std().item())
    assert entry["num_videos"] == 7


def test_a_fold_says_what_the_test_of_its_run_says(folds, videos):
    data = Weizmann(**videos | {"test_actors": ["lena"]})
    # Answers of classes that there are, so that not all of them are wrong.
    module = VideoClassifier.load_from_checkpoint(folds[1], weights_only=True)
    mean = module.eval().class_logits(clips_of(data, "test")).mean(0).detach()
    module.classes.bias.data -= mean + 5 * torch.tensor([name not in ("walk", "run") for name in NAMES])
    path = checkpoint(folds[1], module, "Weizmann", **videos | {"test_actors": ["lena"]})
    found = fold_result(path, data, "cpu", None)
    [expected] = trainer().test(module, data, verbose=False)
    assert found.accuracy == pytest.approx(expected["test/video_accuracy"])
    assert found.balanced_accuracy == pytest.approx(expected["test/video_balanced_accuracy"])
    assert found.num_right == round(3 * found.accuracy) > 0


def test_one_checkpoint_is_one_fold(zoo, folds, project, capsys):
    assert zoo("recognize", f"--ckpt_path={folds[0]}", "--output", str(project / "one.png"), "--device", "cpu") == 0
    entry = entry_in(project / "one.json")
    assert entry["num_folds"] == 1
    assert entry["accuracy_deviation"] is None
    assert "publ." not in capsys.readouterr().out


def test_the_means_go_to_the_first_run(zoo, folds, project, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "lightning_zoo.callbacks.mlflow_store.log_to_run", lambda run, values, files: logged.append((run, values))
    )
    (project / "mlflow_run_id").write_text("abc\n")
    assert zoo("recognize", "--ckpt_path", *map(str, folds), "--log", "false") == 0
    assert not logged
    assert zoo("recognize", "--ckpt_path", *map(str, folds)) == 0
    [(run, values)] = logged
    assert run == "abc"
    assert {"recognize/folds/accuracy", "recognize/folds/balanced_accuracy_deviation"} <= values.keys()


def other(project, videos, what):
    """A checkpoint that is no second fold beside daria's."""
    path = project / "other.ckpt"
    if what == "fold":
        return fold_of(path, videos, "daria", classifier(3))
    if what == "people":
        return checkpoint(path, classifier(3), "Weizmann", **videos | {"test_actors": ["lena", "daria"]})
    if what == "method":
        small = {"channels": 4, "hidden_size": 8, "dynamics_size": 6, "frame_dynamics_size": 5, "transformer_epochs": 0}
        return fold_of(path, videos, "lena", StaticsDynamics(base_channels=2, frame_channels=3, **small))
    if what == "data":
        return checkpoint(path, classifier(), "RAVDESS", root="elsewhere")
    if what == "begin":
        return fold_of(path, videos, "lena", classifier(initial_weights="some.ckpt"))
    if what == "crop":
        return fold_of(path, videos, "lena", crop="person")
    return fold_of(path, videos, "lena", classifier(**{what: {"base_channels": 4, "head": "features"}[what]}))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fold", "are both tested on daria: give one checkpoint per fold"),
        ("people", "are both tested on daria: give one checkpoint per fold"),
        ("method", "are no folds of one method: VideoClassifier and StaticsDynamics"),
        ("data", "are no folds of one method: Weizmann and RAVDESS"),
        ("crop", "are no folds of one method: crop center and person"),
        ("begin", "are no folds of one method: from scratch and pretrained"),
        ("base_channels", "are no folds of one method: base_channels 2 and 4"),
        ("head", "are no folds of one method: head pooled and features"),
    ],
)
def test_what_is_no_second_fold_is_told(zoo, folds, project, videos, capsys, what, message):
    assert zoo("recognize", "--ckpt_path", str(folds[0]), str(other(project, videos, what)), "--device", "cpu") == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "statics"], "--by statics: a VideoClassifier is tested as it is; leave the option out"),
        (["--protocol", "split"], "--protocol split: a VideoClassifier is tested as it is; leave the option out"),
    ],
)
def test_options_of_the_linear_protocol_are_refused(zoo, folds, capsys, words, message):
    assert zoo("recognize", "--ckpt_path", str(folds[0]), *words) == 2
    assert message in capsys.readouterr().err


def test_other_classes_are_told(zoo, project, videos, capsys):
    path = fold_of(project / "a.ckpt", videos, "daria", VideoClassifier(class_names=["one", "other"], **SMALL))
    assert zoo("recognize", "--ckpt_path", str(path), "--device", "cpu") == 2
    assert "knows 2 classes (one, other, ...), which are not those of Weizmann" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "begun", "known"),
    [
        (RAVDESS, None, 67),
        (RAVDESS, "some.ckpt", 72),
        (Weizmann, None, 75),
        (Weizmann, "some.ckpt", None),
        (MovingMNIST, None, None),
    ],
)
def test_published_values_stand_beside_what_they_measure(tmp_path, data, begun, known):
    path = checkpoint(tmp_path / "a.ckpt", classifier(initial_weights=begun))
    assert published_accuracy(path, data()) == known
