"""Birds on tiny trees in the three sets' own formats."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datamodules.bird_annotations import species_key
from datamodules.birds import Birds
from datamodules.errors import DataError
from datamodules.index_batches import in_order

SIZE = (90, 60)
BOX = (20, 10, 30, 15)  # x, y, width, height


def picture(path, colour, box=BOX, size=SIZE):
    """Black, with the box in a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.paste(colour, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    image.save(path, quality=95)


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_cub(root, name="cub", number=12):
    folder = root / name
    species = ("001.Black_footed_Albatross", "002.Heermann_Gull")
    files = [f"{species[i % 2]}/bird_{i:04d}.jpg" for i in range(number)]
    for i, file in enumerate(files):
        picture(folder / "images" / file, (20 * i, 100, 0))
    write(folder / "images.txt", [f"{i} {file}" for i, file in enumerate(files, 1)])
    write(folder / "bounding_boxes.txt", [f"{i} 20.0 10.0 30.0 15.0" for i in range(1, number + 1)])
    write(folder / "image_class_labels.txt", [f"{i} {(i - 1) % 2 + 1}" for i in range(1, number + 1)])
    write(folder / "train_test_split.txt", [f"{i} {int(i > 4)}" for i in range(1, number + 1)])
    write(folder / "classes.txt", [f"{i} {each}" for i, each in enumerate(species, 1)])


def write_nabirds(root, number=6):
    folder = root / "nabirds"
    keys = [f"{i:08x}-21dc-4d0c-bfe1-4cae3c85c829" for i in range(number)]
    files = [f"0817/{key.replace('-', '')}.jpg" for key in keys]
    for i, file in enumerate(files):
        picture(folder / "images" / file, (0, 20 * i, 100))
    write(folder / "images.txt", [f"{key} {file}" for key, file in zip(keys, files, strict=True)])
    write(folder / "bounding_boxes.txt", [f"{key} 20 10 30 15" for key in keys])
    write(folder / "sizes.txt", [f"{key} 90 60" for key in keys])
    write(folder / "image_class_labels.txt", [f"{key} {817 + i % 2}" for i, key in enumerate(keys)])
    write(folder / "train_test_split.txt", [f"{key} {int(i > 0)}" for i, key in enumerate(keys)])
    names = ["0 Birds", "817 Heermann's Gull (Breeding Adult)", "818 Black-footed Albatross"]
    write(folder / "classes.txt", names)


def write_birdsnap(root, number=5, images="images"):
    folder = root / "birdsnap"
    files = [f"Blue_Jay/{i}.jpg" for i in range(number)]
    for i, file in enumerate(files[1:]):  # the first is gone from Flickr
        picture(folder / images / file, (100, 0, 20 * i))
    header = ["url", "md5", "path", "species_id", "bb_x1", "bb_y1", "bb_x2", "bb_y2", "back_x", "back_y"]
    rows = [["http://f/1", "ab", file, "7", "20", "10", "50", "25", "", ""] for file in files]
    write(folder / "images.txt", ["\t".join(row) for row in [header, *rows]])
    write(folder / "species.txt", ["id\tcommon\tscientific\tdir", "7\tBlue Jay\tCyanocitta cristata\tBlue_Jay"])
    write(folder / "test_images.txt", ["path", files[0], files[1]])


@pytest.fixture(scope="module")
def all_three(tmp_path_factory):
    root = tmp_path_factory.mktemp("birds")
    write_cub(root)
    write_nabirds(root)
    write_birdsnap(root)
    return root


def served(data, split):
    rows = data._splits[split]
    return rows.gather(in_order(len(rows))(0))


def ready(root, **arguments):
    data = Birds(root=str(root), image_size=16, batch_size=2, **arguments)
    data.prepare_data()
    data.setup()
    return data


def test_the_three_sets_are_joined_by_species(all_three, capsys):
    data = ready(all_three)
    assert data.class_names == ["Black footed Albatross", "Blue Jay", "Heermann Gull"]
    train, val = served(data, "train"), served(data, "val")
    counts = np.bincount(np.concatenate([train["labels"], val["labels"]]))
    assert counts.tolist() == [6 + 3, 4, 6 + 3]
    assert train["images"].shape[1:] == (3, 16, 16)
    # CUB's pictures have green 100, NABirds' blue 100, Birdsnap's red 100; in the middle lies the bird.
    middle = np.concatenate([each["images"][:, :, 8, 8].numpy() for each in (train, val)]).astype(int)
    labels = np.concatenate([train["labels"], val["labels"]])
    assert (abs(middle[labels == 1][:, 0] - 100) < 12).all()
    assert data.found == {"cub": 12, "nabirds": 6, "birdsnap": 4}
    assert data.fingerprint["thesis_train_images"] == 106_474
    assert data.fingerprint["nabirds_images"] == 6
    assert data.fingerprint["train_images"] + data.fingerprint["val_images"] == 22
    output = capsys.readouterr().out
    assert "birdsnap has 4 of 49,829 images, 1 listed ones are not there" in output
    assert "(thesis: 106,474 / 5,974); crop: square around the bird's box" in output


def test_what_is_absent_is_a_line_and_alternative_folders_are_found(tmp_path, capsys):
    write_cub(tmp_path, "CUB_200_2011")
    write_birdsnap(tmp_path, images="download/images")
    data = ready(tmp_path)
    assert data.found == {"cub": 12, "birdsnap": 4}
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(f"birds: nabirds is not in {tmp_path} (https://dl.allabout")]
    assert len(lines) == 4


