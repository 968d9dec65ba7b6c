"""The published table of attention: complete, in CelebA's names, and how a table is compared with it."""

import pytest

from datamodules.face_attributes import ATTRIBUTE_NAMES
from lightning_zoo.generative.attention_table import beside_published, pairs_together, published_attention


def test_the_published_table_and_what_it_leaves_out_are_celebas_attributes():
    table = published_attention()
    listed = [name for names in table.steps.values() for name in names]
    assert len(listed) == len(set(listed))
    assert sorted([*listed, *table.missing]) == sorted(ATTRIBUTE_NAMES)


def test_some_places_of_the_published_table():
    table = published_attention()
    assert list(table.steps) == list(range(1, 9))
    assert table.steps[7] == ["Bald", "Eyeglasses", "Male", "Narrow_Eyes"]
    assert table.steps[8] == ["Big_Nose", "Wearing_Lipstick"]
    assert "Table 6.1" in table.source


def test_ours_stands_beside_it_step_by_step():
    rows = beside_published({1: ["Bald"], 9: []})
    assert rows[0] == (1, ["Bald"], ["Heavy_Makeup", "Pale_Skin", "Rosy_Cheeks"])
    assert rows[-1] == (9, [], [])
    assert len(rows) == 9


def test_pairs_are_counted_whatever_the_numbers_of_the_steps():
    theirs = {1: ["a", "b", "c"], 2: ["d", "e"]}
    assert pairs_together({5: ["a", "b", "c"], 2: ["d", "e"]}, theirs)[:2] == (4, 4)
    both, pairs, chance = pairs_together({1: ["a", "d"], 2: ["b", "c"], 3: ["e", "x"]}, theirs)
    assert (both, pairs) == (1, 4)
    # Of the ten pairs of a to e, ours has two at one step and theirs four.
    assert chance == pytest.approx(4 * 2 / 10)
