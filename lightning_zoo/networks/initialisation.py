"""Initial weights as in the released code of Shang et al. (2018)."""

import math

import torch
from torch import nn


@torch.no_grad()
def initialise_as_released(network: nn.Module) -> None:
    """Draw convolutions from U(-s, s) with s = 1 / sqrt(kernel area * output channels); every bias becomes zero.

    Batch normalisation keeps weight one and bias zero, linear layers keep their drawn weights, LSTMs all of theirs.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            bound = 1 / math.sqrt(math.prod(module.kernel_size) * module.out_channels)
            module.weight.uniform_(-bound, bound)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            module.bias.zero_()
