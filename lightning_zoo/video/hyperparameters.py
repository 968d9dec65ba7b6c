"""Which hyperparameters of video methods are refused, and what a checkpoint's tell of its phase."""

from collections.abc import Mapping
from typing import Any

CHOICES = {
    "pixels": ("unit", "signed"),
    "padding": ("zeros", "border"),
    "reduction": ("sum", "mean"),
    "contrast": ("raw", "normalized", "standardized"),
    "feedback": ("predicted", "true"),
    "head": ("features", "pooled"),
}

AT_LEAST_ONE = (
    "frame_channels",
    "frame_size",
    "num_frames",
    "channels",
    "num_blocks",
    "base_channels",
    "dynamics_size",
    "frame_dynamics_size",
    "hidden_size",
    "feature_size",
    "halving_period_epochs",
)
NOT_NEGATIVE = (
    "reconstruction_weight",
    "transformation_weight",
    "statics_weight",
    "frame_weight",
    "contrastive_weight",
    "anchor_weight",
    "transformer_epochs",
    "warm_up_epochs",
)
POSITIVE = ("learning_rate", "transformer_learning_rate", "temperature", "gradient_norm")


def check_hyperparameters(given: Any) -> None:
    """Check those that a method has.

    Raises:
        ValueError: for one that is unknown or out of range.
    """
    for name, known in CHOICES.items():
        if given.get(name, known[0]) not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {given[name]!r}")
    for names, kept, rule in (
        (AT_LEAST_ONE, lambda value: value >= 1, "at least 1"),
        (NOT_NEGATIVE, lambda value: value >= 0, "0 or more"),
        (POSITIVE, lambda value: value > 0, "positive"),
    ):
        for name in names:
            value = given.get(name)
            if value is not None and not kept(value):
                raise ValueError(f"{name} must be {rule}, got {value}")
    if given.get("channels", 2) % 2:
        raise ValueError(f"channels must be even, got {given['channels']}")


def in_first_phase(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of StaticsDynamics before its second phase, in which S and P begin to learn."""
    epochs: int = checkpoint.get("hyper_parameters", {}).get("transformer_epochs", 0)
    return bool(checkpoint.get("epoch", 0) < epochs)
