"""The mirror image of the Nature encoder for full Atari frames."""

import torch
from torch import Tensor, nn


class NatureDecoder(nn.Module):
    """A linear layer and four transposed convolutions to frames of 210x160 with values in [0, 1].

    As released with Anand et al. (2019), the transposed convolutions start orthogonal with gain sqrt(2) and zero bias,
    the linear layer with PyTorch's default.

    Args:
        feature_size: length of the vectors to decode.
        output_channels: 1 for gray frames, 3 for colour.
    """

    map_shape = (64, 9, 6)

    def __init__(self, *, feature_size: int = 256, output_channels: int = 1) -> None:
        super().__init__()
        depth, height, width = self.map_shape
        self.linear = nn.Linear(feature_size, depth * height * width)
        self.layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(64, 128, 3),  # (128, 11, 8)
                nn.ConvTranspose2d(128, 64, 4, stride=2),  # (64, 24, 18)
                nn.ConvTranspose2d(64, 32, 4, stride=2, output_padding=1),  # (32, 51, 39)
                nn.ConvTranspose2d(32, output_channels, 8, stride=4, output_padding=(2, 0)),  # (C, 210, 160)
            ]
        )
        for layer in self.layers:
            assert isinstance(layer, nn.ConvTranspose2d)
            assert layer.bias is not None
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Frames (B, output_channels, 210, 160) of features (B, feature_size)."""
        x = self.linear(features).unflatten(1, self.map_shape)
        for layer in self.layers:
            x = layer(torch.relu(x))
        return torch.sigmoid(x)