def test_held_out_images_depend_on_nothing_but_their_names(all_three, tmp_path):
    shutil.copytree(all_three / "cub", tmp_path / "cub")
    alone, joined = ready(tmp_path), ready(all_three)

    def names(data, split):
        return {
            item.source.name
            for item in data.list_splits()[split].items
            if item.source.parent.parent.parent.name == "cub"
        }

    assert names(alone, "val") == names(joined, "val") != set()
    assert names(alone, "val").isdisjoint(names(alone, "train"))


def test_official_split_is_that_of_the_sets(all_three):
    data = ready(all_three, split="official")
    held_out = {item.source.name for item in data.list_splits()["val"].items}
    assert held_out == {f"bird_{i:04d}.jpg" for i in range(4)} | {"0000000021dc4d0cbfe14cae3c85c829.jpg", "1.jpg"}


def test_crops(all_three):
    def boxes(**arguments):
        return {tuple(item.box or ()) for item in Birds(root=str(all_three), **arguments).list_splits()["train"].items}

    # The bird is 30 x 15 at (20, 10): a square of 36 about (35, 17.5) begins above the picture and is moved down.
    assert boxes() == {(17.0, 0.0, 53.0, 36.0)}
    assert boxes(margin=0.0) == {(20.0, 2.5, 50.0, 32.5)}
    assert boxes(margin=9.0) == {(5.0, 0.0, 65.0, 60.0)}  # not beyond the shorter side
    assert boxes(crop="box") == {(20.0, 10.0, 50.0, 25.0)}
    assert boxes(crop="whole") == {()}
    whole = ready(all_three, crop="whole")
    assert whole.crop == whole.fingerprint["crop"] == "central square of the whole picture"
    picture = served(whole, "train")["images"][0].sum(0)
    # The central square is x from 15 to 75, so the bird covers 5/60..35/60 of its width and 10/60..25/60 of its height.
    lit = np.argwhere(picture.numpy() > 60)
    assert np.abs(lit.min(0) - (16 * 10 / 60, 16 * 5 / 60)).max() <= 1.1
    assert np.abs(lit.max(0) + 1 - (16 * 25 / 60, 16 * 35 / 60)).max() <= 1.1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("001.Black_footed_Albatross", "Black-footed Albatross", True),
        ("067.Heermann_Gull", "Heermann's Gull (Adult)", True),
        ("Blue Jay", "Green Jay", False),
    ],
)
def test_names_of_one_species_agree(first, second, same):
    assert (species_key(first) == species_key(second)) is same


