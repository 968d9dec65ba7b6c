"""`sample --attributes`: what is drawn, what is told, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

WORDS = ("sample", "--num_images", "4", "--device", "cpu", "--log", "false", "--output", "out/")


@pytest.fixture
def conditional(project, conditional_toy):
    """The path of a toy's checkpoint and the toy."""
    model = conditional_toy.ConditionalToy()
    return str(conditional_toy.save(model, project)), model


def one_error(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def columns(project):
    """The attributes that light up in each picture: the toy draws each into a column of its own."""
    pictures = [np.asarray(Image.open(file), dtype=float) for file in sorted((project / "out").glob("*.png"))]
    return [[int(np.sign(picture[:, 2 * column].mean() - 128)) for column in range(5)] for picture in pictures]


def test_pictures_show_what_is_named_and_the_rest_as_it_was_seen(zoo, conditional, project):
    assert zoo(*WORDS, "--ckpt_path", conditional[0], "--attributes", "smiling", "-Male") == 0
    # The one row of the bank without Male has all the others.
    assert columns(project) == [[1, 1, -1, 1, 1]] * 4


def test_without_attributes_pictures_are_as_before(zoo, conditional, project):
    assert zoo(*WORDS, "--ckpt_path", conditional[0]) == 0
    expected = conditional[1].sample(4, generator=torch.Generator().manual_seed(0))
    drawn = np.asarray(Image.open(project / "out" / "000002.png")) / 255
    np.testing.assert_allclose(drawn.transpose(2, 0, 1), expected[2], atol=1 / 255)


def test_contradictions_are_told_and_drawn(zoo, project, conditional_toy, capsys):
    toy = conditional_toy.ConditionalToy(attribute_names=("Bald", "Bangs", "Wavy_Hair", "Straight_Hair", "Young"))
    path = str(conditional_toy.save(toy, project))
    assert zoo(*WORDS, "--ckpt_path", path, "--attributes", "Bald", "Bangs") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "Contradictory" in line]
    assert told == ["Contradictory attributes, drawn all the same: Bald with Bangs"]
    assert all(row[:2] == [1, 1] for row in columns(project))


def test_the_words_are_in_the_name_of_the_file(zoo, conditional, project):
    words = ("sample", "--ckpt_path", conditional[0], "--device", "cpu", "--attributes", "Young", "-Male")
    assert zoo(*words) == 0
    assert (project / "pictures" / "sample_seed0_Young_-Male.png").is_file()


def test_an_unknown_attribute_is_one_line(zoo, conditional, capsys):
    assert zoo(*WORDS, "--ckpt_path", conditional[0], "--attributes", "Smilling") == 2
    assert one_error(capsys) == "error: --attributes: no attribute 'Smilling'; the nearest: Smiling"


def test_a_method_without_attributes_refuses_them(zoo, project, generative_toy, conditional_toy, capsys):
    path = str(conditional_toy.save(generative_toy.LinearToy(), project))
    assert zoo(*WORDS, "--ckpt_path", path, "--attributes", "Smiling") == 2
    assert one_error(capsys) == "error: --attributes: LinearToy draws without attributes; leave the option out"
