"""Noise of batches: each its own, on a CPU too, which reads 32 bits of a seed."""

import pytest
import torch

from lightning_zoo.generative.crvae import CRVAE
from lightning_zoo.generative.rank_noise import batch_generator
from lightning_zoo.generative.stage2 import Stage2

CPU = torch.device("cpu")


def draw(**numbers):
    return torch.randn(4, generator=batch_generator(CPU, **({"seed": 5, "epoch": 0, "batch": 0, "rank": 0} | numbers)))


def test_no_two_batches_of_a_run_have_the_same_noise():
    places = [(epoch, batch, rank) for epoch in range(40) for batch in range(30) for rank in range(4)]
    drawn = {tuple(draw(epoch=epoch, batch=batch, rank=rank).tolist()) for epoch, batch, rank in places}
    assert len(drawn) == len(places)


def test_a_batch_has_the_same_noise_again_and_another_with_another_seed():
    assert torch.equal(draw(epoch=3), draw(epoch=3))
    assert not torch.equal(draw(epoch=3), draw(epoch=3, seed=6))
    assert torch.equal(draw(seed=2**64 - 1), draw(seed=2**32 - 1)), "any seed of torch.initial_seed() can be used"


class Still:
    """A stage 1 that shows its latent tensors."""

    latent_shape = (2, 4, 4)

    def posterior(self, images):
        return torch.zeros(len(images), *self.latent_shape), torch.zeros(len(images), *self.latent_shape)

    def decode(self, latent):
        return latent


@pytest.fixture
def stage2(monkeypatch):
    module = Stage2()
    module.noise_seed, module.stage1, module.stage1_size = 5, Still(), 16
    module.image_shape = (3, 16, 16)
    return module


def test_stage_2_repeats_no_noise_in_later_epochs(stage2, monkeypatch):
    drawn = []
    for epoch in range(20):
        monkeypatch.setattr(Stage2, "current_epoch", epoch)
        drawn.append(stage2.stage1_images(torch.zeros(1, 3, 16, 16), 0))
    assert len({tuple(values.flatten().tolist()) for values in drawn}) == 20


def test_a_density_model_repeats_no_noise_in_later_epochs(monkeypatch):
    module = CRVAE(base_channels=1, latent_channels=8, num_steps=2, hidden_size=4)
    seen = []
    monkeypatch.setattr(module, "loss", lambda images, generator: seen.append(generator.initial_seed()) or {"loss": 0})
    monkeypatch.setattr("lightning_zoo.generative.density_model.logs_now", lambda module: False)
    for epoch in range(20):
        monkeypatch.setattr(CRVAE, "current_epoch", epoch)
        for batch in range(3):
            module.training_step({"images": torch.zeros(1, 1, 28, 28)}, batch)
    assert len(set(seen)) == 60
