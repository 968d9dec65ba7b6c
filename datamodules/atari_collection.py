"""Collects Atari frames with worker processes into one file, all or nothing."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import queue
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from datamodules import atari_store
from datamodules.atari_emulator import CollectionSettings, Policy, Row, collect_stream
from datamodules.errors import DataError

ROWS_PER_BLOCK = 256
BLOCKS_IN_FLIGHT = 16


class _Block(NamedTuple):
    """Consecutive rows of one stream, on their way from a worker to the writer."""

    first: int
    frames: list[bytes]
    columns: dict[str, np.ndarray]


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
    image = io.BytesIO()
    with atari_store.create(image, settings, versions) as file:
        for block in _blocks(settings, min(num_workers, settings.num_streams)):
            atari_store.write_rows(file, block.first, block.frames, block.columns)
            progress(len(block.frames))
        file.attrs["complete"] = True
    description = json.dumps(_describe(atari_store.read(path, image=image)), indent=1)
    # The fingerprint first: a recording that looks complete always has one.
    _write_whole(path.with_suffix(".json"), f"{description}\n".encode())
    _write_whole(path, image.getbuffer())


def _write_whole(path: Path, content: bytes | memoryview) -> None:
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


def _blocks(settings: CollectionSettings, num_workers: int) -> Iterator[_Block]:
    """Blocks of all streams from worker processes, in the order in which they come."""
    # Spawned workers share nothing with a parent that may hold threads, CUDA contexts or locks.
    context = multiprocessing.get_context("spawn")
    streams: Any = context.Queue()
    blocks: Any = context.Queue(BLOCKS_IN_FLIGHT)
    for stream in range(settings.num_streams):
        streams.put(stream)
    workers = [
        context.Process(target=_work, args=(settings, streams, blocks), daemon=True, name=f"collect-{index}")
        for index in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    try:
        received = 0
        while received < settings.num_frames:
            block = _next_block(blocks, workers)
            received += len(block.frames)
            yield block
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _next_block(blocks: Any, workers: list[Any]) -> _Block:
    while True:
        try:
            block = blocks.get(timeout=2)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise DataError(f"collection worker {dead[0].name} died with exit code {dead[0].exitcode}") from None
            continue
        if isinstance(block, str):
            raise DataError(block)
        return block


def _work(settings: CollectionSettings, streams: Any, blocks: Any) -> None:
    """A worker process: take streams until none is left, send blocks of compressed rows."""
    try:
        policy = _load_policy(settings)
        while True:
            try:
                stream = streams.get(timeout=1)
            except queue.Empty:
                return
            for block in _stream_blocks(settings, stream, policy):
                _send(blocks, block)
    except KeyboardInterrupt:
        return
    except Exception as error:
        _send(blocks, str(error) if isinstance(error, DataError) else f"collection: {type(error).__name__}: {error}")


def _stream_blocks(settings: CollectionSettings, stream: int, policy: Policy | None) -> Iterator[_Block]:
    first = sum(settings.stream_frames(earlier) for earlier in range(stream))
    rows: list[Row] = []
    compressed: list[bytes] = []
    for row in collect_stream(settings, stream, policy):
        compressed.append(zlib.compress(row.frame.tobytes(), 1))
        rows.append(row._replace(frame=np.empty(0, np.uint8)))
        if len(rows) == ROWS_PER_BLOCK:
            yield _Block(first, compressed, _columns(rows, stream))
            first, rows, compressed = first + len(rows), [], []
    if rows:
        yield _Block(first, compressed, _columns(rows, stream))


def _send(blocks: Any, block: _Block | str) -> None:
    """Hand a block to the writer, or end this process if the writer was killed."""
    parent = multiprocessing.parent_process()
    while True:
        if parent is not None and not parent.is_alive():
            os._exit(1)
        try:
            return blocks.put(block, timeout=1)
        except queue.Full:
            continue


def _columns(rows: list[Row], stream: int) -> dict[str, np.ndarray]:
    columns = {
        name: np.asarray([getattr(row, name) for row in rows], kind)
        for name, (kind, _) in atari_store.COLUMNS.items()
        if name != "stream"
    }
    return columns | {"stream": np.full(len(rows), stream, "i2")}


def _load_policy(settings: CollectionSettings) -> Policy | None:
    if settings.policy == "random":
        return None
    from datamodules.atari_policy import load_policy

    return load_policy(settings)


def _disk_message(error: OSError, path: Path, settings: CollectionSettings) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
        megabytes = settings.num_frames * int(np.prod(settings.frame_shape)) / 20 / 1e6
        return (
            f"no space left for {path} (needs about {megabytes:.0f} MB): free some or set --data.root to another disk; "
            "nothing incomplete was kept"
        )
    return f"{path} cannot be written ({error.strerror or error}): set --data.root to a folder that can"
