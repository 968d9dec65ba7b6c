"""Features of frozen classifiers: torchvision's networks cut at a layer, and classifiers of this package."""

import lightning as L
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.generative.classifier import Classifier
from lightning_zoo.generative.perceptual import make_perceptual

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope="module")
def vgg():
    """The convolutions of torchvision's VGG11 with drawn weights."""
    torch.manual_seed(0)
    layers = make_layers(cfgs["A"]).eval()
    for parameter in layers.parameters():
        nn.init.normal_(parameter, 0, 0.05)
    return layers


@pytest.fixture
def vgg_file(vgg, tmp_path):
    path = tmp_path / "vgg11.pth"
    torch.save({f"features.{name}": value for name, value in vgg[:13].state_dict().items()}, path)
    return str(path)


def assert_same_function(network, slow, images):
    images = images.requires_grad_()
    got, wanted = network(images), slow(images)
    torch.testing.assert_close(got, wanted)
    direction = torch.randn_like(got)
    gradients = [torch.autograd.grad((out * direction).sum(), images)[0] for out in (got, wanted)]
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(*gradients)
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("layer", "number"), [(None, 10), ("features.12", 13), ("features.8", 9)])
def test_vgg11_is_cut_after_the_layer_and_normalises_inside(vgg, vgg_file, layer, number):
    network = make_perceptual("vgg11", vgg_file, layer)

    def slow(images):
        x = (images - MEAN) / DEVIATION
        for place in vgg[:number]:
            x = x.relu() if isinstance(place, nn.ReLU) else place(x)
        return x

    assert_same_function(network, slow, torch.rand(2, 3, 32, 32))
    convolutions = [place for place in vgg[:number] if isinstance(place, nn.Conv2d)]
    wanted = sum(value.numel() for place in convolutions for value in place.parameters())
    assert sum(value.numel() for value in network.parameters()) == wanted, "later layers are not built"


@pytest.mark.parametrize("old_file", [False, True])
def test_resnet50(tmp_path, old_file):
    torch.manual_seed(0)
    whole = torchvision.models.resnet50(weights=None).eval()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    weights = {name: value for name, value in whole.state_dict().items() if not name.startswith(("layer3", "layer4"))}
    if old_file:
        weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "resnet50.pth")
    network = make_perceptual("resnet50", str(tmp_path / "resnet50.pth"))

    def slow(images):
        x = whole.maxpool(whole.bn1(whole.conv1((images - MEAN) / DEVIATION)).relu())
        return whole.layer2(whole.layer1(x))

    assert_same_function(network, slow, torch.rand(1, 3, 32, 32))


@pytest.fixture
def classifier_file(tmp_path):
    torch.manual_seed(0)
    model = Classifier(image_shape=(3, 32, 32), class_names=["a", "b"], base_channels=4)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "classifier.ckpt")
    return str(tmp_path / "classifier.ckpt"), model.eval()


def test_a_classifier_of_ours_sees_images_of_its_own_size(classifier_file):
    path, model = classifier_file
    network = make_perceptual("classifier", path)
    assert_same_function(network, lambda images: model.features(F.avg_pool2d(images, 2)), torch.rand(2, 3, 64, 64))


def test_a_named_layer_of_a_classifier(classifier_file):
    path, model = classifier_file
    network = make_perceptual("classifier", path, "network.layers.0")

    def slow(images):
        return model.network.layers[0]((images - model.mean) / model.deviation)

    assert_same_function(network, slow, torch.rand(2, 3, 32, 32))


def test_mistakes(vgg_file, classifier_file, tmp_path):
    (tmp_path / "damaged.pth").write_bytes(b"no weights")
    torch.save({"weights": [1]}, tmp_path / "list.pth")
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "gray.pth")
    for arguments, message in [
        (("vgg11", str(tmp_path / "none.pth")), "no file .*none.pth"),
        (("vgg11", str(tmp_path / "damaged.pth")), "damaged.pth is damaged"),
        (("vgg11", str(tmp_path / "list.pth")), "is no state dictionary"),
        (("vgg11", str(tmp_path / "gray.pth")), "no fitting 'features.0.weight': it is not torchvision's vgg11"),
        (("resnet50", vgg_file), "it is not torchvision's resnet50"),
        (
            ("vgg11", vgg_file, "feature.9"),
            "perceptual_layer='feature.9' is no layer of VGG; did you mean 'features.9'",
        ),
        (("vgg12", vgg_file), "perceptual_network must be"),
        (("classifier", classifier_file[0], "network.layer"), "is no layer of Classifier; did you mean"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            make_perceptual(*arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="No checkpoint"):
        make_perceptual("classifier", str(tmp_path / "none.ckpt"))
