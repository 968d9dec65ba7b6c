"""From the few attributes that somebody names to whole combinations, and what in them contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CONTRADICTIONS: tuple[tuple[str, str], ...] = (
    # Bald is the top of the head: the rim below may have a colour, but nothing there falls straight or in waves.
    ("Bald", "Bangs"),
    ("Bald", "Straight_Hair"),
    ("Bald", "Wavy_Hair"),
    # Bangs lie where a receding hairline would be seen.
    ("Bangs", "Receding_Hairline"),
    ("Straight_Hair", "Wavy_Hair"),
    # Between the other colours there are shades, and hair that turns gray keeps some of its own.
    ("Black_Hair", "Blond_Hair"),
    # Not a 5 o'clock shadow, which a shaven face has, nor sideburns, which need no beard.
    ("No_Beard", "Goatee"),
    ("No_Beard", "Mustache"),
)
"""Pairs of CelebA's attributes that exclude each other by what they mean; what is merely rare is not among them."""


def fill_in(wanted: Mapping[int, int], bank: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Combinations that have the wanted attributes and are otherwise as they were seen in training.

    Drawn from the seen combinations that agree with all that is wanted, each once before any is drawn again. Where
    there is none, those that agree with most of it are taken, and what is wanted is written over them.

    Args:
        wanted: attribute (its column) to -1 or +1; what is not named is left open.
        bank: seen combinations (M, N) in {-1, +1}; a row with a 0, an unknown attribute, serves for nothing.
        number: of combinations.
        generator: draws among those that fit.

    Returns:
        (number, N) float in {-1, +1}.

    Raises:
        ValueError: for a bank without a complete combination, a column that it has not, or another value.
    """
    complete = bank[(bank != 0).all(1)].float().cpu()
    if not len(complete):
        raise ValueError("bank holds no combination of attributes that was seen in training: train the method first")
    for column, value in wanted.items():
        if not 0 <= column < bank.shape[1] or value not in (-1, 1):
            raise ValueError(f"wanted must map columns 0 to {bank.shape[1] - 1} to -1 or 1, got {column}: {value}")
    columns = list(wanted)
    values = torch.tensor([float(wanted[column]) for column in columns])
    agreeing = (complete[:, columns] == values).sum(1)
    nearest = complete[agreeing == agreeing.max()]
    rounds = [torch.randperm(len(nearest), generator=generator) for _ in range(-(-number // len(nearest)))]
    filled = nearest[torch.cat(rounds)[:number]]
    filled[:, columns] = values
    return filled


def wanted_of(attributes: Tensor) -> dict[int, int]:
    """Attributes (N,) in {-1, 0, +1} as `fill_in` takes them: what is 0 is left open."""
    return {column: int(value) for column, value in enumerate(attributes.tolist()) if value}


def contradictions(attributes: Tensor, names: Sequence[str]) -> list[str]:
    """The contradictory pairs among the attributes (N,) that are +1, such as `Bald with Bangs`."""
    present = {name for name, value in zip(names, attributes.tolist(), strict=True) if value > 0}
    return [f"{first} with {second}" for first, second in CONTRADICTIONS if {first, second} <= present]
