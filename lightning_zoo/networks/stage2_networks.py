"""Networks that bring images to a higher resolution, after the second stage of StackGAN without its text.

(Zhang et al. 2017, arXiv 1612.03242, with the widths of its released code; the changes for CelebA, VAE-GAN and LSUN
are those of Shang et al. 2018, appendix 5.C of the thesis.)
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Upsampling = Literal["nearest", "deconvolution"]


class Stage2Generator(nn.Module):
    """Images (B, C, s, s) in [-1, 1] to images (B, C, s * scale, s * scale) in [-1, 1].

    With b base channels: a 3x3 convolution to b channels; each downsampling doubles the channels; a 3x3 convolution to
    4 b; residual blocks; each upsampling halves the channels.

    Args:
        scale: a power of two.
        image_channels: C.
        base_channels: b.
        num_downsamplings: 2 as in StackGAN, 1 for stage-1 images of a VAE-GAN (appendix 5.C.3).
        num_residual_blocks: between both halves.
        upsampling: "nearest": repeated pixels and a 3x3 convolution, as in StackGAN (Birds); "deconvolution": a 4x4
            transposed convolution of stride 2 (CelebA, appendix 5.C.3).

    Raises:
        ValueError: for a scale that is no power of two, an unknown upsampling or too few base channels.
    """

    def __init__(
        self,
        *,
        scale: int = 2,
        image_channels: int = 3,
        base_channels: int = 128,
        num_downsamplings: int = 2,
        num_residual_blocks: int = 4,
        upsampling: Upsampling = "nearest",
    ) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise ValueError(f"scale must be a power of two, got {scale}")
        if num_downsamplings not in (1, 2):
            raise ValueError(f"num_downsamplings must be 1 or 2, got {num_downsamplings}")
        if upsampling not in ("nearest", "deconvolution"):
            raise ValueError(f"upsampling must be 'nearest' or 'deconvolution', got {upsampling!r}")
        b = base_channels
        num_upsamplings = num_downsamplings + scale.bit_length() - 1
        # The last widths are StackGAN's: with one downsampling less, the widest upsampling is left out.
        widths = [(b << num_downsamplings) >> (place + 1) for place in range(num_upsamplings)]
        if widths[-1] < 1:
            raise ValueError(f"base_channels={b} is too small for scale={scale}: the last layer would have no channel")
        layers: list[nn.Module] = [nn.Conv2d(image_channels, b, 3, padding=1), nn.ReLU(inplace=True)]
        for place in range(num_downsamplings):
            layers += _normalised(nn.Conv2d(b << place, b << (place + 1), 4, stride=2, padding=1, bias=False))
        layers += _normalised(nn.Conv2d(b << num_downsamplings, 4 * b, 3, padding=1, bias=False))
        layers += [GeneratorBlock(4 * b) for _ in range(num_residual_blocks)]
        for before, after in zip([4 * b, *widths[:-1]], widths, strict=True):
            layers += _upsampling(upsampling, before, after)
        layers += [nn.Conv2d(widths[-1], image_channels, 3, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        initialise_as_stackgan(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, s, s) to (B, C, s * scale, s * scale); s is a multiple of 2^num_downsamplings."""
        enlarged: Tensor = self.layers(images)
        return enlarged


class GeneratorBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside the identity, then ReLU.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normalised(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return (x + self.layers(x)).relu()


class Stage2Discriminator(nn.Module):
    """Images (B, C, s, s) in [-1, 1] to logits (B,) of being real.

    Strided convolutions halve the map, while it is larger than 7x7, and double the channels; 1x1 convolutions bring
    them back to 8 b; a residual block; one convolution over the whole map. StackGAN's six halvings of 256 pixels are
    five here for 128 (to 4x4) and 224 (to 7x7), and its layer that mixes in the text is left out.

    Args:
        image_size: s, of square images.
        image_channels: C.
        base_channels: b.
    """

    def __init__(self, image_size: int, *, image_channels: int = 3, base_channels: int = 64) -> None:
        super().__init__()
        b = base_channels
        layers: list[nn.Module] = [nn.Conv2d(image_channels, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        size, width = image_size // 2, b
        while size > 7:
            layers += _normalised(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False), slope=0.2)
            size, width = size // 2, 2 * width
        while width > 8 * b:
            layers += _normalised(nn.Conv2d(width, width // 2, 1, bias=False), slope=0.2)
            width //= 2
        layers += [DiscriminatorBlock(width), nn.Conv2d(width, 1, size)]
        self.layers = nn.Sequential(*layers)
        initialise_as_stackgan(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, s, s) to logits (B,)."""
        logits: Tensor = self.layers(images).flatten()
        return logits


class DiscriminatorBlock(nn.Module):
    """A bottleneck of 1x1, 3x3 and 3x3 convolutions at a quarter of the channels beside the identity.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.layers = nn.Sequential(
            *_normalised(nn.Conv2d(channels, inner, 1, bias=False), slope=0.2),
            *_normalised(nn.Conv2d(inner, inner, 3, padding=1, bias=False), slope=0.2),
            nn.Conv2d(inner, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.leaky_relu(x + self.layers(x), 0.2)


def initialise_as_stackgan(network: nn.Module) -> None:
    """Convolutions from N(0, 0.02), scales of batch normalisation from N(1, 0.02), every bias zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _normalised(convolution: nn.Module, slope: float = 0.0) -> list[nn.Module]:
    """The convolution, batch normalisation, and ReLU or with a slope leaky ReLU."""
    channels = convolution.out_channels
    assert isinstance(channels, int)
    return [convolution, nn.BatchNorm2d(channels), nn.LeakyReLU(slope) if slope else nn.ReLU(inplace=True)]


def _upsampling(kind: Upsampling, before: int, after: int) -> list[nn.Module]:
    if kind == "deconvolution":
        return _normalised(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False))
    return [nn.Upsample(scale_factor=2), *_normalised(nn.Conv2d(before, after, 3, padding=1, bias=False))]


def working_size(stage1_size: int, output_size: int, num_downsamplings: int = 2) -> int:
    """Size that stage-1 images are brought to before they go into the generator, which then scales by a power of two.

    It is their own wherever the output is a power of two times that; else the largest that is smaller: 64 stays 64 for
    an output of 128, and becomes 56 for 224, which makes the network StackGAN's own, from 56 by 14 to 224.

    Raises:
        ValueError: if the output is not larger, or its size cannot be halved that often.
    """
    if output_size <= stage1_size:
        raise ValueError(f"output_size must be larger than stage 1's {stage1_size}, got {output_size}")
    size, halvings = output_size, 0
    while size > stage1_size:
        size, halvings = size // 2, halvings + 1
    divisor = 2 ** (halvings + num_downsamplings)
    if output_size % divisor:
        near = max(round(output_size / divisor), 1) * divisor
        raise ValueError(f"output_size must be a multiple of {divisor} here, got {output_size}; {near} is near")
    return size
