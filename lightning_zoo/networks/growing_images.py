"""The ends of image networks that grow by doubling the resolution while they train (Karras et al. 2018).

As in Shang and Sohn (2019): a network of 64x64 images gets a block for images twice as large, and the way through the
block is faded in beside the old way, which sees the image at half the size. Layers as released. `GrowingInput` is the
end of an encoder and of a discriminator, `GrowingOutput` that of a decoder; what lies behind them never changes.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.networks.crelu import CReLU
from lightning_zoo.networks.image_networks import NORM_MOMENTUM
from lightning_zoo.networks.initialisation import initialise_as_released, normalise_spectrally


class GrowingImages(nn.Module):
    """What both ends share: blocks, oldest first, the layer between features and colours, the fade between two ways.

    While fading, ``old_colours`` is the layer that was there before and ``fade`` the weight of the new way, a float32
    number; afterwards neither exists, and the network is the one built with as many doublings.

    Args:
        colours: the layer between images and features at the first resolution, usually a 1x1 convolution.
        make_block: gives the layers of a new resolution; they keep shape and number of channels.
        num_doublings: to begin with.
    """

    fade: Tensor
    colours: nn.Module
    old_colours: nn.Module

    def __init__(self, colours: nn.Module, make_block: Callable[[], nn.Module], *, num_doublings: int = 0) -> None:
        super().__init__()
        self.make_block = make_block
        self.colours = colours
        self.blocks = nn.ModuleList(make_block() for _ in range(num_doublings))

    @property
    def num_doublings(self) -> int:
        """How often the first resolution was doubled, a doubling that is fading in included."""
        return len(self.blocks)

    @property
    def fading(self) -> bool:
        """Whether the old way is still there."""
        return "fade" in self._buffers

    def grow(self) -> None:
        """Double the resolution: a new block and a copy of the newest colours, at fade 0.

        What is new gets device, data type and memory format of what is there.

        Raises:
            ValueError: while an earlier doubling is fading in.
        """
        if self.fading:
            raise ValueError("the network is still fading in its newest resolution; finish() before it grows again")
        block = like(self.colours, self.make_block()).train(self.training)
        self.blocks.append(block)
        self.old_colours, self.colours = self.colours, deepcopy(self.colours)
        device = next(block.parameters()).device
        self.register_buffer("fade", torch.zeros((), dtype=torch.float32, device=device))

    def set_fade(self, alpha: float) -> None:
        """Let the new way weigh ``alpha`` in [0, 1] and the old one the rest.

        Raises:
            ValueError: if nothing is fading, or for another alpha.
        """
        if not self.fading:
            raise ValueError("nothing is fading in: grow() comes first")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        self.fade.fill_(alpha)

    def finish(self) -> None:
        """Drop the old way; if nothing is fading, nothing happens."""
        if self.fading:
            del self.old_colours, self.fade

    def mix(self, old: Tensor, new: Tensor) -> Tensor:
        """(1 - fade) * old + fade * new, in their data type."""
        return (1 - self.fade) * old + self.fade * new


class GrowingInput(GrowingImages):
    """Images to features of the first resolution: colours, then block and 2x2 average pooling per doubling.

    The old way averages the image to half the size; the two ways meet behind the newest block's pooling.

    Args:
        from_colours: images (B, C, S, S) to features (B, b, S, S).
        make_block: gives the layers of a new resolution, (B, b, S, S) to the same shape.
        num_doublings: to begin with.
    """

    def __init__(self, from_colours: nn.Module, make_block: Callable[[], nn.Module], *, num_doublings: int = 0) -> None:
        super().__init__(from_colours, make_block, num_doublings=num_doublings)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S) in [-1, 1] to features (B, b, S / 2^num_doublings, S / 2^num_doublings)."""
        features: Tensor = self.colours(images)
        for number, block in reversed(list(enumerate(self.blocks, 1))):
            features = F.avg_pool2d(block(features), 2)
            if self.fading and number == self.num_doublings:
                features = self.mix(self.old_colours(F.avg_pool2d(images, 2)), features)
        return features


