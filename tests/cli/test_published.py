"""Which published score stands beside a result, against the tables of the papers."""

from types import SimpleNamespace

import pytest

import lightning_zoo
from datamodules.atari_games import labelled_games, state_variables
from datamodules.atari_protocol import make_protocol
from lightning_zoo import METHODS
from lightning_zoo.cli.published import changed_options, published_for, published_scores
from lightning_zoo.representation.stdim import STDIM


def frames(game, policy="random", label_map="paper"):
    protocol = make_protocol("paper", {"label_map": label_map})
    variables = [variable.name for variable in state_variables(game, label_map)]
    if (game, label_map) == ("pong", "head"):  # the paddles never leave their columns
        variables = [name for name in variables if name not in ("player_x", "enemy_x")]
    return SimpleNamespace(game=game, settings=SimpleNamespace(policy=policy), protocol=protocol, variables=variables)


@pytest.fixture(scope="module")
def stdim():
    return STDIM()


def test_the_tables_have_every_game_and_their_own_means():
    for part, tables in (
        ("random", ("f1_per_game", "accuracy_per_game")),
        ("ppo", ("f1_per_game",)),
        ("study", ("f1_per_game",)),
    ):
        for table in tables:
            rows = published_scores()[part][table]
            assert sorted(rows) == sorted([*labelled_games(), "mean"])
            for method, mean in rows["mean"].items():
                games = [rows[game][method] for game in labelled_games() if method in rows[game]]
                # Cells and means are rounded to two places each.
                assert sum(games) / len(games) == pytest.approx(mean, abs=0.0101), (part, table, method)
    assert sorted(published_scores()["random"]["f1_per_variable"]) == labelled_games()


def test_single_cells_of_the_paper():
    rows = published_scores()["random"]["f1_per_game"]
    assert (rows["pong"]["stdim"], rows["pong"]["random_cnn"], rows["mean"]["stdim"]) == (0.81, 0.17, 0.68)
    assert (rows["yars_revenge"]["supervised"], rows["freeway"]["frame_vae"]) == (0.74, 0.01)
    assert published_scores()["ppo"]["f1_per_game"]["pong"]["stdim"] == 0.79


def test_categories_are_means_over_the_variables_of_the_published_table(stdim):
    found = published_for(stdim, frames("pong"), "pong")
    by_hand = {
        "small_object_localization": (0.81 + 0.88) / 2,  # ball_x, ball_y
        "agent_localization": 0.55,
        "other_localization": 0.85,
        "score_clock_lives_display": (0.99 + 1.00) / 2,
    }
    assert found.f1_per_category == pytest.approx(by_hand)
    assert (found.f1, found.accuracy) == (0.81, 0.82)
    assert sum(by_hand.values()) / 4 == pytest.approx(0.81, abs=0.005)
    assert found.f1_per_variable["ball_y"] == 0.88
    assert "0.84" in found.note, "the study's own run"


def test_frames_of_an_agent_have_one_number_per_game(stdim):
    found = published_for(stdim, frames("pong", policy="agent.ckpt"), "pong")
    assert (found.f1, found.accuracy, dict(found.f1_per_category)) == (0.79, None, {})
    assert "PPO" in found.note


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate 0.001"),
        ({"global_local_weight": 0.5}, "global_local_weight 0.5"),
        ({"input_channels": 3}, "input_channels 3"),
        ({"kernel_sizes": [8, 4, 3, 3]}, "kernel_sizes [8, 4, 3, 3]"),
        ({"local_layers": ["conv2", "conv3"]}, "local_layers"),
        ({"encoder": "impala"}, "encoder impala"),
        ({"strides": [4, 2, 1, 2], "learning_rate": 1e-3}, "strides [4, 2, 1, 2], learning_rate 0.001"),
    ],
)
def test_another_method_than_the_published_one_has_no_value(options, named):
    found = published_for(STDIM(**options), frames("pong"), "pong")
    assert (found.f1, found.accuracy, dict(found.f1_per_category)) == (None, None, {})
    assert named in found.note


@pytest.mark.parametrize(
    ("options", "pong", "pitfall"),
    [
        ({"strides": [4, 2, 1, 2]}, 0.81, 0.62),
        ({"strides": [4, 2, 2, 1]}, 0.84, 0.59),
        ({"strides": [4, 4, 2, 1], "channels": [32, 64, 128, 128]}, 0.68, 0.57),
    ],
)
def test_strides_of_the_study_have_its_values(options, pong, pitfall):
    module = STDIM(**options)
    for game, value in (("pong", pong), ("pitfall", pitfall), ("boxing", None)):
        assert published_for(module, frames(game), game).f1 == value
    assert "study" in published_for(module, frames("pong"), "pong").note


def test_a_transferred_encoder_has_no_value_but_an_untrained_one_has(stdim):
    assert published_for(stdim, frames("boxing"), "pong").f1 is None
    assert "trained on pong" in published_for(stdim, frames("boxing"), "pong").note
    assert published_for(lightning_zoo.RandomCNN(), frames("boxing"), "pong").f1 == 0.19


def test_the_other_label_map_is_comparable_where_it_is_the_same(stdim):
    blank = {game for game in labelled_games() if published_for(stdim, frames(game, label_map="head"), game).f1 is None}
    assert blank == {"pitfall", "qbert", "seaquest", "space_invaders"}


def test_what_was_never_published():
    class Derived(STDIM):
        pass

    for module in (Derived(), object(), lightning_zoo.ThreeFrameDIM()):
        found = published_for(module, frames("pong"), "pong")
        assert found.f1 is None
        assert "nothing published" in found.note


def test_defaults_are_the_published_options():
    stems = {module.rpartition(".")[2]: name for name, module in METHODS.items()}
    for stem in published_scores()["random"]["f1_per_game"]["mean"]:
        given = {"variables": ["x"], "categories": {"x": []}} if stem in ("supervised", "majority") else {}
        assert changed_options(getattr(lightning_zoo, stems[stem])(**given)) == {}, stem
    assert changed_options(lightning_zoo.Majority(variables=["x"], categories={"x": ["misc"]})) == {}
