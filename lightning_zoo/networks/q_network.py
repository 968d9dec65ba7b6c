"""Networks of action values: the convolutions of DQN (Mnih et al. 2015) or a perceptron, plain or dueling."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from lightning_zoo.networks.initialisation import initialise_by_xavier, initialise_orthogonally
from lightning_zoo.networks.nature_cnn import NatureCNN
from lightning_zoo.networks.perceptron import checked_sizes, in_full_precision, perceptron
from lightning_zoo.networks.pixels import unit_pixels

Initialisation = Literal["xavier", "orthogonal", "torch"]
"""Uniform by Glorot & Bengio with zero biases, as Dopamine's; orthogonal with gain sqrt(2), 1 in the last layer, and
zero biases; or PyTorch's own, which CleanRL and Stable-Baselines3 keep."""


class QNetwork(nn.Module):
    """Values Q(s, .) of all actions.

    Pixels pass 32 convolutions 8x8 with stride 4, 64 of 4x4 with stride 2 and 64 of 3x3, without padding: 84x84 become
    64 maps of 7x7. Dopamine pads such that 11x11 are left.

    Args:
        observation_shape: (C, H, W) of stacked frames, or (D,) of a state.
        num_actions: A.
        hidden_sizes: widths of the hidden layers; None: 512 after convolutions, 256 and 256 for a state.
        dueling: Q = V + A - mean A (Wang et al. 2016, arXiv 1511.06581, eq. 9).
        shared_hidden: V and A are read from one last hidden layer, as in Dopamine; otherwise each has one of its own of
            the same width, as in Rainbow. Without dueling there is but one.
        initialisation: of all layers.

    Raises:
        ValueError: for a shape of other length, no action, widths that are not positive, or frames too small.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] | None = None,
        dueling: bool = False,
        shared_hidden: bool = True,
        initialisation: Initialisation = "xavier",
    ) -> None:
        super().__init__()
        if num_actions < 1:
            raise ValueError(f"num_actions must be 1 or more, got {num_actions}")
        default = (512,) if len(observation_shape) == 3 else (256, 256)
        sizes = checked_sizes(default if hidden_sizes is None else hidden_sizes)
        self.observation_shape = tuple(observation_shape)
        self.num_actions = num_actions
        self.streams = 2 if dueling and not shared_hidden else 1
        # Two layers on the same input are one of double width.
        self.body = _body(self.observation_shape, (*sizes[:-1], sizes[-1] * self.streams))
        self.advantage = nn.Linear(sizes[-1], num_actions)
        self.value = nn.Linear(sizes[-1], 1) if dueling else None
        if initialisation == "xavier":
            initialise_by_xavier(self)
        elif initialisation == "orthogonal":
            initialise_orthogonally(self.body, linear_gain=2**0.5)
            initialise_orthogonally(nn.ModuleList(filter(None, (self.advantage, self.value))))
        else:
            _reset(self)

    def forward(self, observations: Tensor) -> Tensor:
        """Values (B, num_actions) of observations (B, *observation_shape).

        uint8 is divided by 255, float is taken as it is: pixels in [0, 1], states in their own units. Under autocast
        the last layer stays in the type of its weights.

        Raises:
            ValueError: for observations of another shape.
        """
        if tuple(observations.shape[1:]) != self.observation_shape:
            raise ValueError(
                f"observations must be (B, {', '.join(map(str, self.observation_shape))}), "
                f"got {tuple(observations.shape)}: the network was built for other environments"
            )
        hidden = self.body(unit_pixels(observations))
        streams = hidden.chunk(self.streams, 1)  # of V, then of A, where they are two
        advantage = in_full_precision(self.advantage, streams[-1])
        if self.value is None:
            return advantage
        return in_full_precision(self.value, streams[0]) + advantage - advantage.mean(1, keepdim=True)


def _body(observation_shape: tuple[int, ...], sizes: tuple[int, ...]) -> nn.Module:
    """All layers up to the last hidden one, (B, *observation_shape) to (B, sizes[-1])."""
    if len(observation_shape) == 1:
        return perceptron((observation_shape[0], *sizes))
    if len(observation_shape) != 3:
        raise ValueError(f"observation_shape must be (C, H, W) or (D,), got {observation_shape}")
    channels, height, width = observation_shape
    convolutions = NatureCNN(
        input_channels=channels,
        feature_size=sizes[0],
        channels=(32, 64, 64),
        kernel_sizes=(8, 4, 3),
        strides=(4, 2, 1),
        paddings=(0, 0, 0),
        frame_size=(height, width),
        end_with_relu=True,
    )
    return nn.Sequential(convolutions, *perceptron(sizes))


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
