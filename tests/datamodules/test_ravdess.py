"""RAVDESS' files: names, modalities, folds, faces cut out by landmarks, on drawn faces."""

from itertools import product
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import FACE, talking_face, write_openface, write_video

from datamodules import RAVDESS, face_landmarks
from datamodules.errors import DataError
from datamodules.ravdess import EMOTIONS, FOLDS, parse_name
from datamodules.video_clips import mirror

SOME = [2, 3, 10]


def named(numbers):
    return "-".join(f"{number % 10 if place < 6 else number:02}" for place, number in enumerate(numbers)) + ".mp4"


def test_all_published_names_are_names():
    """2452 trials: 60 spoken ones of each of 24 actors, 44 sung ones of all but actor 18."""
    names = set()
    for channel, emotion, intensity, statement, repetition, actor in product(
        ("01", "02"), range(1, 9), ("01", "02"), ("01", "02"), ("01", "02"), range(1, 25)
    ):
        sung_anyway = channel == "01" or (emotion <= 6 and actor != 18)
        if sung_anyway and (emotion, intensity) != (1, "02"):
            names.add(f"{channel}-{emotion:02}-{intensity}-{statement}-{repetition}-{actor:02}")
    assert len(names) == 2452
    for modality in ("01", "02", "03"):
        parsed = [parse_name(f"{modality}-{trial}.mp4") for trial in names]
        assert {name.trial for name in parsed} == names
        assert {name.modality for name in parsed} == {modality}


@given(st.text("0123-.mp4", max_size=26) | st.lists(st.integers(0, 26), min_size=7, max_size=7).map(named))
def test_what_is_taken_apart_can_be_put_together(name):
    parsed = parse_name(name)
    if parsed is not None:
        assert "-".join(parsed) + ".mp4" == name
        assert 1 <= int(parsed.actor) <= 24
        assert int(parsed.emotion) in range(1, 9)
        assert max(map(int, parsed[3:6])) <= 2


@pytest.mark.parametrize("wrong", [
    "04-01-01-01-01-01-01.mp4", "01-03-01-01-01-01-01.mp4", "01-01-09-01-01-01-01.mp4", "01-01-01-02-01-01-01.mp4",
    "01-01-03-01-01-01-25.mp4", "01-01-03-01-01-01-00.mp4", "01-01-03-01-01-01-01.avi", "1-1-3-1-1-1-1.mp4",
])  # fmt: skip
def test_near_misses_are_refused(wrong):
    assert parse_name(wrong) is None


def write(root, trials, number=36, lost=(), modality="01", tables=True, **face):
    for trial in trials:
        frames, landmarks = talking_face(number, **face)
        write_video(root / f"Actor_{trial[-2:]}" / f"{modality}-{trial}.mp4", frames)
        if tables:
            write_openface(root / "tracking" / f"01-{trial}.csv", landmarks, lost=lost)


def trials_of(actors, channel="01", emotion="03"):
    return [f"{channel}-{emotion}-01-01-01-{actor:02}" for actor in actors]


def build(root, **arguments):
    data = RAVDESS(**({"root": str(root), "batch_size": 1, "actors": SOME} | arguments))
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("ravdess")
    write(root, trials_of(SOME), lost=(6, 7, 8, 9))
    return root


def feature_centres(clip):
    """Where the white eye, the blue eye and the red mouth are, (F, 3, 2), by colour."""
    pixels = clip.permute(0, 2, 3, 1).numpy().astype(int)
    found = []
    for colour in ((255, 255, 255), (90, 140, 255), (180, 40, 40)):
        near = abs(pixels - colour).max(-1) < 50
        found.append([np.argwhere(frame).mean(0)[::-1] for frame in near])
    return np.stack(found, 1)


