"""The text files of CelebA: which image has which attributes and belongs to which split."""

from difflib import get_close_matches
from pathlib import Path

import numpy as np

from datamodules.errors import DataError

SPLIT_NUMBERS = {"0": "train", "1": "val", "2": "test"}


def read_partition(path: Path) -> dict[str, list[str]]:
    """The names of the images of "train", "val" and "test", in the order of the file.

    Raises:
        DataError: naming the line that is not a name and 0, 1 or 2.
    """
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, line in enumerate(_lines(path), 1):
        name, _, split = line.strip().partition(" ")
        if not name:
            continue
        if split.strip() not in SPLIT_NUMBERS:
            raise DataError(f"{path}, line {number}: must be an image and 0, 1 or 2, got {line.strip()!r}")
        splits[SPLIT_NUMBERS[split.strip()]].append(name)
    return splits


def read_attributes(path: Path) -> tuple[list[str], dict[str, int], np.ndarray]:
    """The names of the A attributes, the row of each image, and the values int8 (N, A) in {-1, +1}.

    Raises:
        DataError: naming the line with another number of columns or another value, or the number of rows that the
            first line announces.
    """
    lines = _lines(path)
    if len(lines) < 2 or not lines[0].strip().isdigit() or not lines[1].split():
        raise DataError(f"{path} must begin with the number of images and a line of attribute names")
    announced, names = int(lines[0]), lines[1].split()
    rows: dict[str, int] = {}
    values = np.empty((len(lines) - 2, len(names)), np.int8)
    codes = {"1": 1, "-1": -1}
    for number, line in enumerate(lines[2:], 3):
        image, *columns = line.split() or [""]
        if not image:
            continue
        if len(columns) != len(names):
            raise DataError(
                f"{path}, line {number}: {image} has {len(columns)} columns, the header names {len(names)} attributes"
            )
        try:
            values[len(rows)] = [codes[column] for column in columns]
        except KeyError as error:
            raise DataError(f"{path}, line {number}: {image} has the value {error}; it must be 1 or -1") from error
        if image in rows:
            raise DataError(f"{path}, line {number}: {image} has a second row")
        rows[image] = len(rows)
    if len(rows) != announced:
        raise DataError(f"{path} announces {announced:,} images and has rows for {len(rows):,}: obtain it again")
    return names, rows, values[: len(rows)]


def rows_of(images: list[str], rows: dict[str, int], path: Path) -> np.ndarray:
    """The row of each image.

    Raises:
        DataError: naming the first image without one, and their number.
    """
    without = [image for image in images if image not in rows]
    if without:
        raise DataError(f"{path} has no row for {without[0]} ({len(without):,} of {len(images):,} images have none)")
    return np.array([rows[image] for image in images], np.int64)


def attribute_index(names: list[str], name: str) -> int:
    """The column of an attribute; capitals and spaces do not matter.

    Raises:
        DataError: naming the nearest attributes, if there is none of that name.
    """
    folded = {known.lower(): index for index, known in enumerate(names)}
    wanted = name.strip().lower().replace(" ", "_")
    if wanted not in folded:
        near = get_close_matches(wanted, folded, n=3, cutoff=0.5)
        nearest = ", ".join(names[folded[known]] for known in near) or ", ".join(names)
        raise DataError(f"no attribute {name!r}; the nearest: {nearest}")
    return folded[wanted]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
