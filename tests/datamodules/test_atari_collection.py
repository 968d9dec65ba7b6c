"""Recordings: complete or absent, the same on any number of workers, and clear when something is wrong with them."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zlib

import h5py
import lightning
import numpy as np
import psutil
import pytest

from datamodules import atari_store, atari_worker
from datamodules.atari_collection import collect_frames, fingerprint, read_verified, recording_path
from datamodules.atari_emulator import CollectionSettings, collect_stream
from datamodules.errors import DataError

SETTINGS = CollectionSettings(game="breakout", num_frames=300, seed=3, num_streams=3)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return collect_frames(SETTINGS, tmp_path_factory.mktemp("recording"), num_workers=2)


def test_a_recording_holds_the_streams_row_by_row(recording):
    stored = atari_store.read(recording, SETTINGS)
    rows = [(stream, row) for stream in range(3) for row in collect_stream(SETTINGS, stream)]
    assert len(stored) == len(rows) == 300
    for index, (stream, row) in enumerate(rows):
        frame = np.frombuffer(zlib.decompress(stored.frames[index]), np.uint8).reshape(210, 160)
        np.testing.assert_array_equal(frame, row.frame)
        for name in ("ram", "action", "reward", "terminated", "truncated", "lives", "episode_start"):
            np.testing.assert_array_equal(stored.columns[name][index], getattr(row, name))
        assert stored.columns["stream"][index] == stream


def test_any_hdf5_reader_can_read_it(recording):
    with h5py.File(recording) as file:
        assert file["frames"].shape == (300, 210, 160)
        assert file["frames"].chunks == (1, 210, 160)
        assert file["frames"][17].max() > 0
        assert json.loads(file.attrs["settings"])["game"] == "breakout"


def test_the_number_of_workers_changes_nothing(recording, tmp_path):
    alone = collect_frames(SETTINGS, tmp_path, num_workers=1)
    assert fingerprint(alone)["hash"] == fingerprint(recording)["hash"]


def test_a_recording_is_collected_once(recording):
    before = recording.stat().st_mtime_ns
    assert collect_frames(SETTINGS, recording.parent) == recording
    assert recording.stat().st_mtime_ns == before


def test_fingerprint_lies_beside_the_data(recording):
    written = json.loads(recording.with_suffix(".json").read_text())
    assert written == fingerprint(recording)
    assert written["num_frames"] == 300
    assert written["settings"]["seed"] == 3
    recording.with_suffix(".json").unlink()
    assert fingerprint(recording) == written, "it can be made again from the recording"


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"num_frames": 301}, {"color": "rgb"}, {"exclude_noop": True}, {"max_pooling": "gray"}]
)
def test_other_settings_have_another_file(change, tmp_path):
    assert recording_path(CollectionSettings(**(SETTINGS.to_dict() | change)), tmp_path) != recording_path(
        SETTINGS, tmp_path
    )


COLLECT_SLOWLY = """
import sys
from datamodules.atari_collection import collect_frames
from datamodules.atari_emulator import CollectionSettings

if __name__ == "__main__":
    settings = CollectionSettings(game="breakout", num_frames=int(sys.argv[2]), seed=3, num_streams=4)
    collect_frames(settings, sys.argv[1], num_workers=2, progress=lambda rows: print(rows, flush=True))
"""


def test_kill_leaves_nothing_that_looks_complete_and_no_worker(tmp_path):
    script = tmp_path / "collect.py"
    script.write_text(COLLECT_SLOWLY)
    command = [sys.executable, str(script), str(tmp_path / "data"), "40000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    settings = CollectionSettings(game="breakout", num_frames=40000, seed=3, num_streams=4)
    path = recording_path(settings, tmp_path / "data")
    assert not path.exists(), "the kill came too late to tell anything"
    with pytest.raises(DataError, match="does not exist"):
        atari_store.read(path)
    deadline = time.monotonic() + 30
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def test_the_next_run_starts_anew_over_what_a_kill_left(tmp_path):
    path = recording_path(SETTINGS, tmp_path)
    path.with_suffix(".h5.partial").write_bytes(b"half a recording")
    assert collect_frames(SETTINGS, tmp_path, num_workers=1) == path
    assert len(atari_store.read(path, SETTINGS)) == 300
    assert not path.with_suffix(".h5.partial").exists()


def test_a_file_under_its_temporary_name_is_marked_incomplete(tmp_path):
    path = tmp_path / "recording.h5"
    with atari_store.create(SETTINGS, {}) as file:
        file.flush()
        path.write_bytes(file.id.get_file_image())
    with pytest.raises(DataError, match=r"recording.h5 is not complete: delete it"):
        atari_store.read(path)


def test_full_disk(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"no space left for .*needs about \d+ MB.*--data.root") as caught:
        collect_frames(SETTINGS, tmp_path, num_workers=1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.h5"))


FILL_THE_DISK = """
import resource, signal, sys
from datamodules.atari_collection import collect_frames
from datamodules.atari_emulator import CollectionSettings
from datamodules.errors import DataError

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        collect_frames(CollectionSettings(game="breakout", num_frames=2000, seed=3, num_streams=2), sys.argv[1])
    except DataError as error:
        print(error)
