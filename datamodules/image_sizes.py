"""Widths and heights of many image files, read from their headers once and kept in a file."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from datamodules.errors import DataError

Size = tuple[int, int]


def image_sizes(paths: Sequence[Path], known: Path, root: Path) -> list[Size | None]:
    """(width, height) of each file as it is stored, None for a file without a readable header.

    Args:
        paths: the files, all below ``root``.
        known: a JSON file of the sizes read before, by path below ``root`` and number of bytes; it is written anew if
            some were not in it, and as good as empty if it is damaged.
        root: the folder of the dataset.

    Raises:
        DataError: if ``known`` cannot be written.
    """
    names = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in paths]
    sizes = _load(known)
    new = [(name, path) for name, path in zip(names, paths, strict=True) if name not in sizes]
    if new:
        with ThreadPoolExecutor() as executor:
            read = zip(new, executor.map(_size, [path for _, path in new]), strict=True)
            found = {name: size for (name, _), size in read if size is not None}
        sizes |= found
        if found:
            _keep({name: sizes[name] for name in names if name in sizes}, known)
    return [sizes.get(name) for name in names]


def _keep(sizes: dict[str, Size], known: Path) -> None:
    partial = known.with_name(f"{known.name}.partial-{os.getpid()}")
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(sizes))
        os.replace(partial, known)
    except OSError as error:
        raise DataError(f"{known} cannot be written ({error.strerror or error}): set --data.cache") from error
    finally:
        partial.unlink(missing_ok=True)


def _load(known: Path) -> dict[str, Size]:
    try:
        return {name: (int(size[0]), int(size[1])) for name, size in json.loads(known.read_text()).items()}
    except (OSError, ValueError, TypeError, IndexError, AttributeError):
        return {}


def _size(path: Path) -> Size | None:
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # decoders raise whatever they like on foreign bytes; decoding will name the file
        return None
