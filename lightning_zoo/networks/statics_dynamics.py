"""All networks of the decomposition of a clip into statics and dynamics, and how its three losses reach them.

Gradients (thesis, section 7.4.1): the statics' loss reaches S and the trunk through a transformer that stays as it is;
the frames' loss reaches f_Enc and f_Dec alone, since S is detached there; the contrastive loss reaches f_auto, P, its
stage and the trunk, since every p is detached there. So one backward pass of the sum gives each what it should have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.frame_dynamics import (
    DynamicsPredictor,
    Feedback,
    FrameDynamicsDecoder,
    FrameDynamicsEncoder,
)
from lightning_zoo.networks.inter_frame import InterFrameTransformer
from lightning_zoo.networks.video_encoder import VideoEncoder


@dataclass(frozen=True)
class Decomposition:
    """What the networks make of clips (B, T, C, H, W).

    Args:
        statics: S (B, c, h, w).
        dynamics: P (B, D).
        features: s_t (B, T, c, h, w), without gradient.
        warped: frames (B, T, C, H, W), S warped onto each s_t.
        frame_dynamics: p_t (B, T, d).
        frames: (B, T, C, H, W), drawn from p_t and S.
        predicted: (B, T - 1, d), predictions of p_2 ... p_T.
    """

    statics: Tensor
    dynamics: Tensor
    features: Tensor
    warped: Tensor
    frame_dynamics: Tensor
    frames: Tensor
    predicted: Tensor


class StaticsDynamicsNetworks(nn.Module):
    """Enc_v, f_Enc, f_Dec and f_auto; the transformer is handed in, since it is not theirs to train.

    Args:
        frame_shape: (C, H, W).
        num_frames: T.
        feature_shape: (c, h, w) of S and of the transformer's features.
        dynamics_size: D of P.
        frame_dynamics_size: d of p.
        base_channels: of the trunk.
        hidden_size: of f_auto.
        pixels: range of the frames.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        num_frames: int,
        feature_shape: tuple[int, int, int],
        *,
        dynamics_size: int,
        frame_dynamics_size: int,
        base_channels: int,
        hidden_size: int,
        pixels: Pixels,
    ) -> None:
        super().__init__()
        frame_channels, d = frame_shape[0], frame_dynamics_size
        self.video = VideoEncoder(frame_shape, num_frames, feature_shape[0], dynamics_size, base_channels=base_channels)
        self.frame_encoder = FrameDynamicsEncoder(frame_channels, feature_shape, d)
        self.frame_decoder = FrameDynamicsDecoder(frame_channels, feature_shape, d, pixels)
        self.predictor = DynamicsPredictor(d, dynamics_size, hidden_size)

    def forward(
        self, clips: Tensor, transformer: InterFrameTransformer, feedback: Feedback = "predicted"
    ) -> Decomposition:
        """All parts, with the gradients that belong to each loss."""
        steps = clips.shape[1]
        with torch.no_grad():
            features = transformer.encode(clips)
        statics, dynamics = self.video(clips)
        warped = transformer.decode(transformer.warped(repeated(statics, steps), features))
        p = self.frame_dynamics(clips, statics.detach())
        frames = self.draw(p, statics.detach())
        predicted = self.predictor(p.detach(), dynamics, feedback)
        return Decomposition(statics, dynamics, features, warped, p, frames, predicted)

    def frame_dynamics(self, clips: Tensor, statics: Tensor) -> Tensor:
        """Dynamics p_t (B, T, d) of clips (B, T, C, H, W) and S (B, c, h, w)."""
        p: Tensor = self.frame_encoder(clips.flatten(0, 1), repeated(statics, clips.shape[1]).flatten(0, 1))
        return p.unflatten(0, clips.shape[:2])

    def draw(self, p: Tensor, statics: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) of p_t (B, T, d) and S (B, c, h, w)."""
        frames: Tensor = self.frame_decoder(p.flatten(0, 1), repeated(statics, p.shape[1]).flatten(0, 1))
        return frames.unflatten(0, p.shape[:2])


def repeated(statics: Tensor, steps: int) -> Tensor:
    """S (B, c, h, w) for each step, (B, T, c, h, w)."""
    return statics[:, None].expand(-1, steps, -1, -1, -1)


@torch.no_grad()
def best_frame(features: Tensor, transformer: InterFrameTransformer) -> Tensor:
    """Features (B, c, h, w) of the frame that warps best onto all frames of its clip (thesis, 7.B.2).

    The error is that of the features; the thesis' would draw T^2 frames per clip.

    Args:
        features: s (B, T, c, h, w).
        transformer: T.
    """
    batch, steps = features.shape[:2]
    source = features[:, :, None].expand(-1, -1, steps, -1, -1, -1)
    target = features[:, None].expand(-1, steps, -1, -1, -1, -1)
    error = (transformer.warped(source, target) - target).square().flatten(2).sum(2)
    return features[torch.arange(batch, device=features.device), error.argmin(1)]
