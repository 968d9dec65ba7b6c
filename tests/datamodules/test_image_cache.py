"""Decoding once into a memory map: pixels against a slow filter, completeness, and what goes wrong."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from datamodules import image_cache
from datamodules.errors import DataError
from datamodules.image_cache import Decoding, ImageItem, build_cache, cache_path, open_cache
from datamodules.image_decoding import decode


def picture(seed, size=(30, 40)):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.fixture
def items(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        picture(index).save(folder / f"{index:02}.png")
    return [ImageItem(folder / f"{index:02}.png") for index in range(12)]


def build(items, folder, decoding=None, **arguments):
    return build_cache(items, decoding or Decoding(8, 8), folder, "test", **arguments)


def slow_bilinear(image, box, height, width):
    """The triangle filter, stretched by the scale where it shrinks, over the pixels that the box touches."""

    def weights(low, high, new, limit):
        scale = (high - low) / new
        support = max(scale, 1.0)
        result = np.zeros((new, limit))
        for index in range(new):
            center = low + (index + 0.5) * scale
            for pixel in range(math.floor(low), min(math.ceil(high), limit)):
                if math.floor(center - support + 0.5) <= pixel < math.floor(center + support + 0.5):
                    result[index, pixel] = max(0.0, 1 - abs(pixel + 0.5 - center) / support)
        return result / result.sum(1, keepdims=True)

    across = weights(box[0], box[2], width, image.shape[1])
    down = weights(box[1], box[3], height, image.shape[0])
    return np.einsum("yh,hwc,xw->cyx", down, image.astype(float), across)


@pytest.mark.parametrize(
    ("box", "fit", "seen"),
    [
        (None, "stretch", (0, 0, 30, 40)),
        ((3, 4, 27, 28), "crop_shorter_side", (3, 4, 27, 28)),
        ((4.5, 6.25, 20.5, 30.75), "stretch", (4.5, 6.25, 20.5, 30.75)),
        ((-5, -7, 31, 22), "stretch", (0, 0, 30, 22)),
    ],
)
def test_pixels_against_a_slow_filter(items, box, fit, seen):
    pixels = decode(ImageItem(items[3].source, box), Decoding(7, 9, fit=fit))
    assert pixels.shape == (3, 7, 9)
    expected = slow_bilinear(np.asarray(picture(3)), seen, 7, 9)
    # Pillow rounds after each of its two passes.
    assert np.abs(pixels - expected).max() < 1.5


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    [(8, 8, (0, 5, 30, 35)), (20, 10, (5, 0, 25, 40)), (10, 20, (0, 12.5, 30, 27.5))],
)
def test_the_central_part_of_the_results_shape(items, height, width, seen):
    pixels = decode(items[0], Decoding(height, width, fit="crop_shorter_side"))
    assert np.abs(pixels - slow_bilinear(np.asarray(picture(0)), seen, height, width)).max() < 1.5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_three_channels(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (10, 10), (255, 255, 255)).convert(mode).save(path)
    pixels = decode(ImageItem(path), Decoding(4, 4))
    assert pixels.shape == (3, 4, 4)
    assert (pixels >= 254).all()


def test_pictures_are_shown_as_the_camera_was_held(tmp_path):
    image = Image.new("RGB", (20, 10))
    image.paste((255, 255, 255), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    image.save(tmp_path / "x.png", exif=exif)
    pixels = decode(ImageItem(tmp_path / "x.png"), Decoding(4, 2))
    assert pixels[0, 0].tolist() == [255, 255]
    assert pixels[0, 3].tolist() == [0, 0]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_cache_holds_every_image_in_its_row(items, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(image_cache, "IN_PROCESS", 1)
    monkeypatch.setattr(image_cache, "ITEMS_PER_REQUEST", 2)
    done = []
    path = build(items, tmp_path / "cache", num_workers=workers, progress=done.append)
    cache = open_cache(path)
    assert isinstance(cache.pixels, np.memmap)
    assert cache.pixels.shape == (12, 3, 8, 8)
    for row, item in enumerate(items):
        np.testing.assert_array_equal(cache.pixels[row], decode(item, Decoding(8, 8)))
    assert sum(done) == 12
    assert cache.fingerprint["num_images"] == 12
    assert cache.rows.tolist() == list(range(12))
    assert {entry.suffix for entry in path.parent.iterdir()} == {".npy", ".json", ".lock"}


def test_images_are_decoded_once(items, tmp_path, monkeypatch):
    path = build(items, tmp_path)
    monkeypatch.setattr(image_cache, "_build", lambda *arguments: pytest.fail("decoded again"))
    assert build(items, tmp_path) == path


def test_the_name_changes_with_all_that_decides_the_content(items, tmp_path):
    def name(items=items, decoding=None, bad_images="error"):
        return cache_path(items, decoding or Decoding(8, 8), tmp_path, "test", bad_images).name

    changed = {
        name(),
        name(items[::-1]),
        name(items[1:]),
        name([item._replace(box=(0, 0, 5, 5)) for item in items]),
        name(decoding=Decoding(8, 9)),
        name(decoding=Decoding(9, 8)),
        name(decoding=Decoding(8, 8, crop="larsen")),
        name(decoding=Decoding(8, 8, fit="crop_shorter_side")),
        name(bad_images="skip"),
    }
    assert len(changed) == 9
    os.utime(items[2].source, (0, 0))
    assert name() in changed, "a copy of the files is the same data"
    with items[2].source.open("ab") as file:
        file.write(b"more")
    assert name() not in changed


def test_bad_images_are_named_or_skipped(items, tmp_path):
    whole = items[4].source.read_bytes()
    items[4].source.write_bytes(whole[: len(whole) // 2])
    items[7].source.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"04\.png is no readable image: .*--data\.bad_images skip"):
        build(items, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    cache = open_cache(build(items, tmp_path / "cache", bad_images="skip"))
    assert cache.skipped == [4, 7]
    assert cache.rows.tolist() == [0, 1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert (cache.fingerprint["num_images"], cache.fingerprint["num_skipped"]) == (10, 2)
    assert "07.png" in cache.fingerprint["skipped"][1]


def test_a_truncated_jpeg_is_named(tmp_path):
    path = tmp_path / "face.jpg"
    picture(0, (178, 218)).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"face\.jpg is no readable image: .*truncated"):
        build([ImageItem(path)], tmp_path)


def test_nothing_but_bad_images(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 images of test can be decoded"):
        build([ImageItem(tmp_path / "x.png")], tmp_path, bad_images="skip")


def test_wrong_sizes_and_boxes_are_named(items):
    with pytest.raises(DataError, match=r"00\.png must be 178x218 \(width, height\), it is 30x40"):
        decode(items[0], Decoding(8, 8, expected_size=(178, 218)))
    with pytest.raises(DataError, match=r"00\.png: the box \(30, 0, 50, 9\) lies outside of its 30x40 pixels"):
        decode(ImageItem(items[0].source, (30, 0, 50, 9)), Decoding(8, 8))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        build([ImageItem(tmp_path / "gone.png")], tmp_path)


def test_an_interrupted_build_leaves_nothing_that_looks_complete(items, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_cache, "decode_into", broken)
    with pytest.raises(KeyboardInterrupt):
        build(items, tmp_path / "cache")
    assert {entry.suffix for entry in (tmp_path / "cache").iterdir()} <= {".lock"}


KILLED = """
import sys, time
from pathlib import Path
from datamodules import image_cache
from datamodules.image_cache import *

