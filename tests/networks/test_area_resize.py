"""Area means of images, also where pixels are covered in part."""

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.networks.area_resize import area_resize


def slow(image, size):
    """Each new pixel is the integral over its area of the step function that the old pixels are."""
    height, width = image.shape
    result = torch.zeros(size, size, dtype=image.dtype)
    for row in range(size):
        for column in range(size):
            for y in range(height):
                for x in range(width):
                    tall = min((row + 1) * height / size, y + 1) - max(row * height / size, y)
                    wide = min((column + 1) * width / size, x + 1) - max(column * width / size, x)
                    if tall > 0 and wide > 0:
                        result[row, column] += image[y, x] * tall * wide * size * size / height / width
    return result


@pytest.mark.parametrize(("shape", "size"), [((8, 8), 7), ((14, 14), 4), ((9, 5), 3), ((4, 4), 6)])
def test_values_and_gradients(shape, size):
    torch.manual_seed(0)
    image = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    got, wanted = area_resize(image, size), slow(image, size)
    torch.testing.assert_close(got, wanted)
    direction = torch.randn_like(got)
    gradients = [torch.autograd.grad((out * direction).sum(), image)[0] for out in (got, wanted)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(got.mean(), image.mean())


def test_whole_ratios_are_pooling_and_equal_sizes_nothing():
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(area_resize(images, 8), F.avg_pool2d(images, 2))
    assert area_resize(images, 16) is images


def test_autocast_does_not_round():
    images = torch.rand(2, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = area_resize(images, 8)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, area_resize(images, 8), rtol=0, atol=0)
