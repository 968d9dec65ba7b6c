"""`lightning_zoo recognize` on digits and on real files: what it reads, shows and writes."""

import json

import pytest
import torch
from video_checkpoints import DIGITS, TINY, checkpoint, write_walkers
from video_toy import moving_squares, shaken

from datamodules import MovingMNIST
from lightning_zoo.cli import recognition
from lightning_zoo.cli.recognition import train_classifier
from lightning_zoo.cli.recognition_clips import collected, frames_of
from lightning_zoo.cli.recognition_report import attention_picture, published_accuracies
from lightning_zoo.cli.video_data import clips_of
from lightning_zoo.video.statics_dynamics import StaticsDynamics
from lightning_zoo.video.video_autoencoder import VideoAutoencoder


@pytest.mark.parametrize("pixels", ["unit", "signed"])
def test_frames_are_read_in_the_range_of_their_network(pixels):
    torch.manual_seed(0)
    model, data = shaken(StaticsDynamics(**TINY, pixels=pixels)).eval(), MovingMNIST(**DIGITS)
    features, labels, videos = frames_of(model, data, "test", 4)
    frames = clips_of(data, "test", 4)[:, [0, 7]].float() / 255
    with torch.no_grad():
        expected = model.transformer.encode(frames if pixels == "unit" else 2 * frames - 1).flatten(2)
    torch.testing.assert_close(features[:, [0, 7]].float(), expected, rtol=1e-2, atol=1e-2)
    assert videos.tolist() == [0, 1, 2, 3]
    assert labels.shape == (4,)


def test_clips_are_collected_with_statics_and_dynamics_in_their_places():
    torch.manual_seed(0)
    model, data = shaken(StaticsDynamics(**TINY)).eval(), MovingMNIST(**DIGITS)
    examples, places, actors = collected(model, data, ("train", "test"), 6)
    assert places == [("train", row) for row in range(6)] + [("test", row) for row in range(6)]
    assert len(examples.videos.unique()) == 12
    assert actors.tolist() == [-1] * 12
    with torch.no_grad():
        found = model.features(torch.cat([clips_of(data, split, 6) for split in ("train", "test")]))
    for name in ("statics", "dynamics"):
        torch.testing.assert_close(getattr(examples, name).float(), found[name], rtol=1e-3, atol=1e-4)


def test_rates_of_the_command_reach_the_optimizer(zoo, digits, monkeypatch):
    given = []
    monkeypatch.setattr(
        recognition, "train_classifier", lambda own, how: given.append(how) or train_classifier(own, how)
    )
    words = ("--epochs", "2", "--weight_decay", "0.5", "--learning_rate", "0.003", "--seed", "7", "--hidden_size", "5")
    assert zoo("recognize", "--ckpt_path", str(digits), *words, "--batch_size", "9", "--num_clips", "4") == 0
    how = given[0]
    assert (how.epochs, how.weight_decay, how.learning_rate) == (2, 0.5, 0.003)
    assert (how.seed, how.hidden_size, how.batch_size, how.num_classes) == (7, 5, 9, 55)


def test_bars_are_blue_as_far_as_statics_count():
    frames = list(moving_squares(2, size=16)[:, 0])
    picture = attention_picture([(frames, [0.25, 1.0]), (frames[:1], [0.0])])
    assert picture.shape == (3, 2 + 2 * 26, 2 + 2 * 18)
    assert torch.equal(picture[:, 2:18, 2:18], (frames[0].float() / 255).expand(3, -1, -1))
    bars = picture[:, 20, 2:18], picture[:, 20, 20:36], picture[:, 46, 2:18]
    assert [int((bar[2] > bar[0]).sum()) for bar in bars] == [4, 16, 0]
    assert (picture[:, 28:52, 20:] == 1).all(), "a row ends where its video does"


class Data:
    digits = "mnist"


@pytest.mark.parametrize(
    ("name", "digits", "asked", "known"),
    [
        ("MovingMNIST", "mnist", ("split", "statics"), {"statics": 69.1, "frame votes": 63.0}),
        ("MovingMNIST", "digits8x8", ("split", "statics"), {}),
        ("MovingMNIST", "mnist", ("split", "dynamics"), {}),
        ("Weizmann", "mnist", ("leave_one_actor_out", "both"), {"both": 96, "supervised 3D-CNN": 75}),
        ("Weizmann", "mnist", ("leave_one_actor_out", "statics"), {}),
        ("Weizmann", "mnist", ("split", "both"), {}),
        ("RAVDESS", "mnist", ("leave_one_actor_out", "both"), {}),
        ("ClipFolder", "mnist", ("split", "both"), {}),
    ],
)
def test_published_values_stand_beside_what_they_measure(name, digits, asked, known):
    assert published_accuracies(type(name, (Data,), {"digits": digits})(), *asked) == known


