"""What a synthetic face is made of: CelebA's forty attributes with a plausible joint distribution, and the scene."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES

ATTRIBUTE_NAMES = list(CELEBA_ATTRIBUTES)
"""The attributes of CelebA in the order of its `list_attr_celeba.txt`."""

Attributes = dict[str, bool]
Colour = tuple[int, int, int]

_INDEPENDENT = {  # share of the men and of the women that have it
    "Arched_Eyebrows": (0.08, 0.40),
    "Big_Lips": (0.17, 0.29),
    "Big_Nose": (0.42, 0.10),
    "Blurry": (0.06, 0.045),
    "Bushy_Eyebrows": (0.25, 0.07),
    "Eyeglasses": (0.12, 0.025),
    "Heavy_Makeup": (0.003, 0.66),
    "Narrow_Eyes": (0.12, 0.11),
    "Oval_Face": (0.21, 0.335),
    "Pale_Skin": (0.026, 0.055),
    "Pointy_Nose": (0.17, 0.355),
    "Rosy_Cheeks": (0.003, 0.11),
    "Smiling": (0.40, 0.54),
    "Wearing_Earrings": (0.03, 0.30),
    "Wearing_Hat": (0.08, 0.025),
    "Wearing_Necklace": (0.01, 0.20),
    "Wearing_Necktie": (0.17, 0.003),
    "Young": (0.64, 0.87),
}


def draw_attributes(random: np.random.Generator) -> Attributes:
    """Forty attributes of one face, their shares close to CelebA's and none contradicting another.

    Only men have beards, a moustache or 5 o'clock shadow; those who have any of goatee, moustache or sideburns are not
    `No_Beard`; at most one hair colour; bald heads have no bangs, no straight and no wavy hair, and
    wear no hat; under a hat no receding hairline is seen, and of short hair not whether it is straight or wavy.
    """
    chance = iter(random.random(64))
    face = dict.fromkeys(ATTRIBUTE_NAMES, False)

    def happens(share: float) -> bool:
        return bool(next(chance) < share)

    face["Male"] = happens(0.417)
    for name, (men, women) in _INDEPENDENT.items():
        face[name] = happens(men if face["Male"] else women)
    young, male = face["Young"], face["Male"]
    face["Bags_Under_Eyes"] = happens((0.30 if male else 0.08) if young else (0.42 if male else 0.25))
    face["Chubby"] = happens((0.08 if male else 0.015) if young else (0.16 if male else 0.07))
    face["Double_Chin"] = happens(0.45 if face["Chubby"] else 0.022)
    face["High_Cheekbones"] = happens(0.82 if face["Smiling"] else 0.12)
    face["Mouth_Slightly_Open"] = happens(0.76 if face["Smiling"] else 0.22)
    lips = 0.97 if face["Heavy_Makeup"] else 0.45
    face["Wearing_Lipstick"] = happens(0.005 if male else lips)
    plain = face["Chubby"] or face["Bags_Under_Eyes"] or not young
    face["Attractive"] = happens((0.20 if plain else 0.52) if male else (0.35 if plain else 0.77))
    _draw_hair(face, happens)
    _draw_beard(face, happens)
    return face


def _draw_hair(face: Attributes, happens: Callable[[float], bool]) -> None:
    young, male = face["Young"], face["Male"]
    bald = happens((0.025 if young else 0.12) if male else 0.0)
    face["Bald"] = bald and not face["Wearing_Hat"]
    receding = happens((0.07 if young else 0.25) if male else 0.05)
    face["Receding_Hairline"] = receding and not (face["Bald"] or face["Wearing_Hat"])
    bangs = happens(0.10 if male else 0.21)
    face["Bangs"] = bangs and not (face["Bald"] or face["Receding_Hairline"])
    hidden = face["Bald"] or (face["Wearing_Hat"] and male)
    straight, wavy = happens(0.26 if male else 0.19), happens(0.15 if male else 0.58)
    face["Straight_Hair"] = straight and not hidden
    face["Wavy_Hair"] = wavy and not (straight or hidden)
    black, blond, brown = (0.30, 0.03, 0.16) if male else (0.21, 0.235, 0.245)
    face["Gray_Hair"] = happens(0.01 if young else 0.155)
    taken = face["Gray_Hair"]
    for name, share in (
        ("Black_Hair", black),
        ("Blond_Hair", blond / (1 - black)),
        ("Brown_Hair", brown / (1 - black - blond)),
    ):
        face[name] = happens(share) and not taken
        taken = taken or face[name]


def _draw_beard(face: Attributes, happens: Callable[[float], bool]) -> None:
    bearded = happens(0.395) and face["Male"]
    shadow = happens(0.36) and face["Male"] and not bearded
    face["5_o_Clock_Shadow"] = shadow or (happens(0.12) and bearded)
    face["No_Beard"] = not bearded
    for name, share in (("Goatee", 0.38), ("Mustache", 0.26), ("Sideburns", 0.345)):
        face[name] = happens(share) and bearded


@dataclass(frozen=True)
class Scene:
    """What varies beside the attributes.

    Attributes:
        shift: of the head, in pixels right and down.
        roll: of the head, degrees clockwise.
        scale: size of the head.
        turn: -1 looks to the left of the picture, 1 to the right.
        background: two colours of a gradient.
        background_angle: its direction in degrees.
        skin: 0 light .. 1 dark, for faces without `Pale_Skin`.
        hair: 0..1, the shade within a hair colour.
        clothes: colour of the clothes.
        accessory: colour of hat, tie and frames.
        iris: colour of the eyes.
        brightness: of the picture, about 1.
        light: strength of light from the left (negative) or right (positive).
    """

    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    scale: float = 1.0
    turn: float = 0.0
    background: tuple[Colour, Colour] = ((150, 180, 200), (110, 140, 170))
    background_angle: float = 90.0
    skin: float = 0.25
    hair: float = 0.5
    clothes: Colour = (70, 90, 130)
    accessory: Colour = (150, 50, 60)
    iris: Colour = (70, 110, 150)
    brightness: float = 1.0
    light: float = 0.0


_IRISES = ((70, 45, 30), (90, 60, 35), (70, 110, 150), (80, 130, 90), (110, 120, 130))


def draw_scene(random: np.random.Generator) -> Scene:
    """A scene drawn at random; it depends on no attribute."""

    def colour(low: int, high: int) -> Colour:
        red, green, blue = random.integers(low, high, 3).tolist()
        return red, green, blue

    return Scene(
        shift=(float(random.normal(0, 2.0)), float(random.normal(0, 1.5))),
        roll=float(random.normal(0, 3.5)),
        scale=float(random.uniform(0.95, 1.06)),
        turn=float(random.uniform(-1, 1)),
        background=(colour(40, 240), colour(40, 240)),
        background_angle=float(random.uniform(0, 360)),
        skin=float(random.beta(1.0, 2.6)),
        hair=float(random.random()),
        clothes=colour(25, 235),
        accessory=colour(20, 200),
        iris=_IRISES[int(random.integers(len(_IRISES)))],
        brightness=float(random.uniform(0.82, 1.12)),
        light=float(random.uniform(-0.22, 0.22)),
    )
