"""Batch normalisation as part of the convolution before it, for networks that are evaluated many times."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_zoo.networks.latent_paths import ConvolutionalProjection


@contextmanager
def folded_norms(network: nn.Module) -> Iterator[None]:
    """Fold batch normalisation into convolutions as long as the context lasts; afterwards the network is as before.

    Outputs are the same but for rounding. On a CPU the folded convolutions also lie channels-last in memory, which is
    faster there whatever the network was built with. Weights must not change, nor training mode begin, meanwhile.
    Normalisation in training mode, or without running statistics, is left as it is.

    Args:
        network: holds convolutions that batch normalisation follows, in an `nn.Sequential` or a projection.
    """
    pairs = [pair for parent in network.modules() for pair in _pairs(parent)]
    # Fused before anything is exchanged: an error leaves nothing half done.
    fused = [_fuse(getattr(parent, first), getattr(parent, second)) for parent, first, second in pairs]
    originals = [(parent, name, getattr(parent, name)) for parent, *names in pairs for name in names]
    try:
        for (parent, first, second), convolution in zip(pairs, fused, strict=True):
            setattr(parent, first, convolution)
            setattr(parent, second, nn.Identity())
        yield
    finally:
        for parent, name, module in originals:
            setattr(parent, name, module)


def _pairs(parent: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """A module's children that fold into one another, by name; only where their order is known to be the calls'."""
    if not isinstance(parent, nn.Sequential | ConvolutionalProjection):
        return []
    children = parent.named_children()
    return [(parent, a, b) for (a, first), (b, second) in pairwise(children) if _can_fuse(first, second)]


def _can_fuse(convolution: nn.Module, norm: nn.Module) -> bool:
    # Exactly these types: a parametrised convolution has a class of its own, and its weight is computed.
    return bool(
        type(convolution) in (nn.Conv2d, nn.ConvTranspose2d)
        and convolution.groups == 1
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
        and not (convolution.training or norm.training)
    )


def _fuse(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> nn.Module:
    fused = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, nn.ConvTranspose2d))
    return fused.to(memory_format=torch.channels_last) if fused.weight.device.type == "cpu" else fused
