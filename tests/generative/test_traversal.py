"""Traversals against latents that are put together by hand, block by block."""

import pytest
import torch

from lightning_zoo.generative.traversal import block_channels, interpolate, progressive


@pytest.fixture
def model(generative_toy):
    return generative_toy.LinearToy(num_steps=2)


def decoded(model, latent):
    return (model.decoder(latent.flatten()) if latent.dim() == 3 else None).reshape(1, 8, 8)


def test_blocks_are_drawn_in_turn(model):
    images = progressive(model, 3, seed=4, truncation=0.7, batch_size=2)
    assert images.shape == (3, 3, 1, 8, 8)
    latents = 0.7 * torch.randn((3, 4, 2, 2), generator=torch.Generator().manual_seed(4))
    for row in range(3):
        for column in range(3):
            latent = torch.zeros(4, 2, 2)
            latent[: 2 * column] = latents[row, : 2 * column]
            torch.testing.assert_close(images[row, column], decoded(model, latent))


def test_the_last_column_is_what_sample_draws(model):
    model.eval()
    sampled = model.sample(4, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(progressive(model, 4, seed=9)[:, -1].clamp(0, 1), sampled)


@pytest.mark.parametrize("shared", [False, True])
def test_one_block_moves_and_the_others_stay(model, shared):
    images = interpolate(model, 2, num_rows=3, columns=5, seed=1, shared_target=shared)
    assert images.shape == (3, 5, 1, 8, 8)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((3, 4, 2, 2), generator=generator)
    targets = torch.randn((1 if shared else 3, 4, 2, 2), generator=generator)
    for row in range(3):
        target = targets[0 if shared else row]
        for column in range(5):
            latent = latents[row].clone()
            latent[2:] = latents[row, 2:] * (1 - column / 4) + target[2:] * column / 4
            torch.testing.assert_close(images[row, column], decoded(model, latent))


def test_it_starts_from_given_latents(model):
    start = torch.randn(2, 4, 2, 2)
    images = interpolate(model, 1, columns=2, start=start)
    assert images.shape[:2] == (2, 2)
    for row in range(2):
        torch.testing.assert_close(images[row, 0], decoded(model, start[row]))


def test_a_model_of_one_block_moves_as_a_whole(generative_toy):
    model = generative_toy.LinearToy(num_steps=1)
    assert progressive(model, 2).shape[:2] == (2, 2)
    assert block_channels(model, 1) == slice(0, 4)
    with pytest.raises(ValueError, match="1 alone: it has one latent block, got 2"):
        interpolate(model, 2)


@pytest.mark.parametrize("step", [0, 3, -1])
def test_a_step_that_there_is_not(model, step):
    with pytest.raises(ValueError, match=f"step must be one of the model's latent blocks, 1 to 2, got {step}"):
        interpolate(model, step)


def test_other_refusals(model):
    with pytest.raises(ValueError, match="columns must be at least 2"):
        interpolate(model, 1, columns=1)
    with pytest.raises(ValueError, match="num_rows must be at least 1"):
        progressive(model, 0)
