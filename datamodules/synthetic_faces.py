"""Synthetic cartoon faces with known attributes, written in the layout of CelebA so that its configs run offline.

Nothing here is a photograph or comes from CelebA. The folder says so in `README.txt` and in a file `SYNTHETIC`, by
which a program can tell.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.errors import DataError
from datamodules.face_attributes import ATTRIBUTE_NAMES, Attributes, Scene, draw_attributes, draw_scene
from datamodules.face_drawing import bounding_box, draw_face, landmarks

MARKER = "SYNTHETIC"
"""Name of the file that tells drawn faces from CelebA: JSON of what was drawn."""

VERSION = 1
"""Of the drawing; it is raised when the same seed gives other pictures."""

MIN_IMAGES, MAX_IMAGES = 10, 999_999
_TRAIN_SHARE, _VAL_SHARE = 0.8034, 0.0981  # of CelebA
_IN_PROCESS = 200
_JPEG_QUALITY = 92

_README = """\
SYNTHETIC FACES. This is not CelebA and shows no person.

Every picture is a cartoon drawn by a program, lightning_zoo make_faces, from random attributes. The files have the
names and the layout of CelebA (img_align_celeba, list_attr_celeba.txt, list_eval_partition.txt, identity_CelebA.txt,
list_bbox_celeba.txt, list_landmarks_align_celeba.txt), so that what reads CelebA reads them. Unlike in CelebA the
bounding boxes are those of the aligned pictures, and every picture is an identity of its own.

Figures measured on these pictures say nothing about figures on CelebA.
"""


class Face(NamedTuple):
    """All that decides one picture."""

    attributes: Attributes
    scene: Scene


def face_at(seed: int, index: int) -> Face:
    """The attributes and the scene of one face; they depend on no other face and not on how many there are.

    Args:
        seed: of the whole set.
        index: 0 for 000001.jpg.
    """
    random = np.random.default_rng([VERSION, seed, index])
    return Face(draw_attributes(random), draw_scene(random))


def partition(index: int, num_images: int) -> int:
    """0 train, 1 val or 2 test, in three runs with the shares of CelebA's `list_eval_partition.txt`."""
    num_val = max(1, round(_VAL_SHARE * num_images))
    num_train = min(round(_TRAIN_SHARE * num_images), num_images - num_val - 1)
    return 0 if index < num_train else 1 if index < num_train + num_val else 2


