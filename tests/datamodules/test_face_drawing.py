"""What the synthetic faces promise: every attribute is drawn, where it belongs, and their shares are CelebA's."""

import numpy as np
import pytest

from datamodules.face_attributes import ATTRIBUTE_NAMES, Scene, draw_attributes
from datamodules.face_drawing import bounding_box, draw_face, landmarks
from datamodules.synthetic_faces import face_at

HAIR, FACE, EYES, MOUTH, JAW, NECK = (30, 190), (58, 185), (92, 126), (138, 160), (90, 182), (160, 218)
REGIONS = {  # rows of the picture in which all of a change must lie
    "5_o_Clock_Shadow": (125, 172),
    "Arched_Eyebrows": (88, 105),
    "Attractive": EYES,
    "Bags_Under_Eyes": (108, 126),
    "Bald": (48, 165),
    "Bangs": (55, 98),
    "Big_Lips": MOUTH,
    "Big_Nose": (112, 142),
    "Black_Hair": HAIR,
    "Blond_Hair": HAIR,
    "Blurry": (0, 218),
    "Brown_Hair": HAIR,
    "Bushy_Eyebrows": (88, 108),
    "Chubby": (112, 172),
    "Double_Chin": (138, 182),
    "Eyeglasses": (94, 130),
    "Goatee": (140, 176),
    "Gray_Hair": HAIR,
    "Heavy_Makeup": EYES,
    "High_Cheekbones": (118, 150),
    "Male": (40, 218),
    "Mouth_Slightly_Open": MOUTH,
    "Mustache": (132, 152),
    "Narrow_Eyes": EYES,
    "No_Beard": JAW,
    "Oval_Face": (55, 182),
    "Pale_Skin": (55, 200),
    "Pointy_Nose": (110, 142),
    "Receding_Hairline": (58, 108),
    "Rosy_Cheeks": (120, 146),
    "Sideburns": (85, 142),
    "Smiling": (136, 162),
    "Straight_Hair": (40, 205),
    "Wavy_Hair": (40, 205),
    "Wearing_Earrings": (126, 148),
    "Wearing_Hat": (25, 92),
    "Wearing_Lipstick": MOUTH,
    "Wearing_Necklace": NECK,
    "Wearing_Necktie": NECK,
    "Young": (78, 152),
}
CELEBA = {  # percentages over its 202,599 images
    "Attractive": 51.3, "Bald": 2.2, "Bangs": 15.2, "Black_Hair": 23.9, "Blond_Hair": 14.8, "Brown_Hair": 20.5,
    "Eyeglasses": 6.5, "Gray_Hair": 4.2, "Heavy_Makeup": 38.7, "High_Cheekbones": 45.5, "Male": 41.7,
    "Mouth_Slightly_Open": 48.3, "No_Beard": 83.5, "Pale_Skin": 4.3, "Smiling": 48.2, "Wearing_Hat": 4.8,
    "Wearing_Lipstick": 47.2, "Young": 77.4,
}  # fmt: skip
HIDDEN = {
    "Bald": {"Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair"},
    "Bangs": {"Receding_Hairline", "Arched_Eyebrows", "Bushy_Eyebrows"},
    "Wearing_Hat": {"Receding_Hairline", "Straight_Hair", "Wavy_Hair", "Bald"},
}


def changed(first, second, threshold=20):
    difference = np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int))
    return difference.max(-1) > threshold


def plain(**values):
    return dict.fromkeys(ATTRIBUTE_NAMES, False) | {"No_Beard": True, "Young": True} | values


def test_the_names_are_those_of_celeba():
    assert len(ATTRIBUTE_NAMES) == 40
    assert sorted(ATTRIBUTE_NAMES) == ATTRIBUTE_NAMES  # CelebA's order is that of the alphabet, digits first
    assert set(REGIONS) == set(ATTRIBUTE_NAMES)


@pytest.mark.parametrize("male", [False, True])
@pytest.mark.parametrize("name", ATTRIBUTE_NAMES)
def test_each_attribute_changes_pixels_where_it_belongs(name, male):
    face = plain(Male=male, Brown_Hair=name != "Brown_Hair" and male)
    other = face | {name: not face[name]}
    change = changed(draw_face(face, Scene()), draw_face(other, Scene()), threshold=8)
    assert change.sum() >= 40, "hardly to be seen"
    top, bottom = REGIONS[name]
    rows = np.flatnonzero(change.any(axis=1))
    assert top <= rows[0]
    assert rows[-1] < bottom


def test_each_attribute_shows_in_random_faces_at_64_pixels():
    box = (15, 40, 163, 188)
    for index in range(10):
        face = face_at(3, index)
        face.attributes["Blurry"] = False
        hidden = set().union(*(names for cause, names in HIDDEN.items() if face.attributes[cause]))
        small = draw_face(*face).resize((64, 64), box=box)
        for name in set(ATTRIBUTE_NAMES) - hidden:
            other = face.attributes | {name: not face.attributes[name]}
            change = changed(small, draw_face(other, face.scene).resize((64, 64), box=box), threshold=6)
            assert change.sum() >= 3, (index, name)


@pytest.fixture(scope="module")
def many():
    return [draw_attributes(np.random.default_rng([5, index])) for index in range(6000)]


def test_shares_are_close_to_celebas(many):
    shares = {name: 100 * np.mean([face[name] for face in many]) for name in ATTRIBUTE_NAMES}
    assert {name: value for name, value in shares.items() if abs(value - CELEBA.get(name, value)) > 4} == {}
    assert min(shares.values()) > 1
    assert max(shares.values()) < 95


def test_no_face_contradicts_itself(many):
    for face in many:
        beard = face["Goatee"] or face["Mustache"] or face["Sideburns"]
        assert not (beard and face["No_Beard"])
        assert face["Male"] or not (beard or face["5_o_Clock_Shadow"] or not face["No_Beard"])
        assert sum(face[f"{colour}_Hair"] for colour in ("Black", "Blond", "Brown", "Gray")) <= 1
        assert not (face["Straight_Hair"] and face["Wavy_Hair"])
        assert not (face["Bald"] and any(face[name] for name in (*HIDDEN["Bald"], "Wearing_Hat")))


def test_nuisances_move_the_face_and_its_landmarks():
    still, moved = Scene(), Scene(shift=(6.0, -4.0))
    assert landmarks(still)[:2] == [(70, 112), (108, 112)]  # where CelebA's eyes lie, to a pixel
    assert landmarks(moved)[0] == (76, 108)
    first, second = (np.asarray(draw_face(plain(), scene)).astype(int) for scene in (still, moved))
    assert np.abs(first[60:150, 60:120] - second[56:146, 66:126]).mean() < 3  # the same but for the background
    left, top, width, height = bounding_box(plain(), still)
    assert left < 70 < 108 < left + width
    assert top < 112 < 149 < top + height


def test_faces_depend_on_seed_and_index_alone():
    assert face_at(0, 7) == face_at(0, 7)
    assert len({repr(face_at(seed, index)) for seed in range(3) for index in range(3)}) == 9
    assert draw_face(*face_at(0, 7)).tobytes() == draw_face(*face_at(0, 7)).tobytes()
    assert draw_face(*face_at(0, 7)).size == (178, 218)
