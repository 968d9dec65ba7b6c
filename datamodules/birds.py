"""Birds: Birdsnap, NABirds and CUB-200-2011 together, cropped to the bird; `bird_sets` says where they come from."""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from datamodules.bird_annotations import Bird, BirdSet, Box, species_key, species_name
from datamodules.bird_sets import KINDS, read_sets
from datamodules.errors import DataError
from datamodules.image_cache import BadImages
from datamodules.image_data import ImageData, ImageItem, ImageList
from datamodules.image_sizes import Size, image_sizes

Crop = Literal["square", "box", "whole"]

THESIS_TRAIN, THESIS_VAL = 106_474, 5_974
"""Images in the thesis (its section 5.4). They add up to 2,269 more than the three sets hold together, 110,179."""

HELD_OUT = THESIS_VAL / (THESIS_TRAIN + THESIS_VAL)


class Birds(ImageData):
    """The bird pictures of the thesis' chapter 5; whichever of the three sets lie under ``root`` are joined.

    The thesis tells neither its crop nor its split. Labels are species, joined across sets where their names agree but
    for case, punctuation and plumage (`bird_annotations.species_key`). Validation images serve as test images too.

    Args:
        root: folder that holds `cub` (or `CUB_200_2011`), `nabirds`, `birdsnap`, or some of them.
        batch_size: images per batch and process.
        image_size: side of the images.
        crop: "square": around the bird's box, its side the longer one of the box's times 1 + ``margin``, moved into
            the picture and never larger than the picture's shorter side; "box": the box itself, stretched to a square;
            "whole": the central square of the whole picture.
        margin: of "square", in parts of the box's longer side, both sides together.
        split: "holdout": 5.3 % of each set, the thesis' share, chosen by a hash of the file's name, is validated on;
            "official": the sets' own test images are, 30 % of all.
        flip: mirror each training image with probability 1/2, on the device.
        bad_images: what to do about images that cannot be decoded: "error", or "skip" and count them.
        cache: folder of the decoded images; null for "cache" in ``root``.
        num_workers: processes that decode; null for one per core.
        seed: of the order of the training images.

    Attributes:
        found: number of pictures by set.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "birds"

    def __init__(
        self,
        *,
        root: str = "data/birds",
        batch_size: int = 128,
        image_size: int = 64,
        crop: Crop = "square",
        margin: float = 0.2,
        split: Literal["holdout", "official"] = "holdout",
        flip: bool = True,
        bad_images: BadImages = "error",
        cache: str | None = None,
        num_workers: int | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__(
            root=root,
            batch_size=batch_size,
            image_size=image_size,
            flip=flip,
            bad_images=bad_images,
            cache=cache,
            num_workers=num_workers,
            seed=seed,
        )
        if crop not in ("square", "box", "whole"):
            raise ValueError(f"crop must be 'square', 'box' or 'whole', got {crop!r}")
        if not (math.isfinite(margin) and margin >= 0):
            raise ValueError(f"margin must be at least 0, got {margin}")
        if split not in ("holdout", "official"):
            raise ValueError(f"split must be 'holdout' or 'official', got {split!r}")
        self.save_hyperparameters()
        self.crop_mode: Crop = crop
        self.margin = margin
        self.split = split
        self.crop = _crop_in_words(crop, margin)
        self.fit = "crop_shorter_side" if crop == "whole" else "stretch"
        self.found: dict[str, int] = {}
        self._sets: list[BirdSet] = []

    def list_splits(self) -> dict[str, ImageList]:
        """Training and validation images of the sets that are there.

        Raises:
            DataError: if there is none, or of one some files.
        """
        self._sets = sets = self._sets or read_sets(self.root)
        self.found = {each.name: len(each.birds) for each in sets}
        birds = [bird for each in sets for bird in each.birds]
        names = _species(birds)
        self.class_names = list(names.values())
        label_of = {key: label for label, key in enumerate(names)}
        held_out = np.concatenate([self._held_out(each) for each in sets])
        labels = np.array([label_of[species_key(bird.species)] for bird in birds])
        items = self._items(birds)
        splits = {}
        for split, rows in (("train", np.flatnonzero(~held_out)), ("val", np.flatnonzero(held_out))):
            if not len(rows):
                raise DataError(f"birds: split={self.split!r} leaves no image for {split}: choose the other split")
            splits[split] = ImageList([items[row] for row in rows], labels=labels[rows])
        return splits

    def prepare_data(self) -> None:
        """Say once what was found, and decode the pictures unless that was done before."""
        splits = self._list()
        print("\n".join(self._report({split: len(images.items) for split, images in splits.items()})))
        super().prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Map the cache; the fingerprint also tells which sets were found and how many images the thesis had."""
        super().setup(stage)
        self.fingerprint |= {f"{name}_images": self.found.get(name, 0) for name in KINDS}
        self.fingerprint |= {
            "split": self.split,
            "thesis_train_images": THESIS_TRAIN,
            "thesis_val_images": THESIS_VAL,
        }

    def _held_out(self, found: BirdSet) -> np.ndarray:
        if self.split == "official":
            return np.array([bird.official_test for bird in found.birds])
        draws = np.array([_uniform(f"{found.name}/{bird.path.parent.name}/{bird.path.name}") for bird in found.birds])
        return draws < max(HELD_OUT, np.nextafter(draws.min(), 1))  # at least one of each set

    def _items(self, birds: Sequence[Bird]) -> list[ImageItem]:
        if self.crop_mode == "whole":
            return [ImageItem(bird.path) for bird in birds]
        if self.crop_mode == "box":
            return [ImageItem(bird.path, bird.box) for bird in birds]
        known, paths = self.cache_folder / "birds_sizes.json", [bird.path for bird in birds]
        sizes = image_sizes(paths, known, self.root)
        boxes = (_square(bird.box, size, self.margin) for bird, size in zip(birds, sizes, strict=True))
        return [ImageItem(path, box) for path, box in zip(paths, boxes, strict=True)]

    def _report(self, counts: dict[str, int]) -> list[str]:
        lines = []
        by_name = {each.name: each for each in self._sets}
        for name, kind in KINDS.items():
            each = by_name.get(name)
            if each is None:
                lines.append(f"birds: {name} is not in {self.root} ({kind.obtained})")
                continue
            gone = f", {len(each.missing):,} listed ones are not there" if each.missing else ""
            empty = f", {each.without_box:,} without a box left out" if each.without_box else ""
            lines.append(f"birds: {name} has {len(each.birds):,} of {kind.number:,} images{gone}{empty}")
        lines.append(
            f"birds: {counts['train']:,} train / {counts['val']:,} val images of {len(self.class_names):,} species "
            f"(thesis: {THESIS_TRAIN:,} / {THESIS_VAL:,}); crop: {self.crop}"
        )
        return lines


def _species(birds: Sequence[Bird]) -> dict[str, str]:
    """Names to print by what they have in common across the sets, sorted; of several the first one found."""
    names: dict[str, str] = {}
    for bird in birds:
        names.setdefault(species_key(bird.species), species_name(bird.species))
    return dict(sorted(names.items()))


def _square(box: Box, size: Size | None, margin: float) -> Box | None:
    """A square about the middle of a box; None where the size of the picture is unknown."""
    if size is None:
        return None
    side = min((1 + margin) * max(box[2] - box[0], box[3] - box[1]), *size)
    left = min(max((box[0] + box[2] - side) / 2, 0), size[0] - side)
    top = min(max((box[1] + box[3] - side) / 2, 0), size[1] - side)
    return left, top, left + side, top + side


def _crop_in_words(crop: Crop, margin: float) -> str:
    if crop == "square":
        return f"square around the bird's box, its longer side times {1 + margin:g}, moved into the picture"
    return "the bird's box, stretched" if crop == "box" else "central square of the whole picture"


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
