"""Splits and classes of one's own files, by the folders that they lie in."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.errors import DataError
from datamodules.missing_data import Source, missing_data

SPLITS = ("train", "val", "test")


class FolderSplits(NamedTuple):
    """Files of one kind, in splits.

    Attributes:
        files: of each split, by name.
        bases: the folder below which each split's classes lie.
    """

    files: dict[str, list[Path]]
    bases: dict[str, Path]


def files_below(folder: Path, endings: Sequence[str]) -> list[Path]:
    """All files with one of the endings, in any case, in a fixed order; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def find_splits(
    root: Path, endings: Sequence[str], origin: Source, shares: dict[str, float], seed: int, what: str
) -> FolderSplits:
    """The files of train/, val/ and test/, or all below ``root``; splits without a folder are drawn from the rest.

    Args:
        root: the folder.
        endings: of the files' names.
        origin: for the message where there are none.
        shares: of the files that "val" and "test" get where they are drawn.
        seed: of the draw.
        what: the files are, in messages.

    Raises:
        DataError: if there are no files, or too few to draw from.
    """
    if not (root / "train").is_dir():
        everything = files_below(root, endings) if root.is_dir() else []
        if not everything:
            raise missing_data(origin, root, ["train/*"], f"nor are there {what} without folders")
        found = drawn(everything, shares, seed, f"{root} holds {len(everything)} {what}")
        return FolderSplits(found, dict.fromkeys(found, root))
    found = {split: files_below(root / split, endings) for split in SPLITS if (root / split).is_dir()}
    bases = {split: root / split for split in found}
    empty = [f"{split}/*" for split, files in found.items() if not files]
    if empty:
        raise missing_data(origin, root, empty)
    if "val" not in found:
        number = len(found["train"])
        found |= drawn(found["train"], {"val": shares["val"]}, seed, f"{root / 'train'} holds {number} {what}")
        bases["val"] = bases["train"]
    return FolderSplits(found, bases)


def drawn(files: list[Path], shares: dict[str, float], seed: int, there: str) -> dict[str, list[Path]]:
    """Files without order, cut into the shares, at least one file each unless its share is 0, and "train", the rest.

    Raises:
        DataError: beginning with ``there``, if no file is left to train on.
    """
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    splits: dict[str, list[Path]] = {}
    for split, share in shares.items():
        number = max(1, round(share * len(files))) if share else 0
        part, order = order[:number], order[number:]
        if number:
            splits[split] = [files[index] for index in sorted(part)]
    if not order:
        raise DataError(f"{there}, too few for {len(splits) + 1} splits: add some")
    return {"train": [files[index] for index in sorted(order)], **splits}


def label_by_folder(splits: FolderSplits, what: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """The classes of the training files, which are the first folders below the split's, and each split's labels (N,).

    Args:
        splits: the files.
        what: one of them is, in messages.

    Raises:
        DataError: for a file in no such folder, or of a class that is not trained on.
    """
    classes = {split: [_class(file, splits.bases[split]) for file in files] for split, files in splits.files.items()}
    names = sorted(set(classes["train"]))
    number = {name: index for index, name in enumerate(names)}
    for split, own in classes.items():
        for name, file in zip(own, splits.files[split], strict=True):
            if name not in number:
                raise DataError(f"{file} is of class {name!r}, of which no {what} is trained on")
    return names, {split: np.array([number[name] for name in own], np.int64) for split, own in classes.items()}


def _class(file: Path, base: Path) -> str:
    parts = file.relative_to(base).parts
    if len(parts) < 2:
        raise DataError(f"{file} lies in no folder of a class: move it to one, or set --data.labels false")
    return parts[0]
