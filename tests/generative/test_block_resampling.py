import math

import pytest
import torch

from lightning_zoo.generative.block_resampling import block_effects, draw_images, draw_latents_of, resample_block


@pytest.fixture
def toy(conditional_toy):
    return conditional_toy.ConditionalToy().eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


ATTRIBUTES = torch.tensor([[1.0, -1, 1, -1, 1], [-1, 1, 1, 1, -1]])


def test_other_blocks_stay_and_the_block_is_the_newly_drawn_one(toy):
    latents = draw_latents_of(toy, ATTRIBUTES, seeded(1))
    moved = resample_block(toy, latents, ATTRIBUTES, 2, generator=seeded(2))
    torch.testing.assert_close(moved[:, 2:4], toy.draw(ATTRIBUTES, generator=seeded(2))[:, 2:4].detach())
    torch.testing.assert_close(moved[:, :2], latents[:, :2], rtol=0, atol=0)
    torch.testing.assert_close(moved[:, 4:], latents[:, 4:], rtol=0, atol=0)


def test_without_share_nothing_moves(toy):
    latents = draw_latents_of(toy, ATTRIBUTES, seeded(1))
    torch.testing.assert_close(resample_block(toy, latents, ATTRIBUTES, 1, share=0.0, generator=seeded(2)), latents)


def test_a_third_of_the_way_is_thirty_degrees(toy):
    latents = draw_latents_of(toy, ATTRIBUTES, seeded(1))
    moved = resample_block(toy, latents, ATTRIBUTES, 4, share=1 / 3, generator=seeded(2))
    mean = toy.prior(ATTRIBUTES)[0].detach()
    drawn = toy.draw(ATTRIBUTES, generator=seeded(2)).detach()
    expected = mean + math.sqrt(3) / 2 * (latents - mean) + (drawn - mean) / 2
    torch.testing.assert_close(moved[:, 6:], expected[:, 6:])


def test_spread_is_of_the_newly_drawn_block(toy):
    latents = draw_latents_of(toy, ATTRIBUTES, seeded(1))
    moved = resample_block(toy, latents, ATTRIBUTES, 2, spread=0.5, generator=seeded(2))
    expected = toy.draw(ATTRIBUTES, truncation=0.5, generator=seeded(2)).detach()
    torch.testing.assert_close(moved[:, 2:4], expected[:, 2:4])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_moved_block_is_distributed_as_the_prior(toy, share):
    attributes = ATTRIBUTES[:1].expand(4000, -1)
    latents = draw_latents_of(toy, attributes, seeded(1))
    moved = resample_block(toy, latents, attributes, 1, share=share, generator=seeded(2))
    centred = (moved - toy.prior(attributes)[0].detach())[:, :2]
    # 32,000 draws of variance one: four standard errors of the variance are 0.032.
    assert centred.var().item() == pytest.approx(1, abs=0.032)
    assert centred.mean().item() == pytest.approx(0, abs=0.023)


def test_effects_are_those_of_the_blocks(toy):
    with torch.no_grad():
        toy.latent_weights.mul_(torch.tensor([0.0, 0.2, 0.5, 1.0]).repeat_interleave(8)[:, None])
    effects = block_effects(toy, ATTRIBUTES, seeded())
    assert effects[0] == 0
    assert effects[0] < effects[1] < effects[2] < effects[3]


def test_images_are_the_method_s_own_whatever_the_batch(toy):
    latents = draw_latents_of(toy, ATTRIBUTES, seeded())
    expected = (toy.decode(latents, ATTRIBUTES) * 255).round().to(torch.uint8)
    for batch_size in (1, 64):
        assert torch.equal(draw_images(toy, latents, ATTRIBUTES, batch_size), expected)


def test_a_smaller_spread_is_nearer_to_the_mean(toy):
    mean = toy.prior(ATTRIBUTES)[0].detach()
    half, whole = (draw_latents_of(toy, ATTRIBUTES, seeded(), spread) - mean for spread in (0.5, 1.0))
    torch.testing.assert_close(half, whole / 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"step": 5}, "1 to 4, got 5"), ({"step": 1, "share": 1.5}, "share must be between .* got 1.5")],
)
def test_mistakes(toy, arguments, words):
    with pytest.raises(ValueError, match=words):
        resample_block(toy, torch.zeros(2, 8, 2, 2), ATTRIBUTES, **arguments)
