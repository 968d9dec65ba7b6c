"""Masks: what each name hides, pictures as masks, and refusals."""

import pytest
import torch
from PIL import Image

from lightning_zoo.generative.masks import MASKS, checked_mask, named_mask, read_mask


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("half", lambda row, column: column >= 32),
        ("right", lambda row, column: column >= 32),
        ("left", lambda row, column: column < 32),
        ("upper", lambda row, column: row < 32),
        ("lower", lambda row, column: row >= 32),
        ("center", lambda row, column: 16 <= row < 48 and 16 <= column < 48),
    ],
)
def test_what_a_name_hides(name, hidden):
    expected = [[0.0 if hidden(row, column) else 1.0 for column in range(64)] for row in range(64)]
    assert named_mask(name, 64, 64)[0].tolist() == expected


def test_eyes_and_mouth_lie_where_an_aligned_face_has_them():
    # Mean landmarks of the aligned pictures (178x218) in the crop (15, 40, 163, 188), scaled to 64 pixels.
    def place(x, y):
        return round((y - 40) / 148 * 64), round((x - 15) / 148 * 64)

    landmarks = {"eyes": [(69, 111), (108, 111)], "mouth": [(71, 152), (106, 152)]}
    nose = place(88, 136)
    for name, points in landmarks.items():
        mask = named_mask(name, 64, 64)[0]
        assert all(mask[place(*point)] == 0 for point in points)
        assert mask[nose] == 1
        assert 0.7 < mask.mean() < 1


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [8, 28, 64])
def test_every_name_is_a_mask_at_every_size(name, size):
    checked_mask(named_mask(name, size, size), (3, size, size))


def test_blocks_come_from_the_seed():
    first, again, other = (named_mask("blocks", 64, 64, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 16 * 16 <= (first == 0).sum() <= 4 * 16 * 16


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="no 'moth'; did you mean 'mouth'"):
        named_mask("moth", 8, 8)
    with pytest.raises(ValueError, match="there are half, right"):
        named_mask("xyzzyx", 8, 8)


def test_a_picture_as_mask(tmp_path):
    picture = Image.new("RGB", (6, 4), "white")
    picture.putpixel((5, 1), (10, 10, 10))
    picture.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", 4, 6)
    assert mask.shape == (1, 4, 6)
    assert (mask == 0).nonzero().tolist() == [[0, 1, 5]]
    with pytest.raises(ValueError, match="is 6x4 pixels .width x height., the images are 4x6"):
        read_mask(tmp_path / "mask.png", 6, 4)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="text.png cannot be read"):
        read_mask(tmp_path / "text.png", 6, 4)


def test_what_is_no_mask():
    for mask, said in [
        (torch.full((1, 4, 4), 0.5), "nothing in between"),
        (torch.ones(1, 4, 4), "hides nothing"),
        (torch.zeros(1, 4, 4), "hides everything"),
        (torch.stack([torch.eye(4)[None], torch.ones(1, 4, 4)]), "hides nothing"),
        (torch.eye(4), "mask must be 1x4x4"),
        (torch.eye(4).repeat(2, 1, 1), "mask must be 1x4x4"),
    ]:
        with pytest.raises(ValueError, match=said):
            checked_mask(mask, (3, 4, 4))
