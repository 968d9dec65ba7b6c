"""From one vector to a whole clip, stage by stage the way back of the 3D-ResNet-18; ours, the thesis states none."""

from torch import Tensor, nn

from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.video_encoder import ClipLayers, size_after


class VideoDecoder(ClipLayers):
    """Features (B, D) to clips (B, T, C, H, W).

    Args:
        feature_size: D.
        frame_shape: (C, H, W).
        num_frames: T.
        base_channels: b of the encoder.
        hidden_size: of the fully connected layers.
        pixels: range of the frames.
    """

    def __init__(
        self,
        feature_size: int,
        frame_shape: tuple[int, int, int],
        num_frames: int,
        *,
        base_channels: int = 64,
        hidden_size: int = 512,
        pixels: Pixels = "unit",
    ) -> None:
        b, (frame_channels, *sides) = base_channels, frame_shape
        whole = (num_frames, *sides)
        sizes = [size_after(whole, number) for number in (4, 3, 2, 1)]
        widths = [8 * b, 4 * b, 2 * b, b]
        first = sizes[0]
        layers: list[nn.Module] = [
            nn.Linear(feature_size, hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, widths[0] * first[0] * first[1] * first[2]),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (widths[0], *first)),
        ]
        for inputs, outputs, size in zip(widths, [*widths[1:], b], [*sizes[1:], whole], strict=True):
            layers += _enlarged(inputs, outputs, size)
        layers += [nn.Conv3d(b, frame_channels, 3, padding=1), nn.Sigmoid() if pixels == "unit" else nn.Tanh()]
        super().__init__(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Clips (B, T, C, H, W) of features (B, D)."""
        return super().forward(features).transpose(1, 2)


def _enlarged(inputs: int, outputs: int, size: tuple[int, ...]) -> list[nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
    return [nn.Upsample(size), convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]
