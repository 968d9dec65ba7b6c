"""`score`, `reconstruct` and `complete` of a method that draws by attributes."""

import json

import lightning as L
import pytest
import torch
from PIL import Image

from datamodules import CelebA
from lightning_zoo.metrics.feature_extractors import RandomExtractor
from lightning_zoo.metrics.image_quality import frechet_distance


@pytest.fixture
def faces(project, faces_root):
    """Arguments of 48 synthetic faces of 32x32."""
    return {"root": str(faces_root), "cache": str(project / "cache"), "image_size": 32, "num_workers": 1}


def save(module, path, data):
    checkpoint = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": L.__version__,
        "datamodule_hyper_parameters": data,
        "datamodule_name": "CelebA",
    }
    module.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return path


@pytest.fixture
def model(conditional_toy):
    """A toy that draws 16x16, half of what the data serve, and whose reconstructions are of the attributes alone."""
    return conditional_toy.ConditionalToy(size=16).eval()


@pytest.fixture
def toy(project, model, faces):
    return save(model, project / "runs" / "toy" / "version_0" / "checkpoints" / "last.ckpt", faces)


def first(faces, model, number, split="val"):
    """Images (N, 3, 16, 16) and attributes (N, A) of a split, in the toy's size and order."""
    data = CelebA(**faces)
    data.prepare_data()
    data.setup()
    batches = list(getattr(data, f"{split}_dataloader")())
    columns = [data.attribute_names.index(name) for name in model.attribute_names]
    images = torch.cat([batch["images"] for batch in batches])[:number]
    attributes = torch.cat([batch["attributes"] for batch in batches])[:number, columns].float()
    return (torch.nn.functional.avg_pool2d(images.float(), 2).round() / 255), attributes


