"""3D-ResNet-18 that branches into statics S and dynamics P (thesis, section 7.4.3 and appendix 7.A.2).

Layers and initial weights are those of torchvision's `r3d_18` (Tran et al. 2018; Hara et al. 2018), whose third stage
has the published size of S for frames of 64, 96 and 128 pixels: a total stride of 8 and, for 8 frames, 2 steps of time.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

STAGE_STRIDES = (1, 2, 2, 2)
"""Of the four stages, in time and space."""


class ClipLayers(nn.Sequential):
    """Layers with 3D convolutions, on a CPU in float32 under autocast too.

    There, the bfloat16 gradient of a 3D convolution's weights reads memory that nobody wrote (seen with torch 2.15).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """The layers one after the other."""
        outputs: Tensor
        if inputs.device.type != "cpu":
            outputs = super().forward(inputs)
            return outputs
        with torch.autocast("cpu", enabled=False):
            outputs = super().forward(inputs.float())
        return outputs


class VideoTrunk(ClipLayers):
    """Stem and first stages of r3d_18: clips (B, C, T, H, W) to (B, 4 b, T / 4, H / 8, W / 8) after three.

    Args:
        frame_channels: C.
        base_channels: b, 64 in r3d_18; stage i has b 2^(i - 1) channels.
        num_stages: how many of the four.
    """

    def __init__(self, frame_channels: int, base_channels: int = 64, num_stages: int = 3) -> None:
        stem = nn.Sequential(
            nn.Conv3d(frame_channels, base_channels, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(base_channels),
            nn.ReLU(inplace=True),
        )
        stages = [video_stage(base_channels, number) for number in range(num_stages)]
        super().__init__(stem, *stages)
        initialise_as_video(self)
        self.out_channels = base_channels << (num_stages - 1)


def video_stage(base_channels: int, number: int) -> ClipLayers:
    """Stage `number`, counted from 0: two basic blocks, the first with stride 2 but in stage 0."""
    width, stride = base_channels << number, STAGE_STRIDES[number]
    inputs = base_channels << max(number - 1, 0)
    shortcut = None
    if stride != 1:
        shortcut = nn.Sequential(nn.Conv3d(inputs, width, 1, stride, bias=False), nn.BatchNorm3d(width))
    return ClipLayers(BasicBlock(inputs, width, Conv3DSimple, stride, shortcut), BasicBlock(width, width, Conv3DSimple))


def initialise_as_video(network: nn.Module) -> None:
    """Initial weights of torchvision's video networks."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def size_after(sizes: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Numbers of frames, rows and columns (T, H, W) that the stem and so many stages leave."""
    frames, *sides = sizes
    sides = [-(-side // 2) for side in sides]
    for stride in STAGE_STRIDES[:num_stages]:
        frames, sides = -(-frames // stride), [-(-side // stride) for side in sides]
    return (frames, *sides)


class VideoEncoder(nn.Module):
    """Enc_v: clips (B, C, T, H, W) to S (B, c, H / 8, W / 8) and P (B, D).

    S merges the two steps of time that three stages leave, by a 2D convolution over both, and has no ReLU at its end. P
    comes from the fourth stage through two fully connected layers.

    Args:
        frame_shape: (C, H, W).
        num_frames: T.
        statics_channels: c.
        dynamics_size: D.
        base_channels: b of the trunk.
        hidden_size: between the fully connected layers.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        num_frames: int,
        statics_channels: int,
        dynamics_size: int,
        *,
        base_channels: int = 64,
        hidden_size: int = 512,
    ) -> None:
        super().__init__()
        frame_channels, *sides = frame_shape
        self.trunk = VideoTrunk(frame_channels, base_channels)
        steps = size_after((num_frames, *sides), 3)[0]
        c = statics_channels
        self.statics_head = nn.Sequential(
            nn.Flatten(1, 2),
            nn.Conv2d(self.trunk.out_channels * steps, c, 3, padding=1, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, c, 3, padding=1),
        )
        self.last_stage = video_stage(base_channels, 3)
        initialise_as_video(self.last_stage)
        flat = flat_size(frame_shape, num_frames, base_channels)
        self.dynamics_head = fully_connected(flat, hidden_size, dynamics_size)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """S (B, c, h, w) and P (B, D) of clips (B, T, C, H, W)."""
        features = self.trunk(clips.transpose(1, 2))
        return self.statics_head(features), self.dynamics_head(self.last_stage(features))


class VideoFeatures(nn.Sequential):
    """Clips (B, T, C, H, W) to features (B, D) by all four stages and two fully connected layers, as P is made.

    Args:
        frame_shape: (C, H, W).
        num_frames: T.
        feature_size: D.
        base_channels: b of the trunk.
        hidden_size: between the fully connected layers.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        num_frames: int,
        feature_size: int,
        *,
        base_channels: int = 64,
        hidden_size: int = 512,
    ) -> None:
        flat = flat_size(frame_shape, num_frames, base_channels)
        super().__init__(VideoTrunk(frame_shape[0], base_channels, 4), fully_connected(flat, hidden_size, feature_size))

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of clips (B, T, C, H, W)."""
        features: Tensor = super().forward(clips.transpose(1, 2))
        return features


def flat_size(frame_shape: tuple[int, int, int], num_frames: int, base_channels: int) -> int:
    """How many values the fourth stage has."""
    return 8 * base_channels * math.prod(size_after((num_frames, *frame_shape[1:]), 4))


def fully_connected(inputs: int, hidden_size: int, outputs: int) -> nn.Sequential:
    """Two layers on whatever is made flat."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden_size), nn.ReLU(inplace=True), nn.Linear(hidden_size, outputs)
    )
