import json
from importlib.resources import files

import pytest

from datamodules.atari_games import CATEGORIES, labelled_games, resolve_game, state_variables
from datamodules.errors import DataError

# Table 1 of Anand et al. (2019): variables per category (agent, small objects, other, score and clock, misc); one
# variable of Asteroids counts twice.
PAPER_TABLE_1 = {
    "asteroids": (2, 4, 30, 3, 3),
    "berzerk": (2, 4, 19, 4, 5),
    "bowling": (2, 2, 0, 2, 10),
    "boxing": (2, 0, 2, 3, 0),
    "breakout": (1, 2, 0, 1, 31),
    "demon_attack": (1, 1, 6, 1, 1),
    "freeway": (1, 0, 10, 1, 0),
    "frostbite": (2, 0, 9, 4, 2),
    "hero": (2, 0, 0, 3, 3),
    "montezuma_revenge": (2, 0, 4, 4, 5),
    "ms_pacman": (2, 0, 10, 2, 3),
    "pitfall": (2, 0, 3, 0, 0),
    "pong": (1, 2, 1, 2, 0),
    "private_eye": (2, 0, 2, 4, 2),
    "qbert": (3, 0, 2, 0, 0),
    "riverraid": (1, 2, 0, 2, 0),
    "seaquest": (2, 1, 8, 4, 3),
    "space_invaders": (1, 1, 2, 2, 1),
    "tennis": (2, 2, 2, 2, 0),
    "venture": (2, 0, 12, 3, 1),
    "video_pinball": (2, 2, 0, 2, 0),
    "yars_revenge": (2, 4, 2, 0, 0),
}
ORDER = ("agent_localization", "small_object_localization", "other_localization", "score_clock_lives_display", "misc")


@pytest.mark.parametrize(("game", "counts"), PAPER_TABLE_1.items())
def test_counts_of_the_paper(game, counts):
    variables = state_variables(game)
    found = tuple(sum(category in variable.categories for variable in variables) for category in ORDER)
    assert found == counts


def test_maps_are_whole():
    assert len(labelled_games()) == 22
    assert sum(len(state_variables(game, "paper")) for game in labelled_games()) == 308
    assert sum(len(state_variables(game, "head")) for game in labelled_games()) == 336
    for game in labelled_games():
        for label_map in ("paper", "head"):
            for variable in state_variables(game, label_map):
                assert 0 <= variable.address < 128
                assert set(variable.categories) <= set(CATEGORIES)


def test_one_variable_counts_twice_and_some_not_at_all():
    direction = {variable.name: variable for variable in state_variables("asteroids")}["num_lives_direction"]
    assert set(direction.categories) == {"score_clock_lives_display", "misc"}
    tiles = [variable for variable in state_variables("qbert", "head") if variable.name.startswith("tile_color")]
    assert len(tiles) == 21
    assert all(variable.categories == () for variable in tiles)


@pytest.mark.parametrize(
    ("written", "rom"),
    [
        ("pong", "pong"),
        ("Space Invaders", "space_invaders"),
        ("spaceinvaders", "space_invaders"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("MontezumaRevenge", "montezuma_revenge"),
    ],
)
def test_usual_spellings(written, rom):
    assert resolve_game(written) == rom


def test_every_labelled_game_is_a_rom():
    assert all(resolve_game(game) == game for game in labelled_games())


def test_unknown_game_gets_the_nearest_names():
    with pytest.raises(DataError, match=r"game: 'pung' is no game of the emulator; did you mean .*pong"):
        resolve_game("pung")


def test_game_without_labels_is_named():
    with pytest.raises(DataError, match="game: 'alien' has no labelled variables .* asteroids"):
        state_variables("alien")


def test_package_data_says_where_it_is_from():
    about = json.loads(files("datamodules").joinpath("atari_ram.json").read_text())["about"]
    assert "1906.08226" in about
    assert "MIT" in about
