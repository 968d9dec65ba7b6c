"""Encoder and decoder of single frames by residual blocks (Shang, PhD thesis, chapter 7, appendix 7.A.1).

The thesis says "four basic residual blocks" and the sizes of what comes out; widths and strides between are ours.
Blocks are torchvision's.
"""

from typing import Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

Pixels = Literal["unit", "signed"]
"""Range of pixels within a network: [0, 1], with a sigmoid at the end, or [-1, 1], with tanh."""

STRIDE = 8
"""By which frames are larger than feature maps."""


def residual_block(inputs: int, outputs: int, stride: int = 1) -> BasicBlock:
    """A basic residual block (He et al. 2016), with a 1x1 convolution beside it where the shape changes."""
    if stride == 1 and inputs == outputs:
        return BasicBlock(inputs, outputs)
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


class FrameEncoder(nn.Sequential):
    """Frames (B, C, H, W) to features (B, c, H / 8, W / 8), which are not negative.

    Args:
        frame_channels: C.
        channels: c, even.
    """

    def __init__(self, frame_channels: int, channels: int) -> None:
        super().__init__(
            residual_block(frame_channels, channels // 2, 2),
            residual_block(channels // 2, channels, 2),
            residual_block(channels, channels, 2),
            residual_block(channels, channels),
        )


class FrameDecoder(nn.Module):
    """Features (B, c, h, w) to frames (B, C, 8 h, 8 w), the encoder's mirror image with transposed convolutions.

    Args:
        frame_channels: C.
        channels: c, even.
        pixels: range of the frames.
    """

    def __init__(self, frame_channels: int, channels: int, pixels: Pixels = "unit") -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(
            residual_block(channels, channels),
            *_doubled(channels, channels),
            *_doubled(channels, half),
            *_doubled(half, half),
            nn.Conv2d(half, frame_channels, 3, padding=1),
            nn.Sigmoid() if pixels == "unit" else nn.Tanh(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, c, h, w) to frames (B, C, 8 h, 8 w)."""
        frames: Tensor = self.layers(features)
        return frames


def _doubled(inputs: int, outputs: int) -> list[nn.Module]:
    enlarge = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return [enlarge, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), residual_block(outputs, outputs)]
