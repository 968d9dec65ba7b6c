"""Walks of a method that draws by attributes, against latents and steps that are put together by hand."""

import math

import pytest
import torch

from lightning_zoo.generative.conditional_traversal import (
    attribute_walk,
    content,
    cosine_latents,
    interpolate,
    progressive,
    progressive_steps,
)

ATTRIBUTES = torch.tensor([[1.0, -1, 1, 1, -1], [-1, 1, 1, -1, 1], [1, 1, -1, -1, -1]])


@pytest.fixture
def model(conditional_toy):
    return conditional_toy.ConditionalToy()


def drawn(model, generator=None, truncation=1.0, attributes=ATTRIBUTES, seed=0):
    generator = generator or torch.Generator().manual_seed(seed)
    return model.draw(attributes, truncation=truncation, generator=generator)


def test_blocks_come_in_turn_with_what_their_steps_read(model):
    images = progressive(model, ATTRIBUTES, seed=4, truncation=0.7, batch_size=2)
    assert images.shape == (3, 5, 3, 16, 16)
    latents, steps = drawn(model, seed=4, truncation=0.7), model.attribute_steps(ATTRIBUTES)
    for row in range(3):
        for column in range(5):
            latent, step = torch.zeros(1, 8, 2, 2), torch.zeros(1, 4, 5)
            latent[0, : 2 * column] = latents[row, : 2 * column]
            step[0, :column] = steps[row, :column]
            torch.testing.assert_close(images[row, column], model.decode_steps(latent, step)[0])


def test_the_last_column_is_what_sample_draws(model):
    sampled = model.sample(3, attributes=ATTRIBUTES, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(progressive(model, ATTRIBUTES, seed=9)[:, -1], sampled)


def test_later_steps_read_nothing():
    steps = torch.arange(1.0, 13).reshape(2, 3, 2)
    columns = progressive_steps(steps)
    assert columns.shape == (2, 4, 3, 2)
    assert not columns[:, 0].any()
    assert torch.equal(columns[:, 2, :2], steps[:, :2])
    assert not columns[:, 2, 2].any()
    assert torch.equal(columns[:, 3], steps)


@pytest.mark.parametrize("shared", [False, True])
def test_one_block_moves_within_its_prior(model, shared):
    images = interpolate(model, ATTRIBUTES, 2, columns=5, seed=1, shared_target=shared)
    generator = torch.Generator().manual_seed(1)
    latents = drawn(model, generator)
    if shared:
        noise = torch.randn((1, 8, 2, 2), generator=generator)
        targets = model.prior(ATTRIBUTES)[0] + noise
    else:
        targets = drawn(model, generator)
    for column in range(5):
        moved = latents.clone()
        moved[:, 2:4] = torch.lerp(latents[:, 2:4], targets[:, 2:4], column / 4)
        torch.testing.assert_close(images[:, column], model.decode(moved, ATTRIBUTES))


def test_the_cosine_path_has_both_ends_and_equal_angles():
    first, second = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    path = cosine_latents(first, second, 4).flatten().tolist()
    assert path == pytest.approx([1, math.cos(math.pi / 6) ** 2, math.cos(math.pi / 3) ** 2, 0], abs=1e-7)


def test_content_moves_between_two_draws_of_the_same_attributes(model):
    images = content(model, ATTRIBUTES, columns=3, seed=5, truncation=0.5, batch_size=4)
    generator = torch.Generator().manual_seed(5)
    first, second = (drawn(model, generator, 0.5) for _ in range(2))
    assert not torch.equal(first, second)
    for column, latent in enumerate((first, (first + second) / 2, second)):
        torch.testing.assert_close(images[:, column], model.decode(latent, ATTRIBUTES))


def test_content_of_a_method_without_attributes_moves_between_normal_draws(generative_toy):
    model = generative_toy.LinearToy().eval()
    images = content(model, num_rows=2, columns=2, seed=5)
    generator = torch.Generator().manual_seed(5)
    for column in range(2):
        expected = model.sample(2, generator=generator)
        torch.testing.assert_close(images[:, column].clamp(0, 1), expected)


def test_one_attribute_turns_and_the_noise_stays(model):
    images = attribute_walk(model, ATTRIBUTES, 2, columns=3, seed=6)
    noise = torch.randn((3, 8, 2, 2), generator=torch.Generator().manual_seed(6))
    for column, value in enumerate((-1.0, 0.0, 1.0)):
        asked = ATTRIBUTES.clone()
        asked[:, 2] = value
        expected = model.decode(model.prior(asked)[0] + noise, asked)
        torch.testing.assert_close(images[:, column], expected)
    assert ATTRIBUTES[0, 2] == 1, "the caller's attributes are as they were"


def test_numbers_out_of_range(model):
    for walk in (
        lambda: content(model, ATTRIBUTES, columns=1),
        lambda: attribute_walk(model, ATTRIBUTES, 0, columns=1),
    ):
        with pytest.raises(ValueError, match="columns must be at least 2"):
            walk()
    with pytest.raises(ValueError, match="step must be one of the model's latent blocks, 1 to 4, got 5"):
        interpolate(model, ATTRIBUTES, 5)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        progressive(model, ATTRIBUTES, batch_size=0)


def test_nothing_is_drawn_from_the_global_generator(model):
    before = torch.get_rng_state()
    progressive(model, ATTRIBUTES)
    content(model, ATTRIBUTES)
    assert torch.equal(torch.get_rng_state(), before)
