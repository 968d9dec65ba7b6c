"""Weizmann's files: names, zip files, silhouettes and crops on drawn walkers."""

import pickle
import string
from itertools import product
from zipfile import ZipFile

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from video_files import walker, write_video

from datamodules import Weizmann, silhouettes
from datamodules.errors import DataError
from datamodules.weizmann import ACTIONS, ACTORS, MASKS, WeizmannName, parse_name

SOME = ["daria", "lena", "shahar"]
COLOUR = (200, 150, 120)
"""Of a walker."""


@given(actor=st.sampled_from(ACTORS), action=st.sampled_from(ACTIONS), take=st.sampled_from(["", "1", "2"]))
def test_names_are_taken_apart_and_put_together(actor, action, take):
    if action.startswith("wave") and take:
        return
    name = WeizmannName(actor, action, take)
    assert parse_name(f"{name}.avi") == parse_name(f"{name}.AVI") == name


@given(st.text(string.ascii_lowercase + "_.12", max_size=20))
def test_other_names_are_refused(name):
    parsed = parse_name(name)
    assert parsed is None or f"{parsed}.avi" == name


@pytest.mark.parametrize(
    "name",
    ["daria_sit.avi", "bob_walk.avi", "daria_walk3.avi", "daria_wave12.avi", "xdaria_walk.avi", "daria_walk.mp4"],
)
def test_near_misses_are_refused(name):
    assert parse_name(name) is None


def test_pjump_is_not_jump_and_waves_are_two_actions():
    assert parse_name("ido_pjump.avi").action == "pjump"
    assert parse_name("ido_wave2.avi") == ("ido", "wave2", "")
    assert parse_name("lena_run2.avi") == ("lena", "run", "2")


def write(root, names, number=40, masks=None, **walk):
    """Walkers under the names, and, where they are asked for, their silhouettes as MATLAB wrote them."""
    fields = {}
    for place, name in enumerate(names):
        frames, silhouette = walker(number, seed=place, **walk)
        write_video(root / f"{name}.avi", frames)
        fields[name] = np.moveaxis(silhouette, 0, 2)
    if masks is not None:
        other = {name: np.zeros((3, 3, 3), bool) for name in fields}
        scipy.io.savemat(root / MASKS, {"original_masks": fields | masks, "aligned_masks": other})
    return fields


def build(root, **arguments):
    data = Weizmann(**({"root": str(root), "batch_size": 1, "actors": SOME} | arguments))
    data.prepare_data()
    data.setup()
    return data


def pack(root, action):
    with ZipFile(root / f"{action}.zip", "w") as archive:
        for path in sorted(root.glob(f"*_{action}*.avi")):
            archive.write(path, path.name)
            path.unlink()


def test_the_original_zip_files_are_read_and_so_is_what_was_in_them(tmp_path):
    names = ["daria_walk", "lena_walk1", "lena_walk2", "shahar_walk", "daria_run", "lena_run1", "shahar_run"]
    write(tmp_path, names, masks={})
    loose = build(tmp_path, cache=str(tmp_path / "loose"))
    pack(tmp_path, "walk")
    packed = build(tmp_path)
    assert loose.video_names == packed.video_names == sorted(names)
    assert packed.actors == [name.partition("_")[0] for name in sorted(names)]
    for split in ("train", "val", "test"):
        for one, other in zip(loose.clips_dataloader(split), packed.clips_dataloader(split), strict=True):
            assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)
    labels = {name: ACTIONS.index("walk" if "walk" in name else "run") for name in names}
    for batch in packed.clips_dataloader("train"):
        assert int(batch["labels"]) == labels[packed.video_names[int(batch["videos"])]]


def test_splits_are_by_actor(tmp_path):
    write(tmp_path, ["daria_walk", "lena_walk1", "lena_walk2", "shahar_walk"], masks={})

    def actors(**arguments):
        data = build(tmp_path, **arguments)
        return [data.fingerprint.get(f"{split}_actors") for split in ("train", "val", "test")]

    assert actors() == ["lena", "shahar", "daria"]
    assert actors(fold=5) == ["shahar", "daria", "lena"]
    assert actors(test_actors=["shahar"], val_actors=[]) == ["daria lena", None, "shahar"]
    assert actors(test_actors=["shahar"], val_actors=["daria"]) == ["lena", "daria", "shahar"]
    assert actors(actors=["daria", "lena"]) == ["lena", None, "daria"]
    with pytest.raises(DataError, match=r"weizmann: actor denis has no video in .*nor have 5 others.*--data\.actors"):
        build(tmp_path, actors=None)


