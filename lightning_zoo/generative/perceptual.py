"""Features that two images are compared by: a layer of a frozen, trained classifier (Johnson et al. 2016)."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_zoo.networks.area_resize import area_resize

PerceptualNetwork = Literal["vgg11", "resnet50", "classifier"]

DEFAULT_LAYERS = {"vgg11": "features.9", "resnet50": "layer2"}
"""Layers where the map has a quarter and an eighth of the image's side; the thesis names none.

That of VGG11 ends its third block, whose counterpart in VGG16 is relu3_3 of Johnson et al.
"""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionFeatures(nn.Module):
    """One layer of torchvision's VGG11 or ResNet50, frozen; what comes after the layer is not even built.

    Args:
        network: "vgg11" or "resnet50".
        path: a file with the state dictionary that torchvision publishes.
        layer: name of a submodule; None for the one in `DEFAULT_LAYERS`.

    Raises:
        ValueError: for an unknown layer, a missing or damaged file, or weights of another network.
    """

    def __init__(self, network: Literal["vgg11", "resnet50"], path: str, layer: str | None = None) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.extractor = _cut(network, layer or DEFAULT_LAYERS[network])
        wanted = self.extractor.state_dict()
        given = _read_state_dict(path)
        for name in set(wanted) - set(given):
            if name.endswith("num_batches_tracked"):  # files of old have none, and nothing here reads it
                given[name] = torch.tensor(0)
        missing = [name for name, value in wanted.items() if name not in given or given[name].shape != value.shape]
        if missing:
            raise ValueError(
                f"perceptual_path: {path} has no fitting {missing[0]!r}: it is not torchvision's {network}"
            )
        weights = {name: given[name].float() if given[name].is_floating_point() else given[name] for name in wanted}
        self.extractor.load_state_dict(weights, assign=True)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None])
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, F, h, w) of images (B, 3, H, W) in [0, 1] of any size, which are normalised here."""
        features: Tensor = self.extractor((images - self.mean) / self.deviation)["features"]
        return features


class ClassifierFeatures(nn.Module):
    """Features of a classifier of this package, frozen.

    Args:
        path: a checkpoint of any method with `features(images) -> (B, F)`, such as `Classifier`.
        layer: name of a submodule whose output is taken instead; None for `features` itself.

    Raises:
        ValueError: for a method without `features`, or an unknown layer.
        CheckpointError: for a checkpoint that cannot be loaded.
    """

    def __init__(self, path: str, layer: str | None = None) -> None:
        super().__init__()
        from lightning_zoo.checkpoints import load

        self.classifier = load(path)
        if not callable(getattr(self.classifier, "features", None)):
            raise ValueError(f"perceptual_path: {path} holds {type(self.classifier).__name__}, which has no features()")
        self._seen: list[Tensor] = []
        self.layer = layer
        if layer is not None:
            _check_layer(self.classifier, layer)
            self.classifier.get_submodule(layer).register_forward_hook(self._keep)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, ...) of images (B, C, H, W) in [0, 1], brought to the classifier's size."""
        size = getattr(self.classifier, "image_shape", images.shape[1:])[-1]
        features: Tensor = self.classifier.features(area_resize(images, size))  # type: ignore[operator]
        if self.layer is None:
            return features
        return self._seen.pop()

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen[:] = [output.clone()]  # the next layer may be an in-place ReLU


def make_perceptual(network: PerceptualNetwork, path: str, layer: str | None = None) -> nn.Module:
    """The network whose features images are compared by.

    Args:
        network: "vgg11" or "resnet50" of torchvision with a file of weights, or "classifier" with a checkpoint of ours.
        path: the file.
        layer: name of a submodule; None for the default.

    Raises:
        ValueError: for an unknown network, or as its class.
    """
    if network == "classifier":
        return ClassifierFeatures(path, layer)
    if network in DEFAULT_LAYERS:
        return TorchvisionFeatures(network, path, layer)
    raise ValueError(f"perceptual_network must be 'vgg11', 'resnet50' or 'classifier', got {network!r}")


def _cut(network: str, layer: str) -> nn.Module:
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    # On "meta" nothing is allocated or drawn: the file brings all weights.
    with torch.device("meta"):
        whole = getattr(torchvision.models, network)(weights=None).eval()
    _check_layer(whole, layer)
    cut: nn.Module = create_feature_extractor(whole, {layer: "features"})
    return cut


def _check_layer(network: nn.Module, layer: str) -> None:
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        near = get_close_matches(layer, names, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"perceptual_layer={layer!r} is no layer of {type(network).__name__}{hint}")


def _read_state_dict(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise ValueError(f"perceptual_path: no file {path}; it is a state dictionary that torchvision publishes")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as there are places where a file can break off
        raise ValueError(f"perceptual_path: {path} is damaged or no file of plain weights") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(
            f"perceptual_path: {path} is no state dictionary; perceptual_network may have to be classifier"
        )
    return weights
