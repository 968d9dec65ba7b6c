"""The one form in which every dataset says that its files are not there."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import DataError


class Source(NamedTuple):
    """Where a dataset comes from.

    Attributes:
        dataset: its name.
        obtained: where it is obtained, an address or a person.
        license: under which terms, in a few words.
        tree: which files go where, paths relative to the root, each with what it is.
        command: what to run once they are there.
    """

    dataset: str
    obtained: str
    license: str
    tree: Sequence[str]
    command: str


def missing_data(source: Source, root: str | Path, missing: Sequence[str | Path], reason: str = "") -> DataError:
    """The error of a dataset whose files, or some of them, are not there: four lines.

    They say what is missing, where it is obtained under which licence, which files go where, and what to run next.

    Args:
        source: where the dataset comes from.
        root: the folder that was searched.
        missing: the files that were not found; the first is named, the others are counted.
        reason: why a download did not help, in a few words.
    """
    first = f"{missing[0]} is missing" if missing else "no files"
    others = f" and {len(missing) - 1:,} more file{'s' * (len(missing) > 2)}" if len(missing) > 1 else ""
    because = f" ({' '.join(reason.split())})" if reason else ""
    return DataError(
        f"{source.dataset}: {first}{others} in {root}{because}\n"
        f"  obtain: {source.obtained}; licence: {source.license}\n"
        f"  place:  {root}/{{{', '.join(source.tree)}}}\n"
        f"  run:    {source.command}"
    )