"""


def test_a_file_that_cannot_grow_is_the_same_error(tmp_path):
    script = tmp_path / "fill.py"
    script.write_text(FILL_THE_DISK)
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "data")], capture_output=True, text=True)
    assert "no space left for" in done.stdout, done.stderr
    assert not list((tmp_path / "data").glob("*.h5"))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written .*--data.root"):
        collect_frames(SETTINGS, tmp_path / "file" / "data", num_workers=1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "damaged or no recording"),
        (lambda path: path.write_text("not HDF5"), "damaged or no recording"),
        (lambda path: path.write_bytes(b""), "damaged or no recording"),
    ],
)
def test_damaged_files_are_named(recording, tmp_path, damage, message):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(recording.read_bytes())
    damage(copy)
    with pytest.raises(DataError, match=rf"copy.h5 is {message}.*delete it") as caught:
        atari_store.read(copy)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_inside_a_frame_are_found_before_training(recording, tmp_path):
    copy = recording_path(SETTINGS, tmp_path)
    content = bytearray(recording.read_bytes())
    with h5py.File(recording) as file:
        place = file["frames"].id.get_chunk_info(150).byte_offset
    content[place + 20 : place + 24] = b"oops"
    copy.write_bytes(content)
    copy.with_suffix(".json").write_text(json.dumps(fingerprint(recording)))
    with pytest.raises(DataError, match="is damaged: its content does not match its fingerprint; delete it"):
        read_verified(SETTINGS, tmp_path)
    assert len(read_verified(SETTINGS, recording.parent)) == 300


def test_neighbouring_seeds_share_no_stream():
    def rams(seed):
        settings = CollectionSettings(**(SETTINGS.to_dict() | {"seed": seed}))
        return {row.ram.tobytes() for stream in range(3) for row in list(collect_stream(settings, stream))[40:]}

    first, second = rams(3), rams(4)
    assert len(first & second) < 0.1 * len(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.__setitem__("format", "something else"), "no recording of Atari frames"),
        (lambda file: file.attrs.__setitem__("version", 99), "format version 99, this package reads 1"),
        (lambda file: file.attrs.__setitem__("settings", '{"game": "pong"}'), "settings that cannot be read"),
        (lambda file: file.__delitem__("ram"), "damaged or no recording"),
    ],
)
def test_foreign_files_are_named(recording, tmp_path, change, message):
    copy = tmp_path / "copy.h5"
    copy.write_bytes(recording.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=message):
        atari_store.read(copy)


def test_recordings_of_other_settings_are_refused(recording):
    with pytest.raises(DataError, match="collected with other settings .seed 3 instead of 9"):
        atari_store.read(recording, CollectionSettings(**(SETTINGS.to_dict() | {"seed": 9})))


def test_a_worker_that_fails_is_reported(tmp_path):
    settings = CollectionSettings(**(SETTINGS.to_dict() | {"policy": str(tmp_path / "no.ckpt")}))
    with pytest.raises(DataError, match=r"policy: '.*no.ckpt' is neither 'random' nor a checkpoint"):
        collect_frames(settings, tmp_path)
    (tmp_path / "no.ckpt").write_bytes(os.urandom(64))
    with pytest.raises(DataError, match="policy: "):
        collect_frames(settings, tmp_path, num_workers=1)


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    start = atari_worker.start

    def start_and_kill(settings, streams):
        worker = start(settings, streams)
        worker.kill()
        return worker

    monkeypatch.setattr(atari_worker, "start", start_and_kill)
    with pytest.raises(DataError, match="a collecting process died with exit code -9"):
        collect_frames(SETTINGS, tmp_path, num_workers=1)
    assert not list(tmp_path.glob("*.h5"))


WITHOUT_A_MAIN_GUARD = """
import sys
from datamodules.atari_collection import collect_frames
from datamodules.atari_emulator import CollectionSettings

print(collect_frames(CollectionSettings(game="pong", num_frames=64, seed=0, num_streams=2), sys.argv[1], num_workers=2))
"""


def test_a_script_needs_no_main_guard(tmp_path):
    (tmp_path / "script.py").write_text(WITHOUT_A_MAIN_GUARD)
    # A folder of this name in the working directory must not stand in for the package.
    (tmp_path / "datamodules").mkdir()
    command = [sys.executable, "-P", "script.py", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).is_file()


DICE = """
import lightning as L
import torch
from lightning_zoo.checkpoints import Loadable


class Dice(Loadable, L.LightningModule):
    def __init__(self):
        super().__init__()
        self.sides = torch.nn.Parameter(torch.ones(()))

    def act(self, observations, explore):
        return torch.randint(0, 4, (len(observations),))
"""


@pytest.fixture
def dice(tmp_path, monkeypatch):
    """A checkpoint of an agent that throws dice."""
    (tmp_path / "dice_agent.py").write_text(DICE)
    monkeypatch.syspath_prepend(str(tmp_path))
    from dice_agent import Dice

    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_model_summary=False)
    trainer.strategy.connect(Dice())
    trainer.save_checkpoint(tmp_path / "dice.ckpt")
    return tmp_path / "dice.ckpt"


def test_frames_of_an_agent_depend_on_nothing_but_the_settings(dice, tmp_path):
    settings = CollectionSettings(**(SETTINGS.to_dict() | {"policy": str(dice), "num_frames": 90}))
    hashes = {
        fingerprint(collect_frames(settings, tmp_path / str(workers), num_workers=workers))["hash"]
        for workers in (1, 2)
    }
    assert len(hashes) == 1


def test_where_the_agents_checkpoint_lies_does_not_matter(dice, tmp_path):
    settings = CollectionSettings(**(SETTINGS.to_dict() | {"policy": str(dice), "num_frames": 90}))
    path = collect_frames(settings, tmp_path, num_workers=1)
    (tmp_path / "moved").mkdir()
    moved = dice.rename(tmp_path / "moved" / "dice.ckpt")
    elsewhere = CollectionSettings(**(settings.to_dict() | {"policy": str(moved)}))
    assert recording_path(elsewhere, tmp_path) == path
    assert len(atari_store.read(path, elsewhere)) == 90
