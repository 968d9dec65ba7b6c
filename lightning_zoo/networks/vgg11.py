"""The convolutions of VGG11 with batch normalisation (Simonyan and Zisserman 2015, arXiv 1409.1556, column A)."""

import torch
from torch import Tensor, nn

_WIDTHS: tuple[int | None, ...] = (1, None, 2, None, 4, 4, None, 8, 8, None, 8, 8, None)
"""Channels of each convolution in units of ``base_channels``; None is a pooling that halves the map."""


class VGG11(nn.Module):
    """Eight 3x3 convolutions, each with batch normalisation and ReLU, and five poolings; then the mean over places.

    The layers lie where torchvision's `vgg11_bn` has its ``features``, so that ``layers.load_state_dict`` takes them.
    Two things differ: poolings round up, so that an image of 28x28 still has one place left at the end, and the mean
    over places stands for the two large linear layers, so that any image size gives as many features.

    Args:
        input_channels: 1 for gray images, 3 for colour.
        base_channels: width of the first convolution, 64 in the original; the last has eight times as much.
    """

    def __init__(self, *, input_channels: int = 3, base_channels: int = 64) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.feature_size = 8 * base_channels
        layers: list[nn.Module] = []
        previous = input_channels
        for width in _WIDTHS:
            if width is None:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                continue
            channels = width * base_channels
            layers += [nn.Conv2d(previous, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            previous = channels
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.layers.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 8 * base_channels) of normalised float images (B, C, H, W)."""
        return self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))

    @torch.no_grad()
    def take_torchvision_weights(self, weights: dict[str, Tensor]) -> None:
        """Start from the convolutions of torchvision's `vgg11_bn`, or of `vgg11`, which has no batch normalisation.

        Gray images get the sum of the first layer's kernels over its three colours.

        Args:
            weights: the state dictionary that torchvision publishes.

        Raises:
            ValueError: if it is of another network, or this one is not 64 channels wide.
        """
        own = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        names = [name for name, value in weights.items() if name.startswith("features.") and value.dim() == 4]
        shapes = [(layer.out_channels, layer.in_channels) for layer in own]
        theirs = [tuple(weights[name].shape[:2]) for name in names]
        if theirs[:1] != [(64, 3)] or theirs[1:] != shapes[1:]:
            raise ValueError(
                "the weights are not those of torchvision's vgg11 or vgg11_bn, or base_channels is not 64: "
                f"the file's convolutions have {theirs[:3]}... channels, this network's {shapes[:3]}..."
            )
        for layer, name in zip(own, names, strict=True):
            kernel = weights[name]
            layer.weight.copy_(kernel.sum(1, keepdim=True) if kernel.shape[1] != layer.in_channels else kernel)
            layer.bias.copy_(weights[name.replace("weight", "bias")])  # type: ignore[union-attr]
        self._take_normalisations(weights)

    def _take_normalisations(self, weights: dict[str, Tensor]) -> None:
        for place, layer in enumerate(self.layers):
            prefix = f"features.{place}."
            if isinstance(layer, nn.BatchNorm2d) and f"{prefix}running_mean" in weights:
                entries = {name.removeprefix(prefix): v for name, v in weights.items() if name.startswith(prefix)}
                layer.load_state_dict(entries, strict=False)
