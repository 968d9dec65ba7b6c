"""Running statistics of batch normalisation when several processes train one network."""

import torch
from torch import nn


@torch.no_grad()
def average_batch_statistics(network: nn.Module) -> None:
    """Replace running means and variances by their mean over the processes; without any, nothing happens.

    DDP hands on those of the first process instead, at the next step, so that until then the processes evaluate with
    different networks and the other processes' batches leave no trace. Call it after the backward pass, which refuses
    buffers that changed since the forward pass. One `all_reduce`.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
    if not buffers:
        return
    flat = torch.cat(buffers)
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for buffer, part in zip(buffers, flat.split([len(buffer) for buffer in buffers]), strict=True):
        buffer.copy_(part)
