"""The three sets of birds as they lie below a folder, and what is said when they do not.

Each is for non-commercial research and education only:

- CUB-200-2011 (11,788 pictures): Caltech, https://www.vision.caltech.edu/datasets/cub_200_2011/.
- NABirds (48,562): Cornell Lab of Ornithology, after registration, https://dl.allaboutbirds.org/nabirds; the terms on
  that page hold.
- Birdsnap 1.1 (49,829): https://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz; its script fetches the pictures
  from Flickr, where each has its photographer's licence and a part is gone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from datamodules import bird_annotations
from datamodules.bird_annotations import BirdSet
from datamodules.errors import DataError
from datamodules.missing_data import Source, missing_data


class Kind(NamedTuple):
    """What is known of one set beforehand.

    Attributes:
        folders: names that its folder may have.
        read: reads it.
        files: what must lie in it.
        obtained: where it comes from.
        license: in a few words.
        number: of images, all of them.
    """

    folders: tuple[str, ...]
    read: Callable[[Path], BirdSet]
    files: tuple[str, ...]
    obtained: str
    license: str
    number: int


_VISIPEDIA = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
KINDS = {
    "cub": Kind(
        ("cub", "CUB_200_2011"),
        bird_annotations.read_cub,
        (*_VISIPEDIA, "images"),
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "non-commercial research and education",
        11_788,
    ),
    "nabirds": Kind(
        ("nabirds",),
        bird_annotations.read_nabirds,
        (*_VISIPEDIA, "images"),
        "https://dl.allaboutbirds.org/nabirds after registration",
        "the Cornell Lab's terms of use, non-commercial",
        48_562,
    ),
    "birdsnap": Kind(
        ("birdsnap",),
        bird_annotations.read_birdsnap,
        ("images.txt", "species.txt", "test_images.txt"),
        "https://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz, then its get_birdsnap.py",
        "research, each picture its photographer's",
        49_829,
    ),
}


def read_sets(root: Path) -> list[BirdSet]:
    """Read the sets that lie below ``root``.

    Raises:
        DataError: if there is none, or of one some files.
    """
    sets = []
    for name, kind in KINDS.items():
        folders = [root / each for each in kind.folders if (root / each).is_dir()]
        if folders:
            sets.append(_read_set(name, kind, folders[0], root))
    if not sets:
        raise missing_data(_source(root, *KINDS), root, [f"any of {', '.join(f'{name}/' for name in KINDS)}"])
    return sets


def _read_set(name: str, kind: Kind, folder: Path, root: Path) -> BirdSet:
    missing = [folder / file for file in kind.files if not (folder / file).exists()]
    if name == "birdsnap" and not ((folder / "images").is_dir() or (folder / "download" / "images").is_dir()):
        missing.append(folder / "images")
    if missing:
        raise missing_data(_source(root, name), root, [path.relative_to(root) for path in missing])
    found = kind.read(folder)
    # Pictures of Birdsnap vanish from Flickr; the other two are archives, which are complete or broken.
    if found.missing and (name != "birdsnap" or not found.birds):
        raise missing_data(_source(root, name), root, [path.relative_to(root) for path in found.missing])
    if not found.birds:
        raise DataError(f"{folder} lists no image with a box: unpack the archive again")
    return found


def _source(root: Path, *names: str) -> Source:
    kinds = [KINDS[name] for name in names]
    tree = [f"{name}/{{{', '.join(kind.files)}}}" for name, kind in zip(names, kinds, strict=True)]
    return Source(
        "birds",
        "; ".join(f"{name} from {kind.obtained}" for name, kind in zip(names, kinds, strict=True)),
        "; ".join(f"{name} {kind.license}" for name, kind in zip(names, kinds, strict=True)),
        tree,
        f"lightning_zoo fit --config crvae_birds --data.root {root}",
    )
