"""Frames into a feature map, warped there, and back: the image side of BlockSTN (thesis, section 7.3.1)."""

from torch import Tensor, nn

from lightning_zoo.networks.block_transformer import BlockTransformer
from lightning_zoo.networks.frame_autoencoder import STRIDE, FrameDecoder, FrameEncoder, Pixels


class InterFrameTransformer(nn.Module):
    """g_enc, T and g_dec of eq. 7.1 and 7.2.

    Args:
        frame_shape: (C, H, W); H and W are multiples of 8.
        channels: c_T of the feature maps (c_T, H / 8, W / 8); even.
        num_blocks: K of `BlockTransformer`.
        pixels: range of the frames.
        transformer: further arguments of `BlockTransformer`.

    Raises:
        ValueError: for frames that cannot be divided by 8, or as `BlockTransformer`.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int],
        channels: int,
        num_blocks: int,
        pixels: Pixels = "unit",
        **transformer: bool | str,
    ) -> None:
        super().__init__()
        frame_channels, height, width = frame_shape
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"frame_size must be a multiple of {STRIDE}, got {height}x{width}")
        grid = (height // STRIDE, width // STRIDE)
        self.feature_shape = (channels, *grid)
        self.encoder = FrameEncoder(frame_channels, channels)
        self.transformer = BlockTransformer(channels, num_blocks, grid, **transformer)  # type: ignore[arg-type]
        self.decoder = FrameDecoder(frame_channels, channels, pixels)

    def encode(self, frames: Tensor) -> Tensor:
        """Features s (..., c, h, w) of frames (..., C, H, W), eq. 7.1."""
        features: Tensor = self.encoder(frames.flatten(0, -4))
        return features.unflatten(0, frames.shape[:-3])

    def decode(self, features: Tensor) -> Tensor:
        """Frames (..., C, H, W) of feature maps (..., c, h, w)."""
        frames: Tensor = self.decoder(features.flatten(0, -4))
        return frames.unflatten(0, features.shape[:-3])

    def warped(self, source: Tensor, target: Tensor) -> Tensor:
        """Feature maps `source` warped onto `target`, both (..., c, h, w)."""
        flat = source.flatten(0, -4)
        parameters = self.transformer(flat, target.flatten(0, -4))
        return self.transformer.warp(flat, parameters).unflatten(0, source.shape[:-3])
