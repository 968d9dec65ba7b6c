"""Configs of stored videos: what is pretrained fits what is fine-tuned, and ablations change one thing."""

import pytest
import yaml

from lightning_zoo.cli.find_config import CONFIGS


def config(name):
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


@pytest.mark.parametrize("stem", ["weizmann", "ravdess"])
def test_what_is_fine_tuned_is_what_was_pretrained(stem):
    given, tuned = (config(f"{name}_{stem}") for name in ("statics_dynamics", "video_classifier_fine_tuned"))
    for name in ("frame_channels", "frame_size", "pixels"):
        assert given["model"]["init_args"][name] == tuned["model"]["init_args"][name]
    assert given["data"] == tuned["data"], "the same actors are held out"
    path = tuned["model"]["init_args"].pop("initial_weights")
    assert path == f"runs/statics_dynamics_{stem}/version_0/checkpoints/last.ckpt"
    assert tuned == config(f"video_classifier_{stem}"), "from scratch is the same but for the first weights"


@pytest.mark.parametrize("stem", ["weizmann", "ravdess"])
def test_the_first_phase_is_that_of_both(stem):
    whole, first = (config(f"{name}_{stem}") for name in ("statics_dynamics", "block_stn"))
    both, alone = whole["model"]["init_args"], first["model"]["init_args"]
    assert both["transformer_epochs"] == first["trainer"]["max_epochs"]
    assert both["transformer_learning_rate"] == alone.pop("learning_rate")
    assert alone.items() <= both.items()
    autoencoder = config(f"video_autoencoder_{stem}")
    assert autoencoder["trainer"]["max_epochs"] == whole["trainer"]["max_epochs"] - both["transformer_epochs"]
    assert autoencoder["model"]["init_args"]["feature_size"] == both["dynamics_size"] == 512


def test_the_ablation_leaves_out_the_contrast():
    whole, ablated = config("statics_dynamics_ravdess"), config("statics_dynamics_statics_ravdess")
    assert whole["model"]["init_args"].pop("contrastive_weight") == 0.1
    assert ablated["model"]["init_args"].pop("contrastive_weight") == 0
    assert whole == ablated
