"""How attributes are shown to people: readable names, and groups of those that belong together."""

from __future__ import annotations

from collections.abc import Sequence

GROUPS: dict[str, tuple[str, ...]] = {
    "Person": ("Male", "Young", "Smiling", "Mouth_Slightly_Open", "Attractive", "Chubby", "Blurry"),
    "Hair": (
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Gray_Hair",
        "Straight_Hair",
        "Wavy_Hair",
        "Bangs",
        "Receding_Hairline",
        "Bald",
    ),
    "Beard": ("No_Beard", "5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"),
    "Eyes and brows": ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes", "Arched_Eyebrows", "Bushy_Eyebrows"),
    "Face, nose and skin": (
        "Oval_Face",
        "High_Cheekbones",
        "Double_Chin",
        "Big_Lips",
        "Big_Nose",
        "Pointy_Nose",
        "Pale_Skin",
        "Rosy_Cheeks",
    ),
    "Worn": (
        "Wearing_Hat",
        "Heavy_Makeup",
        "Wearing_Lipstick",
        "Wearing_Earrings",
        "Wearing_Necklace",
        "Wearing_Necktie",
    ),
}
"""CelebA's attributes by what they are of, in the order of the page."""


def readable(name: str) -> str:
    """`Wearing hat` for `Wearing_Hat`."""
    words = name.replace("_o_Clock", "_o'clock").replace("_", " ")
    return words[:1].upper() + words[1:].lower()


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """Title of each group to the columns of its attributes; what no group has is under "Others"."""
    columns = {name: column for column, name in enumerate(names)}
    groups = {title: [columns[name] for name in members if name in columns] for title, members in GROUPS.items()}
    placed = {column for members in groups.values() for column in members}
    groups["Others"] = [column for column in range(len(names)) if column not in placed]
    return {title: members for title, members in groups.items() if members}
