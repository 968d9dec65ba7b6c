"""Initial weights: as released by Shang et al. (2018), orthogonal, Glorot's; and weights of bounded slope."""

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


@torch.no_grad()
def initialise_orthogonally(network: nn.Module, *, delta: bool = False, linear_gain: float = 1.0) -> None:
    """Draw orthogonal weights, as released with SAC+AE and DrQ (Yarats et al. 2019; Kostrikov et al. 2020).

    Convolutions have gain sqrt(2); every bias becomes zero, layers of other kinds are left alone.

    Args:
        network: whose layers change in place.
        delta: convolutions are zero but at the centre of their kernel (Xiao et al. 2018, arXiv 1806.05393); otherwise
            the whole kernel is one matrix, of (first dimension, all others).
        linear_gain: of linear layers.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight
            if delta:
                weight.zero_()
                weight = weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2]
            # PyTorch's own in place refuses kernels that lie in memory channels last.
            weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape), math.sqrt(2)))
        elif isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, linear_gain)
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def initialise_by_xavier(network: nn.Module) -> None:
    """Draw convolutions and linear layers by Glorot & Bengio's (2010) uniform rule; every bias becomes zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                module.bias.zero_()


def normalise_spectrally(*layers: nn.Module) -> None:
    """Divide the weights of those that are convolutions or linear by their largest singular value (Miyato et al. 2018).

    Layers inside of others are left alone.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
