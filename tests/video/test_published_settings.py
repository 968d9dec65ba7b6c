"""Settings of chapter 7 and its appendix (7.A and 7.B) as the packaged configs have them, method by method."""

import pytest

from lightning_zoo.cli.zoo import ZooCLI

SECOND = {
    "moving_mnist": (64, 2, 64, 32, 16, 5e-3, 250, 1e-3, 400, 0.25, 0.0),
    "weizmann": (96, 4, 64, 512, 128, 1e-4, 250, 5e-4, 400, 0.01, 0.5),
    "ravdess": (128, 8, 128, 512, 128, 1e-3, 500, 5e-4, 1000, 0.1, 0.0),
}
"""Side, K, c, D, d; the first phase's rate and epochs; the second's rate and all epochs; weights of eq. 7.5 and of the
regulariser of 7.B.2."""


def build(name):
    return ZooCLI(["--config", name, "--trainer.logger", "false"], run=False)


@pytest.mark.parametrize("dataset", SECOND)
def test_both_phases(dataset):
    cli = build(f"statics_dynamics_{dataset}")
    given, data = cli.model.hparams, cli.datamodule
    side, blocks, channels, dynamics, frame_dynamics, *rates = SECOND[dataset]
    assert (given.frame_size, given.num_blocks, given.channels) == (side, blocks, channels)
    assert (given.dynamics_size, given.frame_dynamics_size, given.hidden_size) == (dynamics, frame_dynamics, 1024)
    found = [given.transformer_learning_rate, given.transformer_epochs, given.learning_rate, cli.trainer.max_epochs]
    assert [*found, given.contrastive_weight, given.anchor_weight] == rates
    assert (given.reconstruction_weight, given.transformation_weight) == (0.1, 1.0)
    assert (given.frame_weight, given.statics_weight, given.halving_period_epochs) == (1.0, 1.0, 50)
    assert (given.base_channels, given.contrast, given.feedback, given.reduction) == (64, "raw", "predicted", "sum")
    assert (given.warm_up_epochs, given.bounded, given.sees_all_channels, given.gradient_norm) == (
        0,
        False,
        False,
        None,
    )
    assert (data.batch_size, data.num_frames, given.num_frames, data.pair_gap[1]) == (64, 8, 8, 25)
    assert data.pair_gap[0] == (5 if dataset == "ravdess" else 1)
    assert getattr(data, "pair_gap_epochs", 0) == 0
    optimizers = cli.model.configure_optimizers()
    assert [type(one).__name__ for one in optimizers] == ["Adam", "Adam"]
    assert [one.defaults["betas"] for one in optimizers] == [(0.9, 0.999)] * 2


@pytest.mark.parametrize("dataset", SECOND)
def test_the_first_phase_by_itself_and_the_baselines_agree_with_it(dataset):
    whole = build(f"statics_dynamics_{dataset}").model.hparams
    first = build(f"block_stn_{dataset}")
    shared = set(first.model.hparams) & set(whole) - {"learning_rate", "_class_path"}
    assert {name: first.model.hparams[name] for name in shared} == {name: whole[name] for name in shared}
    assert first.model.hparams.learning_rate == whole.transformer_learning_rate
    assert first.trainer.max_epochs == whole.transformer_epochs
    autoencoder = build(f"video_autoencoder_{dataset}").model.hparams
    assert autoencoder.feature_size == whole.dynamics_size
    assert (autoencoder.frame_size, autoencoder.pixels) == (whole.frame_size, whole.pixels)


@pytest.mark.parametrize("name", ["video_classifier_ravdess", "video_classifier_fine_tuned_ravdess"])
def test_fine_tuning(name):
    cli = build(name)
    assert (cli.model.hparams.learning_rate, cli.trainer.max_epochs, cli.model.hparams.head) == (1e-3, 200, "pooled")


def test_statics_alone_differ_in_one_weight():
    whole, alone = (dict(build(f"statics_dynamics_{name}").model.hparams) for name in ("ravdess", "statics_ravdess"))
    assert alone.pop("contrastive_weight") == 0.0
    assert whole.pop("contrastive_weight") == 0.1
    assert alone == whole