def test_nothing_there_is_one_error_of_four_lines(tmp_path):
    with pytest.raises(DataError) as caught:
        Birds(root=str(tmp_path)).prepare_data()
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert str(tmp_path) in lines[0]
    for words in ("caltech.edu", "allaboutbirds.org", "thomasberg.org", "non-commercial"):
        assert words in lines[1]
    assert "bounding_boxes.txt" in lines[2]
    assert f"lightning_zoo fit --config crvae_birds --data.root {tmp_path}" in lines[3]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cub/bounding_boxes.txt", "cub/bounding_boxes.txt"),
        ("cub/images", "cub/images"),
        ("cub/images/001.Black_footed_Albatross/bird_0002.jpg", "bird_0002.jpg"),
        ("nabirds/images/0817/0000000121dc4d0cbfe14cae3c85c829.jpg", "0000000121dc4d0cbfe14cae3c85c829.jpg"),
        ("nabirds/classes.txt", "nabirds/classes.txt"),
        ("birdsnap/species.txt", "birdsnap/species.txt"),
        ("birdsnap/images", "birdsnap/images"),
    ],
)
def test_a_missing_part_is_named_in_four_lines(all_three, tmp_path, path, name):
    root = tmp_path / "birds"
    shutil.copytree(all_three, root, ignore=shutil.ignore_patterns("cache"))
    shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()
    with pytest.raises(DataError) as caught:
        Birds(root=str(root)).prepare_data()
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert f"{name} is missing" in lines[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cub/bounding_boxes.txt", "1 20.0 10.0 30.0\n", "bounding_boxes.txt, line 1: '1 20.0 10.0 30.0' is not"),
        ("cub/bounding_boxes.txt", "1 a b c d\n", "bounding_boxes.txt: the box of 1 is 'a b c d', not four numbers"),
        ("cub/bounding_boxes.txt", "1 1 2 3 4\n", "bounding_boxes.txt has no line for image 2"),
        ("cub/images.txt", "image_id,path\n", "images.txt, line 1: 'image_id,path' is not an id"),
        ("cub/images.txt", "", "images.txt is empty"),
        ("cub/classes.txt", "1 001.Black_footed_Albatross\n", "classes.txt has no class 2"),
        ("nabirds/train_test_split.txt", "a 1\na 1\n", "train_test_split.txt, line 2: 'a 1' is not an id of its own"),
        ("birdsnap/images.txt", "url,md5,path\n", "images.txt has no column 'path'"),
        ("birdsnap/species.txt", "id\tcommon\n8\tBlue Jay\n", "has species 7"),
        (
            "birdsnap/images.txt",
            "path\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\nBlue_Jay/1.jpg\t7\n",
            "line 2: 2 columns",
        ),
        ("birdsnap/test_images.txt", b"\xff\xfe\x00", "test_images.txt cannot be read"),
    ],
)
def test_wrong_lists_are_named(all_three, tmp_path, file, content, message):
    root = tmp_path / "birds"
    shutil.copytree(all_three, root, ignore=shutil.ignore_patterns("cache"))
    (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        Birds(root=str(root)).prepare_data()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_pictures_are_named_or_skipped(tmp_path):
    write_cub(tmp_path)
    broken = tmp_path / "cub" / "images" / "001.Black_footed_Albatross" / "bird_0002.jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"bird_0002\.jpg"):
        ready(tmp_path)
    broken.write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"bird_0002\.jpg"):
        ready(tmp_path)
    data = ready(tmp_path, bad_images="skip")
    assert len(served(data, "train")["labels"]) + len(served(data, "val")["labels"]) == 11


def test_a_replaced_picture_of_another_size_is_cropped_anew(tmp_path):
    write_cub(tmp_path)
    ready(tmp_path)
    picture(tmp_path / "cub" / "images" / "001.Black_footed_Albatross" / "bird_0002.jpg", (255, 0, 0), size=(70, 30))
    boxes = {
        item.source.name: item.box for part in Birds(root=str(tmp_path)).list_splits().values() for item in part.items
    }
    left, top, right, bottom = boxes["bird_0002.jpg"]
    assert (right - left, bottom - top, bottom) == (30, 30, 30)


def test_empty_boxes_are_left_out_and_counted(tmp_path, capsys):
    write_cub(tmp_path)
    lines = (tmp_path / "cub" / "bounding_boxes.txt").read_text().splitlines()
    write(tmp_path / "cub" / "bounding_boxes.txt", ["1 20.0 10.0 0.0 15.0", *lines[1:]])
    assert ready(tmp_path).found == {"cub": 11}
    assert "cub has 11 of 11,788 images, 1 without a box left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "tight"}, "crop"),
        ({"margin": -0.1}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"split": "mine"}, "split"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Birds(**arguments)
