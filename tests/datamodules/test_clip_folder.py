"""One's own videos: splits from folders or drawn, labels, sizes, thinning out, and what goes wrong."""

import numpy as np
import pytest
import torch
from video_files import noise, write_video

from datamodules import ClipFolder
from datamodules.errors import DataError


def write(root, names, number=12, height=48, width=64):
    """Videos whose green is their place in the list."""
    for place, name in enumerate(names):
        frames = noise(number, height, width)
        frames[..., 1] = place
        write_video(root / name, frames)


def build(root, **arguments):
    data = ClipFolder(**({"root": str(root), "batch_size": 1, "image_size": 16} | arguments))
    data.prepare_data()
    data.setup()
    return data


def greens(loader):
    return sorted(int(green) for batch in loader for green in batch["clips"][:, 0, 1, 0, 0])


def splits(data):
    return {split: greens(data.clips_dataloader(split)) for split in ("train", "val", "test")}


def test_folders_are_splits(tmp_path):
    write(tmp_path, ["train/a.mp4", "train/deep/b.AVI", "val/c.avi", "test/d.mp4", "test/e.avi"])
    (tmp_path / "train" / "readme.txt").write_text("no video")
    (tmp_path / "train" / ".hidden.mp4").write_text("no video")
    data = build(tmp_path)
    assert splits(data) == {"train": [0, 1], "val": [2], "test": [3, 4]}
    assert data.actors is None
    assert data.class_names is None
    assert data.keypoint_names is None
    assert sorted(next(iter(data.train_dataloader()))) == ["clips", "index", "pairs", "videos"]


def test_videos_without_folders_are_split_by_the_seed(tmp_path):
    write(tmp_path, [f"{place:02}.avi" for place in range(10)], number=8, height=16, width=16)
    found = splits(build(tmp_path, test_share=0.2))
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(10))
    assert [len(found[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    assert splits(build(tmp_path, test_share=0.2)) == found
    assert splits(build(tmp_path, test_share=0.2, seed=1)) != found
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1, "all splits share the cache"


def test_class_folders_become_labels(tmp_path):
    write(tmp_path, ["train/wave/a.avi", "train/nod/b.avi", "val/wave/c.avi", "test/nod/d.avi"])
    data = build(tmp_path, labels=True)
    assert data.class_names == ["nod", "wave"]
    for split, expected in (("train", {0: "wave", 1: "nod"}), ("val", {2: "wave"}), ("test", {3: "nod"})):
        for batch in data.clips_dataloader(split):
            assert batch["labels"].dtype == torch.int64
            assert data.class_names[int(batch["labels"][0])] == expected[int(batch["clips"][0, 0, 1, 0, 0])]


@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_pixels_at_their_own_size_come_back_as_they_were(tmp_path, ending):
    frames = noise(20, 32, 32)
    write_video(tmp_path / f"train/a.{ending}", frames)
    write_video(tmp_path / "val/b.avi", frames)
    data = build(tmp_path, image_size=32)
    clips = [batch["clips"][0].numpy() for batch in data.clips_dataloader("train")]
    assert np.array_equal(np.concatenate(clips), frames[:16].transpose(0, 3, 1, 2))
    thin = next(iter(build(tmp_path, image_size=32, every=2).clips_dataloader("train")))["clips"][0].numpy()
    assert np.array_equal(thin, frames[:16:2].transpose(0, 3, 1, 2))


def test_resizing_cuts_or_squeezes(tmp_path):
    frames = np.zeros((8, 16, 32, 3), np.uint8)
    frames[:, :, :8] = frames[:, :, 24:] = 255
    for name in ("train/a.avi", "val/b.avi"):
        write_video(tmp_path / name, frames)
    cut = next(iter(build(tmp_path).val_dataloader()))["clips"]
    assert int(cut.max()) == 0
    squeezed = next(iter(build(tmp_path, resize="stretch").val_dataloader()))["clips"]
    assert (squeezed[..., :3] == 255).all()
    assert (squeezed[..., 6:10] == 0).all()


def test_videos_of_several_sizes_are_served_together(tmp_path):
    write(tmp_path, ["train/a.avi", "val/c.avi"])
    write(tmp_path, ["train/b.mp4"], height=64, width=32)
    batch = next(iter(build(tmp_path, batch_size=2).train_dataloader()))
    assert batch["clips"].shape == (2, 8, 3, 16, 16)
    assert batch["pairs"].shape == (2, 2, 3, 16, 16)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ([], {}, r"ClipFolder: train/\* is missing .*nor are there videos without folders"),
        (["train/a.avi", "val/b/x.avi"], {"labels": True}, r"train/a\.avi lies in no folder of a class"),
        (["train/a/x.avi", "val/b/x.avi"], {"labels": True}, "is of class 'b', of which no video is trained on"),
        (["x.avi", "y.avi"], {}, "holds 2 videos, too few for 3 splits"),
    ],
)
def test_videos_that_cannot_be_served(tmp_path, names, arguments, message):
    write(tmp_path, names)
    with pytest.raises(DataError, match=message):
        build(tmp_path, **arguments)


def test_a_broken_video_is_named_or_left_out_and_counted(tmp_path):
    write(tmp_path, ["train/a.avi", "train/b.avi", "val/c.avi"])
    (tmp_path / "train/b.avi").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"b\.avi does not decode .*--data\.bad_videos skip"):
        build(tmp_path)
    data = build(tmp_path, bad_videos="skip")
    assert data.fingerprint["bad_videos_skipped"] == 1
    assert data.video_names == ["train/a.avi", "val/c.avi"]


def test_short_videos_are_named(tmp_path):
    write(tmp_path, ["train/a.avi", "val/b.avi"], number=12)
    with pytest.raises(DataError, match=r"train/a\.avi has 6 frames to serve \(as have 1 more\).*num_frames=8"):
        build(tmp_path, every=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "pad"}, "resize must be 'crop_shorter_side' or 'stretch', got 'pad'"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"val_share": 0.0}, "val_share must lie between 0 and 1"),
        ({"test_share": 0.95}, "test_share must be at least 0 and less than"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipFolder(**arguments)