class GrowingOutput(GrowingImages):
    """Features of the first resolution to images: upsampling to the nearest and block per doubling, then colours.

    The old way takes the old colours and repeats their pixels; the two ways meet at the images.

    Args:
        to_colours: features (B, 2 b, S, S) to images (B, C, S, S) in [-1, 1].
        make_block: gives the layers of a new resolution, (B, 2 b, S, S) to the same shape.
        num_doublings: to begin with.
    """

    def __init__(self, to_colours: nn.Module, make_block: Callable[[], nn.Module], *, num_doublings: int = 0) -> None:
        super().__init__(to_colours, make_block, num_doublings=num_doublings)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 2 b, S, S) to images (B, C, 2^num_doublings S, 2^num_doublings S) in [-1, 1]."""
        before = features
        for block in self.blocks:
            before, features = features, block(F.interpolate(features, scale_factor=2.0, mode="nearest"))
        images: Tensor = self.colours(features)
        if self.fading:
            old = F.interpolate(self.old_colours(before), scale_factor=2.0, mode="nearest")
            images = self.mix(old, images)
        return images


def encoder_colours(
    image_channels: int = 3, base_channels: int = 32, norm_momentum: float = NORM_MOMENTUM
) -> nn.Sequential:
    """Images (B, C, S, S) to the encoder's features (B, b, S, S)."""
    norm = nn.BatchNorm2d(base_channels, eps=1e-6, momentum=norm_momentum)
    return _drawn(CReLU(), nn.Conv2d(2 * image_channels, base_channels, 1), norm, nn.ReLU())


def encoder_block(base_channels: int = 32, norm_momentum: float = NORM_MOMENTUM) -> nn.Sequential:
    """A resolution of the encoder: (B, b, S, S) to the same shape, by way of half the channels.

    Raises:
        ValueError: for an odd number of base channels.
    """
    half = _half(base_channels)
    return _drawn(
        *_normalised(base_channels, half, norm_momentum), nn.ReLU(), *_normalised(half, base_channels, norm_momentum)
    )


def decoder_colours(image_channels: int = 3, base_channels: int = 32) -> nn.Sequential:
    """The decoder's features (B, 2 b, S, S) to images (B, C, S, S) in [-1, 1]."""
    return _drawn(nn.Conv2d(2 * base_channels, image_channels, 1), nn.Tanh())


def decoder_block(base_channels: int = 32, norm_momentum: float = NORM_MOMENTUM) -> nn.Sequential:
    """A resolution of the decoder: (B, 2 b, S, S) to the same shape, by way of half the channels."""
    b = base_channels
    into, out_of = _normalised(2 * b, b, norm_momentum), _normalised(b, 2 * b, norm_momentum)
    return _drawn(*into, nn.LeakyReLU(0.1), *out_of, nn.LeakyReLU(0.1))


def discriminator_colours(image_channels: int = 3, base_channels: int = 32, *, spectral: bool = False) -> nn.Sequential:
    """Images (B, C, S, S) to the discriminator's features (B, b, S, S); spectrally normalised if asked."""
    layers = _drawn(nn.Conv2d(image_channels, base_channels, 1), nn.ReLU())
    normalise_spectrally(*layers if spectral else ())
    return layers


def discriminator_block(base_channels: int = 32, *, spectral: bool = False) -> nn.Sequential:
    """A resolution of the discriminator: (B, b, S, S) to the same shape, by way of half the channels.

    Raises:
        ValueError: for an odd number of base channels.
    """
    b, half = base_channels, _half(base_channels)
    into, out_of = nn.Conv2d(b, half, 3, padding=1), nn.Conv2d(half, b, 3, padding=1)
    layers = _drawn(into, nn.ReLU(), out_of, nn.ReLU())
    normalise_spectrally(*layers if spectral else ())
    return layers


def like(model: nn.Module, network: nn.Module) -> nn.Module:
    """`network` on the device and in the data type and memory format of the first convolution of `model`."""
    weight = next(parameter for parameter in model.parameters() if parameter.dim() == 4)
    network.to(weight.device, weight.dtype)
    # A 1x1 kernel is contiguous in both formats; only its strides tell which one it was put in.
    if weight.stride(3) == weight.shape[1] > 1:
        network.to(memory_format=torch.channels_last)
    return network


def _normalised(inputs: int, outputs: int, norm_momentum: float) -> list[nn.Module]:
    norm = nn.BatchNorm2d(outputs, eps=1e-6, momentum=norm_momentum)
    return [nn.Conv2d(inputs, outputs, 3, padding=1), norm]


def _drawn(*layers: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*layers)
    initialise_as_released(network)
    return network


def _half(base_channels: int) -> int:
    if base_channels % 2:
        raise ValueError(f"base_channels must be even where a network grows, got {base_channels}")
    return base_channels // 2