def write_faces(
    root: str | Path,
    num_images: int,
    *,
    seed: int = 0,
    num_workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> bool:
    """Draw faces into ``root``/celeba unless these very faces are there.

    All is written to a temporary folder that is renamed at the end.

    Args:
        root: the folder to give as --data.root.
        num_images: how many.
        seed: another seed draws other faces.
        num_workers: processes that draw; None for one per core.
        progress: called with the number of pictures written since its last call.

    Returns:
        Whether they had to be drawn.

    Raises:
        ValueError: for an argument out of range.
        DataError: if something else lies there, or the disk is full or cannot be written.
    """
    if not MIN_IMAGES <= num_images <= MAX_IMAGES:
        raise ValueError(f"num_images must be from {MIN_IMAGES} to {MAX_IMAGES}, got {num_images}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    folder = Path(root) / "celeba"
    facts = {"synthetic": True, "version": VERSION, "num_images": num_images, "seed": seed}
    if folder.exists():
        _check_same(folder, facts)
        return False
    partial = folder.with_name(f"celeba.partial-{os.getpid()}")
    try:
        (partial / "img_align_celeba").mkdir(parents=True)
        for number in _draw_all(partial, num_images, seed, num_workers or os.cpu_count() or 1):
            if progress is not None:
                progress(number)
        _write_lists(partial, num_images, seed)
        (partial / "README.txt").write_text(_README)
        (partial / MARKER).write_text(json.dumps(facts) + "\n")
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror or error}; nothing incomplete was kept"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def draw_range(folder: Path, first: int, stop: int, seed: int) -> None:
    """Draw the pictures with index ``first`` to ``stop`` - 1 into ``folder``/img_align_celeba."""
    for index in range(first, stop):
        face = face_at(seed, index)
        path = folder / "img_align_celeba" / file_name(index)
        draw_face(*face).save(path, quality=_JPEG_QUALITY)


def file_name(index: int) -> str:
    """CelebA's name of a picture, which counts from 1."""
    return f"{index + 1:06d}.jpg"


def contact_sheet(folder: Path, *, rows: int = 6, columns: int = 12) -> Image.Image:
    """The first pictures of a folder side by side, at half size."""
    files = sorted((folder / "img_align_celeba").glob("*.jpg"))[: rows * columns]
    width, height = 89, 109
    sheet = Image.new("RGB", (columns * width, -(-len(files) // columns) * height), "white")
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            sheet.paste(picture.reduce(2), (place % columns * width, place // columns * height))
    return sheet


def _check_same(folder: Path, facts: dict[str, int]) -> None:
    try:
        found = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        raise DataError(f"{folder} exists and holds no synthetic faces: set --root to another folder") from None
    if found != facts:
        wanted, got = (", ".join(f"{name} {value}" for name, value in each.items()) for each in (facts, found))
        raise DataError(
            f"{folder} holds other faces ({got}; wanted {wanted}): delete it or set --root to another folder"
        )


def _draw_all(folder: Path, num_images: int, seed: int, num_workers: int) -> Iterator[int]:
    """Draw everything; yields how many pictures were written since the last time."""
    if num_images <= _IN_PROCESS or num_workers == 1:
        draw_range(folder, 0, num_images, seed)
        yield num_images
        return
    length = max(_IN_PROCESS, -(-num_images // (num_workers * 8)))
    parts = [(first, min(first + length, num_images)) for first in range(0, num_images, length)]
    with ThreadPoolExecutor(num_workers) as executor:
        futures = [executor.submit(_draw_in_process, folder, first, stop, seed) for first, stop in parts]
        try:
            for (first, stop), future in zip(parts, futures, strict=True):
                future.result()
                yield stop - first
        finally:
            executor.shutdown(cancel_futures=True)


def _draw_in_process(folder: Path, first: int, stop: int, seed: int) -> None:
    # A plain command, because multiprocessing would import the caller's main module again.
    command = [sys.executable, "-P", "-m", "datamodules.synthetic_faces", str(folder), str(first), str(stop), str(seed)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise DataError(f"a drawing process failed ({reason[0]}); nothing was kept")


def _write_lists(folder: Path, num_images: int, seed: int) -> None:
    """The text files, in the spacing of CelebA's."""
    attributes, partitions, identities, boxes, points = [], [], [], [], []
    for index in range(num_images):
        face, name = face_at(seed, index), file_name(index)
        values = (1 if face.attributes[each] else -1 for each in ATTRIBUTE_NAMES)
        attributes.append(f"{name} " + " ".join(f"{value:2d}" for value in values))
        partitions.append(f"{name} {partition(index, num_images)}")
        identities.append(f"{name} {index + 1}")
        left, top, width, height = bounding_box(*face)
        boxes.append(f"{name} {left:5d} {top:3d} {width:3d} {height:3d}")
        points.append(
            f"{name} " + "  ".join(f"{value:3d}" for point in landmarks(face.scene) for value in point).lstrip()
        )
    corners = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for name, lines in {
        "list_attr_celeba.txt": [str(num_images), " ".join(ATTRIBUTE_NAMES) + " ", *attributes],
        "list_eval_partition.txt": partitions,
        "identity_CelebA.txt": identities,
        "list_bbox_celeba.txt": [str(num_images), "image_id x_1 y_1 width height", *boxes],
        "list_landmarks_align_celeba.txt": [
            str(num_images),
            " ".join(f"{each}_{axis}" for each in corners for axis in "xy"),
            *points,
        ],
    }.items():
        (folder / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    draw_range(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
