"""The classifier: what its network computes, what it learns, what its checkpoint holds, what it refuses."""

import copy
import warnings

import lightning as L
import pytest
import torch
import torchvision
from torch.nn import functional as F

from lightning_zoo.checkpoints import load
from lightning_zoo.generative.classifier import Classifier
from lightning_zoo.networks.vgg11 import VGG11

warnings.filterwarnings("ignore", ".*LeafSpec.*")


class Stripes(L.LightningDataModule):
    """Noise with a bright half: which half is the class; with variables also a label that is not in the image."""

    def __init__(self, variables=None, entry="images", channels=1, size=28):
        super().__init__()
        self.image_shape = (channels, size, size)
        self.class_names = [] if variables else ["left", "right"]
        self.variables = variables or []
        generator = torch.Generator().manual_seed(0)
        self.batches = []
        for _ in range(4):
            side = torch.randint(0, 2, (16,), generator=generator)
            images = torch.randint(0, 60, (16, *self.image_shape), generator=generator)
            for image, one in zip(images, side, strict=True):
                image[:, :, one * size // 2 : (one + 1) * size // 2] += 150
            noise = torch.randint(0, 256, (16,), generator=generator)
            labels = torch.stack([100 + side, noise], 1) if variables else side
            self.batches.append({entry: images.to(torch.uint8), "labels": labels})

    def _loader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    train_dataloader = val_dataloader = test_dataloader = _loader


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 4,
    }
    return L.Trainer(**(quiet | options))


def small(**options):
    return Classifier(**({"base_channels": 4, "learning_rate": 0.01, "dropout": 0.0} | options))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    L.seed_everything(0, verbose=False)
    module, data, run = small(), Stripes(), trainer()
    run.fit(module, data)
    path = tmp_path_factory.mktemp("classifier") / "classifier.ckpt"
    run.save_checkpoint(path)
    return module.eval(), data, run, path


def test_it_learns_and_its_checkpoint_loads_alone(fitted):
    module, data, run, path = fitted
    assert {"val/loss", "val/accuracy"} <= set(run.callback_metrics)
    assert run.callback_metrics["val/accuracy"] == 1
    loaded = load(path)
    assert loaded.image_shape == (1, 28, 28)
    assert loaded.hparams["class_names"] == ["left", "right"]
    images = data.batches[0]["images"]
    assert loaded.logits(images).shape == (16, 2)
    torch.testing.assert_close(loaded.logits(images), module.logits(images), rtol=0, atol=0)
    torch.testing.assert_close(loaded.logits(images.float() / 255), loaded.logits(images))
    assert loaded.encode(images).shape == (16, 32)


def test_what_is_logged_is_counted_by_hand(fitted):
    module, data, _, _ = fitted
    module = copy.deepcopy(module)
    with torch.no_grad():
        module.head.weight.mul_(-0.5)
    logged = trainer().test(module, data, verbose=False)[0]
    with torch.no_grad():
        logits = torch.cat([module.eval().logits(batch["images"]) for batch in data.batches])
    labels = torch.cat([batch["labels"] for batch in data.batches])
    probabilities = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    loss = -sum(p[label].log() for p, label in zip(probabilities, labels, strict=True)) / len(labels)
    assert logged["test/loss"] == pytest.approx(float(loss), rel=1e-4)
    right = sum(int(p.argmax()) == int(label) for p, label in zip(probabilities, labels, strict=True))
    assert logged["test/accuracy"] == pytest.approx(right / len(labels))


def test_several_variables_share_the_features():
    L.seed_everything(0, verbose=False)
    module, data = small(), Stripes(variables=["side", "noise"], entry="frames")
    run = trainer(max_epochs=15)
    run.fit(module, data)
    logged = run.test(module, data, verbose=False)[0]
    assert logged["test/variables/side/accuracy"] > 0.9
    assert logged["test/variables/noise/accuracy"] < 0.5
    mean = (logged["test/variables/side/accuracy"] + logged["test/variables/noise/accuracy"]) / 2
    assert logged["test/accuracy"] == pytest.approx(mean)
    frames = data.batches[0]["frames"]
    result = module.eval().predict_step(data.batches[0], 0)
    assert module.logits(frames).shape == (16, 2, 256)
    assert torch.equal(result["predictions"], module.logits(frames).argmax(-1))
    labels = data.batches[0]["labels"]
    one_by_one = [F.cross_entropy(module.logits(frames)[:, k], labels[:, k]) for k in range(2)]
    torch.testing.assert_close(module._loss(data.batches[0])[0], sum(one_by_one) / 2)


