"""The cache of frames: what is written comes back, nothing incomplete is kept, bad videos are errors or counted."""

import json
import threading

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
    items = listed(tmp_path, [3, 4], label=7, actor="ida")
    path = video_cache.cache_path(items, "none", tmp_path, "toy")
    video_cache.build_cache(items, lambda item: frames_for(item, False), path, recipe="none")
    with np.load(path.with_suffix(".npz")) as index:
        assert index["names"].tolist() == ["0_3.avi", "1_4.avi"]
        assert index["labels"].tolist() == [7, 7]
        assert index["actors"].tolist() == ["ida", "ida"]


def test_decoding_happens_once(tmp_path):
    items, path = build(tmp_path, [5, 6])
    video_cache.build_cache(items, pytest.fail, path, recipe="none")


def test_of_two_at_once_one_decodes(tmp_path):
    items, calls = listed(tmp_path, [5] * 6), []
    path = video_cache.cache_path(items, "none", tmp_path / "cache", "toy")

    def decode(item):
        calls.append(item)
        return frames_for(item, False)

    threads = [
        threading.Thread(target=video_cache.build_cache, args=(items, decode, path), kwargs={"recipe": "none"})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 6


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


def test_what_decides_the_content_decides_the_name(tmp_path):
    items = listed(tmp_path, [3, 4])
    name = video_cache.cache_path(items, "none", tmp_path, "toy")
    assert video_cache.cache_path(items, "none", tmp_path, "toy") == name
    assert video_cache.cache_path([item._replace(split="test") for item in items], "none", tmp_path, "toy") == name
    others = [
        video_cache.cache_path(items, "other crop", tmp_path, "toy"),
        video_cache.cache_path(items[:1], "none", tmp_path, "toy"),
        video_cache.cache_path([items[0], items[1]._replace(label=3)], "none", tmp_path, "toy"),
        video_cache.cache_path([items[0]._replace(beside=items[1].source), items[1]], "none", tmp_path, "toy"),
    ]
    items[0].source.write_bytes(bytes(100))
    others.append(video_cache.cache_path(items, "none", tmp_path, "toy"))
    assert len({name, *others}) == 6


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
    path.with_suffix(".json").write_text(json.dumps(description | {"num_frames": 6}))
    with pytest.raises(DataError, match="is damaged .*delete it"):
        video_cache.open_cache(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be written .* --data\.cache"):
        build(tmp_path, [3])
