"""What all image datasets share: batches, order, flips, and the fingerprint."""

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datamodules.errors import DataError
from datamodules.image_data import ImageData, ImageItem, ImageList, random_flip


class Pictures(ImageData):
    """Squares of one shade each: the shade tells which image a row is."""

    name = "pictures"

    def __init__(self, sizes, bad=(), **arguments):
        super().__init__(**arguments)
        self.sizes, self.bad = sizes, bad
        self.attribute_names = ["odd", "large"]

    def list_splits(self):
        splits = {}
        for split, number in self.sizes.items():
            items, shades = [], np.arange(number) * 2 + 1
            for shade in shades:
                path = self.root / f"{split}_{shade}.png"
                if not path.exists():
                    Image.new("RGB", (20, 10), (int(shade), 0, 200)).save(path)
                if shade in self.bad and split == "train":
                    path.write_bytes(b"no")
                items.append(ImageItem(path, (0, 0, 10, 10)))
            attributes = np.stack([np.ones(number), np.where(shades > 20, 1, -1)], 1)
            splits[split] = ImageList(items, shades * 10, attributes)
        return splits


def build(root, sizes=None, **arguments):
    data = Pictures(
        sizes or {"train": 22, "val": 7, "test": 5}, root=str(root), image_size=4, batch_size=4, **arguments
    )
    data.prepare_data()
    data.setup()
    return data


def shades(batches):
    return [int(shade) for batch in batches for shade in batch["images"][:, 0, 0, 0]]


def test_batches_have_shapes_types_and_what_belongs_together(tmp_path):
    data = build(tmp_path)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert {name: values.dtype for name, values in batch.items()} == {
                "images": torch.uint8,
                "labels": torch.int64,
                "attributes": torch.int8,
            }
            assert batch["images"].shape[1:] == data.image_shape == (3, 4, 4)
            shade = batch["images"][:, 0, 0, 0].long()
            assert torch.equal(batch["labels"], shade * 10)
            assert torch.equal(batch["attributes"][:, 1] > 0, shade > 20)
            assert (batch["images"][:, 2] == 200).all()


def test_orders_of_the_loaders(tmp_path):
    data = build(tmp_path)
    loader = data.train_dataloader()
    orders = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        orders.append(shades(loader))
    assert len(orders[0]) == len(set(orders[0])) == 20, "full batches, each image once"
    assert orders[0] != orders[1]
    assert shades(build(tmp_path).train_dataloader()) == orders[0]
    assert shades(build(tmp_path, seed=1).train_dataloader()) != orders[0]
    assert shades(data.val_dataloader()) == [1, 3, 5, 7, 9, 11, 13]
    assert shades(data.test_dataloader()) == shades(data.predict_dataloader()) == [1, 3, 5, 7, 9]


def test_without_a_test_split_validation_is_tested(tmp_path):
    data = build(tmp_path, {"train": 8, "val": 3})
    assert shades(data.test_dataloader()) == [1, 3, 5]


def test_skipped_images_take_their_labels_with_them(tmp_path):
    data = build(tmp_path, bad=(5, 9), bad_images="skip")
    assert data.fingerprint["train_skipped"] == 2
    assert data.fingerprint["train_images"] == 20
    seen = list(data.train_dataloader())
    assert not {5, 9, 0} & set(shades(seen))
    for batch in seen:
        assert torch.equal(batch["labels"], batch["images"][:, 0, 0, 0].long() * 10)


def test_the_fingerprint_tells_data_apart(tmp_path):
    first = build(tmp_path).fingerprint
    assert first == build(tmp_path).fingerprint
    assert all(isinstance(value, str | int | float) for value in first.values())
    assert (first["train_images"], first["val_images"], first["test_images"]) == (22, 7, 5)

    class Relabelled(Pictures):
        def list_splits(self):
            splits = super().list_splits()
            splits["val"].labels[3] += 1
            return splits

    changed = Relabelled({"train": 22, "val": 7, "test": 5}, root=str(tmp_path), image_size=4, batch_size=4)
    changed.setup()
    assert changed.fingerprint["hash"] != first["hash"]