def test_clips_hold_upright_faces_of_one_size_and_their_landmarks(faces):
    data = build(faces)
    assert data.frame_shape == (3, 128, 128)
    assert data.class_names == EMOTIONS
    batch = next(iter(data.test_dataloader()))
    assert batch["clips"].shape == (1, 8, 3, 128, 128)
    assert batch["keypoints"].shape == (1, 8, 68, 2)
    assert data.class_names[int(batch["labels"])] == "happy"
    centres, points = feature_centres(batch["clips"][0]), batch["keypoints"][0].numpy()
    known = [0, 1, 4, 5, 6, 7]  # frames 6 and 9 of the video were lost
    assert np.isnan(points[[2, 3]]).all()
    assert not np.isnan(points[known]).any()
    assert abs(points[known][:, 36:42].mean(1) - centres[known, 0]).max() < 1
    assert abs(points[known][:, 42:48].mean(1) - centres[known, 1]).max() < 1
    across = centres[known, 1] - centres[known, 0]
    assert abs(across[:, 1]).max() < 1, "upright"
    assert np.ptp(across[:, 0]) < 2, "of one size"
    assert abs(centres[known, :2].mean((0, 1))[0] - 63.5) < 1, "in the middle"


def test_in_a_mirror_the_landmarks_stay_on_the_face(faces):
    data = build(faces)
    seen = mirror(next(iter(data.test_dataloader())), torch.tensor([True]), data.keypoint_mirror)
    centres, points = feature_centres(seen["clips"][0]), seen["keypoints"][0].numpy()
    known = [0, 1, 4, 5, 6, 7]
    assert (centres[known, 0, 0] > centres[known, 1, 0]).all(), "the white eye is on the right now"
    assert abs(points[known][:, 42:48].mean(1) - centres[known, 0]).max() < 1
    assert abs(points[known][:, 36:42].mean(1) - centres[known, 1]).max() < 1


def test_one_square_per_video_lets_the_head_move(faces):
    data = build(faces, alignment="video")
    batch = next(iter(data.test_dataloader()))
    centres, points = feature_centres(batch["clips"][0]), batch["keypoints"][0].numpy()
    known = [0, 1, 4, 5, 6, 7]
    assert abs(points[known][:, 36:42].mean(1) - centres[known, 0]).max() < 1
    assert np.ptp(centres[known, 0], axis=0).max() > 8


def test_every_third_frame_is_served(tmp_path):
    for actor in SOME:
        frames, landmarks = talking_face(40, turn=0)
        frames[:] = np.arange(40, dtype=np.uint8)[:, None, None, None] * 6
        write_video(tmp_path / f"01-01-03-01-01-01-{actor:02}.mp4", frames)
        write_openface(tmp_path / f"01-01-03-01-01-01-{actor:02}.csv", landmarks)
    data = build(tmp_path, image_size=96)
    assert data.frame_shape == (3, 96, 96)
    clip = next(iter(data.test_dataloader()))["clips"][0]
    assert clip[:, 0, 50, 50].tolist() == [18 * step for step in range(8)]
    assert data.fingerprint["test_clips"] == 1


def test_of_two_modalities_one_is_used_and_the_other_counted(tmp_path):
    write(tmp_path, trials_of(SOME))
    write(tmp_path, trials_of(SOME[:2]), modality="02", tables=False)
    data = build(tmp_path)
    assert [name[:2] for name in data.video_names] == ["01"] * 3
    assert data.fingerprint["videos_of_the_other_modality_left_out"] == 2
    assert data.fingerprint["modality"] == "audio_video"
    other = build(tmp_path, modality="video_only", actors=SOME[:2])
    assert [name[:2] for name in other.video_names] == ["02"] * 2
    assert other.fingerprint["videos_of_the_other_modality_left_out"] == 3
    for path in tmp_path.glob("Actor_*/01-*.mp4"):
        path.unlink()
    assert [name[:2] for name in build(tmp_path, actors=SOME[:2]).video_names] == ["02"] * 2
    with pytest.raises(DataError, match=r"no audio_video videos \(01-\*\.mp4\), set --data\.modality video_only"):
        build(tmp_path, actors=SOME[:2], modality="audio_video")


def test_speech_and_song_are_chosen(tmp_path):
    write(tmp_path, [*trials_of(SOME), *trials_of(SOME, "02", "04")], number=24)
    assert len(build(tmp_path).video_names) == 6
    for channel, code in (("speech", "01"), ("song", "02")):
        assert [name[3:5] for name in build(tmp_path, channel=channel).video_names] == [code] * 3


