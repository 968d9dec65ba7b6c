"""Linear classifier of clips that weighs their statics S against their dynamics P (Shang, thesis, section 7.5.3)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Parts = Literal["both", "statics", "dynamics"]
PARTS: tuple[str, ...] = get_args(Parts)

_ROWS_AT_ONCE = 4096
_SMALLEST_SHARE = 1e-2
"""Of the mean deviation: features that hardly vary in training are not blown up."""


class AttentiveClassifier(nn.Module):
    """g_S = W_S vec(S), g_P = W_P P, a = sigmoid(f(g_S, g_P)), logits = FC(a g_S, (1 - a) g_P).

    With one of the two alone there is nothing to weigh, and all is one linear layer on it.

    Args:
        statics_size: of vec(S); not used with `mode` "dynamics".
        dynamics_size: of P; not used with `mode` "statics".
        num_classes: K.
        mode: "both", "statics" or "dynamics".
        hidden_size: of g_S and of g_P, c_g; the thesis states none.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        statics_size: int,
        dynamics_size: int,
        num_classes: int,
        *,
        mode: Parts = "both",
        hidden_size: int = 128,
    ) -> None:
        super().__init__()
        if mode not in PARTS:
            raise ValueError(f"mode must be {' or '.join(map(repr, PARTS))}, got {mode!r}")
        sizes = {"statics": statics_size, "dynamics": dynamics_size}
        used = {name: size for name, size in sizes.items() if mode in ("both", name)}
        named = {f"{name}_size": size for name, size in used.items()}
        for name, value in (named | {"num_classes": num_classes, "hidden_size": hidden_size}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.mode = mode
        self.scales = nn.ModuleDict({name: Standardized(size) for name, size in used.items()})
        if mode == "both":
            self.transforms = nn.ModuleDict({name: nn.Linear(size, hidden_size) for name, size in used.items()})
            self.attention = nn.Linear(2 * hidden_size, 1)
        self.classes = nn.Linear(2 * hidden_size if mode == "both" else used[mode], num_classes)

    def measure(self, statics: Tensor, dynamics: Tensor) -> None:
        """Take mean and deviation of what the classifier reads from S (N, S) and P (N, D) of the training clips."""
        for name, scale in self.scales.items():
            assert isinstance(scale, Standardized)
            scale.measure(statics if name == "statics" else dynamics)

    def forward(self, statics: Tensor, dynamics: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of vec(S) (N, S) and P (N, D), and how much S counted, a (N,) in [0, 1]."""
        given = {"statics": statics, "dynamics": dynamics}
        scaled = {name: scale(given[name]) for name, scale in self.scales.items()}
        if self.mode != "both":
            logits: Tensor = self.classes(scaled[self.mode])
            return logits, logits.new_full((len(logits),), float(self.mode == "statics"))
        g_s, g_p = (self.transforms[name](scaled[name]) for name in ("statics", "dynamics"))
        a = self.attention(torch.cat([g_s, g_p], 1)).sigmoid()  # (N, 1)
        return self.classes(torch.cat([a * g_s, (1 - a) * g_p], 1)), a[:, 0]


class Standardized(nn.Module):
    """Features (N, D) less their means, by their deviations and the root of D, so that all rows are about 1 long.

    S has up to 64 times as many features as P: with one learning rate for both, Adam would move what is made of S that
    much faster.

    Args:
        size: D.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def measure(self, features: Tensor) -> None:
        """Take means and deviations (D,) of features (N, D)."""
        sums, squares = (self.mean.new_zeros(len(self.mean), dtype=torch.float64) for _ in range(2))
        # Squares of what is far from zero would cancel.
        origin = features[0].to(self.mean.device).double()
        for part in features.split(_ROWS_AT_ONCE):
            moved = part.to(self.mean.device).double() - origin
            sums += moved.sum(0)
            squares += moved.square().sum(0)
        mean = sums / len(features)
        deviation = (squares / len(features) - mean.square()).clamp_min(0).sqrt()
        floor = (_SMALLEST_SHARE * deviation.mean()).clamp_min(1e-12)
        self.mean.copy_(mean + origin)
        self.scale.copy_(1 / (deviation.clamp_min(floor) * len(self.mean) ** 0.5))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, D), float32."""
        return (features.float() - self.mean) * self.scale
