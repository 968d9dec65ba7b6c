"""CelebA from a few files in its exact layout: against torchvision's reader, the crops, and what goes wrong."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from datamodules import CelebA
from datamodules.celeba import BOXES
from datamodules.celeba_files import attribute_index
from datamodules.errors import DataError

NAMES = ["5_o_Clock_Shadow", "Eyeglasses", "Male", "Smiling"]
SPLITS = {"train": 6, "val": 3, "test": 2}
NUMBERS = {"train": 0, "val": 1, "test": 2}


def attributes():
    return np.random.default_rng(5).choice([-1, 1], (sum(SPLITS.values()), len(NAMES)))


def write(root):
    """Eleven images whose splits are mixed, in the layout of the download."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{index + 1:06}.jpg" for index in range(sum(SPLITS.values()))]
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 256, (14, 12, 3), np.uint8)
        image = Image.fromarray(pixels).resize((178, 218), Image.Resampling.BICUBIC)
        image.save(folder / "img_align_celeba" / name, quality=90)
    rows = [f"{name}  " + " ".join(f"{v:2}" for v in row) for name, row in zip(names, attributes(), strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), " ".join(NAMES) + " ", *rows]) + "\n")
    order = [0, 1, 2, 0, 1, 0, 2, 0, 1, 0, 0]
    lines = [f"{name} {number}" for name, number in zip(names, order, strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(f"{name} 1" for name in names) + "\n")
    for name, columns in (("list_bbox_celeba.txt", 4), ("list_landmarks_align_celeba.txt", 10)):
        body = "\n".join(f"{image} " + " ".join(["1"] * columns) for image in names)
        header = " ".join(f"c{index}" for index in range(columns))
        (folder / name).write_text(f"{len(names)}\n{header}\n{body}\n")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("celeba")
    write(root)
    return root


@pytest.fixture
def root(original, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


def build(root, **arguments):
    data = CelebA(**({"root": str(root), "batch_size": 2} | arguments))
    data.prepare_data()
    data.setup()
    return data


def whole(loader, entry):
    return torch.cat([batch[entry] for batch in loader])


@pytest.mark.parametrize("split", ["val", "test"])
def test_against_torchvisions_reader(root, monkeypatch, split):
    monkeypatch.setattr(datasets.CelebA, "_check_integrity", lambda self: True)
    theirs = datasets.CelebA(str(root), {"val": "valid"}.get(split, split), transform=transforms.PILToTensor())
    data = build(root, crop="center_140", image_size=140)
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    images, values = whole(loader, "images"), whole(loader, "attributes")
    assert len(images) == len(theirs) == SPLITS[split]
    assert data.attribute_names == theirs.attr_names[:-1] == NAMES
    for index, (image, target) in enumerate(theirs):
        assert torch.equal(images[index], transforms.CenterCrop(140)(image)), "a crop of its own size keeps the pixels"
        assert torch.equal((values[index] > 0).long(), target)


def test_batches(root):
    data = build(root)
    batch = next(iter(data.train_dataloader()))
    assert batch["images"].shape == (2, *data.image_shape) == (2, 3, 64, 64)
    assert (batch["images"].dtype, batch["attributes"].dtype) == (torch.uint8, torch.int8)
    assert set(batch["attributes"].unique().tolist()) <= {-1, 1}
    assert "labels" not in batch
    assert [data.fingerprint[f"{split}_images"] for split in SPLITS] == list(SPLITS.values())


@pytest.mark.parametrize("crop", BOXES)
def test_crops_are_named_and_within_the_image(root, crop):
    data = build(root, crop=crop, image_size=16)
    assert data.crop.split()[0] == crop
    assert data.fingerprint["crop"] == data.crop
    left, top, right, bottom = BOXES[crop] or (0, 0, 178, 218)
    assert 0 <= left < right <= 178
    assert 0 <= top < bottom <= 218
    assert crop == "none" or right - left == bottom - top
    if crop.startswith("center_"):
        assert right - left == int(crop.removeprefix("center_"))
    image = Image.open(root / "celeba" / "img_align_celeba" / "000002.jpg")
    expected = image.crop((left, top, right, bottom)).resize((16, 16), Image.Resampling.BILINEAR)
    served = whole(data.val_dataloader(), "images")[0].permute(1, 2, 0).numpy()
    assert np.array_equal(served, np.asarray(expected))


def test_the_crop_of_larsen():
    """Rows 40 to 188 and columns 15 to 163, as published."""
    assert BOXES["larsen"] == (15, 40, 15 + 148, 40 + 148)


def test_crops_have_caches_of_their_own(root):
    build(root)
    build(root, crop="loose")
    assert len(list((root / "cache").glob("*.npy"))) == 6


def test_an_attribute_as_label(root):
    data = build(root, label="eyeglasses")
    for batch in data.train_dataloader():
        assert torch.equal(batch["labels"], (batch["attributes"][:, 1] > 0).long())
    assert data.class_names == ["not Eyeglasses", "Eyeglasses"]


def test_unknown_attributes_are_answered_with_the_nearest(root):
    with pytest.raises(DataError, match="no attribute 'Eyeglases'; the nearest: Eyeglasses"):
        build(root, label="Eyeglases")
    with pytest.raises(DataError, match="no attribute 'xyz'; the nearest: 5_o_Clock_Shadow, Eyeglasses, Male, Smiling"):
        attribute_index(NAMES, "xyz")
    assert attribute_index(NAMES, "5 o clock shadow") == 0


def test_nothing_there_is_one_error_of_four_lines(tmp_path):
    data = CelebA(root=str(tmp_path))
    for step in (data.prepare_data, data.setup):
        with pytest.raises(DataError, match="CelebA: img_align_celeba is missing and 2 more files") as caught:
            step()
        lines = str(caught.value).split("\n")
        assert len(lines) == 4
        assert "mmlab.ie.cuhk.edu.hk" in lines[1]
        assert "non-commercial" in lines[1]
        assert "list_eval_partition.txt" in lines[2]
        assert "lightning_zoo fit --config crvae_celeba.yaml" in lines[3]


def test_missing_images_are_named_and_counted(root):
    for name in ("000004.jpg", "000009.jpg"):
        (root / "celeba" / "img_align_celeba" / name).unlink()
    with pytest.raises(DataError, match=r"(?s)000004\.jpg is missing and 1 more file .*9 images are there.*licence"):
        build(root)


def test_an_archive_that_was_not_unpacked(root):
    shutil.rmtree(root / "celeba" / "img_align_celeba")
    (root / "celeba" / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"img_align_celeba is missing .*zip is there, but not unpacked"):
        build(root)


def spoil(root, name, change):
    path = root / "celeba" / name
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: [*lines[:4], lines[4] + " 1", *lines[5:]],
            r"line 5: 000003\.jpg has 5 columns, .* 4 attributes",
        ),
        (
            lambda lines: [lines[0], lines[1] + " Bald", *lines[2:]],
            r"line 3: 000001\.jpg has 4 columns, .* 5 attributes",
        ),
        (lambda lines: [*lines[:3], "000002.jpg 1 0 1 1", *lines[4:]], r"line 4: 000002\.jpg has the value '0'"),
        (lambda lines: lines[:-2], r"announces 11 images and has rows for 9"),
        (lambda lines: ["9", *lines[1:-2]], r"has no row for 000010\.jpg \(2 of 6 images have none\)"),
        (lambda lines: [*lines, lines[-1]], r"line 14: 000011\.jpg has a second row"),
        (lambda lines: lines[1:], r"must begin with the number of images"),
        (lambda lines: [], r"must begin with the number of images"),
    ],
)
def test_wrong_attribute_files_are_named(root, change, message):
    spoil(root, "list_attr_celeba.txt", change)
    with pytest.raises(DataError, match=rf"list_attr_celeba\.txt.* {message}"):
        build(root)