def one_error(captured):
    lines = [line for line in captured.err.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def score(toy, *more):
    return ["score", "--ckpt_path", str(toy), "--extractor", "random", "--device", "cpu", "--batch_size", "4", *more]


def test_score_draws_what_the_images_of_the_split_show(zoo, toy, model, faces, capsys):
    assert zoo(*score(toy, "--num_images", "6", "--metrics", "frechet", "--reconstructions")) == 0
    real, attributes = first(faces, model, 6)
    shown = len(real)
    wanted = torch.cat([attributes, attributes])[:6]
    generator = torch.Generator().manual_seed(0)
    made = torch.cat([model.sample(len(p), attributes=p, generator=generator) for p in wanted.split(4)])
    extractor = RandomExtractor()
    features, drawn, again = (extractor(x) for x in (real, made, model.reconstruct(real, attributes)))
    [entry] = json.loads((toy.parents[1] / "scores.json").read_text()).values()
    found = {name: row["value"] for name, row in entry["scores"].items()}
    assert found["frechet_distance"] == pytest.approx(frechet_distance(features, drawn).value, rel=1e-3)
    assert found["frechet_distance_of_reconstructions"] == pytest.approx(
        frechet_distance(features, again).value, rel=1e-3
    )
    output = capsys.readouterr().out
    often = f", {6 / shown:.3g} times each" if shown < 6 else ""
    assert f"attributes: those of the first {min(shown, 6)} images of CelebA val{often}" in output
    assert "3x32x32 averaged down to 3x16x16" in output


def test_score_of_the_test_split_and_without_an_encoder(zoo, toy, conditional_toy, monkeypatch, capsys):
    monkeypatch.setattr(conditional_toy.ConditionalToy, "reconstruct", None)
    assert zoo(*score(toy, "--num_images", "3", "--split", "test")) == 0
    assert "of the first 3 images of CelebA test" in capsys.readouterr().out
    assert zoo(*score(toy, "--num_images", "3", "--reconstructions")) == 2
    assert "--reconstructions: ConditionalToy has no encoder" in one_error(capsys.readouterr())


def test_features_of_averaged_images_are_not_those_of_others(zoo, toy, project, conditional_toy, faces, faces_root):
    folder = faces_root / "statistics"
    known = set(folder.glob("*.npz"))
    assert zoo(*score(toy, "--num_images", "4")) == 0
    large = save(conditional_toy.ConditionalToy(size=32), project / "large.ckpt", faces)
    assert zoo(*score(large, "--num_images", "4")) == 0
    assert len(set(folder.glob("*.npz")) - known) >= 2


def reconstruct(toy, *more):
    return ["reconstruct", "--ckpt_path", str(toy), "--num_images", "3", "--batch_size", "2", "--device", "cpu", *more]


def pixels(file):
    with Image.open(file) as picture:
        return torch.tensor(list(picture.convert("RGB").getdata())).reshape(16, 16, 3).permute(2, 0, 1) / 255


def test_reconstructions_know_the_attributes_of_the_images(zoo, toy, model, faces, project, capsys):
    assert zoo(*reconstruct(toy, "--output", "made/")) == 0
    assert "CelebA serves images of 3x32x32, averaged down to 3x16x16" in capsys.readouterr().err
    real, attributes = first(faces, model, 3)
    for index, expected in enumerate(model.reconstruct(real, attributes)):
        torch.testing.assert_close(
            pixels(project / f"made/{index:06d}_reconstruction.png"), expected, atol=5e-3, rtol=0
        )
        original = pixels(project / f"made/{index:06d}_original.png")
        torch.testing.assert_close(original, real[index], atol=5e-3, rtol=0)


def test_attributes_that_are_named_take_the_place_of_the_datasets(zoo, toy, model, faces, project):
    assert zoo(*reconstruct(toy, "--output", "made/", "--attributes", "eyeglasses", "-Male")) == 0
    real, attributes = first(faces, model, 3)
    changed = attributes.clone()
    changed[:, model.attribute_names.index("Eyeglasses")] = 1
    changed[:, model.attribute_names.index("Male")] = -1
    assert not torch.equal(changed, attributes)
    for index, expected in enumerate(model.reconstruct(real, changed)):
        torch.testing.assert_close(
            pixels(project / f"made/{index:06d}_reconstruction.png"), expected, atol=5e-3, rtol=0
        )


def test_own_pictures_have_to_be_described(zoo, toy, model, project, capsys):
    Image.new("RGB", (16, 16), (90, 120, 30)).save(project / "own.png")
    assert zoo(*reconstruct(toy, "--images", "own.png")) == 2
    assert "has to be told what the pictures show: name it with --attributes" in one_error(capsys.readouterr())
    assert zoo(*reconstruct(toy, "--images", "own.png", "--attributes", "Smiling", "--output", "made/")) == 0
    wanted = torch.zeros(1, 5)
    wanted[0, model.attribute_names.index("Smiling")] = 1
    expected = model.reconstruct(torch.zeros(1, 3, 16, 16), wanted)[0]
    torch.testing.assert_close(pixels(project / "made/000000_reconstruction.png"), expected, atol=5e-3, rtol=0)


def test_what_cannot_be_done_is_one_line(
    zoo, toy, project, faces, conditional_toy, generative_toy, monkeypatch, capsys
):
    assert zoo("complete", "--ckpt_path", str(toy), "--mask", "half") == 2
    assert "ConditionalToy, which draws by attributes: complete searches latents alone" in one_error(
        capsys.readouterr()
    )
    assert zoo(*reconstruct(toy, "--attributes", "Smilling")) == 2
    assert "no attribute 'Smilling'; the nearest: Smiling" in one_error(capsys.readouterr())
    plain = save(generative_toy.LinearToy(size=16, channels=3), project / "plain.ckpt", faces)
    assert zoo(*reconstruct(plain, "--attributes", "Smiling")) == 2
    assert "LinearToy draws without attributes" in one_error(capsys.readouterr())
    other = save(
        conditional_toy.ConditionalToy(attribute_names=("Smiling", "Eyeglases")), project / "other.ckpt", faces
    )
    assert zoo(*reconstruct(other)) == 2
    assert "attribute 'Eyeglases' is none of CelebA; the nearest: Eyeglasses" in one_error(capsys.readouterr())
    # As a GAN that inherits the method of autoencoders has it.
    monkeypatch.setattr(conditional_toy.ConditionalToy, "reconstruct", lambda self, images: images)
    assert zoo(*reconstruct(toy)) == 2
    assert "ConditionalToy, which has no encoder: it reconstructs nothing" in one_error(capsys.readouterr())


def test_data_without_attributes(zoo, project, conditional_toy, generative_toy, capsys):
    path = save(conditional_toy.ConditionalToy(size=16), project / "blind.ckpt", {"size": 16, "channels": 3})
    checkpoint = torch.load(path, weights_only=True) | {"datamodule_name": "generative_toy.ToyPictures"}
    torch.save(checkpoint, path)
    for command in (reconstruct(path), score(path, "--num_images", "3")):
        assert zoo(*command) == 2
        assert "ToyPictures has no attributes, which ConditionalToy needs" in one_error(capsys.readouterr())


def test_all_that_is_missing_is_named(zoo, project, capsys):
    assert zoo("attributes") == 2
    assert capsys.readouterr().err == "error: Missing: ckpt_path, classifier. Give --ckpt_path ... --classifier ...\n"
