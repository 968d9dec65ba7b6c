"""Files of a dataset where its user left them: in folders, or still packed in zip files."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from datamodules.errors import DataError

Source = Path | tuple[Path, str]
"""A file, or a zip file and the name of a member."""


def find_sources(root: Path, without: Path | None = None) -> list[Source]:
    """All files below ``root`` and all members of the zip files there, by name, in a fixed order.

    What is hidden, below ``without``, or put there by an operating system's archiver is passed over.

    Raises:
        DataError: for a zip file that cannot be read.
    """
    found: list[Source] = []
    for path in sorted(root.rglob("*")):
        inside = without is not None and path.is_relative_to(without)
        if inside or not path.is_file() or _is_hidden(path.relative_to(root).parts):
            continue
        if path.suffix.lower() == ".zip":
            found += [(path, member) for member in sorted(_members(path))]
        else:
            found.append(path)
    return found


def open_source(source: Source) -> BinaryIO:
    """A file to read from; members of zip files are unpacked into memory.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        if not isinstance(source, tuple):
            return source.open("rb")
        with ZipFile(source[0]) as archive:
            return io.BytesIO(archive.read(source[1]))
    except (OSError, BadZipFile, KeyError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{place_of(source)} cannot be read: {error}") from error


def name_of(source: Source) -> str:
    """The file's own name, without folders."""
    return source[1].rpartition("/")[2] if isinstance(source, tuple) else source.name


def place_of(source: Source) -> str:
    """Where it lies, for a message: a path, or zip file:member."""
    return f"{source[0]}:{source[1]}" if isinstance(source, tuple) else str(source)


def sizes_of(sources: list[Source]) -> list[int]:
    """Their sizes in bytes, unpacked; each zip file is opened once.

    Raises:
        DataError: if one is not there.
    """
    archives: dict[Path, dict[str, int]] = {}
    sizes = []
    for source in sources:
        try:
            if isinstance(source, tuple):
                if source[0] not in archives:
                    archives[source[0]] = _members(source[0])
                sizes.append(archives[source[0]][source[1]])
            else:
                sizes.append(source.stat().st_size)
        except (OSError, KeyError) as error:
            raise DataError(f"{place_of(source)} cannot be read: {error}") from error
    return sizes


def _members(path: Path) -> dict[str, int]:
    try:
        with ZipFile(path) as archive:
            return {entry.filename: entry.file_size for entry in _files_in(archive)}
    except (OSError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}): obtain it again, or move it away") from error


def _files_in(archive: ZipFile) -> Iterator:
    for entry in archive.infolist():
        parts = tuple(entry.filename.split("/"))
        if not entry.is_dir() and not _is_hidden(parts) and "__MACOSX" not in parts:
            yield entry


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)
