"""Methods learn: after minutes on real Pong frames their features beat those of an untrained encoder.

The budget is that of the quick overlay; the published scores are for ten times the frames and sixteen times the epochs.
"""

from functools import cache

import lightning as L
import pytest
import torch

from lightning_zoo.cli.probing import probe_encoder
from lightning_zoo.cli.zoo import ZooCLI


@pytest.fixture(scope="module")
def labelled(recordings):
    from datamodules import AtariFrames

    data = AtariFrames(game="pong", root=str(recordings), preset="paper", serve="labelled", num_probe_frames=15_000)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def score(recordings, labelled):
    """A function from a config's name to the mean F1 after its quick run; "random_cnn" without one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)

    @cache
    def train(config):
        L.seed_everything(0, verbose=False)
        words = ["--config", config, "--config", "quick", f"--data.root={recordings}", "--trainer.logger=false"]
        cli = ZooCLI([*words, "--trainer.enable_progress_bar=false"], run=False)
        if config != "random_cnn_pong":
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        return probe_encoder(cli.model, labelled).f1

    yield train
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_st_dim_is_far_above_an_untrained_encoder(score):
    assert score("stdim_pong") >= score("random_cnn_pong") + 0.30


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("config", ["global_dim_pong", "jsd_stdim_pong", "pixel_prediction_pong"])
def test_relatives_beat_an_untrained_encoder(score, config):
    """Published on Pong: untrained .17, global-T DIM .65, pixel prediction .70, JSD-ST-DIM .80."""
    assert score(config) > score("random_cnn_pong")