def test_every_published_file_is_listed_with_its_action_and_actor(tmp_path):
    """Nine actors with ten actions; lena does three of them twice, which makes 93 files."""
    twice = {("lena", action) for action in ("run", "skip", "walk")}
    for actor, action in product(ACTORS, ACTIONS):
        for take in ("1", "2") if (actor, action) in twice else ("",):
            (tmp_path / f"{actor}_{action}{take}.avi").touch()
    data = Weizmann(root=str(tmp_path))
    items = data.list_videos()
    assert len({item.name for item in items}) == len(items) == 93
    split_of = {"daria": "test", "shahar": "val"}
    for item in items:
        actor, action = item.name.split("_")
        named = action if action in ("wave1", "wave2") else action.rstrip("12")
        assert (item.actor, data.class_names[item.label]) == (actor, named)
        assert item.split == split_of.get(actor, "train")


@pytest.mark.parametrize("given_masks", [True, False])
def test_the_window_follows_the_walker_and_pixels_are_the_originals(tmp_path, given_masks):
    write(tmp_path, [f"{actor}_walk" for actor in SOME], number=50, masks={} if given_masks else None)
    frames, masks = walker(50, seed=0)
    first = int(np.flatnonzero(masks.mean((1, 2)) >= silhouettes.PERSON_SHARE)[0])
    data = build(tmp_path)
    assert data.frame_shape == (3, 96, 96)
    for number, batch in enumerate(data.test_dataloader()):
        for step, (clip, points) in enumerate(zip(batch["clips"][0], batch["keypoints"][0], strict=True)):
            place = first + 8 * number + step
            points = dict(zip(data.keypoint_names, points.numpy(), strict=True))
            corner = np.rint(np.array([(np.nonzero(masks[place])[i].mean()) for i in (1, 0)]) - points["centroid"])
            if given_masks:
                x, y = corner.astype(int)
                assert np.array_equal(clip.permute(1, 2, 0), frames[place, y : y + 96, x : x + 96])
            y, x = np.nonzero((clip.permute(1, 2, 0).numpy() == COLOUR).all(-1))
            assert abs(points["centroid"] - (x.mean(), y.mean())).max() < (1e-3 if given_masks else 1.5)
            assert abs(points["top"][1] - y.min()) <= (0 if given_masks else 2)
            if 52 < -10 + 3 * place < 128:
                assert abs(points["centroid"][0] - 47.5) < 3, "in the middle, unless the picture ends"


def test_frames_without_a_person_are_cut_off_at_both_ends(tmp_path):
    write(tmp_path, [f"{actor}_walk" for actor in SOME], number=60, start=-40, speed=6, masks={})
    _, masks = walker(60, start=-40, speed=6)
    seen = masks.mean((1, 2)) >= silhouettes.PERSON_SHARE
    assert not seen[0]
    assert not seen[-1]
    data = build(tmp_path)
    assert data.fingerprint["test_clips"] == seen.sum() // 8
    first = next(iter(data.test_dataloader()))["clips"][0, 0].permute(1, 2, 0).numpy()
    assert (first == COLOUR).all(-1).sum() == masks[np.flatnonzero(seen)[0]].sum()


def test_somebody_who_rests_most_of_the_time_is_not_taken_for_absent(tmp_path):
    frames, masks = walker(45, start=40)
    resting = np.concatenate([frames[:15], frames[14:15].repeat(60, 0)])
    for actor in SOME:
        write_video(tmp_path / f"{actor}_walk.avi", resting)
    assert build(tmp_path).fingerprint["test_clips"] == len(resting) // 8
    fields = {f"{actor}_walk": np.moveaxis(masks[:45] & (np.arange(45) < 16)[:, None, None], 0, 2) for actor in SOME}
    for actor in SOME:
        write_video(tmp_path / f"{actor}_walk.avi", frames)
    scipy.io.savemat(tmp_path / MASKS, {"original_masks": fields, "aligned_masks": fields})
    assert build(tmp_path).fingerprint["test_clips"] == 2, "the file's silhouettes are believed"


