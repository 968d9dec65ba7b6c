"""Initial weights as in the released code of Shang et al. (2018), and weights of bounded slope."""

import math

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


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


def normalise_spectrally(*layers: nn.Module) -> None:
    """Divide the weights of those that are convolutions or linear by their largest singular value (Miyato et al. 2018).

    Layers inside of others are left alone.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
