"""`lightning_zoo score` on a toy: what it measures, prints, writes and keeps, and what it refuses."""

import json
import sqlite3
import sys
from contextlib import closing

import lightning as L
import pytest
import torch

from lightning_zoo.generative.classifier import Classifier
from lightning_zoo.metrics import feature_extractors
from lightning_zoo.metrics.feature_extractors import EncoderExtractor, RandomExtractor
from lightning_zoo.metrics.image_quality import frechet_distance, inception_score, kernel_distance

ROWS = 30
WORDS = ["score", "--ckpt_path", "last", "--num_images", "24", "--batch_size", "7", "--device", "cpu", "--extractor"]


def save(module, path, **data):
    checkpoint = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": L.__version__,
    }
    if data:
        checkpoint["datamodule_hyper_parameters"] = data
        checkpoint["datamodule_name"] = "generative_toy.ToyPictures"
    module.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return path


@pytest.fixture
def trained(project, generative_toy):
    path = project / "runs" / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    data = {"root": str(project / "data"), "rows": ROWS}
    yield save(generative_toy.LinearToy(), path, **data)
    sys.modules.pop("generative_toy", None)


@pytest.fixture
def judge(project, trained):
    torch.manual_seed(0)
    module = Classifier(image_shape=(1, 28, 28), class_names=["a", "b", "c"], base_channels=2)
    with torch.no_grad():
        module.head.weight.mul_(20)
    return save(module, project / "judge.ckpt")


def written(trained):
    return json.loads((trained.parents[1] / "scores.json").read_text())


def sets(generative_toy, extractor):
    """Features and logits of the real images, of the samples and of the reconstructions, by hand."""
    data, model = generative_toy.ToyPictures(rows=ROWS), generative_toy.LinearToy().eval()
    data.setup()
    real = data.images[:24] / 255
    samples = torch.cat([*sampled(model, 24)])
    return [extractor.extract(images) for images in (real, samples, model.reconstruct(real))]


def sampled(model, number):
    generator = torch.Generator().manual_seed(0)
    for start in range(0, number, 7):
        yield model.sample(min(7, number - start), generator=generator)


def row(output, name):
    return next(line for line in output.splitlines() if line.startswith(f"{name} ")).removeprefix(name).split()


