"""A process that emulates: it takes settings and streams from its standard input and sends blocks of rows back.

It is started as a plain command, not by `multiprocessing`, which would import the caller's main module again: seconds
of imports for a training script, an endless recursion for one without a main guard. A worker whose parent was
killed ends at its next write, when nobody reads.
"""

import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from datamodules.atari_emulator import CollectionSettings, Policy, Row, collect_stream
from datamodules.errors import DataError

ROWS_PER_BLOCK = 256

COLUMN_TYPES = {
    "ram": "u1",
    "action": "i2",
    "reward": "f4",
    "terminated": "?",
    "truncated": "?",
    "lives": "i2",
    "episode_start": "?",
    "stream": "i2",
}
"""Everything that is recorded per frame beside the frame."""


class Block(NamedTuple):
    """Consecutive rows of one stream: index of the first, one zlib stream per frame, the columns (n, ...)."""

    first: int
    frames: list[bytes]
    columns: dict[str, np.ndarray]


class Failure(NamedTuple):
    """What a worker sends instead of rows when it cannot go on."""

    message: str


def start(settings: CollectionSettings, streams: Sequence[int]) -> "subprocess.Popen[bytes]":
    """A worker on some of the streams; `receive` reads what it sends."""
    # -P: a folder of the working directory must not stand in for a package; the caller's own path is handed on instead.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", "from datamodules.atari_worker import main; main()"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert worker.stdin is not None
    pickle.dump((settings, list(streams)), worker.stdin)
    worker.stdin.close()
    return worker


def receive(worker: "subprocess.Popen[bytes]") -> Iterator[Block]:
    """The blocks of a worker, until it has sent all.

    Raises:
        DataError: if the worker reports a failure or dies.
    """
    assert worker.stdout is not None
    while True:
        try:
            message = pickle.load(worker.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise DataError(f"a collecting process died with exit code {worker.wait()}") from None
        if message is None:
            return
        if isinstance(message, Failure):
            raise DataError(message.message)
        yield message


def blocks(settings: CollectionSettings, stream: int, policy: Policy | None = None) -> Iterator[Block]:
    """The rows of one stream, compressed, in blocks."""
    first = sum(settings.stream_frames(earlier) for earlier in range(stream))
    rows: list[Row] = []
    frames: list[bytes] = []
    for row in collect_stream(settings, stream, policy):
        frames.append(zlib.compress(row.frame.tobytes(), 1))
        rows.append(row._replace(frame=np.empty(0, np.uint8)))
        if len(rows) == ROWS_PER_BLOCK:
            yield Block(first, frames, _columns(rows, stream))
            first, rows, frames = first + len(rows), [], []
    if rows:
        yield Block(first, frames, _columns(rows, stream))


def _columns(rows: list[Row], stream: int) -> dict[str, np.ndarray]:
    recorded = {name: kind for name, kind in COLUMN_TYPES.items() if name != "stream"}
    columns = {name: np.asarray([getattr(row, name) for row in rows], kind) for name, kind in recorded.items()}
    return columns | {"stream": np.full(len(rows), stream, COLUMN_TYPES["stream"])}


def main() -> None:
    """Work off what standard input asks for."""
    settings, streams = pickle.load(sys.stdin.buffer)
    # The emulator greets on standard output, which belongs to the blocks.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _send_all(settings, streams, output)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(1)


def _send_all(settings: CollectionSettings, streams: list[int], output: BinaryIO) -> None:
    try:
        for stream in streams:
            for block in blocks(settings, stream, _load_policy(settings, stream)):
                pickle.dump(block, output, pickle.HIGHEST_PROTOCOL)
                output.flush()
        pickle.dump(None, output)
    except DataError as error:
        pickle.dump(Failure(str(error)), output)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        pickle.dump(Failure(f"collection failed: {type(error).__name__}: {error}"), output)
    output.flush()


def _load_policy(settings: CollectionSettings, stream: int) -> Policy | None:
    if settings.policy == "random":
        return None
    from datamodules.atari_policy import load_policy

    return load_policy(settings, stream)