def slow(*arguments, **options):
    print("started", flush=True)
    time.sleep(60)

image_cache.decode_into = slow
items = [ImageItem(path) for path in sorted(Path(sys.argv[1]).iterdir())]
build_cache(items, Decoding(8, 8), Path(sys.argv[2]), "test")
"""


def test_a_killed_build_is_done_anew(items, tmp_path):
    command = [sys.executable, "-c", KILLED, str(items[0].source.parent), str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGKILL)
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir() if entry.suffix == ".npy"] == []
    path = cache_path(items, Decoding(8, 8), tmp_path / "cache", "test", "error")
    with pytest.raises(DataError, match=r"\.npy does not exist: run prepare_data"):
        open_cache(path)
    assert open_cache(build(items, tmp_path / "cache")).pixels[0].any()


def test_two_processes_decode_once(items, tmp_path):
    """The second waits at the lock for the first and finds its work done."""
    path = cache_path(items, Decoding(8, 8), tmp_path / "cache", "test", "error")
    script = KILLED.replace("time.sleep(60)", "time.sleep(1); return []")
    command = [sys.executable, "-c", script, str(items[0].source.parent), str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        started = time.monotonic()
        build(items, tmp_path / "cache")
        assert time.monotonic() - started > 0.5
    assert not open_cache(path).pixels.any(), "the first process wrote it, and decoded nothing"


def test_a_decoding_process_that_dies_is_told(items, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "IN_PROCESS", 1)
    monkeypatch.setattr(image_cache, "ITEMS_PER_REQUEST", 2)
    start = image_cache.start_worker

    def start_and_kill():
        worker = start()
        worker.kill()
        return worker

    monkeypatch.setattr(image_cache, "start_worker", start_and_kill)
    with pytest.raises(DataError, match="a decoding process died with exit code -9"):
        build(items, tmp_path / "cache", num_workers=2)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_full_disk_is_told_before_decoding(items, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"No space left on device; it takes .* GB\): make room or set --data\.cache"):
        build(items, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


@pytest.mark.parametrize("cut", [0, 20, -1])
def test_a_damaged_cache_is_named(items, tmp_path, cut):
    path = build(items, tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"test_8x8_\w+\.npy is damaged .*delete it"):
        open_cache(path)


def test_a_fingerprint_of_other_counts_is_refused(items, tmp_path):
    path = build(items, tmp_path / "cache")
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"num_images": 11}))
    with pytest.raises(DataError, match="is damaged"):
        open_cache(path)


def test_an_lmdb_without_the_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"bedroom is an LMDB, which the package lmdb reads: pip install lmdb"):
        decode(ImageItem((tmp_path / "bedroom", b"key")), Decoding(8, 8))
