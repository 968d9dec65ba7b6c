"""LSUN on tiny real LMDBs and on folders of pictures."""

import io
import pickle
import shutil
import sys
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import image_decoding, lsun_images
from datamodules.errors import DataError
from datamodules.index_batches import in_order
from datamodules.lsun import LSUN, random_crop
from lightning_zoo import extras
from lightning_zoo.extras import MissingExtraError


def encoded(index, size=(48, 36), form="webp"):
    """A picture whose red tells its index and whose green and blue tell the place."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([np.full_like(x, 10 * index), x, y], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, quality=95)
    return file.getvalue()


def write_lmdb(folder, values):
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for index, value in enumerate(values):
            transaction.put(f"{index:040x}".encode(), value)


@pytest.fixture(autouse=True)
def fresh_environments():
    """Paths of one test are not those of another, and open files are let go."""
    yield
    image_decoding._lmdb.cache_clear()


@pytest.fixture
def bedrooms(tmp_path):
    write_lmdb(tmp_path / "bedroom_train_lmdb", [encoded(index) for index in range(10)])
    write_lmdb(tmp_path / "bedroom_val_lmdb", [encoded(index, form="jpeg") for index in range(20, 23)])
    return tmp_path


def ready(root, **arguments):
    data = LSUN(root=str(root), **({"image_size": 16, "batch_size": 4} | arguments))
    data.prepare_data()
    data.setup()
    return data


def served(data, split):
    rows = data._splits[split]
    return rows.gather(in_order(len(rows))(0))["images"]


def test_entries_are_served_in_the_order_of_their_keys(bedrooms, capsys):
    data = ready(bedrooms)
    train, val = served(data, "train"), served(data, "val")
    assert train.shape == (10, 3, 18, 18)
    assert val.shape == (3, 3, 16, 16)
    assert data.image_shape == (3, 16, 16)
    assert (train[:, 0].float().mean((1, 2)) - 10 * torch.arange(10)).abs().max() < 4
    assert (val[:, 0].float().mean((1, 2)) - 10 * torch.arange(20, 23)).abs().max() < 4
    assert "lsun: 10 train / 3 val images (thesis: 3,033,042 / 300); crop: central square" in capsys.readouterr().out
    assert data.fingerprint["thesis_train_images"] == 3_033_042
    assert data.fingerprint["category"] == "bedroom"


def test_the_shorter_side_is_scaled_and_the_middle_kept(bedrooms):
    # The picture is 48 x 36; of its columns the square keeps 6 to 42, of which green rises from 0 to 255 over 48.
    val = served(ready(bedrooms), "val").float()
    place = (torch.arange(16) + 1 + 0.5) / 18  # the middle 16 of 18 pixels
    assert (val[0, 1].mean(0) - (6 + place * 36 - 0.5) / 47 * 255).abs().max() < 5
    assert (val[0, 2].mean(1) - (place * 36 - 0.5) / 35 * 255).abs().max() < 5
    centred = served(ready(bedrooms, crop="center"), "train").float()
    assert centred.shape == (10, 3, 16, 16)
    place = (torch.arange(16) + 0.5) / 16
    assert (centred[0, 1].mean(0) - (6 + place * 36 - 0.5) / 47 * 255).abs().max() < 5


def test_training_crops_at_random_and_evaluation_centrally(bedrooms):
    data = ready(bedrooms)
    images = served(data, "train")
    for training, expected in ((True, None), (False, images[..., 1:17, 1:17])):
        loop = SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=1)))
        )
        data.trainer = SimpleNamespace(training=training, fit_loop=loop, current_epoch=0, global_rank=0)
        batch = data.on_after_batch_transfer({"images": images, "labels": torch.arange(10)}, 0)
        assert batch["images"].shape == (10, 3, 16, 16)
        assert batch["labels"].tolist() == list(range(10))
        if expected is not None:
            assert torch.equal(batch["images"], expected)


def test_random_crops_are_windows_of_the_image_and_all_of_them_occur():
    images = torch.arange(36, dtype=torch.uint8).reshape(1, 1, 6, 6).expand(600, 3, 6, 6)
    crops = random_crop(images, 4, torch.Generator().manual_seed(0))
    windows = [images[0, :, top : top + 4, left : left + 4] for top in range(3) for left in range(3)]
    seen = [sum(torch.equal(crop, window) for crop in crops) for window in windows]
    assert sum(seen) == 600
    assert min(seen) > 600 / 9 / 2
    with pytest.raises(DataError, match="6x6"):
        random_crop(images, 7, torch.Generator())


def test_num_images_takes_the_first(bedrooms):
    data = ready(bedrooms, num_images=6)
    assert torch.equal(served(data, "train"), served(ready(bedrooms), "train")[:6])
    with pytest.raises(DataError, match="num_images is 11, but .*bedroom_train_lmdb holds 10"):
        ready(bedrooms, num_images=11)


def test_keys_are_listed_once(bedrooms, monkeypatch):
    first = served(ready(bedrooms), "train")
    monkeypatch.setattr(lsun_images, "_read_keys", lambda *arguments: pytest.fail("listed again"))
    assert torch.equal(served(ready(bedrooms), "train"), first)


def test_several_processes_decode_the_same(bedrooms, tmp_path):
    from datamodules import image_cache

    alone = served(ready(bedrooms, num_workers=1), "train")
    root = tmp_path / "again"
    for split in ("train", "val"):
        shutil.copytree(bedrooms / f"bedroom_{split}_lmdb", root / f"bedroom_{split}_lmdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_cache, "IN_PROCESS", 1)
        patch.setattr(image_cache, "ITEMS_PER_REQUEST", 3)
        assert torch.equal(served(ready(root, num_workers=2), "train"), alone)


def test_lazy_items_behave_like_a_list(bedrooms):
    items = LSUN(root=str(bedrooms)).list_splits()["train"].items
    everything = list(items)
    assert [items[index] for index in range(10)] == everything == items[:10]
    assert items[3:5] == everything[3:5]
    assert everything[2].source == (bedrooms / "bedroom_train_lmdb", f"{2:040x}".encode())
    assert list(pickle.loads(pickle.dumps(items))) == everything


@pytest.mark.parametrize("names", [("train", "val"), ("bedroom_train", "bedroom_val")])
def test_folders_of_pictures(tmp_path, names):
    for name, number in zip(names, (5, 2), strict=True):
        for index in range(number):
            file = tmp_path / name / "0" / "a" / f"{index}.webp"  # as LSUN's own export nests them
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(index))
    data = ready(tmp_path)
    assert len(served(data, "train")) == 5
    assert (served(data, "val")[1, 0].float().mean() - 10).abs() < 4


def test_other_categories(tmp_path):
    for split in ("train", "val"):
        write_lmdb(tmp_path / f"tower_{split}_lmdb", [encoded(index) for index in range(4)])
    data = ready(tmp_path, category="tower")
    assert "thesis_train_images" not in data.fingerprint
    with pytest.raises(DataError, match="bedroom_train_lmdb is missing"):
        ready(tmp_path)


def test_nothing_there_is_one_error_of_four_lines(tmp_path):
    with pytest.raises(DataError) as caught:
        LSUN(root=str(tmp_path)).prepare_data()
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "bedroom_train_lmdb is missing and 1 more file" in lines[0]
    assert "github.com/fyu/lsun" in lines[1]
    assert "bedroom_val_lmdb/data.mdb" in lines[2]
    assert f"lightning_zoo fit --config crvae_lsun --data.root {tmp_path}" in lines[3]


@pytest.mark.parametrize("part", ["bedroom_val_lmdb", "bedroom_train_lmdb/data.mdb"])
def test_a_missing_part_is_named_in_four_lines(bedrooms, part):
    shutil.rmtree(bedrooms / part) if (bedrooms / part).is_dir() else (bedrooms / part).unlink()
    with pytest.raises(DataError) as caught:
        LSUN(root=str(bedrooms)).prepare_data()
    assert f"{part} is missing" in str(caught.value).splitlines()[0]
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("bad", [b"no picture", encoded(3)[:-200], b""])
def test_a_value_that_is_no_picture_is_named_with_its_key(tmp_path, bad):
    write_lmdb(tmp_path / "bedroom_train_lmdb", [encoded(0), bad, encoded(2), encoded(3)])
    write_lmdb(tmp_path / "bedroom_val_lmdb", [encoded(0)])
    with pytest.raises(DataError, match="bedroom_train_lmdb:0{39}1 is no"):
        ready(tmp_path)
    assert len(served(ready(tmp_path, bad_images="skip"), "train")) == 3


@pytest.mark.parametrize(("length", "message"), [(0.5, "is truncated: "), (0.0005, "cannot be opened as an LMDB")])
def test_truncated_lmdb(bedrooms, length, message):
    file = bedrooms / "bedroom_train_lmdb" / "data.mdb"
    content = file.read_bytes()
    file.write_bytes(content[: int(length * len(content))])
    with pytest.raises(DataError, match=message) as caught:
        ready(bedrooms)
    assert str(bedrooms / "bedroom_train_lmdb") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(bedrooms, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.setattr(extras, "requires", lambda name: ["lmdb>=1.4; extra == 'lsun'", "lmdb>=1.4; extra == 'test'"])
    with pytest.raises(MissingExtraError, match=r"pip install 'lightning_zoo\[lsun\]'") as caught:
        ready(bedrooms)
    assert "\n" not in str(caught.value)


def test_folders_need_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for index in range(4):
            (tmp_path / split / f"{index}.jpg").write_bytes(encoded(index, form="jpeg"))
    assert len(served(ready(tmp_path), "train")) == 4


def test_an_empty_folder_and_keys_that_are_no_text(tmp_path, bedrooms):
    root = tmp_path / "empty"
    (root / "train").mkdir(parents=True)
    (root / "val").mkdir()
    with pytest.raises(DataError, match=f"{root / 'train'} holds no image"):
        ready(root)
    with lmdb.open(str(bedrooms / "bedroom_val_lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"\x01\0\0\0", b"")
    with pytest.raises(DataError, match="no LMDB of LSUN"):
        ready(bedrooms)


@pytest.mark.parametrize(("arguments", "message"), [({"crop": "centre"}, "crop"), ({"num_images": 0}, "num_images")])
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        LSUN(**arguments)
