"""A residual encoder for full Atari frames: that of IMPALA (Espeholt et al. 2018, arXiv 1802.01561), as released.

Anand et al. (2019) released it beside their Nature encoder, and here it is theirs. It differs from IMPALA's deep
network (figure 3 there) as follows:

1. Four blocks of 16, 32, 32 and 32 channels, for frames of 210x160; IMPALA's has three for 96x72.
2. A residual unit is convolution, ReLU, convolution, sum, ReLU; IMPALA's is ReLU, convolution, ReLU, convolution, sum.
   A map is therefore never negative, and the local features of the contrastive methods are not either.
3. Convolutions pad by reflection and max-pooling pads nothing; IMPALA's convolutions pad with zeros, and its pooling
   pads as well. A ReLU follows the pooling.
4. No LSTM, and no previous action or reward among the inputs.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from lightning_zoo.networks.nature_cnn import Maps


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ImpalaCNN(nn.Module):
    """Four blocks of convolution, max-pooling, ReLU and two residual units, then a linear layer with ReLU.

    The map "block3" (32 x 25 x 19) holds the local features, as released; weights start as PyTorch's layers do.

    Args:
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        channels: output channels of each block.
        frame_size: height and width of the frames.
    """

    default_local_layer = "block3"

    def __init__(
        self,
        *,
        input_channels: int = 1,
        feature_size: int = 256,
        channels: tuple[int, ...] = (16, 32, 32, 32),
        frame_size: tuple[int, int] = (210, 160),
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.feature_size = feature_size
        self.layers = nn.ModuleDict()
        self.map_shapes: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        previous, (height, width) = input_channels, frame_size
        for index, depth in enumerate(channels, start=1):
            self.layers[f"block{index}"] = nn.Sequential(
                nn.Conv2d(previous, depth, 3, padding=1, padding_mode="reflect"),
                nn.MaxPool2d(3, 2),
                nn.ReLU(),
                _Residual(depth),
                _Residual(depth),
            )
            previous, height, width = depth, (height - 3) // 2 + 1, (width - 3) // 2 + 1
            self.map_shapes[f"block{index}"] = (depth, height, width)
        self.linear = nn.Linear(previous * height * width, feature_size)

    def maps(self, frames: Tensor) -> Maps:
        """Every block's map (B, channels, height, width), not negative, of float frames (B, C, H, W), in order."""
        maps: Maps = OrderedDict()
        x = frames
        for name, layer in self.layers.items():
            x = layer(x)
            maps[name] = x
        return maps

    def features(self, maps: Maps) -> Tensor:
        """The global features (B, feature_size) of maps that `maps` returned."""
        return torch.relu(self.linear(next(reversed(maps.values())).flatten(1)))

    def forward(self, frames: Tensor) -> Tensor:
        """Global features (B, feature_size) of float frames (B, C, H, W)."""
        return self.features(self.maps(frames))