def one_error(captured):
    lines = [line for line in captured.err.strip().splitlines() if not line.startswith("The ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_a_judge_of_ours(zoo, trained, judge, generative_toy, capsys):
    assert zoo(*WORDS, str(judge), "--reconstructions") == 0
    output = capsys.readouterr().out
    [(name, entry)] = written(trained).items()
    from lightning_zoo.checkpoints import load

    extractor = EncoderExtractor(load(judge))
    assert name == f"last_val_24_Classifier-{extractor.identity[:6]}"
    real, samples, made = sets(generative_toy, extractor)
    expected = {
        "frechet_distance": frechet_distance(real[0], samples[0]),
        "kernel_distance": kernel_distance(real[0], samples[0]),
        "inception_score": inception_score(samples[1]),
        "inception_score_of_real_images": inception_score(real[1]),
        "frechet_distance_of_reconstructions": frechet_distance(real[0], made[0]),
    }
    assert entry["scores"].keys() == expected.keys()
    for key, quality in expected.items():
        found = entry["scores"][key]
        assert found["value"] == pytest.approx(quality.value, rel=1e-3, abs=1e-7), key
        assert row(output, key.replace("_", " "))[0] == f"{found['value']:.5g}"
    assert row(output, "frechet distance")[2:] == ["24", "24"]
    assert row(output, "inception score")[2:] == ["-", "24"]
    assert row(output, "inception score of real images")[2:] == ["24", "-"]
    for said in ("24 of LinearToy from runs/toy", "24 of ToyPictures val, 1x8x8, crop: none", "judge.ckpt at 28x28"):
        assert said in output
    assert entry["step"] == 2


def test_results_of_other_settings_stand_beside_each_other(zoo, trained, capsys):
    assert zoo(*WORDS, "random") == 0
    assert zoo(*WORDS, "random", "--seed", "4", "--truncation", "0.5", "--metrics", "kid") == 0
    assert zoo(*WORDS, "random", "--split", "test", "--log", "false") == 0
    found = written(trained)
    assert set(found) == {"last_val_24_random", "last_val_24_random_truncation0.5_seed4"}
    first, second = found.values()
    assert set(first["scores"]) == {"frechet_distance", "kernel_distance"}
    assert set(second["scores"]) == {"kernel_distance"}
    assert first["scores"]["kernel_distance"] != second["scores"]["kernel_distance"]
    assert "much more so with no more than 224: compare" in capsys.readouterr().out


@pytest.mark.parametrize("binarization", ["static", "none", None])
def test_gray_samples_against_black_and_white_images_are_told(
    zoo, trained, generative_toy, monkeypatch, capsys, binarization
):
    monkeypatch.setattr(generative_toy.ToyPictures, "binarization", binarization, raising=False)
    assert zoo(*WORDS, "random") == 0
    said = "black and white (binarization: static)"
    assert (said in capsys.readouterr().out) == (binarization == "static")
    [entry] = written(trained).values()
    assert any(said in line for line in entry["caption"]) == (binarization == "static")


class Counted(RandomExtractor):
    seen = 0

    def extract(self, images):
        Counted.seen += len(images)
        return super().extract(images)


def test_real_images_are_looked_at_once(zoo, trained, project, monkeypatch):
    monkeypatch.setattr(feature_extractors, "make_extractor", lambda spec: Counted())
    monkeypatch.setattr(Counted, "seen", 0)
    seen = []
    for words in ((), ("--seed", "1"), ("--num_images", "20"), ("--split", "test")):
        assert zoo(*WORDS, "random", *words) == 0
        seen.append(Counted.seen)
        Counted.seen = 0
    assert seen == [48, 24, 40, 48]
    assert len(list((project / "data" / "statistics").glob("*.npz"))) == 3


def test_other_weights_of_the_extractor_are_another_one(zoo, trained, project, judge):
    assert zoo(*WORDS, str(judge)) == 0
    torch.manual_seed(1)
    save(Classifier(image_shape=(1, 28, 28), class_names=["a", "b", "c"], base_channels=2), judge)
    assert zoo(*WORDS, str(judge)) == 0
    assert len(list((project / "data" / "statistics").glob("*.npz"))) == 2
    assert len(written(trained)) == 2


def test_fewer_real_images_than_asked_for_are_told(zoo, trained, capsys):
    assert zoo(*WORDS, "random", "--num_images", "40") == 0
    captured = capsys.readouterr()
    assert "The val split has 30 images" in captured.err
    assert row(captured.out, "frechet distance")[2:] == ["30", "40"]


def test_scores_arrive_in_the_run_of_the_checkpoint(zoo, trained, project):
    from mlflow.tracking import MlflowClient

    from lightning_zoo.callbacks.mlflow_store import default_uri

    run = MlflowClient(default_uri()).create_run("0").info.run_id
    (trained.parents[1] / "mlflow_run_id").write_text(run)
    assert zoo(*WORDS, "random") == 0
    with closing(sqlite3.connect(project / "mlflow.db")) as base:
        logged = dict(base.execute("select key, value from metrics where run_uuid = ?", [run]).fetchall())
    scores = written(trained)["last_val_24_random"]["scores"]
    assert logged["score/last_val_24_random/frechet_distance"] == pytest.approx(scores["frechet_distance"]["value"])
    assert "score/last_val_24_random/frechet_distance_deviation" not in logged


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("random", "--num_images", "0"), "--num_images must be at least 1, got 0"),
        (("random", "--num_images", "1"), "two real images or more are needed, got 1"),
        (("random", "--truncation", "-1"), "--truncation must be 0 or more"),
        (("random", "--metrics", "fidd"), "metrics must be some of frechet, kernel, inception, got fidd"),
        (("random", "--metrics", "frechet,inception"), "metrics: inception needs class probabilities"),
        (("nowhere.ckpt",), "extractor: no file nowhere.ckpt"),
        (("inception:nowhere.pth",), "extractor: no file nowhere.pth of Inception weights"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(zoo, trained, capsys, words, message):
    assert zoo(*WORDS, *words) == 2
    assert message in one_error(capsys.readouterr())
    assert not (trained.parents[1] / "scores.json").exists()


def test_checkpoints_that_cannot_be_scored(zoo, trained, judge, generative_toy, capsys):
    assert zoo("score", "--ckpt_path", str(judge), "--extractor", "random") == 2
    assert "Classifier, which is no generative method" in one_error(capsys.readouterr())
    save(generative_toy.LinearToy(), trained)
    assert zoo(*WORDS, "random") == 2
    assert "does not say which dataset" in one_error(capsys.readouterr())