def test_setup_decodes_nothing(tmp_path):
    data = Pictures({"train": 8, "val": 3}, root=str(tmp_path), image_size=4)
    with pytest.raises(DataError, match=r"pictures_train_4x4_\w+\.npy does not exist: run prepare_data"):
        data.setup()


def test_a_cache_may_lie_elsewhere(tmp_path):
    (tmp_path / "pictures").mkdir()
    build(tmp_path / "pictures", cache=str(tmp_path / "fast disk"))
    assert len(list((tmp_path / "fast disk").glob("*.npy"))) == 3
    assert not (tmp_path / "pictures" / "cache").exists()


def test_an_empty_split_and_too_large_batches_are_told(tmp_path):
    with pytest.raises(DataError, match="pictures in .* has no val images"):
        build(tmp_path, {"train": 8, "val": 0})
    with pytest.raises(DataError, match=r"pictures train: batch_size=4 .* lower --data\.batch_size"):
        build(tmp_path, {"train": 3, "val": 1}).train_dataloader()


@pytest.mark.parametrize("argument", ["batch_size", "image_size", "num_workers"])
def test_bad_arguments(argument):
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        Pictures({}, root="x", **{argument: 0})


def test_flips_are_whole_images_half_of_the_time():
    images = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(1, 3, 4, 5).expand(4000, -1, -1, -1)
    flipped = random_flip(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert abs(mirrored.float().mean() - 0.5) < 5 * 0.5 / 4000**0.5
    assert torch.equal(random_flip(images, torch.Generator().manual_seed(0)), flipped)


class Recorder(L.LightningModule):
    """Remembers which images came mirrored in which loop."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.mirrored = {"train": [], "val": [], "test": [], "predict": []}

    def _see(self, batch, loop):
        left, right = batch["images"][:, 1, 0, 0], batch["images"][:, 1, 0, -1]
        self.mirrored[loop] += (left > right).tolist()

    def training_step(self, batch, batch_index):
        self._see(batch, "train")
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_index):
        self._see(batch, "val")

    def test_step(self, batch, batch_index):
        self._see(batch, "test")

    def predict_step(self, batch, batch_index):
        self._see(batch, "predict")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


class Gradients(Pictures):
    def list_splits(self):
        splits = super().list_splits()
        ramp = np.zeros((10, 10, 3), np.uint8)
        ramp[..., 1] = np.arange(10) * 20
        for images in splits.values():
            for item in images.items:
                Image.fromarray(ramp).save(item.source)
        return splits


@pytest.mark.parametrize("flip", [True, False])
def test_only_training_images_are_flipped(tmp_path, flip):
    data = Gradients({"train": 40, "val": 12}, root=str(tmp_path), image_size=4, batch_size=4, flip=flip)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Recorder()
    torch.manual_seed(1)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    trainer.predict(module, datamodule=data)
    assert len(module.mirrored["train"]) == 80
    assert not any(module.mirrored["val"] + module.mirrored["test"] + module.mirrored["predict"])
    assert (20 < sum(module.mirrored["train"]) < 60) if flip else not any(module.mirrored["train"])


def test_flips_depend_on_place_alone_and_differ_between_batches_and_epochs(tmp_path):
    """What the run has drawn before changes nothing, so that a resumed one mirrors the same images."""
    seen = []
    for seed in (1, 2):
        data = Gradients({"train": 40, "val": 12}, root=str(tmp_path), image_size=4, batch_size=20)
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        module = Recorder()
        torch.manual_seed(seed)
        trainer.fit(module, datamodule=data)
        seen.append(module.mirrored["train"])
    assert seen[0] == seen[1]
    batches = [tuple(seen[0][start : start + 20]) for start in range(0, 80, 20)]
    assert len(set(batches)) == 4