@pytest.mark.parametrize("size", [28, 29, 33, 64, 97, 224])
def test_any_image_size(size):
    network = VGG11(input_channels=2, base_channels=2).eval()
    assert network(torch.rand(2, 2, size, size)).shape == (2, 16)
    last = network.layers(torch.rand(1, 2, size, size)).shape[-1]
    assert last == -(-size // 32), "five halvings, rounded up"


def test_the_published_network_with_its_published_weights(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11_bn(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "vgg11_bn.pth")
    module = Classifier(initial_weights=str(tmp_path / "vgg11_bn.pth"), image_shape=(3, 64, 64), class_names=["a", "b"])
    run = trainer(limit_train_batches=0, limit_val_batches=0)
    run.fit(module, Stripes(channels=3, size=64))
    images = torch.rand(2, 3, 64, 64)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / deviation[:, None, None]
    with torch.no_grad():
        expected = theirs.features(normalised).mean((2, 3))
        torch.testing.assert_close(module.eval().features(images), expected, rtol=1e-4, atol=1e-5)
    run.save_checkpoint(tmp_path / "classifier.ckpt")
    (tmp_path / "vgg11_bn.pth").unlink()
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "classifier.ckpt").features(images), module.features(images))


def test_weights_without_normalisation_and_gray_images():
    torch.manual_seed(0)
    theirs = torchvision.models.vgg11(weights=None).eval()
    network = VGG11(input_channels=1).eval()
    network.take_torchvision_weights(theirs.state_dict())
    gray = torch.rand(2, 1, 32, 32)
    for layer in network.layers:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 0.0  # identity, which the original has in its place
    with torch.no_grad():
        expected = theirs.features(gray.expand(-1, 3, -1, -1)).mean((2, 3))
        torch.testing.assert_close(network(gray), expected, rtol=1e-4, atol=1e-6)


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not those of torchvision's vgg11"):
        VGG11().take_torchvision_weights(torchvision.models.resnet18(weights=None).state_dict())
    with pytest.raises(ValueError, match="base_channels is not 64"):
        VGG11(base_channels=8).take_torchvision_weights(torchvision.models.vgg11(weights=None).state_dict())
    for path, reason in ((tmp_path / "none.pth", "no file"), (tmp_path / "text.pth", "damaged")):
        if reason == "damaged":
            path.write_text("no weights")
        module = Classifier(initial_weights=str(path))
        with pytest.raises(ValueError, match=f"initial_weights: .*{reason}|initial_weights: {reason}"):
            trainer().fit(module, Stripes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"], "variables": ["b"]}, "class_names and variables are both set"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"learning_rate_decay": 0.0}, r"learning_rate_decay must be in \(0, 1\], got 0.0"),
        ({"base_channels": 0}, "base_channels must be at least 1, got 0"),
        ({"image_shape": (1, 28, 30), "class_names": ["a"]}, "square and at least 28x28, got 28x30"),
        ({"image_shape": (1, 20, 20), "class_names": ["a"]}, "square and at least 28x28, got 20x20"),
        ({"image_shape": (1, 28, 28), "class_names": []}, "nothing to tell apart"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Classifier(**options)
    assert "\n" not in str(error.value)


def test_data_without_labels():
    data = Stripes()
    data.class_names = []
    with pytest.raises(ValueError, match="neither class_names nor variables"):
        trainer().fit(small(), data)
    module = small(image_shape=(1, 28, 28), class_names=["left", "right"])
    with pytest.raises(ValueError, match="has images but no labels"):
        module._loss({"images": data.batches[0]["images"]})
    with pytest.raises(ValueError, match="1 labels per image, the batch has 3"):
        module._loss({"images": data.batches[0]["images"], "labels": torch.zeros(16, 3, dtype=torch.long)})


def test_the_rate_falls_after_each_epoch():
    module = small(learning_rate_decay=0.5)
    run = trainer(max_epochs=2)
    run.fit(module, Stripes())
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.5 * 0.5)
