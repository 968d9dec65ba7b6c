"""Gradients computed with `torch.autograd.grad`, brought into `.grad` and averaged over the processes by hand.

A method with several optimizers uses only a part of its parameters in each backward pass. Lightning's DDP would have to
search for the unused ones (`find_unused_parameters`) and reduces also those that no optimizer is about to step. Here
its reducer is never armed: a step computes the gradients of exactly the parameters that it trains, and one `all_reduce`
averages them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def set_gradients(parameters: Iterable[nn.Parameter], gradients: Iterable[Tensor | None]) -> None:
    """Let `.grad` of each parameter be its gradient, whatever was there before; None leaves it out of the next step.

    Raises:
        ValueError: if there are not as many gradients as parameters.
    """
    taken: set[int] = set()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.grad = None
            continue
        gradient = gradient.detach()
        # Autograd may return an expanded tensor, or one tensor for two parameters: neither can be changed in place.
        if gradient.stride() != parameter.stride() or gradient.data_ptr() in taken:
            gradient = torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
        taken.add(gradient.data_ptr())
        parameter.grad = gradient


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes of `torch.distributed`; without any, nothing happens.

    One `all_reduce` per data type. A parameter whose gradient is None is skipped: it has to be None in all processes.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    groups: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            groups.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in groups.values():
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def clamp_gradients(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Clamp each element of the gradients to [-limit, limit], in place.

    Raises:
        ValueError: for a limit that is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.clamp_(-limit, limit)


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """Within it, gradients go through the network and not to its weights, for which no activation is kept then."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        network.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad = True
