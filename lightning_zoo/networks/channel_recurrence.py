"""Recurrency over blocks of channels (Shang et al. 2018, "Channel-Recurrent Autoencoding for Image Modeling", 5.3.2).

A feature tensor (B, C, H, W) is cut along its channels into T blocks of C / T channels, block t = channels
t C/T ... (t + 1) C/T - 1; each is flattened, and an LSTM reads them in turn.
"""

import math

import torch
from torch import Tensor, nn


def to_blocks(features: Tensor, num_steps: int) -> Tensor:
    """Features (B, C, H, W) as T blocks (B, T, C/T * H * W)."""
    return features.contiguous().reshape(features.shape[0], num_steps, -1)


def from_blocks(blocks: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Blocks (B, T, C/T * H * W) as features (B, C, H, W) of the given shape (C, H, W); undoes `to_blocks`."""
    return blocks.reshape(blocks.shape[0], *shape)


class Recurrent:
    """Marks modules whose parameters learn at LR / T and have limited gradients (thesis, appendix 5.D; as released)."""


class ChannelRecurrence(Recurrent, nn.Module):
    """LSTM over blocks and one linear layer that all steps share; the outputs are channel blocks of a latent tensor.

    Args:
        input_size: length of an input block.
        latent_shape: (C, H, W) of the output; C is a multiple of ``num_steps``.
        num_steps: T.
        hidden_size: of each LSTM layer.
        num_layers: of the LSTM.
        batch_norm: normalise the LSTM's outputs over all B * T rows before the linear layer.

    Raises:
        ValueError: if the channels cannot be cut into ``num_steps`` blocks.
    """

    def __init__(
        self,
        input_size: int,
        latent_shape: tuple[int, int, int],
        *,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_steps(latent_shape[0], num_steps)
        self.latent_shape = latent_shape
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.norm = nn.BatchNorm1d(hidden_size) if batch_norm else None
        self.output = nn.Linear(hidden_size, math.prod(latent_shape) // num_steps)
        nn.init.zeros_(self.output.bias)
        open_forget_gates(self.lstm)

    def forward(self, blocks: Tensor) -> Tensor:
        """Blocks (B, T, input_size) to a latent tensor (B, C, H, W)."""
        hidden, _ = self.lstm(blocks)  # (B, T, hidden_size)
        if self.norm is not None:
            hidden = self.norm(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        return from_blocks(self.output(hidden), self.latent_shape)


def open_forget_gates(lstm: nn.LSTM) -> None:
    """Let the forget gates' first bias be one in every layer, as released."""
    for layer in range(lstm.num_layers):
        # Rows of the bias: input, forget, cell and output gate.
        bias = getattr(lstm, f"bias_ih_l{layer}")
        nn.init.ones_(bias.data[lstm.hidden_size : 2 * lstm.hidden_size])


class AdditiveTensor(nn.Module):
    """A learned tensor that is added to each item, the element-wise addition of appendix 5.A of the thesis.

    Args:
        shape: (C, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(shape).uniform_(-0.01 * math.sqrt(3), 0.01 * math.sqrt(3)))

    def forward(self, x: Tensor) -> Tensor:
        """The sum (B, C, H, W)."""
        return x + self.value


def check_steps(latent_channels: int, num_steps: int) -> None:
    """Raise `ValueError` unless the channels can be cut into that many blocks."""
    if num_steps < 1 or latent_channels % num_steps:
        raise ValueError(f"latent_channels={latent_channels} cannot be cut into num_steps={num_steps} equal blocks")


def recurrent_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Parameters of all `Recurrent` modules in a network."""
    found = [module for module in network.modules() if isinstance(module, Recurrent)]
    return [parameter for module in found for parameter in module.parameters()]
