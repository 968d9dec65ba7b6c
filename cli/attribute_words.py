"""Attributes as they are typed: `Smiling Eyeglasses -Male`, `no_male`, `"wearing hat"`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

NEGATIONS = ("-", "no", "not", "without")
LONGEST = 5
"""Words of an attribute's name at most, its negation with it: `not 5 o clock shadow`."""


def parse_attributes(words: Sequence[str], names: Sequence[str]) -> Tensor:
    """What is typed as attributes (N,) float: +1 named, -1 named with `-`, `no` or `not` before it, 0 not named.

    Capitals, spaces, underscores and commas do not matter; a name's own words may be words of the command line.

    Args:
        words: of the command line.
        names: of the N attributes.

    Raises:
        UsageError: for a name that does not exist, with the nearest, or one that is both asked for and ruled out.
    """
    import torch

    attributes = torch.zeros(len(names))
    rest = [word for typed in words for word in typed.replace(",", " ").split()]
    while rest:
        length, column, value = _first_of(rest, names)
        if attributes[column] == -value:
            raise UsageError(f"--attributes: {names[column]} is both asked for and ruled out; name it once")
        attributes[column] = value
        rest = rest[length:]
    return attributes


def _first_of(words: list[str], names: Sequence[str]) -> tuple[int, int, float]:
    """How many words the first attribute takes, its column, and +1 or -1; a longer name goes before a shorter one."""
    known = {_folded(name): column for column, name in enumerate(names)}
    for length in range(min(LONGEST, len(words)), 0, -1):
        typed = "_".join(words[:length])
        if any(word.startswith("-") for word in words[1:length]):
            continue
        # The names come first: No_Beard is one of CelebA's.
        if _folded(typed) in known and not typed.startswith("-"):
            return length, known[_folded(typed)], 1.0
        for negation in NEGATIONS:
            if typed.lower().startswith(negation) and _folded(typed[len(negation) :]) in known:
                return length, known[_folded(typed[len(negation) :])], -1.0
    raise UsageError(_unknown(words[0], names))


def _folded(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _unknown(word: str, names: Sequence[str]) -> str:
    known = {_folded(name): name for name in names}
    bare = _folded(word).removeprefix("no") or _folded(word)
    near = get_close_matches(bare, known, n=3, cutoff=0.5)
    near += [folded for folded in known if len(bare) > 2 and bare in folded and folded not in near]
    nearest = ", ".join(known[folded] for folded in near[:4]) or ", ".join(names)
    return f"--attributes: no attribute {word!r}; the nearest: {nearest}"
