import pytest
import torch

from lightning_zoo.representation.variable_adam import VariableAdam

RATES = [3e-4, 0.1, 1e-5]


def test_equals_adam_of_each_row_while_rates_change():
    torch.manual_seed(0)
    stacked = [torch.nn.Parameter(torch.randn(3, 4, 5)), torch.nn.Parameter(torch.randn(3, 2))]
    alone = [[torch.nn.Parameter(p[k].detach().clone()) for p in stacked] for k in range(3)]
    optimizer = VariableAdam(stacked, learning_rate=1e-2, epsilon=1e-5)
    references = [torch.optim.Adam(rows, lr=1e-2, eps=1e-5, foreach=False) for rows in alone]
    for step in range(12):
        if step == 4:
            optimizer.set_rates(torch.tensor(RATES))
            for reference, rate in zip(references, RATES, strict=True):
                reference.param_groups[0]["lr"] = rate
        for index, parameter in enumerate(stacked):
            parameter.grad = torch.randn_like(parameter)
            for k, rows in enumerate(alone):
                rows[index].grad = parameter.grad[k].clone()
        optimizer.step()
        for k, reference in enumerate(references):
            reference.step()
            for parameter, row in zip(stacked, alone[k], strict=True):
                torch.testing.assert_close(parameter[k], row, rtol=1e-6, atol=1e-7)


def test_a_row_with_rate_zero_stays_and_the_others_move():
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = VariableAdam([parameter], learning_rate=0.1)
    optimizer.set_rates(torch.tensor([0.0, 0.1]))
    for _ in range(3):
        parameter.grad = torch.ones(2, 3)
        optimizer.step()
    assert torch.equal(parameter[0], torch.ones(3))
    assert (parameter[1] < 0.9).all()


def test_state_survives_a_checkpoint(tmp_path):
    torch.manual_seed(1)
    first = torch.nn.Parameter(torch.randn(2, 3))
    optimizer = VariableAdam([first], learning_rate=0.1)
    gradients = torch.randn(6, 2, 3)
    for gradient in gradients[:3]:
        first.grad = gradient
        optimizer.step()
    optimizer.set_rates(torch.tensor([0.0, 0.02]))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = VariableAdam([second], learning_rate=0.1)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for gradient in gradients[3:]:
        for parameter, one in ((first, optimizer), (second, resumed)):
            parameter.grad = gradient
            one.step()
    assert torch.equal(first, second)


def test_closure_runs_with_gradients():
    parameter = torch.nn.Parameter(torch.ones(2, 1))
    optimizer = VariableAdam([parameter], learning_rate=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    torch.testing.assert_close(parameter.detach(), torch.full((2, 1), 0.5), rtol=1e-5, atol=1e-6)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"learning_rate .*-1"):
        VariableAdam([torch.ones(2, 2)], learning_rate=-1)
    with pytest.raises(ValueError, match=r"first dimension, got \[2, 3\]"):
        VariableAdam([torch.ones(2, 2), torch.ones(3, 2)])