@pytest.mark.parametrize("line", ["000001.jpg 3", "000001.jpg", "000001.jpg 0 1"])
def test_wrong_partitions_are_named(root, line):
    spoil(root, "list_eval_partition.txt", lambda lines: [line, *lines[1:]])
    with pytest.raises(DataError, match=r"list_eval_partition\.txt, line 1: must be an image and 0, 1 or 2"):
        build(root)


def test_another_size_is_no_aligned_image(root):
    Image.new("RGB", (178, 218)).resize((409, 687)).save(root / "celeba" / "img_align_celeba" / "000005.jpg")
    with pytest.raises(DataError, match=r"000005\.jpg must be 178x218 \(width, height\), it is 409x687"):
        build(root)


def test_a_truncated_image_is_named_or_skipped(root):
    path = root / "celeba" / "img_align_celeba" / "000001.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"000001\.jpg is no readable image.*truncated.*--data\.bad_images skip"):
        build(root)
    data = build(root, bad_images="skip")
    assert (data.fingerprint["train_images"], data.fingerprint["train_skipped"]) == (5, 1)


def test_a_failed_download_is_the_same_error(tmp_path, monkeypatch):
    def quota(root, download):
        raise RuntimeError("the host's\nquota")

    monkeypatch.setattr(datasets, "CelebA", quota)
    with pytest.raises(DataError, match="the download failed: the host's quota") as caught:
        CelebA(root=str(tmp_path), download=True).prepare_data()
    assert str(caught.value).count("\n") == 3


def test_bad_crops():
    with pytest.raises(ValueError, match="crop must be one of larsen, loose, .* got 'tight'"):
        CelebA(crop="tight")


@pytest.mark.parametrize(
    ("crop", "side", "rest"),
    [("larsen", 148, ", or 178 with crop 'loose' or 'none'"), ("loose", 178, ""), ("none", 178, "")],
)
def test_images_larger_than_their_crop_are_refused(crop, side, rest):
    assert CelebA(crop=crop, image_size=side).image_shape == (3, side, side)
    message = f"CelebA's crop '{crop}' has {side} pixels and cannot give image_size={side + 1}: at most {side}{rest}$"
    with pytest.raises(ValueError, match=message):
        CelebA(crop=crop, image_size=side + 1)


def test_drawn_faces_are_called_so(root):
    data = CelebA(root=str(root))
    (root / "celeba/SYNTHETIC").write_text("{}")
    try:
        data.prepare_data()
        data.setup()
        assert data.fingerprint["source"] == "synthetic faces, not CelebA"
    finally:
        (root / "celeba/SYNTHETIC").unlink()