def test_every_video_has_the_landmarks_of_its_own_trial(tmp_path):
    write(tmp_path, trials_of(SOME), number=30)
    write(tmp_path, trials_of(SOME, channel="02"), number=30, modality="02", scale=0.4)
    assert {item.beside.stem[3:] for item in RAVDESS(root=str(tmp_path), actors=SOME).list_videos()} == {
        *trials_of(SOME)
    }, "songs are there as videos alone"
    items = RAVDESS(root=str(tmp_path), actors=SOME, modality="video_only").list_videos()
    assert [item.beside.stem[3:] for item in items] == trials_of(SOME, channel="02")
    assert [item.name[3:] for item in items] == trials_of(SOME, channel="02")


def test_zip_files_are_read(tmp_path, faces):
    with (
        ZipFile(tmp_path / "Video_Speech_Actors.zip", "w") as videos,
        ZipFile(tmp_path / "Tracking.zip", "w") as tables,
    ):
        for path in sorted(faces.rglob("01-*.mp4")):
            videos.write(path, f"{path.parent.name}/{path.name}")
        for path in sorted(faces.rglob("*.csv")):
            tables.write(path, path.name)
    packed, loose = next(iter(build(tmp_path).test_dataloader())), next(iter(build(faces).test_dataloader()))
    assert torch.equal(packed["clips"], loose["clips"])


def test_folds_are_disjoint_and_whole():
    assert sorted(actor for fold in FOLDS for actor in fold) == list(range(1, 25))
    for fold in range(5):
        split = RAVDESS(fold=fold).actor_split
        assert split.test == [f"{actor:02}" for actor in FOLDS[fold]]
        assert split.val == [f"{actor:02}" for actor in FOLDS[fold - 1]]
        assert len(split.train) + len(split.val) + len(split.test) == len({*split.train, *split.val, *split.test}) == 24
    assert RAVDESS().actor_split == RAVDESS(fold=0).actor_split
    song = RAVDESS(fold=1, channel="song").actor_split
    assert song.test == ["03", "06", "07", "13"], "actor 18 did not sing"


def test_landmarks_that_are_missing_are_named_or_their_videos_left_out(tmp_path):
    write(tmp_path, [*trials_of(SOME), *trials_of(SOME, emotion="05")], number=24)
    for actor in (2, 3):
        (tmp_path / "tracking" / f"01-01-05-01-01-01-{actor:02}.csv").unlink()
    message = r"landmarks 01-01-05-01-01-01-02\.csv are not in .*, nor are those of 1 more videos.*bad_videos skip"
    with pytest.raises(DataError, match=message):
        build(tmp_path)
    data = build(tmp_path, bad_videos="skip")
    assert data.fingerprint["bad_videos_skipped"] == 2
    assert len(data.video_names) == 4


def test_landmarks_that_do_not_fit_are_named(tmp_path):
    write(tmp_path, trials_of(SOME), number=36)
    table = tmp_path / "tracking" / "01-01-03-01-01-01-02.csv"
    _, landmarks = talking_face(36)
    write_openface(table, landmarks[:33])
    assert not next(iter(build(tmp_path).test_dataloader()))["keypoints"][0, 0].isnan().any()
    write_openface(table, landmarks[:27])
    with pytest.raises(DataError, match=r"02\.csv has no landmarks for the last 9 frames of its video"):
        build(tmp_path)
    write_openface(table, landmarks[:20])
    with pytest.raises(DataError, match=r"03-01-01-01-02\.csv has no landmarks for the last 15 frames of its video"):
        build(tmp_path)
    write_openface(table, landmarks, lost=range(36))
    with pytest.raises(DataError, match=r"02\.csv holds no landmarks: OpenFace found no face"):
        build(tmp_path)
    write_openface(table, landmarks * 50)
    with pytest.raises(DataError, match=r"02\.csv: the face of frame 1 is larger than the picture"):
        build(tmp_path)
    table.write_text("frame, x_0\n1, 2\n")
    with pytest.raises(DataError, match=r"02\.csv is no table of OpenFace with 68 landmarks"):
        build(tmp_path)


