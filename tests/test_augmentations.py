"""Augmentations against crops of padded arrays, one image at a time."""

import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from lightning_zoo.augmentations import augmented_views, random_intensity, random_shift


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise_images(*shape, dtype=torch.uint8):
    return (torch.rand(*shape, generator=seeded()) * 256).to(dtype)


def slow_crops(image, pad):
    """Every crop of one padded image (C, H, W), by its shift."""
    _, height, width = image.shape
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    return {
        (y - pad, x - pad): padded[:, y : y + height, x : x + width]
        for y in range(2 * pad + 1)
        for x in range(2 * pad + 1)
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("size", "pad"), [((12, 9), 4), ((9, 12), 2), ((5, 5), 0), ((3, 2), 4)])
def test_every_image_is_one_exact_crop_of_itself_padded(dtype, size, pad):
    images = noise_images(6, 4, *size, dtype=dtype)
    before = images.clone()
    shifted = random_shift(images, pad, seeded(1))
    assert shifted.dtype == dtype
    assert torch.equal(images, before)
    assert shifted.data_ptr() != images.data_ptr()
    for image, result in zip(images, shifted, strict=True):
        # All channels of one crop: frames of a stack move together.
        assert any(np.array_equal(result.numpy(), crop) for crop in slow_crops(image, pad).values())


def shifts_of(images, pad, generator):
    """The shift of each image, read off the middle of images whose pixels are their own places."""
    side = 2 * pad + 1
    places = torch.arange(side * side).view(1, 1, side, side).expand(images, 2, -1, -1).float()
    middle = random_shift(places, pad, generator)[:, 0, pad, pad].long()
    return [(place // side - pad, place % side - pad) for place in middle.tolist()]


@pytest.mark.parametrize("pad", [4, 1])
def test_all_shifts_are_equally_likely(pad):
    cells = (2 * pad + 1) ** 2
    counts = Counter(shifts_of(100 * cells, pad, seeded(3)))
    assert set(counts) == {(y, x) for y in range(-pad, pad + 1) for x in range(-pad, pad + 1)}
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < cells - 1 + 5 * math.sqrt(2 * (cells - 1))


def test_one_draw_is_one_shift_of_whatever_image():
    image = noise_images(1, 1, 9, 9)
    (shift,) = shifts_of(1, 4, seeded(5))
    assert 0 not in shift
    assert np.array_equal(random_shift(image, 4, seeded(5))[0].numpy(), slow_crops(image[0], 4)[shift])


def test_images_of_a_batch_move_independently():
    assert len(set(shifts_of(40, 4, seeded()))) > 20


@pytest.mark.parametrize("augment", [random_shift, random_intensity, partial(augmented_views, intensity=0.05)])
def test_a_generator_decides_alone(augment):
    images = noise_images(8, 1, 12, 12)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = augment(images, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, augment(images, generator=seeded(1)))
    assert not torch.equal(first, augment(images, generator=seeded(2)))
    drawn = augment(images)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert torch.equal(drawn, augment(images))


def factors_of(images, scale, generator):
    changed = random_intensity(torch.full((images, 2, 2, 3), 0.5, dtype=torch.float64), scale, generator)
    factors = changed.flatten(1) / 0.5
    assert torch.equal(factors, factors[:, :1].expand_as(factors))  # one for the whole stack
    return factors[:, 0]


def test_intensity_factors_are_clipped_normal():
    factors = (factors_of(40_000, 0.05, seeded()) - 1) / 0.05
    assert factors.abs().max().item() == pytest.approx(2, abs=1e-5)
    ends = [(factors < -2 + 1e-4).double().mean().item(), (factors > 2 - 1e-4).double().mean().item()]
    tail = 0.5 * math.erfc(2 / math.sqrt(2))
    assert ends == pytest.approx([tail, tail], abs=5 * math.sqrt(tail / 40_000))
    for bound in (-1.0, 0.0, 0.5):
        below = 0.5 * (1 + math.erf(bound / math.sqrt(2)))
        assert (factors < bound).double().mean().item() == pytest.approx(below, abs=5 * 0.5 / 200)


def test_intensity_scale_is_that_of_the_factors():
    small, large = (factors_of(50, scale, seeded(2)) for scale in (0.05, 0.2))
    torch.testing.assert_close(large - 1, 4 * (small - 1), rtol=1e-4, atol=1e-6)


def test_intensity_of_bytes_is_that_of_fractions_and_is_not_clipped():
    images = torch.full((30, 1, 4, 4), 255, dtype=torch.uint8)
    bright = random_intensity(images, generator=seeded())
    assert bright.dtype == torch.float32
    torch.testing.assert_close(bright, random_intensity(images.float() / 255, generator=seeded()))
    assert 1 < bright.max() <= 1.1 + 1e-6
    half = random_intensity(images.half() / 255, generator=seeded())
    assert half.dtype == torch.float16


def test_views_are_augmented_independently_and_keep_their_items():
    # Constant images: a shift leaves them, so that each item can be told in every view.
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 4, 6, 6)
    assert torch.equal(augmented_views(images, 3), images.expand(3, -1, -1, -1, -1))
    noise = noise_images(16, 4, 20, 20)
    views = augmented_views(noise, 2, generator=seeded())
    assert views.dtype == torch.uint8
    assert (views[0] != views[1]).flatten(1).any(1).sum() > 10
    for image, result in zip(noise, views[1], strict=True):
        assert any(np.array_equal(result.numpy(), crop) for crop in slow_crops(image, 4).values())


def test_views_have_intensities_of_their_own_after_the_shift():
    images = torch.ones(20, 1, 5, 5)
    views = augmented_views(images, 2, intensity=0.05, generator=seeded())
    assert (views[0] - views[1]).abs().flatten(1).amin(1).gt(1e-6).sum() > 15
    assert torch.equal(views.flatten(2).amax(2), views.flatten(2).amin(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda images: random_shift(images, -1), "pad must be 0 or more pixels, got -1"),
        (lambda images: random_intensity(images, -0.1), "scale must be 0 or more, got -0.1"),
        (lambda images: augmented_views(images, 0), "num_views must be 1 or more, got 0"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 1, 4, 4))


@pytest.mark.gpu
def test_on_a_device_with_a_generator_of_either():
    images = noise_images(8, 4, 84, 84)
    on_device = images.cuda()
    for augment in (random_shift, random_intensity):
        torch.testing.assert_close(augment(on_device, generator=seeded(1)).cpu(), augment(images, generator=seeded(1)))
    result = random_shift(on_device, generator=torch.Generator("cuda").manual_seed(0))
    assert result.device == on_device.device
    for image, shifted in zip(images, result.cpu(), strict=True):
        assert any(np.array_equal(shifted.numpy(), crop) for crop in slow_crops(image, 4).values())
