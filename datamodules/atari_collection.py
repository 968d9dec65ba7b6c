"""Collects Atari frames with worker processes into one file, all or nothing."""

import errno
import hashlib
import json
import os
import queue
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from datamodules import atari_store, atari_worker
from datamodules.atari_emulator import CollectionSettings
from datamodules.atari_worker import Block
from datamodules.errors import DataError

BLOCKS_IN_FLIGHT = 16


def recording_path(settings: CollectionSettings, root: str | Path) -> Path:
    """Where the recording of these settings lies: readable, and different for different settings."""
    text = json.dumps({"version": atari_store.VERSION, **_identity(settings)}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    policy = "random" if settings.policy == "random" else Path(settings.policy).stem
    name = f"{settings.game}_{settings.color}_{policy}_{settings.num_frames}_seed{settings.seed}_{digest}.h5"
    return Path(root) / name


def collect_frames(
    settings: CollectionSettings,
    root: str | Path,
    *,
    num_workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Collect a recording unless it is there, and return its path.

    The file is written under a temporary name and renamed when it is complete; after a kill the next run of the same
    settings starts anew. Of two runs at once the second waits for the first.

    Args:
        settings: what to collect.
        root: folder for recordings, made if it is missing.
        num_workers: processes that emulate; None for one per core. The frames do not depend on it.
        progress: called with the number of rows written since its last call.

    Raises:
        DataError: if the disk is full, the folder cannot be written, or a policy cannot be used.
    """
    path = recording_path(settings, root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _collect(settings, path, num_workers or os.cpu_count() or 1, progress or (lambda rows: None))
    except OSError as error:
        raise DataError(_disk_message(error, path, settings)) from error
    return path


def read_verified(settings: CollectionSettings, root: str | Path) -> atari_store.Recording:
    """The recording of these settings, if it still is what was written.

    Raises:
        DataError: if it cannot be read, or its content has another hash than its fingerprint.
    """
    path = recording_path(settings, root)
    recording = atari_store.read(path, settings)
    if _describe(recording)["hash"] != fingerprint(path)["hash"]:
        raise DataError(f"{path} is damaged: its content does not match its fingerprint; delete it to collect it again")
    return recording


def fingerprint(path: Path) -> dict[str, Any]:
    """What a recording is: its file, settings, versions, counts and a hash of all that was recorded.

    Equal settings with equal versions of the packages give equal hashes. It lies as JSON beside the recording.

    Raises:
        DataError: if the recording cannot be read.
    """
    beside = path.with_suffix(".json")
    if beside.is_file():
        return json.loads(beside.read_text())
    return _describe(atari_store.read(path))


def _describe(recording: atari_store.Recording) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    for frame in recording.frames:
        digest.update(frame)
    for name in sorted(recording.columns):
        digest.update(recording.columns[name].tobytes())
    return {
        "source": "frames of the Arcade Learning Environment, collected by lightning_zoo",
        "settings": recording.settings.to_dict(),
        "versions": recording.versions,
        "num_frames": len(recording),
        "num_episodes": int(recording.columns["episode_start"].sum()),
        "hash": digest.hexdigest(),
    }


def _identity(settings: CollectionSettings) -> dict[str, Any]:
    identity = settings.to_dict()
    if settings.policy != "random":
        try:
            identity["policy"] = hashlib.blake2b(Path(settings.policy).read_bytes(), digest_size=16).hexdigest()
        except FileNotFoundError as error:
            raise DataError(f"policy: {settings.policy!r} is neither 'random' nor a checkpoint that exists") from error
    return identity


def _collect(settings: CollectionSettings, path: Path, num_workers: int, progress: Callable[[int], None]) -> None:
    versions = {name: version(name) for name in ("ale-py", "numpy", "h5py")} | {"zlib": zlib.ZLIB_RUNTIME_VERSION}
    # HDF5 cannot be closed cleanly on a disk that filled up, so the file, compressed already, grows in memory.
    with atari_store.create(settings, versions) as file:
        for block in _blocks(settings, min(num_workers, settings.num_streams)):
            atari_store.write_rows(file, block.first, block.frames, block.columns)
            progress(len(block.frames))
        file.attrs["complete"] = True
        description = json.dumps(_describe(atari_store.load(path, file)), indent=1)
        file.flush()
        image = file.id.get_file_image()
    # The fingerprint first: a recording that looks complete always has one.
    _write_whole(path.with_suffix(".json"), f"{description}\n".encode())
    _write_whole(path, image)


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_suffix(f"{path.suffix}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _blocks(settings: CollectionSettings, num_workers: int) -> Iterator[Block]:
    """Blocks of all streams from worker processes, in the order in which they come."""
    shares = [range(index, settings.num_streams, num_workers) for index in range(num_workers)]
    workers = [atari_worker.start(settings, share) for share in shares]
    received: queue.Queue[Block | Exception | None] = queue.Queue(BLOCKS_IN_FLIGHT)
    for worker in workers:
        threading.Thread(target=_forward, args=(worker, received), daemon=True).start()
    try:
        running = num_workers
        while running:
            block = received.get()
            if isinstance(block, Exception):
                raise block
            if block is None:
                running -= 1
            else:
                yield block
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _forward(worker: "subprocess.Popen[bytes]", received: "queue.Queue[Block | Exception | None]") -> None:
    """A thread: hand a worker's blocks on, then None, or the error that ended it."""
    try:
        for block in atari_worker.receive(worker):
            received.put(block)
        received.put(None)
    except Exception as error:  # whatever it is: without a message the collecting run would wait for ever
        received.put(error)


def _disk_message(error: OSError, path: Path, settings: CollectionSettings) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
        megabytes = settings.num_frames * int(np.prod(settings.frame_shape)) / 20 / 1e6
        return (
            f"no space left for {path} (needs about {megabytes:.0f} MB): free some or set --data.root to another disk; "
            "nothing incomplete was kept"
        )
    return f"{path} cannot be written ({error.strerror or error}): set --data.root to a folder that can"
