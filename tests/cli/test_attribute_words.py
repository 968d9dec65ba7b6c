import pytest

from datamodules.face_attributes import ATTRIBUTE_NAMES
from lightning_zoo.cli.attribute_words import parse_attributes
from lightning_zoo.cli.errors import UsageError


def parsed(*words):
    values = parse_attributes(words, ATTRIBUTE_NAMES).tolist()
    return {name: int(value) for name, value in zip(ATTRIBUTE_NAMES, values, strict=True) if value}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Smiling", "Eyeglasses", "-Male"], {"Smiling": 1, "Eyeglasses": 1, "Male": -1}),
        (["smiling,no_male"], {"Smiling": 1, "Male": -1}),
        (["WEARING HAT", "not", "Young"], {"Wearing_Hat": 1, "Young": -1}),
        (["wearing", "hat", "smiling"], {"Wearing_Hat": 1, "Smiling": 1}),
        (["no_beard"], {"No_Beard": 1}),
        (["-no_beard"], {"No_Beard": -1}),
        (["no", "beard", "no", "male"], {"No_Beard": 1, "Male": -1}),
        (["not_5_o_clock_shadow"], {"5_o_Clock_Shadow": -1}),
        (["5 o'clock shadow"], {"5_o_Clock_Shadow": 1}),
        (["without", "bangs"], {"Bangs": -1}),
        (["Smiling", "-", "Male"], {"Smiling": 1, "Male": -1}),
        (["Smiling", "smiling"], {"Smiling": 1}),
        ([], {}),
    ],
)
def test_words_become_attributes(words, expected):
    assert parsed(*words) == expected


def test_every_name_is_understood_as_it_is_written_and_ruled_out():
    for name in ATTRIBUTE_NAMES:
        assert parsed(name) == {name: 1}
        assert parsed(f"-{name}") == {name: -1}
        assert parsed(*name.split("_")) == {name: 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Smilling"], "no attribute 'Smilling'; the nearest: Smiling"),
        (["Smiling", "-glasses"], "no attribute '-glasses'; the nearest: .*Eyeglasses"),
        (["hat"], "the nearest: .*Wearing_Hat"),
        (["qqqqqq"], "the nearest: 5_o_Clock_Shadow, Arched_Eyebrows"),
        (["Male", "Smiling", "-male"], "Male is both asked for and ruled out"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(UsageError, match=message):
        parsed(*words)
