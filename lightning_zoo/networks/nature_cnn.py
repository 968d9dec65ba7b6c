"""The DQN "Nature" convolutional encoder in the variant for full Atari frames."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Maps = OrderedDict[str, Tensor]


class NatureCNN(nn.Module):
    """Convolutions with ReLU, then one linear layer; every weight orthogonal with gain sqrt(2), every bias zero.

    The defaults are the encoder of Anand et al. (2019) for frames of 210x160: the map "conv3" (128 x 11 x 8, receptive
    field 44 pixels, one place each 16 pixels) holds the local features of ST-DIM.

    Args:
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        channels: output channels of each convolution.
        kernel_sizes: side of each kernel in pixels of its input.
        strides: stride of each convolution.
        paddings: zero padding of each convolution; the original pads nowhere.
        frame_size: height and width of the frames.
        end_with_relu: apply a ReLU to the feature vector.

    Raises:
        ValueError: if the four lists differ in length or a map would be empty.
    """

    def __init__(
        self,
        *,
        input_channels: int = 1,
        feature_size: int = 256,
        channels: Sequence[int] = (32, 64, 128, 64),
        kernel_sizes: Sequence[int] = (8, 4, 4, 3),
        strides: Sequence[int] = (4, 2, 2, 1),
        paddings: Sequence[int] = (0, 0, 0, 0),
        frame_size: tuple[int, int] = (210, 160),
        end_with_relu: bool = False,
    ) -> None:
        super().__init__()
        lengths = {len(channels), len(kernel_sizes), len(strides), len(paddings)}
        if len(lengths) != 1:
            raise ValueError(
                "channels, kernel_sizes, strides and paddings must have one entry per layer, "
                f"got {len(channels)}, {len(kernel_sizes)}, {len(strides)} and {len(paddings)} entries"
            )
        self.input_channels = input_channels
        self.feature_size = feature_size
        self.layers = nn.ModuleDict()
        previous = input_channels
        for index, (width, kernel, stride, padding) in enumerate(
            zip(channels, kernel_sizes, strides, paddings, strict=True), start=1
        ):
            self.layers[f"conv{index}"] = nn.Conv2d(previous, width, kernel, stride, padding)
            previous = width
        self.map_shapes = _map_shapes(self.layers, input_channels, frame_size)
        last = next(reversed(self.map_shapes.values()))
        self.linear = nn.Linear(last[0] * last[1] * last[2], feature_size)
        self.end_with_relu = end_with_relu
        for layer in [*self.layers.values(), self.linear]:
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # An eighth faster on a CPU, and the local features of a place then lie side by side.
        self.layers.to(memory_format=torch.channels_last)

    default_local_layer = "conv3"

    def maps(self, frames: Tensor) -> Maps:
        """Every layer's map after its ReLU, in order.

        Args:
            frames: (B, C, H, W), float.

        Returns:
            Name of the layer to (B, channels, height, width); see ``map_shapes``.
        """
        maps: Maps = OrderedDict()
        x = frames
        for name, layer in self.layers.items():
            x = torch.relu(layer(x))
            maps[name] = x
        return maps

    def features(self, maps: Maps) -> Tensor:
        """The global features (B, feature_size) of maps that `maps` returned."""
        features = self.linear(next(reversed(maps.values())).flatten(1))
        return torch.relu(features) if self.end_with_relu else features

    def forward(self, frames: Tensor) -> Tensor:
        """Global features (B, feature_size) of float frames (B, C, H, W)."""
        return self.features(self.maps(frames))


def _map_shapes(
    layers: nn.ModuleDict, input_channels: int, frame_size: tuple[int, int]
) -> OrderedDict[str, tuple[int, int, int]]:
    shapes: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
    height, width = frame_size
    for name, layer in layers.items():
        assert isinstance(layer, nn.Conv2d)
        (kernel, _), (stride, _) = layer.kernel_size, layer.stride
        padding = int(layer.padding[0])
        height = (height + 2 * padding - kernel) // stride + 1
        width = (width + 2 * padding - kernel) // stride + 1
        if height < 1 or width < 1:
            raise ValueError(
                f"frames of {frame_size[0]}x{frame_size[1]} leave nothing after {name}: "
                f"kernel_sizes {kernel} and strides {stride} are too large"
            )
        shapes[name] = (layer.out_channels, height, width)
    return shapes