def test_each_crop_has_a_cache_of_its_own(tmp_path):
    write(tmp_path, [f"{actor}_walk" for actor in SOME], masks={})
    person, centre = (build(tmp_path, crop=crop) for crop in ("person", "center"))
    first, second = (next(iter(data.test_dataloader()))["clips"] for data in (person, centre))
    assert not torch.equal(first, second)


def test_the_central_square_stays_while_the_person_moves(tmp_path):
    write(tmp_path, [f"{actor}_walk" for actor in SOME], number=60, masks={})
    _, masks = walker(60)
    write_video(tmp_path / "daria_walk.avi", masks[..., None].repeat(3, -1).astype(np.uint8) * 255)
    batches = list(build(tmp_path, crop="center").test_dataloader())
    centroid = np.concatenate([batch["keypoints"][0, :, 0] for batch in batches])
    white = np.concatenate([batch["clips"][0, :, 0] for batch in batches]).astype(float)
    y, x = np.mgrid[:96, :96]
    seen = np.stack([(white * x).sum((1, 2)), (white * y).sum((1, 2))], 1) / white.sum((1, 2))[:, None]
    assert centroid[0, 0] < 5
    assert centroid[-1, 0] > 80
    whole = (centroid[:, 0] > 12) & (centroid[:, 0] < 84)
    assert whole.sum() > 20
    assert abs(seen - centroid)[whole].max() < 0.1


def test_silhouettes_of_another_length_are_replaced_and_counted(tmp_path):
    wrong = {"daria_walk": np.ones((144, 180, 7), bool)}
    write(tmp_path, [f"{actor}_walk" for actor in SOME], masks=wrong)
    data = build(tmp_path)
    assert data.fingerprint["videos_with_silhouettes_by_the_median_over_time"] == 1
    wrong = {"daria_walk": np.ones((180, 144, 40), bool)}
    write(tmp_path, [f"{actor}_walk" for actor in SOME], masks=wrong)
    assert build(tmp_path).fingerprint["videos_with_silhouettes_by_the_median_over_time"] == 1
    (tmp_path / MASKS).write_bytes(b"no struct")
    with pytest.raises(DataError, match=r"classification_masks\.mat holds no struct original_masks"):
        build(tmp_path)
    (tmp_path / MASKS).unlink()
    assert build(tmp_path).fingerprint["videos_with_silhouettes_by_the_median_over_time"] == 3


def test_it_can_be_sent_to_another_process(tmp_path):
    write(tmp_path, [f"{actor}_walk" for actor in SOME], number=20, masks={})
    data = Weizmann(root=str(tmp_path), actors=SOME)
    data.prepare_data()
    copy = pickle.loads(pickle.dumps(data))
    copy.setup()
    item = copy.list_videos()[0]
    assert copy.video_names[0] == item.name
    assert len(copy.decode(item).frames) >= 8


def test_unknown_files_are_counted(tmp_path):
    write(tmp_path, [f"{actor}_walk" for actor in [*SOME, "ira"]], masks={})
    (tmp_path / "notes.txt").write_text("x")
    write_video(tmp_path / "bob_walk.avi", walker(9)[0])
    data = build(tmp_path)
    assert data.fingerprint["unknown_files_ignored"] == 2
    assert data.fingerprint["videos_of_other_actors_left_out"] == 1


