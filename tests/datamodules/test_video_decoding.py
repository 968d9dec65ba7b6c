"""Frames read back from files: losslessly, upright, thinned out, from zip files; and files that are no videos."""

import sys
from zipfile import ZipFile

import numpy as np
import pytest
from video_files import noise, write_video

from datamodules.archive_files import find_sources, name_of, open_source, place_of, sizes_of
from datamodules.errors import DataError
from datamodules.video_decoding import frames_of
from lightning_zoo.extras import MissingExtraError


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_lossless_frames_come_back(tmp_path, ending):
    frames = noise(11)
    write_video(tmp_path / f"a{ending}", frames)
    assert np.array_equal(np.stack(list(frames_of(tmp_path / f"a{ending}"))), frames)
    assert np.array_equal(np.stack(list(frames_of(tmp_path / f"a{ending}", every=3))), frames[::3])


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_lossy_frames_come_back_nearly_and_in_order(tmp_path, ending):
    frames = np.linspace(0, 250, 20).astype(np.uint8)[:, None, None, None] * np.ones((1, 32, 48, 3), np.uint8)
    write_video(tmp_path / f"a{ending}", frames, lossless=False)
    read = np.stack(list(frames_of(tmp_path / f"a{ending}"))).astype(int)
    assert read.shape == frames.shape
    assert abs(read - frames).max() < 16


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_telephones_turned_video_is_upright(tmp_path, turns):
    frames = noise(3)
    write_video(tmp_path / "a.mp4", np.rot90(frames, -turns, (1, 2)), rotation=90 * turns)
    assert np.array_equal(np.stack(list(frames_of(tmp_path / "a.mp4"))), frames)


def test_a_member_of_a_zip_file_is_a_file(tmp_path):
    frames = noise(5)
    write_video(tmp_path / "a.avi", frames)
    with ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.write(tmp_path / "a.avi", "deep/a.avi")
        archive.writestr("__MACOSX/deep/._a.avi", "x")
        archive.writestr("deep/.hidden.avi", "x")
    size = (tmp_path / "a.avi").stat().st_size
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "b.avi").write_text("x")
    (tmp_path / ".hidden.avi").write_text("x")
    sources = find_sources(tmp_path, tmp_path / "cache")
    assert sources == [tmp_path / "a.avi", (tmp_path / "pack.zip", "deep/a.avi")]
    assert [name_of(source) for source in sources] == ["a.avi", "a.avi"]
    assert sizes_of(sources) == [size, size]
    assert np.array_equal(np.stack(list(frames_of(sources[1]))), frames)


def test_files_that_are_no_videos_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all" * 50)
    with pytest.raises(DataError, match=r"text\.mp4 does not decode as a video after 0 frames"):
        list(frames_of(tmp_path / "text.mp4"))
    (tmp_path / "empty.avi").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.avi does not decode"):
        list(frames_of(tmp_path / "empty.avi"))
    with pytest.raises(DataError, match=r"gone\.avi cannot be read"):
        list(frames_of(tmp_path / "gone.avi"))


def test_a_video_that_breaks_off_is_named(tmp_path):
    write_video(tmp_path / "a.avi", noise(30))
    whole = (tmp_path / "a.avi").read_bytes()
    for share in (0.3, 0.6):
        (tmp_path / "cut.avi").write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(DataError, match=r"cut\.avi"):
            list(frames_of(tmp_path / "cut.avi"))


@pytest.mark.parametrize(("declared", "good"), [(20, True), (19, True), (22, True), (30, False)])
def test_a_few_frames_miscounted_are_no_damage(tmp_path, declared, good):
    write_video(tmp_path / "a.avi", noise(20))
    whole = bytearray((tmp_path / "a.avi").read_bytes())
    length = whole.index(b"strh") + 8 + 32  # the stream's header, after its name and size: dwLength
    assert int.from_bytes(whole[length : length + 4], "little") == 20
    whole[length : length + 4] = declared.to_bytes(4, "little")
    (tmp_path / "a.avi").write_bytes(whole)
    if good:
        assert len(list(frames_of(tmp_path / "a.avi"))) == 20
    else:
        with pytest.raises(DataError, match=r"a\.avi is damaged: 20 of its 30 frames decode"):
            list(frames_of(tmp_path / "a.avi"))


def test_damage_in_the_middle_is_named(tmp_path):
    write_video(tmp_path / "a.avi", noise(30))
    broken = bytearray((tmp_path / "a.avi").read_bytes())
    broken[len(broken) // 4 : 3 * len(broken) // 4] = bytes(len(broken) // 2)
    (tmp_path / "a.avi").write_bytes(broken)
    with pytest.raises(DataError, match=r"a\.avi"):
        list(frames_of(tmp_path / "a.avi"))


def test_sound_alone_is_no_video(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        for packet in [*stream.encode(sound), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(DataError, match=r"a\.mp4 holds no video"):
        list(frames_of(tmp_path / "a.mp4"))


def test_zip_files_that_are_none_are_named(tmp_path):
    (tmp_path / "walk.zip").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"walk\.zip cannot be read \(.*obtain it again"):
        find_sources(tmp_path)
    with pytest.raises(DataError, match=r"walk\.zip:a\.avi cannot be read"):
        open_source((tmp_path / "walk.zip", "a.avi"))
    assert place_of((tmp_path / "walk.zip", "a.avi")) == f"{tmp_path}/walk.zip:a.avi"
    with pytest.raises(DataError, match=r"gone\.avi cannot be read"):
        sizes_of([tmp_path / "gone.avi"])


def test_a_missing_extra_is_one_line_with_the_command(tmp_path, monkeypatch):
    write_video(tmp_path / "a.avi", noise(3))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"'av', which is not installed: pip install \S*") as caught:
        list(frames_of(tmp_path / "a.avi"))
    assert "\n" not in str(caught.value)
