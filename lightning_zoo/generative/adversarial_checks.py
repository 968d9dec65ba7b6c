"""Which hyperparameters of VAE-GAN and crVAE-GAN are refused."""

from collections.abc import Sequence
from typing import Any

CHOICES = {
    "adversarial_loss": ("bce", "hinge"),
    "step_order": ("joint", "released"),
    "sample_weights": ("released", "thesis"),
    "discriminator_batch": ("thirds", "quarters"),
    "gated": ("discriminator", "head"),
}

RANGES: dict[str, tuple[float, float, str]] = {
    "image_channels": (1, float("inf"), "must be at least 1"),
    "base_channels": (1, float("inf"), "must be at least 1"),
    "latent_channels": (1, float("inf"), "must be at least 1"),
    "halving_period_epochs": (1, float("inf"), "must be at least 1"),
    "adversarial_weight": (0, float("inf"), "must not be negative"),
    "mutual_information_weight": (0, float("inf"), "must not be negative"),
    "entropy_weight": (0, float("inf"), "must not be negative"),
    "balance_weight": (0, float("inf"), "must not be negative"),
    "gradient_penalty": (0, float("inf"), "must not be negative"),
    "learning_rate": (1e-12, float("inf"), "must be positive"),
    "recurrent_learning_rate": (1e-12, float("inf"), "must be positive or null"),
    "dropout": (0, 0.99, "must lie in [0, 1)"),
    "norm_momentum": (1e-12, 1, "must lie in (0, 1]"),
    "averaging_decay": (1e-12, 1 - 1e-12, "must lie between 0 and 1 or be null"),
}
"""Smallest and largest value of each number, and how both are said."""

NOT_RELEASED = ("gradient_penalty", "moves_transformed", "shared_statistics")
"""Options that the released order of steps has not."""


def check_hyperparameters(given: Any, kl_weights: Sequence[float]) -> None:
    """Check those that a method has.

    Args:
        given: the hyperparameters.
        kl_weights: one per block.

    Raises:
        ValueError: for one that is unknown or out of range.
    """
    for name, known in CHOICES.items():
        if given.get(name, known[0]) not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {given[name]!r}")
    for name, (least, most, rule) in RANGES.items():
        value = given.get(name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} {rule}, got {value}")
    if min(kl_weights) < 0:
        raise ValueError(f"kl_weights must not be negative, got {min(kl_weights)}")
    for option in NOT_RELEASED:
        if given.get("step_order") == "released" and given.get(option):
            raise ValueError(f"step_order='released' knows no {option}; use 'joint'")
