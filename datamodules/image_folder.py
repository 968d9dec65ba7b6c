"""One's own pictures."""

from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.folder_splits import files_below, find_splits, label_by_folder
from datamodules.image_cache import BadImages, Fit, ImageItem, ImageList
from datamodules.image_data import ImageData
from datamodules.missing_data import Source

ENDINGS = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of the names of pictures, in any case."""

SOURCE = Source(
    dataset="ImageFolder",
    obtained=f"pictures of your own ({', '.join(ENDINGS)})",
    license="yours",
    tree=["train/*", "val/*", "test/* (or pictures without such folders)", "with labels: train/CLASS/* ..."],
    command="lightning_zoo fit --config crvae_image_folder.yaml --data.root FOLDER",
)


class ImageFolder(ImageData):
    """Pictures uint8 (B, 3, H, W) as "images", from one's own files.

    Below ``root`` lie either train/ and, if there are any, val/ and test/, or the pictures themselves, in any folders;
    splits that have no folder are drawn from the rest. Hidden files and folders are passed over.

    Args:
        root: folder of the pictures.
        labels: serve the folder of each picture, the first below the split's, as "labels" int64 (B,).
        resize: "crop_shorter_side" cuts out the central square, "stretch" squeezes the whole picture into one.
        val_share: of the pictures that are held out where there is no val/.
        test_share: of the pictures that are held out where there are no folders; 0 for no test split.
        batch_size: images per batch and process.
        image_size: side of the images.
        flip: mirror each training image with probability 1/2, on the device.
        bad_images: what to do about images that cannot be decoded: "error", or "skip" and count them.
        cache: folder of the decoded images; null for "cache" in ``root``.
        num_workers: processes that decode; null for one per core.
        seed: of the splits that are drawn, and of the order of the training images.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "image_folder"

    def __init__(
        self,
        *,
        root: str = "data/image_folder",
        labels: bool = False,
        resize: Literal["crop_shorter_side", "stretch"] = "crop_shorter_side",
        val_share: float = 0.1,
        test_share: float = 0.1,
        batch_size: int = 128,
        image_size: int = 64,
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
        if resize not in ("crop_shorter_side", "stretch"):
            raise ValueError(f"resize must be 'crop_shorter_side' or 'stretch', got {resize!r}")
        if not 0 < val_share < 1:
            raise ValueError(f"val_share must lie between 0 and 1, got {val_share}")
        if not 0 <= test_share < 1 - val_share:
            raise ValueError(f"test_share must be at least 0 and less than 1 - val_share, got {test_share}")
        self.save_hyperparameters()
        self.labels = labels
        self.fit: Fit = resize
        self.crop = "central square" if resize == "crop_shorter_side" else "none"
        self.shares = {"val": val_share, "test": test_share}

    def list_splits(self) -> dict[str, ImageList]:
        """The pictures of each split, from its folder or drawn.

        Raises:
            DataError: if there are no pictures, or labels were asked for and cannot be told.
        """
        splits = find_splits(self.root, ENDINGS, SOURCE, self.shares, self.seed, "pictures")
        labels: dict[str, np.ndarray] = {}
        if self.labels:
            self.class_names, labels = label_by_folder(splits, "picture")
        return {
            split: ImageList([ImageItem(p) for p in paths], labels.get(split)) for split, paths in splits.files.items()
        }


def pictures_below(folder: Path) -> list[Path]:
    """All files that look like pictures, by name, in a fixed order; hidden ones are passed over."""
    return files_below(folder, ENDINGS)