def test_missing_files_and_empty_videos_are_named(tmp_path):
    with pytest.raises(DataError, match=r"Weizmann: bend\.zip is missing and 9 more files"):
        build(tmp_path)
    write(tmp_path, [f"{actor}_walk" for actor in SOME], start=-400, speed=1, masks={})
    with pytest.raises(DataError, match="daria_walk: nobody is seen in any of its 40 frames"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "face"}, "crop must be 'person' or 'center', got 'face'"),
        ({"actors": ["bob"]}, "actors must be among daria, .* got bob"),
        ({"fold": 9}, "fold must be 0 to 8, got 9"),
        ({"fold": 0, "test_actors": ["ido"]}, "fold=0 and test_actors=.* give one of them"),
        ({"test_actors": ["ido"], "val_actors": ["ido"]}, "must be disjoint, both hold ido"),
        ({"actors": ["ido", "ira"], "test_actors": ["eli"]}, "test_actors holds eli, who is not among actors"),
        ({"actors": ["ido"]}, "leave nobody to train on"),
        ({"actors": ["ido", "ira"], "fold": 0}, "fold=0 holds none of the actors"),
        ({"test_actors": []}, "leave nobody to test on"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Weizmann(**arguments)


def test_keypoints_of_a_silhouette_by_hand():
    mask = np.zeros((2, 8, 9), bool)
    mask[0, 2, 3:6] = True  # a bar, a trunk, and two feet of unequal length
    mask[0, 3:5, 4] = True
    mask[0, 5, 2] = mask[0, 6, 7] = True
    points = dict(zip(silhouettes.KEYPOINTS, silhouettes.keypoints_of(mask)[0].tolist(), strict=True))
    assert points["top"] == [4, 2]
    assert points["leftmost"] == points["lowest_left"] == [2, 5]
    assert points["rightmost"] == points["lowest_right"] == [7, 6]
    assert points["centroid"] == pytest.approx([(3 + 4 + 5 + 4 + 4 + 2 + 7) / 7, (6 + 3 + 4 + 5 + 6) / 7])
    assert np.isnan(silhouettes.keypoints_of(mask)[1]).all()


def test_in_a_mirror_left_points_are_right_ones():
    data = Weizmann()
    for name, other in zip(data.keypoint_names, data.keypoint_mirror, strict=True):
        turned = name.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        assert data.keypoint_names[other] == turned


def test_keypoints_of_a_mirrored_silhouette_are_those_of_the_mirror_table():
    _, masks = walker(12, start=40)
    points = silhouettes.keypoints_of(masks)
    seen = silhouettes.keypoints_of(masks[:, :, ::-1])
    expected = points[:, silhouettes.MIRROR] * (-1, 1) + (masks.shape[2] - 1, 0)
    assert np.allclose(seen, expected, atol=1e-4)


def test_a_smoothed_path_keeps_even_motion_and_loses_jitter():
    line = np.arange(30)[:, None] * [3.0, -1.0] + 5
    assert np.allclose(silhouettes.smooth_path(line), line)
    holes = line.copy()
    holes[[0, 7, 8, 29]] = np.nan
    inside = slice(1, 29)
    assert np.allclose(silhouettes.smooth_path(holes)[13:17], line[13:17], atol=0.2)
    assert not np.isnan(silhouettes.smooth_path(holes)[inside]).any()
    jitter = np.random.default_rng(0).normal(size=(200, 2))
    assert silhouettes.smooth_path(jitter)[20:180].std() < 0.45
    assert np.allclose(silhouettes.smooth_path(line[:1]), line[:1])
    with pytest.raises(ValueError, match="points must hold one that is known"):
        silhouettes.smooth_path(np.full((3, 2), np.nan))


def test_windows_stay_within_the_picture_or_continue_its_edge():
    frames = np.arange(20 * 30, dtype=np.uint16).reshape(1, 20, 30, 1).repeat(3, 0)
    windows, corners = silhouettes.follow(frames, np.array([[0.0, 0.0], [15.0, 9.5], [99.0, 99.0]]), 10)
    assert corners.tolist() == [[0, 0], [10, 5], [20, 10]]
    for window, (x, y) in zip(windows, corners, strict=True):
        assert np.array_equal(window, frames[0, y : y + 10, x : x + 10])
    windows, corners = silhouettes.follow(frames[:1, :6], np.array([[15.0, 3.0]]), 10)
    assert corners[0, 1] == -2
    assert np.array_equal(windows[0, :2], windows[0, 2:3].repeat(2, 0))
    assert np.array_equal(windows[0, 2:8, 0], frames[0, :6, corners[0, 0]])
