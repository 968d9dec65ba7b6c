"""Faces of celebrities with forty attributes each."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from datamodules.celeba_files import attribute_index, read_attributes, read_partition, rows_of
from datamodules.image_cache import BadImages, ImageItem, ImageList
from datamodules.image_data import ImageData
from datamodules.missing_data import Source, missing_data

CelebACrop = Literal["larsen", "loose", "center_160", "center_148", "center_140", "center_128", "none"]

ORIGINAL_SIZE = (178, 218)
"""Width and height of every aligned image."""

BOXES: dict[str, tuple[float, float, float, float] | None] = {
    "larsen": (15, 40, 163, 188),
    "loose": (0, 20, 178, 198),
    "center_160": (9, 29, 169, 189),
    "center_148": (15, 35, 163, 183),
    "center_140": (19, 39, 159, 179),
    "center_128": (25, 45, 153, 173),
    "none": None,
}
"""Left, top, right, bottom of each crop protocol."""

IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
SYNTHETIC = "SYNTHETIC"
"""The marker of faces that this package drew."""

SOURCE = Source(
    dataset="CelebA",
    obtained="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images), or --data.download true; "
    "without it, lightning_zoo make_faces --root data/synthetic_faces draws faces in its layout",
    license="non-commercial research only",
    tree=[f"celeba/{IMAGES}/000001.jpg ...", f"celeba/{ATTRIBUTES}", f"celeba/{PARTITION}"],
    command="lightning_zoo fit --config crvae_celeba.yaml --data.root FOLDER",
)


class CelebA(ImageData):
    """Aligned faces uint8 (B, 3, H, W) as "images" and their attributes int8 (B, 40) in {-1, +1} as "attributes".

    The files lie as torchvision leaves them: root/celeba/img_align_celeba/*.jpg, list_attr_celeba.txt and
    list_eval_partition.txt; identities, boxes and landmarks are not read.

    Distances between distributions are comparable only within one crop protocol. Which region the thesis cut out is not
    known: it writes that the regions of interest have about 128 pixels, its later release speaks of a loose crop. The
    default is the box of the VAE/GAN of Larsen et al. (2016), which lies between the two.

    Args:
        root: folder that holds celeba/.
        crop: of the 178x218 originals: "larsen" the box (15, 40)-(163, 188); "loose" the whole width, (0, 20)-(178,
            198); "center_N" the central N x N; "none" the whole image, squeezed into a square.
        label: an attribute, served as "labels" 0 and 1 (B,) as well, for a classifier; null for none.
        batch_size: images per batch and process.
        image_size: side of the images, at most the crop's (178 of "none"): nothing is enlarged.
        flip: mirror each training image with probability 1/2, on the device.
        bad_images: what to do about images that cannot be decoded: "error", or "skip" and count them.
        download: let torchvision download the files if there are none; it often fails by the host's quota.
        cache: folder of the decoded images; null for "cache" in ``root``.
        num_workers: processes that decode; null for one per core.
        seed: of the order of the training images.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "celeba"
    expected_size = ORIGINAL_SIZE

    def __init__(
        self,
        *,
        root: str = "data/celeba",
        crop: CelebACrop = "larsen",
        label: str | None = None,
        batch_size: int = 128,
        image_size: int = 64,
        flip: bool = True,
        bad_images: BadImages = "error",
        download: bool = False,
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
        if crop not in BOXES:
            raise ValueError(f"crop must be one of {', '.join(BOXES)}, got {crop!r}")
        _check_size(crop, image_size)
        self.save_hyperparameters()
        self.box = BOXES[crop]
        self.crop = crop if self.box is None else f"{crop} {self.box[:2]}-{self.box[2:]} of 178x218"
        self.label = label
        self.download = download

    @property
    def folder(self) -> Path:
        """Where images and text files lie."""
        return self.root / "celeba"

    def prepare_data(self) -> None:
        """Download the files if that was asked for and there are none; decode them unless that was done before."""
        if self.download and not self.folder.is_dir():
            from torchvision import datasets

            try:
                datasets.CelebA(str(self.root), download=True)
            except (RuntimeError, OSError, ModuleNotFoundError) as error:
                raise missing_data(SOURCE, self.root, [IMAGES], f"the download failed: {error}") from error
        super().prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Map the caches into memory; drawn faces in CelebA's layout are called so in the fingerprint, and aloud."""
        super().setup(stage)
        if (self.folder / SYNTHETIC).is_file():
            self.fingerprint["source"] = "synthetic faces, not CelebA"
            rank_zero_info(f"{self.folder}: synthetic faces, drawn by this package. This is not CelebA.")

    def list_splits(self) -> dict[str, ImageList]:
        """The official splits, with the attributes of each image.

        Raises:
            DataError: if files are missing or disagree.
        """
        missing = [name for name in (IMAGES, ATTRIBUTES, PARTITION) if not (self.folder / name).exists()]
        if missing:
            packed = (self.folder / f"{IMAGES}.zip").exists() and IMAGES in missing
            raise missing_data(SOURCE, self.root, missing, f"{IMAGES}.zip is there, but not unpacked" if packed else "")
        names = read_partition(self.folder / PARTITION)
        self._check_images([name for split in names.values() for name in split])
        self.attribute_names, rows, values = read_attributes(self.folder / ATTRIBUTES)
        column = attribute_index(self.attribute_names, self.label) if self.label is not None else None
        if column is not None:
            self.class_names = [f"not {self.attribute_names[column]}", self.attribute_names[column]]
        splits = {}
        for split, images in names.items():
            attributes = values[rows_of(images, rows, self.folder / ATTRIBUTES)]
            labels = (attributes[:, column] > 0).astype(np.int64) if column is not None else None
            items = [ImageItem(self.folder / IMAGES / image, self.box) for image in images]
            splits[split] = ImageList(items, labels, attributes)
        return splits

    def _check_images(self, names: list[str]) -> None:
        present = set(os.listdir(self.folder / IMAGES))
        missing = [f"celeba/{IMAGES}/{name}" for name in names if name not in present]
        if missing:
            raise missing_data(SOURCE, self.root, missing, f"{len(present):,} images are there")


def _check_size(crop: CelebACrop, image_size: int) -> None:
    sides = {name: box[2] - box[0] if box else min(ORIGINAL_SIZE) for name, box in BOXES.items()}
    side, largest = sides[crop], max(sides.values())
    if image_size > side:
        wider = f", or {largest} with crop 'loose' or 'none'" if side < largest else ""
        raise ValueError(
            f"CelebA's crop {crop!r} has {side} pixels and cannot give image_size={image_size}: at most {side}{wider}"
        )
