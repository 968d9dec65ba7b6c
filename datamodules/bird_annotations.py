"""The lists of CUB-200-2011, NABirds and Birdsnap, read into one form."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import DataError

Box = tuple[float, float, float, float]


class Bird(NamedTuple):
    """One picture.

    Attributes:
        path: the file.
        box: left, top, right, bottom in pixels.
        species: its common name.
        official_test: whether the set's own split tests on it.
    """

    path: Path
    box: Box
    species: str
    official_test: bool


class BirdSet(NamedTuple):
    """One of the three sets, as it was found.

    Attributes:
        name: "cub", "nabirds" or "birdsnap".
        birds: the pictures that are there, in the order of the list.
        missing: listed files that are not there.
        without_box: how many were left out because their box is empty.
    """

    name: str
    birds: list[Bird]
    missing: list[Path]
    without_box: int


def read_cub(folder: Path) -> BirdSet:
    """Read CUB-200-2011.

    Each line of its lists begins with the number of a picture: `images.txt` goes on with the file below `images/`,
    `bounding_boxes.txt` with x, y, width and height, `image_class_labels.txt` with the number of a class,
    `train_test_split.txt` with 1 for training; `classes.txt` has lines of class number and a name such as
    `001.Black_footed_Albatross`.

    Raises:
        DataError: for a line that is not of this form, or a picture that a list leaves out.
    """
    return _read_visipedia("cub", folder)


def read_nabirds(folder: Path) -> BirdSet:
    """Read NABirds: the lists of `read_cub`, with pictures named by UUID and classes such as `817 Wood Duck (Male)`.

    Its classes also have inner nodes of a hierarchy, which no picture refers to.

    Raises:
        DataError: for a line that is not of this form, or a picture that a list leaves out.
    """
    return _read_visipedia("nabirds", folder)


def read_birdsnap(folder: Path) -> BirdSet:
    """Read Birdsnap 1.1: tables with a header, their columns separated by tabs.

    `images.txt` has columns url, md5, path, species_id, bb_x1, bb_y1, bb_x2, bb_y2 and parts; `species.txt` has id,
    common, scientific and dir; `test_images.txt` has path. The pictures lie in `images/`, or in `download/images/`
    where the set's own script puts them. Its pictures are fetched from Flickr, where many are gone.

    Raises:
        DataError: for a table without one of these columns, or a line that does not fit.
    """
    species = {row[0]: row[1] for row in _table(folder / "species.txt", ("id", "common"))}
    tests = {row[0] for row in _table(folder / "test_images.txt", ("path",))}
    images = folder / "images"
    if not images.is_dir() and (folder / "download" / "images").is_dir():
        images = folder / "download" / "images"
    birds, missing = [], []
    source = folder / "images.txt"
    present = _files(images)
    for row in _table(source, ("path", "species_id", "bb_x1", "bb_y1", "bb_x2", "bb_y2")):
        if row[1] not in species:
            raise DataError(f"{source}: {row[0]} has species {row[1]}, which {folder / 'species.txt'} does not list")
        left, top, right, bottom = _numbers(row[2:], source, row[0])
        bird = Bird(images / row[0], (left, top, right, bottom), species[row[1]], row[0] in tests)
        birds.append(bird) if row[0] in present else missing.append(bird.path)
    return _with_boxes("birdsnap", birds, missing)


def species_key(name: str) -> str:
    """What names of one species have in common across the sets.

    The number before a class, what stands in brackets (NABirds' plumages), `'s`, capitals and punctuation do not count:
    `001.Black_footed_Albatross` and `Black-footed Albatross` agree. Names that differ otherwise stay two species.
    """
    return re.sub(r"[^a-z]", "", species_name(name).lower().replace("'s", ""))


def species_name(name: str) -> str:
    """A class as a name to print, `Black footed Albatross` of `001.Black_footed_Albatross`."""
    return re.sub(r"\s*\(.*?\)", "", re.sub(r"^\d+\.", "", name)).replace("_", " ").strip()


def _read_visipedia(name: str, folder: Path) -> BirdSet:
    files = _list(folder / "images.txt", 1)
    boxes, splits = folder / "bounding_boxes.txt", folder / "train_test_split.txt"
    box_of, training = _list(boxes, 4), _list(splits, 1)
    label_of, names = _list(folder / "image_class_labels.txt", 1), _list(folder / "classes.txt", None)
    birds, missing = [], []
    present = _files(folder / "images")
    for key, (file,) in files.items():
        for table, source in ((box_of, boxes), (training, splits), (label_of, folder / "image_class_labels.txt")):
            if key not in table:
                raise DataError(f"{source} has no line for image {key} ({file}): unpack the archive again")
        label = label_of[key][0]
        if label not in names:
            raise DataError(f"{folder / 'classes.txt'} has no class {label}, that of image {key} ({file})")
        left, top, width, height = _numbers(box_of[key], boxes, key)
        box = (left, top, left + width, top + height)
        bird = Bird(folder / "images" / file, box, " ".join(names[label]), training[key][0] == "0")
        birds.append(bird) if file in present else missing.append(bird.path)
    return _with_boxes(name, birds, missing)


def _with_boxes(name: str, birds: list[Bird], missing: list[Path]) -> BirdSet:
    usable = [bird for bird in birds if bird.box[2] > bird.box[0] and bird.box[3] > bird.box[1]]
    return BirdSet(name, usable, missing, len(birds) - len(usable))


def _files(folder: Path) -> set[str]:
    """All files two levels below a folder, as the lists name them; two levels are quicker to list than to ask for."""
    return {f"{group.name}/{file.name}" for group in folder.iterdir() if group.is_dir() for file in group.iterdir()}


def _list(path: Path, values: int | None) -> dict[str, list[str]]:
    """Lines of a key and so many values, separated by blanks; None for one value or more."""
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        key, *rest = line.split()
        if not rest or (values is not None and len(rest) != values) or key in rows:
            wanted = "a name" if values is None else "1 value" if values == 1 else f"{values} values"
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not an id of its own and {wanted}: a wrong file?")
        rows[key] = rest
    return rows


def _table(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The named columns of a table with a header."""
    header, *lines = _lines(path)
    names = header.split("\t")
    absent = [column for column in columns if column not in names]
    if absent:
        raise DataError(f"{path} has no column {absent[0]!r} in its first line, {header[:60]!r}: a wrong file?")
    places = [names.index(column) for column in columns]
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, 2):
        if len(row) <= max(places):
            raise DataError(f"{path}, line {number}: {len(row)} columns where the header has {len(names)}")
    return [[row[place] for place in places] for row in rows]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not lines:
        raise DataError(f"{path} is empty: unpack the archive again")
    return lines


def _numbers(values: Sequence[str], source: Path, key: str) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise DataError(f"{source}: the box of {key} is {' '.join(values)!r}, not four numbers") from error
