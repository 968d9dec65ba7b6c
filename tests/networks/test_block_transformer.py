"""Block-wise spatial transformers: where content goes, which block moves it, and in which precision."""

import pytest
import torch
from torch.nn import functional as F
from video_toy import shaken

from lightning_zoo.networks.block_transformer import BlockTransformer


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def identity(batch, blocks):
    return torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat(batch, blocks, 1, 1)


@pytest.mark.parametrize("options", [{}, {"sees_all_channels": True}, {"bounded": True}, {"padding": "border"}])
@pytest.mark.parametrize(("grid", "rounding"), [((8, 8), 0), ((12, 12), 1e-5), ((16, 16), 1e-5)])
def test_nothing_moves_at_first(options, grid, rounding):
    network = BlockTransformer(8, 2, grid, **options)
    source, target = random(3, 8, *grid), random(3, 8, *grid, seed=1)
    parameters = network(source, target)
    assert torch.equal(parameters, identity(3, 2))
    assert (network.warp(source, parameters) - source).abs().max().item() <= rounding


def slow_sample(plane, theta, padding):
    """Bilinear reading of one plane (h, w), each cell's centre at ((2 j + 1) / w - 1, (2 i + 1) / h - 1)."""
    height, width = plane.shape
    out = torch.zeros_like(plane)
    for i in range(height):
        for j in range(width):
            x, y = theta @ torch.tensor([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0])
            column, row = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
            if padding == "border":
                column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
            left, top = column.floor(), row.floor()
            for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= r < height and 0 <= c < width:
                    share = (1 - (column - c).abs()) * (1 - (row - r).abs())
                    out[i, j] += share * plane[int(r), int(c)]
    return out


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warps_read_where_the_parameters_say(padding):
    network, features = BlockTransformer(4, 2, (3, 5), padding=padding), random(2, 4, 3, 5)
    parameters = identity(2, 2) + 0.4 * random(2, 2, 2, 3)
    moved = network.warp(features, parameters)
    for batch in range(2):
        for channel in range(4):
            expected = slow_sample(features[batch, channel], parameters[batch, channel // 2], padding)
            torch.testing.assert_close(moved[batch, channel], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("padding", "edge"), [("zeros", 0.0), ("border", 1.0)])
def test_a_translation_of_one_cell_moves_content_to_the_left(padding, edge):
    network, features = BlockTransformer(2, 1, (4, 8), padding=padding), random(1, 2, 4, 8)
    parameters = identity(1, 1)
    parameters[..., 0, 2] = 2 / 8
    moved = network.warp(features, parameters)
    torch.testing.assert_close(moved[..., :-1], features[..., 1:])
    torch.testing.assert_close(moved[..., -1], edge * features[..., -1])


def test_parameters_of_a_block_move_its_channels_alone():
    network, features = BlockTransformer(6, 3, (4, 4)), random(2, 6, 4, 4)
    parameters = identity(2, 3)
    parameters[0, 1, 1, 2] = 0.7
    moved = (network.warp(features, parameters) != features).flatten(2).any(2)
    assert moved.nonzero().tolist() == [[0, 2], [0, 3]]


@pytest.mark.parametrize("sees_all", [False, True])
def test_what_a_localisation_network_sees(sees_all):
    network = shaken(BlockTransformer(6, 3, (4, 4), sees_all_channels=sees_all))
    source, target = random(1, 6, 4, 4).requires_grad_(), random(1, 6, 4, 4, seed=1).requires_grad_()
    for block, parameters in enumerate(network(source, target).unbind(1)):
        seen = [
            g.flatten(2).abs().sum(2)[0] > 0
            for g in torch.autograd.grad(parameters.sum(), (source, target), retain_graph=True)
        ]
        for channels in seen:
            assert channels.tolist() == [sees_all or channel // 2 == block for channel in range(6)]


@pytest.mark.parametrize("sees_all", [False, True])
def test_source_and_target_are_told_apart(sees_all):
    network = shaken(BlockTransformer(4, 2, (4, 4), sees_all_channels=sees_all))
    source, target = random(1, 4, 4, 4), random(1, 4, 4, 4, seed=1)
    first, second = ((source, target), (target, source))
    assert not torch.allclose(network(*first), network(*second), atol=1e-4)
    for block, found in enumerate(network(source, target).unbind(1)):
        own = slice(None) if sees_all else slice(2 * block, 2 * block + 2)
        together = torch.cat([source[:, own], target[:, own]], 1)
        torch.testing.assert_close(found.flatten(1), network.localisation[block](together))


def test_bounded_parameters_stay_within_one_of_the_identity():
    source, target = 100 * random(4, 4, 4, 4), 100 * random(4, 4, 4, 4, seed=1)
    networks = [shaken(BlockTransformer(4, 2, (4, 4), bounded=bounded), 2.0) for bounded in (False, True)]
    networks[1].load_state_dict(networks[0].state_dict())
    free, bounded = (network(source, target) - identity(4, 2) for network in networks)
    assert free.abs().max() > 10
    assert bounded.abs().max() <= 1
    torch.testing.assert_close(bounded, free.tanh())


def test_only_last_layers_begin_at_zero():
    networks = BlockTransformer(4, 2, (4, 4)).localisation
    for network in networks:
        assert (network[-1].weight == 0).all()
        assert network[-1].bias.tolist() == [1, 0, 0, 0, 1, 0]
    first, second = (dict(network.named_parameters()) for network in networks)
    hidden = [name for name in first if not name.startswith("7.")]
    assert len(hidden) == 6
    assert [name for name in hidden if torch.equal(first[name], second[name]) or (first[name] == 0).all()] == []


def test_blocks_come_to_differ():
    torch.manual_seed(0)
    network = BlockTransformer(4, 2, (4, 4))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    half = random(2, 2, 4, 4)
    source = torch.cat([half, half], 1)
    for _ in range(3):
        F.mse_loss(network.warp(source, network(source, source.roll(1, 3))), source.roll(1, 3)).backward()
        optimizer.step()
    first, second = network(source, source.roll(1, 3)).unbind(1)
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("sees_all_channels", [False, True])
def test_warps_are_in_float32_under_autocast(sees_all_channels):
    torch.manual_seed(0)
    network = shaken(BlockTransformer(4, 2, (8, 8), sees_all_channels=sees_all_channels))
    source, target = random(2, 4, 8, 8).bfloat16(), random(2, 4, 8, 8, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        parameters = network(source, target)
        moved = network.warp(source, parameters)
    assert parameters.dtype == moved.dtype == torch.float32
    assert (parameters - network(source.float(), target.float())).abs().max().item() == 0
    assert (moved - network.warp(source.float(), parameters)).abs().max().item() == 0


@pytest.mark.parametrize("blocks", [0, 3, 8])
def test_blocks_divide_the_channels(blocks):
    with pytest.raises(ValueError, match=f"^num_blocks={blocks} does not divide the 4 channels$"):
        BlockTransformer(4, blocks, (4, 4))
