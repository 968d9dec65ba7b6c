"""The ensemble against ST-DIMs trained one by one."""

import pytest
import torch

from lightning_zoo.representation.category_ensemble import CATEGORIES, CategoryEnsemble
from lightning_zoo.representation.stdim import STDIM

SETTINGS = {
    "agent_localization": {"learning_rate": 1e-3, "global_local_weight": 0.5, "strides": None},
    "misc": {"learning_rate": 1e-4, "global_local_weight": None, "strides": [4, 4, 2, 1]},
}


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 2, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture
def ensemble():
    torch.manual_seed(0)
    return CategoryEnsemble(
        categories=list(SETTINGS),
        learning_rates={name: values["learning_rate"] for name, values in SETTINGS.items()},
        global_local_weights={name: values["global_local_weight"] for name, values in SETTINGS.items()},
        strides={name: values["strides"] for name, values in SETTINGS.items()},
        feature_size=32,
    )


@pytest.fixture
def alone(ensemble):
    models = {name: STDIM(feature_size=32, **values) for name, values in SETTINGS.items()}
    for name, model in models.items():
        model.load_state_dict(ensemble.members[name].state_dict())
    return models


def step(model, pairs, optimizer):
    optimizer.zero_grad()
    loss = model.loss(pairs)["loss"]
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_steps_equal_those_of_members_trained_alone(ensemble, alone, pairs):
    joint = ensemble.configure_optimizers()
    single = {name: model.configure_optimizers() for name, model in alone.items()}
    for _ in range(3):
        terms = ensemble.loss(pairs)
        losses = {name: step(model, pairs, single[name]) for name, model in alone.items()}
        for name, loss in losses.items():
            torch.testing.assert_close(terms[f"{name}_loss"].detach(), loss)
        torch.testing.assert_close(step(ensemble, pairs, joint), sum(losses.values()))
    for name, model in alone.items():
        torch.testing.assert_close(dict(ensemble.members[name].named_parameters()), dict(model.named_parameters()))


def test_a_slice_holds_its_members_features(ensemble, alone, pairs):
    frames = pairs[:, 0]
    features = ensemble.encode(frames)
    assert features.shape == (3, 64)
    for name, model in alone.items():
        torch.testing.assert_close(features[:, ensemble.feature_slices[name]], model.encode(frames))


def test_every_parameter_is_in_one_group(ensemble):
    groups = ensemble.configure_optimizers().param_groups
    assert [(group["name"], group["lr"], group["eps"]) for group in groups] == [
        ("agent_localization", 1e-3, 1e-5),
        ("misc", 1e-4, 1e-5),
    ]
    identities = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(set(identities)) == len(identities) == len(list(ensemble.parameters()))


def test_defaults_follow_the_study():
    ensemble = CategoryEnsemble(feature_size=8)
    assert tuple(ensemble.members) == CATEGORIES
    grids = {name: member.encoder.map_shapes["conv3"][1:] for name, member in ensemble.members.items()}
    assert {name for name, grid in grids.items() if grid == (21, 15)} == {"other_localization", "misc"}
    assert set(grids.values()) == {(21, 15), (11, 8)}
    weights = {name: member.loss_weights for name, member in ensemble.members.items()}
    assert weights["agent_localization"] == (0.5, 0.5)
    assert weights["small_object_localization"] == (1.0, 1.0)
    assert weights["score_clock_lives_display"] == pytest.approx((0.9, 0.1))


def test_settings_change_the_named_member_alone():
    ensemble = CategoryEnsemble(
        feature_size=8, learning_rates={"misc": 1e-3}, global_local_weights={"misc": None}, strides={"misc": None}
    )
    rates = {group["name"]: group["lr"] for group in ensemble.configure_optimizers().param_groups}
    assert rates == {**dict.fromkeys(CATEGORIES, 3e-4), "misc": 1e-3}
    assert ensemble.members["misc"].loss_weights == (1.0, 1.0)
    assert ensemble.members["misc"].encoder.map_shapes["conv3"][1:] == (11, 8)
    assert ensemble.members["other_localization"].encoder.map_shapes["conv3"][1:] == (21, 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rates": {"msic": 1e-3}}, "learning_rates: 'msic' is no member"),
        ({"strides": {"misc": None}, "categories": ["agent_localization"]}, "strides: 'misc' is no member"),
        ({"categories": []}, "at least one member"),
        ({"categories": ["misc", "misc"]}, "none twice"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CategoryEnsemble(feature_size=8, **options)


def test_impala_members_keep_their_own_geometry():
    ensemble = CategoryEnsemble(categories=["misc"], encoder="impala", feature_size=8)
    assert ensemble.members["misc"].local_layers == ["block3"]


def test_hyperparameters_rebuild_the_ensemble(ensemble):
    twin = CategoryEnsemble(**ensemble.hparams)
    twin.load_state_dict(ensemble.state_dict())
    assert twin.feature_slices == ensemble.feature_slices
