"""The residual encoder against the released order of operations, one output value at a time."""

import torch

from lightning_zoo.networks.encoders import make_encoder
from lightning_zoo.networks.impala_cnn import ImpalaCNN


def mirrored(index, size):
    """The index that reflection without the border itself puts in place of one outside."""
    index = abs(index)
    return index if index < size else 2 * (size - 1) - index


def convolved(image, layer):
    """3x3 convolution of (C, H, W), every output from its own nine neighbours."""
    _, height, width = image.shape
    rows = []
    for y in range(height):
        for x in range(width):
            ys = [mirrored(y + dy, height) for dy in (-1, 0, 1)]
            xs = [mirrored(x + dx, width) for dx in (-1, 0, 1)]
            rows.append((layer.weight * image[:, ys][:, :, xs]).sum((1, 2, 3)) + layer.bias)
    return torch.stack(rows, 1).unflatten(1, (height, width))


def pooled(image):
    """Maximum over 3x3 at every second place, where the whole window lies inside."""
    _, height, width = image.shape
    ys, xs = range(0, height - 2, 2), range(0, width - 2, 2)
    return torch.stack([torch.stack([image[:, y : y + 3, x : x + 3].amax((1, 2)) for x in xs], 1) for y in ys], 1)


def slow_maps(network, image):
    maps = []
    for block in network.layers.values():
        first, _, _, *units = block
        image = pooled(convolved(image, first)).clamp(min=0)
        for unit in units:
            inside = convolved(image, unit.first).clamp(min=0)
            image = (image + convolved(inside, unit.second)).clamp(min=0)
        maps.append(image)
    return maps


def test_equals_the_released_operations_one_value_at_a_time():
    torch.manual_seed(0)
    network = ImpalaCNN(input_channels=2, feature_size=5, channels=(3, 4), frame_size=(17, 14)).double()
    frames = torch.rand(2, 2, 17, 14, dtype=torch.float64)
    maps = network.maps(frames)
    features = network(frames)
    for index, frame in enumerate(frames):
        expected = slow_maps(network, frame)
        for (name, found), slow in zip(maps.items(), expected, strict=True):
            torch.testing.assert_close(found[index], slow, msg=lambda text, name=name: f"{name}: {text}")
            assert found.shape[1:] == network.map_shapes[name]
        linear = network.linear.weight @ expected[-1].flatten() + network.linear.bias
        torch.testing.assert_close(features[index], linear.clamp(min=0))


def test_maps_are_not_negative_and_have_the_released_sizes():
    torch.manual_seed(0)
    network = make_encoder("impala")
    maps = network.maps(torch.rand(1, 1, 210, 160))
    assert all(values.min() >= 0 for values in maps.values())
    assert tuple(maps[network.default_local_layer].shape[1:]) == (32, 25, 19)
    assert tuple(maps["block4"].shape[1:]) == (32, 12, 9)
    assert network.linear.weight.shape == (256, 32 * 12 * 9)
