"""What a frame has beyond the statics of its clip, and its prediction (thesis, section 7.3.2, 7.A.3 and 7.A.4)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_zoo.networks.frame_autoencoder import FrameDecoder, FrameEncoder, Pixels

Feedback = Literal["predicted", "true"]
"""What a step is told of the one before: its prediction (appendix 7.A.4), or what was to be predicted."""

HIDDEN_SIZE = 256
"""Of the fully connected layers around p; the thesis states none."""


class FrameDynamicsEncoder(nn.Module):
    """f_Enc: frames (B, C, H, W) beside statics (B, c, h, w) to p (B, d), eq. 7.4."""

    def __init__(self, frame_channels: int, feature_shape: tuple[int, int, int], size: int) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.frames = FrameEncoder(frame_channels, channels)
        flat = channels * (-(-height // 2)) * (-(-width // 2))
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(flat, HIDDEN_SIZE),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_SIZE, size),
        )

    def forward(self, frames: Tensor, statics: Tensor) -> Tensor:
        """Dynamics p (B, d) of frames (B, C, H, W) and statics (B, c, h, w)."""
        p: Tensor = self.layers(torch.cat([self.frames(frames), statics], 1))
        return p


class FrameDynamicsDecoder(nn.Module):
    """f_Dec: p (B, d) beside statics (B, c, h, w) to frames (B, C, H, W), eq. 7.4."""

    def __init__(
        self, frame_channels: int, feature_shape: tuple[int, int, int], size: int, pixels: Pixels = "unit"
    ) -> None:
        super().__init__()
        channels = feature_shape[0]
        self.features = nn.Sequential(
            nn.Linear(size, HIDDEN_SIZE),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_SIZE, math.prod(feature_shape)),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, feature_shape),
        )
        self.join = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.frames = FrameDecoder(frame_channels, channels, pixels)

    def forward(self, p: Tensor, statics: Tensor) -> Tensor:
        """Frames (B, C, H, W) of p (B, d) and statics (B, c, h, w)."""
        frames: Tensor = self.frames(self.join(torch.cat([self.features(p), statics], 1)))
        return frames


class DynamicsPredictor(nn.Module):
    """f_auto: p_1 and P to predictions of p_2 ... p_T by an LSTM of one layer (appendix 7.A.4).

    Args:
        size: d of p.
        dynamics_size: D of P.
        hidden_size: of the LSTM.
    """

    def __init__(self, size: int, dynamics_size: int, hidden_size: int = 1024) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(size + dynamics_size, hidden_size)
        self.output = nn.Linear(hidden_size, size)

    def forward(self, p: Tensor, dynamics: Tensor, feedback: Feedback = "predicted") -> Tensor:
        """Predictions (B, T - 1, d) of p_2 ... p_T.

        Args:
            p: (B, T, d) of the frames, of which with feedback "predicted" only the first is read.
            dynamics: P (B, D).
            feedback: what a step is told of the one before.
        """
        state: tuple[Tensor, Tensor] | None = None
        last, predictions = p[:, 0], []
        for step in range(1, p.shape[1]):
            state = self.cell(torch.cat([last, dynamics], 1), state)
            predictions.append(self.output(state[0]))
            last = predictions[-1] if feedback == "predicted" else p[:, step]
        return torch.stack(predictions, 1)
