"""The files of the synthetic faces: CelebA's layout, read here as strictly as its own tools do."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from datamodules import synthetic_faces
from datamodules.errors import DataError
from datamodules.face_attributes import ATTRIBUTE_NAMES
from datamodules.synthetic_faces import face_at, partition, write_faces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    assert write_faces(root, 30, seed=4)
    return root / "celeba"


def test_pictures_are_named_and_sized_as_in_celeba(folder):
    files = sorted(file.name for file in (folder / "img_align_celeba").iterdir())
    assert files == [f"{number:06d}.jpg" for number in range(1, 31)]
    for file in (folder / "img_align_celeba").iterdir():
        with Image.open(file) as picture:
            assert (picture.size, picture.format, picture.mode) == ((178, 218), "JPEG", "RGB")


def test_attribute_file_has_the_spacing_of_celeba(folder):
    count, names, *rows = (folder / "list_attr_celeba.txt").read_text().splitlines()
    assert count == "30"
    assert names == " ".join(ATTRIBUTE_NAMES) + " "
    assert len(rows) == 30
    for index, row in enumerate(rows):
        assert re.fullmatch(r"\d{6}\.jpg( -1|  1){40}", row)
        truth = face_at(4, index).attributes
        assert row.split()[1:] == ["1" if truth[name] else "-1" for name in ATTRIBUTE_NAMES]


def test_the_other_lists_agree_with_the_pictures(folder):
    lists = {file.name: file.read_text().splitlines() for file in folder.glob("*.txt")}
    assert lists["list_bbox_celeba.txt"][:2] == ["30", "image_id x_1 y_1 width height"]
    for name, header in (
        ("list_bbox_celeba.txt", 2),
        ("list_landmarks_align_celeba.txt", 2),
        ("identity_CelebA.txt", 0),
    ):
        assert [row.split()[0] for row in lists[name][header:]] == [f"{number:06d}.jpg" for number in range(1, 31)]
    points = np.array([row.split()[1:] for row in lists["list_landmarks_align_celeba.txt"][2:]], int).reshape(30, 5, 2)
    boxes = np.array([row.split()[1:] for row in lists["list_bbox_celeba.txt"][2:]], int)
    assert (points > boxes[:, None, :2]).all()
    assert (points < boxes[:, None, :2] + boxes[:, None, 2:]).all()


def test_partitions_are_three_runs_in_celebas_shares(folder):
    rows = (folder / "list_eval_partition.txt").read_text().splitlines()
    splits = [int(row.split()[1]) for row in rows]
    assert splits == sorted(splits)
    assert set(splits) == {0, 1, 2}
    counts = np.bincount([partition(index, 202_599) for index in range(202_599)])
    assert np.allclose(counts, (162_770, 19_867, 19_962), atol=30)  # CelebA's
    assert set(np.bincount([partition(index, 10) for index in range(10)])) == {8, 1}


def test_it_says_that_it_is_synthetic(folder):
    assert json.loads((folder / "SYNTHETIC").read_text()) == {
        "synthetic": True, "version": 1, "num_images": 30, "seed": 4,
    }  # fmt: skip
    assert "SYNTHETIC" in (folder / "README.txt").read_text()


def test_pictures_do_not_depend_on_number_or_processes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_faces, "_IN_PROCESS", 10)
    done = []
    assert write_faces(tmp_path, 34, seed=4, num_workers=2, progress=done.append)
    assert sum(done) == 34
    for file in (folder / "img_align_celeba").iterdir():
        assert file.read_bytes() == (tmp_path / "celeba" / "img_align_celeba" / file.name).read_bytes()


def test_nothing_is_drawn_twice_or_overwritten(folder, tmp_path):
    assert not write_faces(folder.parent, 30, seed=4)
    with pytest.raises(DataError, match="seed 4; wanted .*seed 5"):
        write_faces(folder.parent, 30, seed=5)
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("202599\n")
    with pytest.raises(DataError, match="holds no synthetic faces: set --root"):
        write_faces(tmp_path, 30)
    assert (tmp_path / "celeba" / "list_attr_celeba.txt").read_text() == "202599\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(synthetic_faces, "_IN_PROCESS", 10)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic_faces, "_write_lists", fail)
    with pytest.raises(DataError, match="No space left on device; nothing incomplete was kept"):
        write_faces(tmp_path, 20, num_workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_process_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_faces, "_IN_PROCESS", 10)
    monkeypatch.setattr(synthetic_faces.sys, "executable", "false")
    with pytest.raises(DataError, match="a drawing process failed"):
        write_faces(tmp_path, 20, num_workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "message"), [((9,), "num_images"), ((10**6,), "num_images")])
def test_impossible_numbers(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_faces(tmp_path, *arguments)
    with pytest.raises(ValueError, match="seed"):
        write_faces(tmp_path, 20, seed=-1)
