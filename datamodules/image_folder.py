"""One's own pictures."""

from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.errors import DataError
from datamodules.image_cache import BadImages, Fit, ImageItem, ImageList
from datamodules.image_data import SPLITS, ImageData
from datamodules.missing_data import Source, missing_data

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
        if (self.root / "train").is_dir():
            found = {split: pictures_below(self.root / split) for split in SPLITS if (self.root / split).is_dir()}
            base = {split: self.root / split for split in found}
            empty = [f"{split}/*" for split, pictures in found.items() if not pictures]
            if empty:
                raise missing_data(SOURCE, self.root, empty)
            if "val" not in found:
                found |= self._drawn(found["train"], {"val": self.shares["val"]})
        else:
            everything = pictures_below(self.root) if self.root.is_dir() else []
            if not everything:
                raise missing_data(SOURCE, self.root, ["train/*"], "nor are there pictures without folders")
            found = self._drawn(everything, self.shares)
            base = {}
        default = base.get("train", self.root)
        classes = {split: [self._class(p, base.get(split, default)) for p in found[split]] for split in found}
        labels = self._label(classes, found) if self.labels else {}
        return {split: ImageList([ImageItem(p) for p in found[split]], labels.get(split)) for split in found}

    def _drawn(self, pictures: list[Path], shares: dict[str, float]) -> dict[str, list[Path]]:
        """Pictures without order, cut into the shares, at least one picture each, and the rest for training."""
        order = np.random.default_rng(self.seed).permutation(len(pictures)).tolist()
        splits: dict[str, list[Path]] = {}
        for split, share in shares.items():
            number = max(1, round(share * len(pictures))) if share else 0
            part, order = order[:number], order[number:]
            if number:
                splits[split] = [pictures[index] for index in sorted(part)]
        if not order:
            raise DataError(
                f"{self.root} holds {len(pictures)} pictures, too few for {len(splits) + 1} splits: add some"
            )
        return {"train": [pictures[index] for index in sorted(order)], **splits}

    def _class(self, picture: Path, base: Path) -> str:
        parts = picture.relative_to(base).parts
        if self.labels and len(parts) < 2:
            raise DataError(f"{picture} lies in no folder of a class: move it to one, or set --data.labels false")
        return parts[0]

    def _label(self, classes: dict[str, list[str]], found: dict[str, list[Path]]) -> dict[str, np.ndarray]:
        self.class_names = sorted(set(classes["train"]))
        number = {name: index for index, name in enumerate(self.class_names)}
        for split, names in classes.items():
            for name, picture in zip(names, found[split], strict=True):
                if name not in number:
                    raise DataError(f"{picture} is of class {name!r}, of which no picture is trained on")
        return {split: np.array([number[name] for name in names], np.int64) for split, names in classes.items()}


def pictures_below(folder: Path) -> list[Path]:
    """All files that look like pictures, by name, in a fixed order; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
