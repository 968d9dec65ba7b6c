"""Block-wise spatial transformer networks between feature maps (thesis, section 7.4.2; Jaderberg et al. 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Affine parameters that move nothing, row by row of (2, 3)."""

HIDDEN_CHANNELS, HIDDEN_SIZE = 32, 64
"""Widths of a localisation network; the thesis states none."""


class LocalisationNetwork(nn.Sequential):
    """One block of two feature maps side by side (B, 2 c / K, h, w) to affine parameters (B, 6), at first the identity.

    Only the last layer begins at zero: with all at zero, blocks could not come to differ.
    """

    def __init__(self, channels: int, grid: tuple[int, int]) -> None:
        height, width = ((side + 1) // 2 for side in grid)
        super().__init__(
            nn.Conv2d(channels, HIDDEN_CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(HIDDEN_CHANNELS * height * width, HIDDEN_SIZE),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN_SIZE, len(IDENTITY)),
        )
        last: nn.Linear = self[-1]  # type: ignore[assignment]
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.tensor(IDENTITY))


class BlockTransformer(nn.Module):
    """K affine transformations that warp K blocks of channels of one feature map onto another (thesis, section 7.4.2).

    Args:
        channels: c of the feature maps.
        num_blocks: K; divides c.
        grid: (h, w) of the feature maps.
        sees_all_channels: each localisation network sees both whole maps, not only its own block of them.
        bounded: parameters stay within 1 of the identity, by tanh.
        padding: what lies outside of a feature map, "zeros" or its "border".

    Raises:
        ValueError: if K does not divide c.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int,
        grid: tuple[int, int],
        *,
        sees_all_channels: bool = False,
        bounded: bool = False,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        if num_blocks < 1 or channels % num_blocks:
            raise ValueError(f"num_blocks={num_blocks} does not divide the {channels} channels")
        self.num_blocks = num_blocks
        self.sees_all_channels = sees_all_channels
        self.bounded = bounded
        self.padding = padding
        seen = 2 * channels if sees_all_channels else 2 * channels // num_blocks
        self.localisation = nn.ModuleList(LocalisationNetwork(seen, grid) for _ in range(num_blocks))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Affine parameters (B, K, 2, 3) that warp `source` onto `target`, both (B, c, h, w)."""
        # Half precision would round the parameters to steps of some hundredths of a cell.
        with torch.autocast(source.device.type, enabled=False):
            seen = self._seen(source.float(), target.float())
            parameters = torch.stack([net(each) for net, each in zip(self.localisation, seen, strict=True)], 1)
        if self.bounded:
            identity = parameters.new_tensor(IDENTITY)
            parameters = identity + torch.tanh(parameters - identity)
        return parameters.unflatten(2, (2, 3))

    def _seen(self, source: Tensor, target: Tensor) -> list[Tensor]:
        """What each localisation network looks at, (B, 2 c / K, h, w) or (B, 2 c, h, w)."""
        if self.sees_all_channels:
            return [torch.cat([source, target], 1)] * self.num_blocks
        pairs = zip(source.chunk(self.num_blocks, 1), target.chunk(self.num_blocks, 1), strict=True)
        return [torch.cat(pair, 1) for pair in pairs]

    def warp(self, features: Tensor, parameters: Tensor) -> Tensor:
        """Feature maps (B, c, h, w), each block moved by its affine parameters (B, K, 2, 3); in float32.

        The parameters take a place of the output, in [-1, 1] x [-1, 1], to the place in the input that is read there: a
        translation of 2 / w moves the content one cell to the left.
        """
        batch, channels, height, width = features.shape
        # Half precision would misplace samples by some hundredths of a cell.
        with torch.autocast(features.device.type, enabled=False):
            blocks = features.float().reshape(batch * self.num_blocks, channels // self.num_blocks, height, width)
            shape = [len(blocks), 1, height, width]
            places = F.affine_grid(parameters.float().flatten(0, 1), shape, align_corners=False)
            moved = F.grid_sample(blocks, places, padding_mode=self.padding, align_corners=False)
        return moved.view(batch, channels, height, width)
