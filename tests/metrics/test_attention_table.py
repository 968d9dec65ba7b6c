"""The table of attention against masks whose table is known by looking at them."""

import csv
import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_zoo.losses.attention import attention_entropy
from lightning_zoo.metrics.attention_table import (
    as_csv,
    as_plain,
    as_text,
    attending,
    entropies,
    heat_map,
    step_table,
    steps_used,
    write_heat_map,
    write_whole,
)

NAMES = ["Bald", "Male", "Wearing_Hat"]
MASK = torch.tensor([[0.0, 0.25, 0.1], [1.0, 0.25, 0.2], [0.0, 0.25, 0.0], [0.0, 0.25, 0.7]])


def test_each_attribute_has_its_step_share_and_entropy():
    bald, male, hat = attending(MASK, NAMES)
    assert bald == ("Bald", 2, 1.0, 0.0)
    assert (male.step, male.share) == (1, 0.25), "the first of several alike"
    assert male.entropy == pytest.approx(math.log(4))
    assert (hat.name, hat.step) == ("Wearing_Hat", 4)
    expected = -(0.1 * math.log(0.1) + 0.2 * math.log(0.2) + 0.7 * math.log(0.7))
    assert hat.entropy == pytest.approx(expected, rel=1e-5)


def test_the_mean_entropy_is_that_of_the_loss():
    mask = torch.randn(8, 40, generator=torch.Generator().manual_seed(0)).softmax(0)
    torch.testing.assert_close(entropies(mask).mean(), attention_entropy(mask))


def test_steps_nobody_attends_are_in_the_table_too():
    assert step_table(MASK, NAMES) == {1: ["Male"], 2: ["Bald"], 3: [], 4: ["Wearing_Hat"]}
    assert steps_used(MASK) == 3
    assert steps_used(torch.eye(4)) == 4
    assert steps_used(torch.full((4, 7), 0.25)) == 1


def test_the_text_has_both_tables():
    lines = as_text(MASK, NAMES).splitlines()
    assert lines[:5] == ["step  attributes", "   1  Male", "   2  Bald", "   3  -", "   4  Wearing_Hat"]
    assert [line.split() for line in lines[7:10]] == [
        ["Male", "1", "0.25", "1.386"],
        ["Bald", "2", "1.00", "0.000"],
        ["Wearing_Hat", "4", "0.70", "0.802"],
    ]
    assert lines[-1].startswith("Mean entropy 0.729 nats of at most 1.386; 3 of 4 steps")


def test_plain_values_and_lines_hold_the_mask():
    plain = as_plain(MASK, NAMES)
    assert plain["steps"] == {"1": ["Male"], "2": ["Bald"], "3": [], "4": ["Wearing_Hat"]}
    assert plain["attributes"]["Bald"] == {"name": "Bald", "step": 2, "share": 1.0, "entropy": 0.0}
    assert plain["steps_used"] == 3
    torch.testing.assert_close(torch.tensor(plain["mask"]), MASK)
    rows = list(csv.DictReader(io.StringIO(as_csv(MASK, NAMES))))
    assert [row["name"] for row in rows] == NAMES
    assert [float(rows[2][f"step_{step}"]) for step in range(1, 5)] == [0.1, 0.2, 0.0, 0.7]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(4, 2) / 4, r"mask must be \(T, 3\), a column for each attribute, got \(4, 2\)"),
        (torch.ones(4, 3), "distributions over steps"),
        (torch.tensor([[1.5], [-0.5]]).expand(2, 3), "distributions over steps"),
    ],
)
def test_what_is_no_mask(mask, said):
    with pytest.raises(ValueError, match=said):
        attending(mask, NAMES)


def test_the_heat_map_shows_each_attribute_in_the_order_of_its_step():
    figure = heat_map(MASK, NAMES, "a title")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Male", "Bald", "Wearing Hat"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4"]
    np.testing.assert_allclose(axes.images[0].get_array(), MASK.T[[1, 0, 2]])
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.get_title() == "a title"


def test_no_label_of_a_large_map_lies_on_another():
    names = [f"An_Attribute_With_A_Long_Name_{number}" for number in range(40)]
    figure = heat_map(torch.full((8, 40), 1 / 8), names)
    figure.canvas.draw()
    axes = figure.axes[0]
    for labels in (axes.get_yticklabels(), axes.get_xticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_nothing_is_left_open_or_drawn_from_random_generators(tmp_path):
    import random

    from matplotlib import pyplot

    states = torch.get_rng_state(), random.getstate()
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    write_heat_map(tmp_path / "new" / "map.png", MASK, NAMES)
    assert pyplot.get_fignums() == []
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.rand() == expected  # noqa: NPY002
    assert random.getstate() == states[1]
    with Image.open(tmp_path / "new" / "map.png") as picture:
        assert min(picture.size) > 100


def test_a_file_is_complete_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_whole(file, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_whole(file, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"
