"""The published table of attribute attention, Table 6.1 of the thesis, and how ours is put beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple


class PublishedAttention(NamedTuple):
    """Table 6.1.

    Attributes:
        source: where it is printed.
        steps: each step 1 ... 8 and the attributes that attend it, by CelebA's names.
        missing: attributes of CelebA that the table leaves out.
    """

    source: str
    steps: dict[int, list[str]]
    missing: list[str]


def published_attention() -> PublishedAttention:
    """The thesis' table with its names turned into CelebA's."""
    text = files("lightning_zoo.generative").joinpath("published_attention.json").read_text()
    content = json.loads(text)
    spelt = content["celeba_names"]
    steps = {
        int(step): [spelt.get(name, name.replace(" ", "_")) for name in names]
        for step, names in content["steps"].items()
    }
    return PublishedAttention(content["source"], steps, content["missing"])


def beside_published(ours: Mapping[int, Sequence[str]]) -> list[tuple[int, list[str], list[str]]]:
    """Rows of step, our attributes and the published ones, for every step that either has.

    A step's number alone compares little: which block comes to carry what is decided by the initial weights. What
    compares is which attributes are together, and how evenly they are spread.
    """
    published = published_attention().steps
    steps = sorted({*ours, *published})
    return [(step, list(ours.get(step, [])), published.get(step, [])) for step in steps]


def pairs_together(steps: Mapping[int, Sequence[str]], other: Mapping[int, Sequence[str]]) -> tuple[int, int, float]:
    """How far two tables put the same attributes together, whatever the numbers of the steps.

    Returns:
        Pairs of attributes that share a step in both tables; pairs that share one in the second, of the attributes
        that both have; and how many of those the first would have by chance, were its attributes dealt out anew to
        steps of the same sizes.
    """
    place = {name: step for step, names in steps.items() for name in names}
    second = {name: step for step, names in other.items() for name in names if name in place}
    names = sorted(second)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    theirs = [(a, b) for a, b in pairs if second[a] == second[b]]
    ours = sum(place[a] == place[b] for a, b in pairs)
    both = sum(place[a] == place[b] for a, b in theirs)
    return both, len(theirs), len(theirs) * ours / max(1, len(pairs))
