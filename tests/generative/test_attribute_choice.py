import pytest
import torch

from lightning_zoo.generative.attribute_choice import CONTRADICTIONS, contradictions, fill_in, wanted_of

BANK = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [-1, -1, -1, 1], [1, -1, -1, -1]], dtype=torch.int8)


def draw(wanted, number=3, bank=BANK, seed=0):
    return fill_in(wanted, bank, number, torch.Generator().manual_seed(seed))


def test_combinations_that_agree_are_taken_as_they_were_seen_each_once():
    filled = draw({0: 1}, 3)
    assert filled.dtype == torch.float32
    assert {tuple(row) for row in filled.tolist()} == {(1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, -1)}


def test_none_is_drawn_a_third_time_before_all_were_drawn_twice():
    filled = draw({1: -1, 3: -1}, 4)
    assert sorted(map(tuple, filled.tolist())) == [(1, -1, -1, -1)] * 2 + [(1, -1, 1, -1)] * 2


def test_with_nothing_wanted_all_are_open():
    assert {tuple(row) for row in draw({}, 4).tolist()} == {tuple(row) for row in BANK.float().tolist()}


def test_what_was_never_seen_together_is_written_over_the_nearest():
    # No row has both 1 and 2; 0 and 1, or 0 and 2, are two of three.
    for row in draw({0: 1, 1: 1, 2: 1}, 8).tolist():
        assert row == [1, 1, 1, -1]


def test_the_generator_decides():
    rows = [draw({}, 4, seed=seed).tolist() for seed in range(8)]
    assert rows[0] == draw({}, 4, seed=0).tolist()
    assert any(row != rows[0] for row in rows)


def test_rows_with_unknown_attributes_are_left_out():
    bank = torch.cat([BANK, torch.zeros(3, 4, dtype=torch.int8)])
    assert (draw({}, 7, bank) != 0).all()


@pytest.mark.parametrize(
    ("wanted", "bank", "words"),
    [
        ({}, torch.zeros(3, 4), "bank holds no combination"),
        ({4: 1}, BANK, "columns 0 to 3 .* got 4: 1"),
        ({0: 0}, BANK, "got 0: 0"),
    ],
)
def test_mistakes(wanted, bank, words):
    with pytest.raises(ValueError, match=words):
        draw(wanted, bank=bank)


def test_wanted_of_leaves_zeros_open():
    assert wanted_of(torch.tensor([1.0, 0.0, -1.0])) == {0: 1, 2: -1}


def found(*present):
    names = sorted({name for pair in CONTRADICTIONS for name in pair} | set(present))
    return contradictions(torch.tensor([1.0 if name in present else -1.0 for name in names]), names)


def test_contradictions_are_between_present_attributes():
    assert found("Bald", "Bangs") == ["Bald with Bangs"]
    assert found("Black_Hair", "Blond_Hair") == ["Black_Hair with Blond_Hair"]
    assert found("No_Beard", "Goatee") == ["No_Beard with Goatee"]
    assert found("Straight_Hair", "Wavy_Hair", "Smiling") == ["Straight_Hair with Wavy_Hair"]
    assert found("Goatee", "Smiling", "Bangs") == []
    assert contradictions(torch.tensor([1.0, 0.0]), ["Bald", "Bangs"]) == []


@pytest.mark.parametrize(
    "together",
    [
        ("Bald", "Gray_Hair"),
        ("Bald", "Receding_Hairline"),
        ("Black_Hair", "Brown_Hair"),
        ("Black_Hair", "Gray_Hair"),
        ("Blond_Hair", "Brown_Hair"),
        ("No_Beard", "5_o_Clock_Shadow"),
        ("No_Beard", "Sideburns"),
    ],
)
def test_what_one_face_can_have_is_no_contradiction(together):
    assert found(*together) == []


def test_pairs_are_of_attributes_that_exist():
    from datamodules.face_attributes import ATTRIBUTE_NAMES

    assert {name for pair in CONTRADICTIONS for name in pair} <= set(ATTRIBUTE_NAMES)


def test_synthetic_faces_contradict_nothing():
    import numpy as np

    from datamodules.face_attributes import ATTRIBUTE_NAMES, draw_attributes

    random = np.random.default_rng(0)
    for _ in range(3000):
        face = draw_attributes(random)
        values = torch.tensor([1.0 if face[name] else -1.0 for name in ATTRIBUTE_NAMES])
        assert contradictions(values, ATTRIBUTE_NAMES) == []
