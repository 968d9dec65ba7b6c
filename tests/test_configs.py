"""Every packaged config: complete, parsed, built, and bounded; the quick overlay fits all of them."""

from pathlib import Path

import pytest
import torch
import yaml

import lightning_zoo
from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.find_config import CONFIGS
from lightning_zoo.cli.parser import for_classes
from lightning_zoo.cli.zoo import ZooCLI

OVERLAYS = {"defaults", "quick"}
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml") if file.stem not in OVERLAYS)


def build(*names):
    words = [word for name in names for word in ("--config", name)]
    return ZooCLI([*words, "--trainer.logger", "false"], run=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_its_classes_and_says_when_it_ends(name):
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert {"model", "data", "trainer", "seed_everything"} <= set(content)
    # Lightning's own default would be a thousand epochs.
    assert content["trainer"]["max_epochs"] >= 1
    cli = build(name)
    assert type(cli.model).__name__ == content["model"]["class_path"]
    assert type(cli.datamodule).__name__ == content["data"]["class_path"]
    for key, value in content["model"].get("init_args", {}).items():
        assert cli.model.hparams[key] == value, key
    stem = lightning_zoo.METHODS[content["model"]["class_path"]].rpartition(".")[2]
    short = stem.removesuffix("_gan") if stem != "vae_gan" else stem
    assert name in (stem, short) or name.startswith((f"{stem}_", f"{short}_")), "one stem per method"


@pytest.mark.parametrize("name", ["stdim_pong", "cpc_pong", "supervised_pong"])
def test_the_quick_overlay_fits(name):
    cli = build(name, "quick")
    assert cli.trainer.max_epochs <= 10
    assert any(type(callback).__name__ == "Timer" for callback in cli.trainer.callbacks), "a guard in minutes"
    assert cli.datamodule.hparams["num_frames"] == 10_000


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("crvae_atari", 8),
        ("vae_gan_celeba", 8),
        ("crvae_mnist", 8),
        ("hierarchical_crvae_mnist", 8),
        ("stage2_birds", 16),
    ],
)
def test_the_quick_overlay_has_arguments_by_class(name, width):
    whole, cli = build(name), build(name, "quick")
    assert cli.model.hparams["base_channels"] == width < whole.model.hparams["base_channels"]
    others = {"base_channels", "hidden_size", "num_draws", "num_test_images"}
    others |= {"discriminator_channels", "num_residual_blocks"}
    changed = {key for key, value in cli.model.hparams.items() if value != whole.model.hparams[key]}
    assert changed <= others, "a quick run is the method as published, only smaller"
    if name == "crvae_atari":
        assert cli.datamodule.hparams["num_frames"] == 10_000
        assert (cli.datamodule.batch_size, cli.trainer.max_epochs) == (32, 8)


def test_arguments_by_class_are_for_that_class_alone():
    overlay = {
        "trainer": {"max_epochs": 1, "log_every_n_steps": 5},
        "classes": {
            "Method": {"width": 2, "data": {"batch_size": 3}, "trainer": {"max_epochs": 7}},
            "Dataset": {"batch_size": 8, "root": "here"},
            "Other": {"depth": 4},
        },
    }
    given = {"model": {"class_path": "package.Method"}, "data": {"class_path": "Dataset"}}
    assert for_classes(overlay, given, Path("small.yaml")) == {
        "trainer": {"max_epochs": 7, "log_every_n_steps": 5},
        "model": {"init_args": {"width": 2}},
        "data": {"init_args": {"batch_size": 3, "root": "here"}},
    }
    with pytest.raises(UsageError, match="small.yaml changes a config: put a config with `class_path` before"):
        for_classes(overlay, {}, Path("small.yaml"))


def test_published_settings_of_crvae_gan():
    """Thesis, appendix 5.D; Birds as released."""
    wanted = {
        "crvae_birds": (3e-4, 0.0125, 0.02),
        "crvae_celeba": (1e-3, 0.01, 0.01),
        "crvae_lsun": (1e-4, 0.0125, 0.01),
        "crvae_without_mi_celeba": (1e-3, 0.01, None),
    }
    for name, values in wanted.items():
        cli = build(name)
        given = cli.model.hparams
        assert (given.learning_rate, given.adversarial_weight, given.mutual_information_weight) == values, name
        assert cli.datamodule.batch_size == 128
    for name, values in {
        "vae_gan_birds": (3e-4, 0.05, 2e-4),  # beta of the released README
        "vae_gan_celeba": (3e-3, 0.01, 3e-4),
        "vae_gan_lsun": (3e-4, 0.025, 2e-4),
    }.items():
        given = build(name).model.hparams
        assert (given.learning_rate, given.adversarial_weight, given.kl_weight) == values, name


def test_published_settings_of_st_dim():
    """What the released code of Anand et al. (2019) trained with."""
    cli = build("stdim_pong")
    optimizer = cli.model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["eps"]) == (3e-4, 1e-5)
    assert cli.datamodule.batch_size == 64
    assert (cli.datamodule.settings.num_frames, cli.trainer.max_epochs) == (100_000, 100)
    stop = next(callback for callback in cli.trainer.callbacks if type(callback).__name__ == "EarlyStopping")
    assert (stop.monitor, stop.patience, stop.mode) == ("val/loss", 15, "min")
    assert sum(parameter.numel() for parameter in cli.model.encoder.parameters()) == 1_124_896


@pytest.mark.parametrize(
    ("name", "places"),
    [("stdim_pong", (11, 8)), ("stdim_strides_8_pong", (21, 15)), ("stdim_strides_32_pong", (5, 3))],
)
def test_places_of_the_studys_strides(name, places):
    assert build(name).model.encoder.map_shapes["conv3"][1:] == places
