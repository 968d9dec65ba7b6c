"""One's own pictures: splits from folders or drawn, labels, resizing, and what goes wrong."""

import pytest
import torch
from PIL import Image

from datamodules import ImageFolder
from datamodules.errors import DataError


def write(root, names, size=(12, 8)):
    """Pictures whose red is their place in the list."""
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (index, 0, 0)).save(root / name)


def build(root, **arguments):
    data = ImageFolder(**({"root": str(root), "batch_size": 1, "image_size": 8} | arguments))
    data.prepare_data()
    data.setup()
    return data


def reds(loader):
    return [int(red) for batch in loader for red in batch["images"][:, 0, 0, 0]]


def splits(data):
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    return {split: sorted(reds(loader)) for split, loader in loaders.items()}


def test_folders_are_splits(tmp_path):
    write(tmp_path, ["train/a.png", "train/deep/b.PNG", "val/c.png", "test/d.bmp", "test/e.png"])
    (tmp_path / "train" / "readme.txt").write_text("no picture")
    (tmp_path / "train" / ".hidden.png").write_text("no picture")
    assert splits(build(tmp_path)) == {"train": [0, 1], "val": [2], "test": [3, 4]}


def test_a_missing_val_folder_is_drawn_from_train(tmp_path):
    write(tmp_path, [f"train/{index:02}.png" for index in range(20)] + ["test/x.png"])
    found = splits(build(tmp_path, val_share=0.2))
    assert sorted(found["train"] + found["val"]) == list(range(20))
    assert len(found["val"]) == 4
    assert found["test"] == [20]


def test_flat_pictures_are_split_by_the_seed(tmp_path):
    write(tmp_path, [f"{index:02}.png" for index in range(30)])
    found = splits(build(tmp_path, test_share=0.2))
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(30)), "each picture in one split"
    assert [len(found[split]) for split in ("train", "val", "test")] == [21, 3, 6]
    assert splits(build(tmp_path, test_share=0.2)) == found
    assert splits(build(tmp_path, test_share=0.2, seed=1)) != found
    without_test = splits(build(tmp_path, test_share=0.0))
    assert without_test["test"] == without_test["val"]


@pytest.mark.parametrize("base", ["train", "."])
def test_class_folders_become_labels(tmp_path, base):
    names = [f"{base}/{name}/{index}.png" for name in ("owl", "crow") for index in range(6)]
    write(tmp_path, names + (["val/crow/x.png"] if base == "train" else []))
    data = build(tmp_path, labels=True)
    assert data.class_names == ["crow", "owl"]
    for batch in data.train_dataloader():
        assert batch["labels"].dtype == torch.int64
        red = int(batch["images"][0, 0, 0, 0])
        assert data.class_names[int(batch["labels"][0])] == ("owl" if red < 6 else "crow")
    assert "labels" not in next(iter(build(tmp_path).train_dataloader()))


def test_a_drawn_val_split_has_the_classes_of_train(tmp_path):
    write(tmp_path, [f"train/{name}/{index}.png" for name in ("owl", "crow") for index in range(6)])
    data = build(tmp_path, labels=True, val_share=0.25)
    for batch in data.val_dataloader():
        assert data.class_names[int(batch["labels"][0])] == ("owl" if int(batch["images"][0, 0, 0, 0]) < 6 else "crow")


def test_resizing_cuts_or_squeezes(tmp_path):
    (tmp_path / "train").mkdir()
    image = Image.new("RGB", (30, 10))
    image.paste((255, 255, 255), (10, 0, 20, 10))
    image.save(tmp_path / "train" / "x.png")
    write(tmp_path, ["val/x.png"])
    cut = next(iter(build(tmp_path, image_size=10).train_dataloader()))["images"][0, 0]
    assert (cut[:, 1:-1] == 255).all()
    squeezed = next(iter(build(tmp_path, image_size=30, resize="stretch").train_dataloader()))["images"][0, 0]
    assert (squeezed[:, [0, 8, 21, 29]] == 0).all()
    assert (squeezed[:, [12, 17]] == 255).all()


@pytest.mark.parametrize("size", [1, 7, 33])
def test_any_size(tmp_path, size):
    write(tmp_path, ["train/x.png", "val/x.png"])
    data = build(tmp_path, image_size=size)
    assert next(iter(data.val_dataloader()))["images"].shape[1:] == data.image_shape == (3, size, size)


def test_no_pictures_is_one_error_of_four_lines(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="ImageFolder: train/. is missing") as caught:
            build(root)
        assert str(caught.value).count("\n") == 3
    write(tmp_path, ["train/x.png"])
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"ImageFolder: val/\* is missing"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["train/a/x.png", "train/y.png", "val/a/x.png"], {"labels": True}, r"y\.png lies in no folder of a class"),
        (["train/a/x.png", "val/b/x.png"], {"labels": True}, r"val/b/x\.png is of class 'b', of which no picture"),
        (["x.png", "y.png"], {}, r"holds 2 pictures, too few for 3 splits"),
    ],
)
def test_pictures_that_cannot_be_served(tmp_path, names, arguments, message):
    write(tmp_path, names)
    with pytest.raises(DataError, match=message):
        build(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "pad"}, "resize must be 'crop_shorter_side' or 'stretch', got 'pad'"),
        ({"val_share": 0.0}, "val_share must lie between 0 and 1, got 0.0"),
        ({"val_share": 0.5, "test_share": 0.5}, "test_share must be .* got 0.5"),
        ({"bad_images": "ignore"}, "bad_images must be 'error' or 'skip', got 'ignore'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(**arguments)