@pytest.fixture
def digits(project):
    torch.manual_seed(0)
    return checkpoint(project / "digits.ckpt", shaken(StaticsDynamics(**TINY)))


@pytest.fixture
def walkers(project):
    torch.manual_seed(0)
    module = shaken(StaticsDynamics(**TINY, frame_channels=3))
    return checkpoint(project / "weizmann.ckpt", module, "Weizmann", **write_walkers(project / "weizmann"))


def test_pairs_of_digits_by_statics_and_by_votes(zoo, digits, capsys):
    words = ("recognize", "--ckpt_path", str(digits), "--epochs", "2", "--published", "--device", "cpu")
    assert zoo(*words, "--output", "table.png") == 0
    said = capsys.readouterr().out
    assert "moving_digits8x8, split" in said
    assert "S: test split" in said
    assert "frame votes: test split" in said
    assert "the thesis has none for these data" in said
    assert "69.1" not in said
    assert "balanced 1.8 (55 classes)" in said
    assert "a: mean over clips of the weight of S" in said
    entry = json.loads((digits.parent / "table.json").read_text())["digits_split_statics"]
    assert {name: row["num_videos"] for name, row in entry["rows"].items()} == {"statics": 16, "frame votes": 16}
    assert entry["rows"]["statics"]["attention"] == 1
    assert entry["rows"]["frame votes"]["attention"] is None
    assert not (digits.parent / "table.png").exists(), "without attention there is no picture of it"


def test_one_actor_after_the_other_is_left_out(zoo, walkers, capsys):
    from PIL import Image

    words = ("recognize", "--ckpt_path", str(walkers), "--epochs", "3", "--published", "--num_shown", "3")
    assert zoo(*words) == 0
    said = capsys.readouterr().out
    assert "S and P: mean +- s.d." in said
    assert "96" in said
    assert "encoder: trained without labels on clips of" in said
    written = walkers.parent / "pictures" / "recognize.png"
    picture = Image.open(written)
    assert picture.size == (2 + 3 * 66, 2 + 3 * 74), "three videos of three clips"
    entry = json.loads(written.with_suffix(".json").read_text())["weizmann_leave_one_actor_out_both"]
    folds = entry["rows"]["both"]["folds"]
    assert [(fold["name"], fold["num_videos"]) for fold in folds] == [("daria", 2), ("lena", 3), ("shahar", 2)]
    assert entry["num_classes"] == 10
    assert 0 < entry["rows"]["both"]["attention"] < 1
    assert zoo(*words, "--by", "dynamics", "--protocol", "split") == 0
    assert "P: test split" in capsys.readouterr().out
    assert len(json.loads(written.with_suffix(".json").read_text())) == 2


def test_the_result_goes_to_the_run(zoo, project, digits, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "lightning_zoo.callbacks.mlflow_store.log_to_run",
        lambda run, values, files: logged.append((run, values, files)),
    )
    (project / "mlflow_run_id").write_text("abc\n")
    words = ("recognize", "--ckpt_path", str(digits), "--epochs", "1", "--num_clips", "8")
    assert zoo(*words, "--log", "false") == 0
    assert not logged
    assert zoo(*words) == 0
    [(run, values, files)] = logged
    assert run == "abc"
    assert {"recognize/statics/accuracy", "recognize/frame_votes/balanced_accuracy"} <= values.keys()
    assert "recognize/frame_votes/attention" not in values
    assert [file.name for file in files] == ["recognize.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--hidden_size", "0"], "--hidden_size must be at least 1, got 0"),
        (["--num_clips", "0"], "--num_clips must be at least 1, got 0"),
        (["--learning_rate", "0"], "--learning_rate must be positive, got 0"),
        (["--weight_decay", "-1"], "--weight_decay must be 0 or more, got -1"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
        (["--by", "all"], "by"),
        (["--output", "pictures/"], "--output pictures/: name a PNG file"),
        (["--protocol", "leave_one_actor_out"], "MovingMNIST knows of no two actors; give --protocol split"),
        (["--ckpt_path", "absent.ckpt"], "No checkpoint absent.ckpt."),
    ],
)
def test_mistakes_are_told_in_one_line(zoo, digits, capsys, words, message):
    assert zoo("recognize", "--ckpt_path", str(digits), *words) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


def test_other_methods_cannot_recognize(zoo, project, capsys):
    path = checkpoint(project / "autoencoder.ckpt", VideoAutoencoder(base_channels=2))
    assert zoo("recognize", "--ckpt_path", str(path)) == 2
    said = capsys.readouterr().err
    assert "VideoAutoencoder, which cannot recognize: name a checkpoint of StaticsDynamics or VideoClassifier" in said


def test_folds_of_statics_and_dynamics_are_made_here(zoo, digits, capsys):
    assert zoo("recognize", "--ckpt_path", str(digits), str(digits)) == 2
    assert "holds StaticsDynamics, whose folds are made here: give one checkpoint" in capsys.readouterr().err
