"""Names of Atari games, and the state variables that are known in their RAM."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Literal

from datamodules.errors import DataError

LabelMap = Literal["paper", "head"]

CATEGORIES = (
    "small_object_localization",
    "agent_localization",
    "other_localization",
    "score_clock_lives_display",
    "misc",
)
"""The categories of the benchmark, in the order of its tables."""


@dataclass(frozen=True)
class StateVariable:
    """One byte of RAM with a meaning.

    Attributes:
        name: as annotated by the benchmark.
        address: index into the 128 bytes of RAM.
        categories: those in whose means it counts: usually one, rarely two or none.
    """

    name: str
    address: int
    categories: tuple[str, ...]


@cache
def _annotations() -> dict[str, dict[str, dict[str, list]]]:
    return json.loads(files("datamodules").joinpath("atari_ram.json").read_text())["games"]


def labelled_games() -> list[str]:
    """The 22 games of the benchmark, by the name of their ROM."""
    return sorted(_annotations())


def resolve_game(name: str) -> str:
    """The ROM's name for any usual spelling: "SpaceInvaders", "space_invaders", "ALE/SpaceInvaders-v5".

    Raises:
        DataError: for a game that the emulator has not, with the nearest names.
    """
    from ale_py import roms

    games = {rom.replace("_", ""): rom for rom in roms.get_all_rom_ids()}
    plain = name.removeprefix("ALE/").split("-v")[0].removesuffix("NoFrameskip").lower()
    plain = "".join(letter for letter in plain if letter.isalnum())
    if plain in games:
        return games[plain]
    near = [games[match] for match in get_close_matches(plain, games, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(sorted(games.values()))}"
    raise DataError(f"game: {name!r} is no game of the emulator; {hint}")


def state_variables(game: str, label_map: LabelMap = "paper") -> list[StateVariable]:
    """The annotated variables of a game.

    Args:
        game: the ROM's name.
        label_map: "paper" for the 308 variables of the published scores, "head" for the benchmark's last version.

    Raises:
        DataError: if the benchmark has no labels for this game.
    """
    if game not in _annotations():
        raise DataError(
            f"game: {game!r} has no labelled variables and cannot be probed; "
            f"games with labels: {', '.join(labelled_games())}"
        )
    entries = _annotations()[game][label_map]
    return [StateVariable(name, address, tuple(categories)) for name, (address, *categories) in entries.items()]
