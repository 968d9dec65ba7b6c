"""The cache of frames: what is written comes back, nothing incomplete is kept, bad videos are errors or counted."""

import json
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import video_cache
from datamodules.errors import DataError
from datamodules.video_cache import DecodedVideo, VideoItem


def listed(root, lengths, **columns):
    """Items whose file's name tells how many frames it has."""
    items = []
    for place, length in enumerate(lengths):
        path = root / f"{place}_{length}.avi"
        path.write_bytes(bytes(length + 1))
        items.append(VideoItem(path.name, path, "train", **columns))
    return items


def frames_for(item, keypoints):
    place, length = (int(number) for number in item.source.stem.split("_"))
    random = np.random.default_rng(place)
    frames = random.integers(0, 256, (length, 3, 4, 5), np.uint8)
    return DecodedVideo(frames, random.normal(size=(length, 2, 2)) if keypoints else None, "odd ones" * (length % 2))


def build(root, lengths, *, bad=(), keypoints=True, recipe="none", **arguments):
    items = listed(root, lengths)

    def decode(item):
        if item.name in bad:
            raise DataError(f"{item.name} is broken")
        return frames_for(item, keypoints)

    path = video_cache.cache_path(items, recipe, root / "cache", "toy")
    video_cache.build_cache(items, decode, path, recipe=recipe, **arguments)
    return items, path


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), workers=st.integers(1, 4), keypoints=st.booleans()
)
def test_every_frame_comes_back_at_its_place(tmp_path_factory, lengths, workers, keypoints):
    root = tmp_path_factory.mktemp("cache")
    items, path = build(root, lengths, num_workers=workers, keypoints=keypoints)
    cache = video_cache.open_cache(path)
    assert cache.lengths.tolist() == lengths
    assert cache.items.tolist() == list(range(len(lengths)))
    assert len(cache.frames) == sum(lengths)
    assert cache.frames.flags.c_contiguous
    for item, start, length in zip(items, cache.starts, cache.lengths, strict=True):
        expected = frames_for(item, keypoints)
        assert np.array_equal(cache.frames[start : start + length], expected.frames)
        if keypoints:
            assert np.array_equal(cache.keypoints[start : start + length], expected.keypoints.astype(np.float32))
    assert (cache.keypoints is None) == (not keypoints)
    assert cache.fingerprint["notes"] == ({"odd ones": odd} if (odd := sum(n % 2 for n in lengths)) else {})


def test_the_index_tells_names_labels_and_actors(tmp_path):
    items = [*listed(tmp_path, [3, 4], label=7, actor="ida"), *listed(tmp_path, [5])]
    path = video_cache.cache_path(items, "none", tmp_path, "toy")
    video_cache.build_cache(items, lambda item: frames_for(item, False), path, recipe="none")
    with np.load(path.with_suffix(".npz")) as index:
        assert index["names"].tolist() == ["0_3.avi", "1_4.avi", "0_5.avi"]
        assert index["labels"].tolist() == [7, 7, -1], "none is no class"
        assert index["actors"].tolist() == ["ida", "ida", ""]


def test_decoding_happens_once(tmp_path):
    items, path = build(tmp_path, [5, 6])
    video_cache.build_cache(items, pytest.fail, path, recipe="none")


def test_of_two_at_once_one_decodes(tmp_path):
    items, calls = listed(tmp_path, [5] * 6), []
    path = video_cache.cache_path(items, "none", tmp_path / "cache", "toy")

    def decode(item):
        calls.append(item)
        if len(calls) == 1:
            second.start()
            time.sleep(0.2)  # it would begin to decode if nothing held it up
        return frames_for(item, False)

    second = threading.Thread(target=video_cache.build_cache, args=(items, decode, path), kwargs={"recipe": "none"})
    video_cache.build_cache(items, decode, path, recipe="none", num_workers=1)
    second.join()
    assert len(calls) == 6


def test_progress_counts_good_and_bad_videos(tmp_path):
    done = []
    build(tmp_path, [3, 4, 5], bad=["1_4.avi"], bad_videos="skip", progress=done.append)
    assert sum(done) == 3


def test_nothing_has_its_final_name_before_all_is_written(tmp_path, monkeypatch):
    items = listed(tmp_path, [3] * 9)
    path = video_cache.cache_path(items, "none", tmp_path / "cache", "toy")
    written = (".npz", ".json", ".npy")

    def decode(item):
        assert not any(path.with_suffix(suffix).exists() for suffix in written)
        return frames_for(item, False)

    video_cache.build_cache(items, decode, path, recipe="none", num_workers=1)
    assert all(path.with_suffix(suffix).exists() for suffix in written)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_run_that_ends_between_two_renames_leaves_no_cache(tmp_path, monkeypatch, moved):
    left, replace = [moved], os.replace

    def interrupted(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, [3, 4])
    monkeypatch.undo()
    assert not list((tmp_path / "cache").glob("*.npy")), "the frames get their name last"
    _, path = build(tmp_path, [3, 4])
    assert video_cache.open_cache(path).lengths.tolist() == [3, 4]


