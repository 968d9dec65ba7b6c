"""Gradients by hand: into `.grad`, averaged over processes, clamped."""

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from lightning_zoo.gradients import average_gradients, clamp_gradients, held, set_gradients


def test_set_gradients_equals_backward_and_replaces_what_was_there():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    inputs = torch.randn(5, 3)
    layer(inputs).square().sum().backward()
    wanted = [parameter.grad.clone() for parameter in layer.parameters()]
    gradients = torch.autograd.grad(layer(inputs).square().sum(), list(layer.parameters()))
    set_gradients(layer.parameters(), gradients)  # a second time: not added up
    for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    set_gradients(layer.parameters(), [None, gradients[1]])
    assert layer.weight.grad is None
    with pytest.raises(ValueError):  # noqa: PT011 - the message is zip's
        set_gradients(layer.parameters(), gradients[:1])


def test_shared_and_expanded_gradients_can_be_changed_in_place():
    first, second = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(2, 3))
    for loss in ((first + second).sum(), ((first + second) ** 2).sum()):  # an expanded one; one tensor for both
        set_gradients([first, second], torch.autograd.grad(loss, [first, second]))
        before = second.grad.clone()
        first.grad.mul_(0)
        torch.testing.assert_close(second.grad, before)
        assert before.abs().min() > 0


def test_gradients_keep_the_memory_format_of_their_parameter():
    layer = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    gradient = torch.randn(6, 4, 3, 3)
    set_gradients([layer.weight], [gradient])
    assert layer.weight.grad.stride() == layer.weight.stride()
    torch.testing.assert_close(layer.weight.grad, gradient)


def test_clamp_gradients():
    parameter, unused = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([-7.0, 0.5, 9.0])
    clamp_gradients([parameter, unused], 5)
    assert parameter.grad.tolist() == [-5.0, 0.5, 5.0]
    assert unused.grad is None
    for limit in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="limit must be positive"):
            clamp_gradients([parameter], limit)


def test_without_a_process_group_nothing_changes():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    average_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]


def _gradients_of(rank):
    generator = torch.Generator().manual_seed(rank)
    shapes = [(2, 3, 3, 3), None, (5,), (2, 2)]
    types = [torch.float32, None, torch.float32, torch.float64]
    return [
        None if shape is None else torch.randn(shape, generator=generator).to(dtype)
        for shape, dtype in zip(shapes, types, strict=True)
    ]


def _average(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    parameters = []
    for gradient in _gradients_of(rank):
        parameter = nn.Parameter(torch.zeros(1) if gradient is None else torch.zeros_like(gradient))
        parameter.grad = gradient
        parameters.append(parameter)
    parameters[0].grad = parameters[0].grad.to(memory_format=torch.channels_last)
    average_gradients(parameters)
    torch.save([parameter.grad for parameter in parameters], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_get_the_mean(tmp_path):
    mp.start_processes(_average, args=(str(tmp_path),), nprocs=2, start_method="fork")
    wanted = [
        None if first is None else (first + second) / 2
        for first, second in zip(_gradients_of(0), _gradients_of(1), strict=True)
    ]
    for rank in (0, 1):
        for got, mean in zip(torch.load(tmp_path / f"{rank}.pt"), wanted, strict=True):
            assert (got is None) == (mean is None)
            if mean is not None:
                torch.testing.assert_close(got, mean)


def test_a_held_network_passes_gradients_and_takes_none():
    network, inputs = nn.Linear(2, 3), torch.ones(1, 2, requires_grad=True)
    network.bias.requires_grad = False
    with held(network):
        outputs = network(inputs).sum()
    outputs.backward()
    assert network.weight.grad is None
    torch.testing.assert_close(inputs.grad, network.weight.sum(0, keepdim=True))
    assert (network.weight.requires_grad, network.bias.requires_grad) == (True, False)
