"""MNIST from tiny IDX files: the parser, the splits, the fixed black and white draw, and what goes wrong."""

import gzip
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from datamodules import MNIST, mnist_files
from datamodules.errors import DataError
from datamodules.mnist import draw_binary


def idx(array):
    """The bytes of an IDX file, written from its description alone."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays(train=60, test=20):
    random = np.random.default_rng(0)
    grey = {"train": train, "test": test}
    images = {f"{part}_images": random.integers(0, 256, (n, 28, 28), np.uint8) for part, n in grey.items()}
    labels = {f"{part}_labels": random.integers(0, 10, n, np.uint8) for part, n in grey.items()}
    return images | labels


def write(folder, content, *, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in mnist_files.FILES.items():
        data = idx(content[part])
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "raw", arrays())
    return tmp_path


def build(root, **arguments):
    module = MNIST(**({"root": str(root), "num_val": 10, "batch_size": 8} | arguments))
    module.prepare_data()
    module.setup()
    return module


def images_of(loader):
    return torch.cat([batch["images"] for batch in loader])


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    zipped=st.booleans(),
    cut=st.integers(0, 700),
    extra=st.binary(max_size=3),
)
def test_idx_files_are_read_as_torchvision_reads_them(tmp_path_factory, shape, zipped, cut, extra):
    folder = tmp_path_factory.mktemp("idx")
    array = np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)
    whole = idx(array)
    path, plain = folder / ("x.gz" if zipped else "x"), folder / "plain"
    plain.write_bytes(whole)
    path.write_bytes(gzip.compress(whole) if zipped else whole)
    np.testing.assert_array_equal(mnist_files.read_idx(path), array)
    if array.size:
        np.testing.assert_array_equal(mnist_files.read_idx(path), read_sn3_pascalvincent_tensor(str(plain)).numpy())
    changed = whole[:cut] if cut < len(whole) else whole + (extra or b"\0")
    path.write_bytes(gzip.compress(changed) if zipped else changed)
    with pytest.raises(DataError) as caught:
        mnist_files.read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "no IDX file of unsigned bytes: its first bytes are 00 00 0d 01"),
        (b"\x00\x00\x08\x00", "no IDX file"),
        (b"", "its first bytes are none"),
        (b"\x00\x00\x08\x03\x00\x00", "truncated within its header"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "truncated: 16 bytes where its header states"),
    ],
)
def test_foreign_idx_files(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        mnist_files.read_idx(tmp_path / "x")


@pytest.mark.parametrize("content", [b"hello", gzip.compress(b"x" * 999)[:-9], gzip.compress(bytes(99))[:12]])
def test_damaged_gzip_files(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz cannot be read"):
        mnist_files.read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_files_may_lie_in_three_folders(tmp_path, folder, zipped):
    content = arrays()
    write(tmp_path / folder, content, zipped=zipped)
    module = build(tmp_path, binarization="none")
    assert torch.equal(images_of(module.test_dataloader())[:, 0], torch.from_numpy(content["test_images"]))


def test_folders_are_not_mixed(tmp_path):
    write(tmp_path / "raw", arrays())
    write(tmp_path / "MNIST" / "raw", arrays(train=61))
    (tmp_path / "raw" / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        build(tmp_path)


def test_splits_and_types(root):
    content = arrays()
    module = build(root, binarization="none")
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (8, *module.image_shape) == (8, 1, 28, 28)
    assert (batch["images"].dtype, batch["labels"].dtype) == (torch.uint8, torch.int64)
    assert len(module.train_dataloader()) == 50 // 8, "the rest of an epoch is left out"
    held_out = torch.cat([batch["labels"] for batch in module.val_dataloader()])
    assert held_out.tolist() == content["train_labels"][50:].tolist()
    assert torch.equal(images_of(module.val_dataloader())[:, 0], torch.from_numpy(content["train_images"][50:]))
    assert torch.equal(images_of(module.predict_dataloader()), images_of(module.test_dataloader()))
    assert module.class_names[7] == "7"
    assert [module.fingerprint[f"{split}_images"] for split in ("train", "val", "test")] == [50, 10, 20]


def test_training_images_keep_their_labels_and_change_order(root):
    content = arrays()
    loader = build(root).train_dataloader()
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        order = []
        for batch in loader:
            for image, label in zip(batch["images"], batch["labels"], strict=True):
                (row,) = np.flatnonzero((content["train_images"] == image[0].numpy()).all((1, 2)))
                assert label == content["train_labels"][row]
                order.append(row)
        assert len(set(order)) == 48
        assert max(order) < 50, "training images stay grey and come from the training part"
        orders.append(order)
    assert orders[0] != orders[1]


def test_static_images_are_black_and_white_and_always_the_same(root):
    static, again, other = build(root), build(root, seed=7, num_val=10), build(root, num_val=5)
    for name in ("val_dataloader", "test_dataloader"):
        images = images_of(getattr(static, name)())
        assert set(images.unique().tolist()) == {0, 255}
        assert torch.equal(images, images_of(getattr(again, name)()))
    assert torch.equal(images_of(static.val_dataloader())[5:], images_of(other.val_dataloader()))
    assert "our own draw" in static.fingerprint["binarization"]


def test_the_draw_is_white_with_the_intensity_as_probability():
    for value in (0, 1, 64, 200, 254, 255):
        drawn = draw_binary(np.full((400, 28, 28), value, np.uint8), seed=3) / 255
        share = value / 255
        spread = (share * (1 - share) / drawn.size) ** 0.5
        assert abs(drawn.mean() - share) <= 5 * spread


def amat(images):
    return "\n".join(" ".join(str(int(pixel > 0)) for pixel in image.ravel()) for image in images) + "\n"


def test_larochelles_draw_is_taken_if_it_is_there(root, capsys):
    fixed = draw_binary(arrays()["test_images"], seed=99)
    (root / mnist_files.LAROCHELLE).write_text(amat(fixed))
    module = build(root)
    assert torch.equal(images_of(module.test_dataloader())[:, 0], torch.from_numpy(fixed))
    assert "Larochelle" in module.fingerprint["binarization"]
    assert "the draw of Larochelle in binarized_mnist_test.amat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "must hold 20 images of 784 digits"),
        (lambda text: text.replace("0", "2", 1), "must hold only digits 0 and 1"),
        (lambda text: text.replace("0 1", "01", 1), "must hold only digits 0 and 1"),
        (lambda text: text.replace("1", "0"), "does not hold the test images in their order"),
        (lambda text: "\n".join(reversed(text.splitlines())), "does not hold the test images in their order"),
    ],
)
def test_a_wrong_file_of_larochelle(root, change, message):
    (root / mnist_files.LAROCHELLE).write_text(change(amat(draw_binary(arrays()["test_images"], seed=99))))
    with pytest.raises(DataError, match=f"binarized_mnist_test.amat {message}"):
        build(root)


def test_grey_and_static_data_have_different_fingerprints(root):
    assert build(root).fingerprint["hash"] != build(root, binarization="none").fingerprint["hash"]


def test_no_files_and_no_network_is_one_error_of_four_lines(tmp_path, monkeypatch):
    def offline(root):
        raise OSError("<urlopen error\n unreachable>")

    monkeypatch.setattr(mnist_files, "download", offline)
    module = MNIST(root=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"(?s)missing.*urlopen error unreachable.*licence.*place.*run:") as caught:
        module.prepare_data()
    assert str(caught.value).count("\n") == 3
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is missing and 3 more files"):
        module.setup()


def test_some_files_are_named_and_counted_not_downloaded(root, monkeypatch):
    monkeypatch.setattr(mnist_files, "download", lambda root: pytest.fail("downloaded"))
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (root / "raw" / name).unlink()
    with pytest.raises(DataError, match="MNIST: train-labels-idx1-ubyte is missing and 1 more file"):
        MNIST(root=str(root)).prepare_data()


def test_a_broken_download_leaves_nothing(tmp_path, monkeypatch):
    def half(root, download):
        write(tmp_path / "elsewhere", arrays())
        folder = tmp_path / ".download.partial" / "MNIST" / "raw"
        shutil.copytree(tmp_path / "elsewhere", folder)
        (folder / "t10k-labels-idx1-ubyte").unlink()
        raise RuntimeError("connection lost")

    monkeypatch.setattr("torchvision.datasets.MNIST", half)
    with pytest.raises(DataError, match="connection lost"):
        MNIST(root=str(tmp_path)).prepare_data()
    assert mnist_files.find_files(tmp_path)[0] == {}
    assert not (tmp_path / ".download.partial").exists()


def test_a_download_is_taken_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "torchvision.datasets.MNIST",
        lambda root, download: write(tmp_path / ".download.partial" / "MNIST" / "raw", arrays(), zipped=True),
    )
    assert len(images_of(build(tmp_path).test_dataloader())) == 20


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("train_images", np.zeros((60, 28, 27), np.uint8), r"must hold images of 28x28, .*\(60, 28, 27\)"),
        ("test_labels", np.zeros(19, np.uint8), r"t10k-labels.* must hold 20 labels, .*\(19,\)"),
        ("train_labels", np.full(60, 10, np.uint8), r"must hold labels 0..9, got 10"),
    ],
)
def test_files_that_do_not_fit_each_other(tmp_path, part, value, message):
    write(tmp_path, arrays() | {part: value})
    with pytest.raises(DataError, match=message):
        build(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_val": 0}, "num_val must be at least 1, got 0"),
        ({"binarization": "dynamic"}, "binarization must be 'static' or 'none', got 'dynamic'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MNIST(**arguments)


def test_arguments_that_the_files_cannot_meet(root):
    with pytest.raises(DataError, match="num_val=60 leaves none of the 60 training images"):
        build(root, num_val=60)
    with pytest.raises(DataError, match=r"MNIST train: batch_size=51 .* lower --data\.batch_size"):
        build(root, batch_size=51).train_dataloader()
