"""Concatenated ReLU (Shang et al. 2016, arXiv 1603.05201)."""

import torch
from torch import Tensor, nn


class CReLU(nn.Module):
    """ReLU of x and of -x side by side: (B, C, H, W) to (B, 2 C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice as many channels, none negative."""
        return torch.cat([x, -x], 1).relu()