def test_frames_after_the_last_landmarks_have_none(tmp_path):
    write(tmp_path, trials_of(SOME), number=48)
    _, landmarks = talking_face(48)
    write_openface(tmp_path / "tracking" / "01-01-03-01-01-01-02.csv", landmarks[:40])
    batches = list(build(tmp_path).test_dataloader())
    unknown = np.concatenate([batch["keypoints"][0].isnan().all(-1).all(-1) for batch in batches])
    assert np.flatnonzero(unknown).tolist() == [14, 15]
    assert int(batches[1]["clips"][0, -1].max()) > 200, "a face, cut out where it was last seen"


def test_tables_of_openface_are_read_by_frame_and_believed_when_sure(tmp_path):
    _, landmarks = talking_face(6)
    write_openface(tmp_path / "a.csv", landmarks, lost=[1])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    lines[3] = lines[3].replace("0.9800", "0.2000")  # success, but hardly sure
    lines[4] = lines[4].replace("0.9800, 1,", "0.9800, 0,")  # sure, but no success
    del lines[5]  # frame 5 is missing
    (tmp_path / "a.csv").write_text("\n".join([*lines, "", ""]))
    read = face_landmarks.read_openface(tmp_path / "a.csv")
    assert np.flatnonzero(~np.isnan(read).any((1, 2))).tolist() == [0, 5]
    assert np.allclose(read[[0, 5]], landmarks[[0, 5]], atol=1e-3)
    for number in ("0", "100000"):
        (tmp_path / "b.csv").write_text("\n".join([lines[0], lines[1], number + lines[1][1:]]))
        with pytest.raises(DataError, match=rf"b\.csv: frames .*{number}.* in 2 rows"):
            face_landmarks.read_openface(tmp_path / "b.csv")


def test_lost_faces_are_sought_between_their_neighbours():
    """A face that moves and turns evenly is found again where it went on."""
    centres = np.arange(8)[:, None] * [4.0, -1.0] + 50
    halves = np.arange(8)[:, None] * [1.0, 2.0] + 20
    holes = face_landmarks.Squares(centres.copy(), halves.copy())
    for part in holes:
        part[[2, 3, 6]] = np.nan
    for part, expected in zip(face_landmarks.filled(holes), (centres, halves), strict=True):
        assert np.allclose(part, expected)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"RAVDESS: Video_Speech_Actor_01\.zip is missing .*0 videos, 0 tables"):
        build(tmp_path)
    write(tmp_path, trials_of(SOME[:2]), tables=False)
    with pytest.raises(DataError, match=r"FacialTracking_Actors_01-24\.zip is missing .*2 videos, 0 tables"):
        build(tmp_path)
    write(tmp_path, trials_of(SOME[:2]))
    with pytest.raises(DataError, match=r"ravdess: actor 10 has no video in .*--data\.actors"):
        build(tmp_path)


def test_unknown_files_are_counted(tmp_path, faces):
    write(tmp_path, trials_of([*SOME, 4]), number=24)
    for name in ("readme.txt", "01-01-03-01-01-01-02.avi", "overlay.mp4"):
        (tmp_path / name).write_text("x")
    (tmp_path / "03-01-03-01-01-01-02.mp4").write_text("sound alone")
    data = build(tmp_path)
    assert data.fingerprint["unknown_files_ignored"] == 3
    assert data.fingerprint["videos_of_other_actors_left_out"] == 1


