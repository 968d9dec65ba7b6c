"""Feeding face-like JPEGs from the cache: against decoding them every epoch, and against what a GPU takes."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import Result, in_turns
from PIL import Image

from datamodules.image_data import ImageData, ImageItem, ImageList
from datamodules.image_decoding import decode

IMAGES = 768
BATCH = 128
COPIES = 16
"""Of each image in the cache, so that it is larger than the processor's own."""
EPOCHS = 5
"""From the cache per round, because one takes some ten milliseconds."""
BOX = (15, 40, 163, 188)

MULTIPLY_ADDS = 8.9e9
"""Of one crVAE-GAN step, forward and backward, per 64x64 image."""
SUSTAINED_FLOPS = 40e12
"""Assumed of a modern GPU on such a network; two operations per multiply-add."""
GPU_IMAGES = SUSTAINED_FLOPS / (2 * MULTIPLY_ADDS)


class Faces(ImageData):
    """JPEGs of CelebA's size."""

    name = "faces"

    def list_splits(self) -> dict[str, ImageList]:
        items = [ImageItem(path, BOX) for path in sorted(self.root.glob("*.jpg"))]
        return {"train": ImageList(items * COPIES), "val": ImageList(items[:BATCH])}


def image_cache() -> Result:
    """The cache against decoding every image in every epoch, as a data loader without one does."""
    decoded, cached, ratio = _rates()
    detail = f"cached {cached:,.0f}, decoded {decoded:,.0f} images per second and process, files in the page cache"
    return Result("178x218 JPEGs from the cache against decoding them", ratio, "x", 5, True, detail)


def image_feed() -> Result:
    """The cache against what one training step consumes."""
    _, cached, _ = _rates()
    detail = (
        f"cached {cached:,.0f} images per second, a GPU consumes {GPU_IMAGES:,.0f} "
        f"({MULTIPLY_ADDS / 1e9:.1f} GMAC per image and step, {SUSTAINED_FLOPS / 1e12:.0f} TFLOP/s sustained, assumed)"
    )
    return Result("images from the cache against a GPU's demand", cached / GPU_IMAGES, "x", 2, True, detail)


@functools.cache
def _rates() -> tuple[float, float, float]:
    """Images per second decoded and cached, as uint8 batches in the order of training, and the median of the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        _write_faces(Path(folder))
        data = Faces(root=folder, batch_size=BATCH)
        data.prepare_data()
        data.setup()
        items, loader = data.list_splits()["train"].items, data.train_dataloader()

        def decoding() -> None:
            for rows in torch.randperm(IMAGES).split(BATCH):
                torch.from_numpy(np.stack([decode(items[row], data.decoding) for row in rows.tolist()]))

        def from_cache() -> None:
            for epoch in range(EPOCHS):
                loader.sampler.set_epoch(epoch)
                for _ in loader:
                    pass

        decode_seconds, cache_seconds, ratio = in_turns(decoding, from_cache, rounds=5)
    repeated = EPOCHS * COPIES
    return IMAGES / decode_seconds, repeated * IMAGES / cache_seconds, repeated * ratio


def _write_faces(folder: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (14, 12, 3), np.uint8))
        noisy = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC), np.int16) + random.integers(
            -6, 7, (218, 178, 3)
        )
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index:06}.jpg", quality=85)
