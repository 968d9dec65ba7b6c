"""Adam for many models that are trained side by side, each with a learning rate of its own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class VariableAdam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) with a vector of learning rates over the first dimension.

    Row k of every parameter moves as it would under `torch.optim.Adam` with learning rate k. A row with rate 0 stays as
    it is.

    Args:
        parameters: tensors (K, ...), each row one model's.
        learning_rate: of all rows at first; `set_rates` changes them.
        betas: decay of the means of the gradient and of its square.
        epsilon: added to the root of the second mean.

    Raises:
        ValueError: for a negative learning rate, or parameters that differ in their first dimension.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        if learning_rate < 0:
            raise ValueError(f"learning_rate must not be negative, got {learning_rate}")
        parameters = list(parameters)
        rows = {len(parameter) for parameter in parameters}
        if len(rows) != 1:
            raise ValueError(f"all parameters must have the same first dimension, got {sorted(rows)}")
        # "lr" is what monitors of the learning rate read; the steps are taken with "rates".
        rates = torch.full((rows.pop(),), learning_rate, dtype=torch.float64)
        super().__init__(parameters, {"lr": learning_rate, "rates": rates, "betas": betas, "eps": epsilon})

    def set_rates(self, rates: Tensor) -> None:
        """Take these learning rates (K,) from the next step on; they are kept on the CPU."""
        for group in self.param_groups:
            group["rates"] = rates.detach().cpu().double()
            group["lr"] = float(rates.max())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what ``closure`` returned."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return result

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        denominator = square.sqrt().div_((1 - second ** state["step"]) ** 0.5).add_(group["eps"])
        sizes = group["rates"] / (1 - first ** state["step"])
        # Cast first: not every device knows float64.
        sizes = sizes.to(parameter.dtype).to(parameter.device).view(-1, *[1] * (parameter.dim() - 1))
        parameter.sub_(mean.div(denominator).mul_(sizes))