def test_videos_too_short_for_a_clip_are_named(tmp_path):
    write(tmp_path, trials_of(SOME), number=20)
    with pytest.raises(DataError, match=r"01-01-03-01-01-01-02 has 7 frames to serve \(as have 2 more\)"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "03"}, "modality must be one of audio_video, video_only, got '03'"),
        ({"channel": "music"}, "channel must be one of speech, song, speech_and_song, got 'music'"),
        ({"alignment": "no"}, "alignment must be 'frame' or 'video', got 'no'"),
        ({"test_actors": [25]}, "test_actors must be among 01, .* got 25"),
        ({"channel": "song", "actors": [1, 2, 18]}, "actors must be among .* got 18"),
        ({"fold": 5}, "fold must be 0 to 4, got 5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RAVDESS(**arguments)


def test_the_mirror_table_is_that_of_a_symmetric_face():
    mirrored = FACE * (-1, 1)
    for landmark, other in enumerate(face_landmarks.MIRROR):
        assert abs(FACE[other] - mirrored[landmark]).max() < 1e-9, landmark
    assert len(face_landmarks.KEYPOINTS) == len(set(face_landmarks.KEYPOINTS)) == 68
    assert all(
        face_landmarks.KEYPOINTS[a].rpartition("_")[0] == face_landmarks.KEYPOINTS[b].rpartition("_")[0]
        for a, b in enumerate(face_landmarks.MIRROR)
    )


def ffhq_corners(points):
    """The four corners that FFHQ's description gives, written out for one face, from the upper left one downwards."""
    eye_left, eye_right = points[36:42].mean(0), points[42:48].mean(0)
    eyes, to_eye = (eye_left + eye_right) / 2, eye_right - eye_left
    to_mouth = (points[48] + points[54]) / 2 - eyes
    x = np.array([to_eye[0] + to_mouth[1], to_eye[1] - to_mouth[0]])
    x = x / np.hypot(*x) * max(np.hypot(*to_eye) * 2, np.hypot(*to_mouth) * 1.8)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


@settings(max_examples=60)
@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.3, 4),
    narrow=st.floats(0.2, 1),
    x=st.floats(-50, 900),
    y=st.floats(-50, 700),
)
def test_the_corners_of_the_square_are_ffhqs(angle, scale, narrow, x, y):
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (scale * FACE * (narrow, 1)) @ rotation + (x, y)
    squares = face_landmarks.face_squares(points[None])
    corners = face_landmarks.into_square(ffhq_corners(points)[None], squares, 100)[0]
    assert np.allclose(corners, [(-0.5, -0.5), (-0.5, 99.5), (99.5, 99.5), (99.5, -0.5)], atol=0.02)


@pytest.mark.parametrize(("angle", "half"), [(0.0, 32.0), (0.4, 40.0), (-1.2, 90.0), (0.3, 25.0)])
def test_pixels_and_points_go_to_the_same_place(angle, half):
    """A spot in the picture is found where its coordinates are transformed to."""
    y, x = np.mgrid[:200, :240]
    centre, right = np.array([118.3, 97.6]), half * np.array([np.cos(angle), np.sin(angle)])
    for dx, dy in ((0, 0), (0.5, 0.3), (-0.6, 0.4), (0.1, -0.7)):
        spot = centre + dx * right + dy * right[::-1] * (-1, 1)
        picture = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 2 / (0.15 * half) ** 2)
        frame = np.rint(255 * picture)[..., None].repeat(3, -1).astype(np.uint8)
        seen = face_landmarks.cut_square(frame, centre, right, 64)[..., 0].astype(float)
        rows, columns = np.mgrid[:64, :64]
        found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
        squares = face_landmarks.Squares(centre[None], right[None])
        expected = face_landmarks.into_square(spot[None, None], squares, 64)[0, 0]
        if min(*expected, *(63 - expected)) > 15:
            assert abs(found - expected).max() < 0.1


def test_a_square_beyond_the_picture_continues_its_edge():
    frame = np.zeros((20, 30, 3), np.uint8)
    frame[:, 0] = 200
    seen = face_landmarks.cut_square(frame, np.array([0.0, 10.0]), np.array([8.0, 0.0]), 16)
    assert (seen[:, :8] > 150).all()
    assert (seen[:, 10:] == 0).all()


@pytest.mark.parametrize("centre", [(5, 5), (0, 19), (29, 0), (-40, 10), (60, 40), (15, -30), (14.4, 9.7)])
def test_squares_anywhere_show_the_nearest_pixels(centre):
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    seen = face_landmarks.cut_square(frame, np.array(centre) - 0.5, np.array([4.0, 0.0]), 8)
    if centre[0] % 1 == 0:
        x, y = (np.arange(8) - 4 + place for place in centre)
        assert np.array_equal(seen, frame[y.clip(0, 19)[:, None], x.clip(0, 29)])


def test_fine_stripes_become_grey_instead_of_flickering():
    frame = np.zeros((400, 400, 3), np.uint8)
    frame[:, ::2] = 255
    seen = face_landmarks.cut_square(frame, np.array([200.0, 200.0]), np.array([150.0, 2.0]), 32)
    assert abs(seen.astype(int) - 127).max() < 20
