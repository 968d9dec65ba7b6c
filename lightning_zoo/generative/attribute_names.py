"""Attributes are matched by their names: checkpoints and data may order them differently, or know some of them only."""

from collections.abc import Sequence
from difflib import get_close_matches


def columns_of(names: Sequence[str], known: Sequence[str], owner: str) -> list[int]:
    """The column of each name among the known ones.

    Args:
        names: that are looked for.
        known: by column.
        owner: whose attributes the known ones are, for the message.

    Raises:
        ValueError: for the first name that is not known, with the nearest.

    Example:
        >>> columns_of(["Young", "Bald"], ["Bald", "Male", "Young"], "the data")
        [2, 0]
    """
    places = {name: column for column, name in enumerate(known)}
    for name in names:
        if name not in places:
            near = get_close_matches(name, places, n=3, cutoff=0.5)
            nearest = f"the nearest: {', '.join(near)}" if near else f"there are: {', '.join(known) or 'none'}"
            raise ValueError(f"attribute {name!r} is none of {owner}; {nearest}")
    return [places[name] for name in names]