@pytest.mark.parametrize("suffix", [".npz", ".json", ".npy"])
def test_a_cache_that_lost_a_file_is_made_again(tmp_path, suffix):
    _, path = build(tmp_path, [3, 4])
    path.with_suffix(suffix).unlink()
    path.with_suffix(".npy.partial").write_bytes(b"of a run that was killed")
    with pytest.raises(DataError, match="does not exist: run prepare_data"):
        video_cache.open_cache(path)
    build(tmp_path, [3, 4])
    assert video_cache.open_cache(path).lengths.tolist() == [3, 4]


def test_a_bad_video_is_an_error_that_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match=r"1_4\.avi is broken; .*--data\.bad_videos skip"):
        build(tmp_path, [3, 4, 5], bad=["1_4.avi"])
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_bad_videos_are_skipped_and_counted(tmp_path):
    items, path = build(tmp_path, [3, 4, 5], bad=["0_3.avi", "1_4.avi"], bad_videos="skip")
    cache = video_cache.open_cache(path, "skip")
    assert cache.items.tolist() == [2]
    assert np.array_equal(cache.frames, frames_for(items[2], True).frames)
    assert cache.fingerprint["num_skipped"] == 2
    assert cache.skipped == ["0_3.avi is broken", "1_4.avi is broken"]
    with pytest.raises(DataError, match=r"0_3\.avi is broken \(and 1 more videos are bad\)"):
        video_cache.open_cache(path, "error")
    with pytest.raises(DataError, match=r"none of the 2 videos .* 0_3\.avi is broken"):
        build(tmp_path, [3, 4], bad=["0_3.avi", "1_4.avi"], bad_videos="skip")


def test_other_errors_leave_nothing_either(tmp_path):
    items = listed(tmp_path, [3, 4])
    path = video_cache.cache_path(items, "none", tmp_path / "cache", "toy")
    with pytest.raises(ZeroDivisionError):
        video_cache.build_cache(items, lambda item: 1 // 0, path, recipe="none")
    assert not list(path.parent.glob("*partial*"))
    assert not path.exists()


def test_what_decides_the_content_decides_the_name(tmp_path, monkeypatch):
    items = listed(tmp_path, [3, 4])
    name = video_cache.cache_path(items, "none", tmp_path, "toy")
    assert video_cache.cache_path(items, "none", tmp_path, "toy") == name
    assert video_cache.cache_path([item._replace(split="test") for item in items], "none", tmp_path, "toy") == name
    others = [
        video_cache.cache_path(items, "other crop", tmp_path, "toy"),
        video_cache.cache_path(items[:1], "none", tmp_path, "toy"),
        video_cache.cache_path([items[0], items[1]._replace(label=3)], "none", tmp_path, "toy"),
        video_cache.cache_path([items[0], items[1]._replace(actor="ida")], "none", tmp_path, "toy"),
        video_cache.cache_path([items[0], items[1]._replace(name="another")], "none", tmp_path, "toy"),
    ]
    for beside in ("a.csv", "b.csv"):
        (tmp_path / beside).write_bytes(bytes(7))
        annotated = [items[0]._replace(beside=tmp_path / beside), items[1]]
        others.append(video_cache.cache_path(annotated, "none", tmp_path, "toy"))
    for changed in (annotated[0].beside, items[0].source):
        changed.write_bytes(bytes(100))
        others.append(video_cache.cache_path(annotated, "none", tmp_path, "toy"))
    monkeypatch.setattr(video_cache, "VERSION", video_cache.VERSION + 1)
    others.append(video_cache.cache_path(annotated, "none", tmp_path, "toy"))
    assert len({name, *others}) == len(others) + 1


def test_a_cache_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(DataError, match=r"toy\.npy does not exist: run prepare_data"):
        video_cache.open_cache(tmp_path / "toy.npy")
    _, path = build(tmp_path, [3, 4])
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(DataError, match="is damaged .*delete it"):
        video_cache.open_cache(path)
    path.write_bytes(whole)
    description = json.loads(path.with_suffix(".json").read_text())
    index = path.with_suffix(".npz").read_bytes()
    without = {name: value for name, value in description.items() if name != "skipped"}
    for text in (json.dumps(description | {"num_frames": 6}), json.dumps(without), "{}", "[", ""):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(DataError, match="is damaged .*delete it"):
            video_cache.open_cache(path)
    path.with_suffix(".json").write_text(json.dumps(description))
    for part in (b"", index[:100], index[:-40], b"PK" + index[:50]):
        path.with_suffix(".npz").write_bytes(part)
        with pytest.raises(DataError, match="is damaged .*delete it"):
            video_cache.open_cache(path)
    np.savez(path.with_suffix(".npz"), items=[0, 1], starts=[0, 3], lengths=[3, 5])
    with pytest.raises(DataError, match="is damaged .*delete it"):
        video_cache.open_cache(path)
    path.with_suffix(".npz").write_bytes(index)
    np.save(path, np.zeros((7, 3, 4, 5), np.float32))
    with pytest.raises(DataError, match="is damaged .*float32"):
        video_cache.open_cache(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be written .* --data\.cache"):
        build(tmp_path, [3])
