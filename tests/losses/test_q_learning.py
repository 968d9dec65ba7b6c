"""Q-learning against loops over plain numbers."""

import pytest
import torch

from lightning_zoo.losses.q_learning import (
    augmentation_variance,
    chosen_values,
    greedy_values,
    q_targets,
    td_loss,
    value_errors,
)

BATCH, ACTIONS, VIEWS = 5, 4, 3


def draw(*shape, seed=0, spread=2.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_actions():
    return torch.tensor([0, 3, 1, 1, 2])


def slow_error(error, kind):
    if kind == "mse":
        return error**2
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 1 / 2


def slow_slope(error, kind):
    return 2 * error if kind == "mse" else max(-1.0, min(1.0, error))


def test_the_target_network_chooses_its_own_best_action():
    q = draw(BATCH, ACTIONS)
    assert greedy_values(q).tolist() == [max(row) for row in q.tolist()]


def test_double_the_online_network_chooses_and_the_target_network_values():
    target, online = draw(BATCH, ACTIONS, seed=1), draw(BATCH, ACTIONS, seed=2)
    expected = [row[best.index(max(best))] for row, best in zip(target.tolist(), online.tolist(), strict=True)]
    values = greedy_values(target, online)
    assert values.tolist() == expected
    assert (values <= greedy_values(target)).all()
    assert values.tolist() != greedy_values(target).tolist()  # or the seeds show nothing
    assert values.tolist() != greedy_values(online).tolist()


def test_every_view_has_a_best_action_of_its_own():
    target, online = draw(VIEWS, BATCH, ACTIONS, seed=3), draw(VIEWS, BATCH, ACTIONS, seed=4)
    values = greedy_values(target, online)
    for view in range(VIEWS):
        torch.testing.assert_close(values[view], greedy_values(target[view], online[view]))
        assert greedy_values(target)[view].tolist() == [max(row) for row in target[view].tolist()]


def test_targets_equal_a_loop():
    rewards, values = draw(BATCH, seed=5), draw(VIEWS, BATCH, seed=6)
    discounts = torch.tensor([0.99, 0.0, 0.99**10, 0.5, 1.0], dtype=torch.float64)
    one, many = q_targets(rewards, discounts, values[0]), q_targets(rewards, discounts, values)
    for i in range(BATCH):
        r, d = rewards[i].item(), discounts[i].item()
        assert one[i].item() == pytest.approx(r + d * values[0, i].item())
        mean = sum(values[k, i].item() for k in range(VIEWS)) / VIEWS
        assert many[i].item() == pytest.approx(r + d * mean)
    assert many[1] == rewards[1]  # nothing follows a termination


@pytest.mark.parametrize("online", [False, True])
def test_targets_have_no_gradient(online):
    q = draw(BATCH, ACTIONS).requires_grad_()
    rewards = draw(BATCH).requires_grad_()
    values = greedy_values(q, q if online else None)
    assert not values.requires_grad
    assert not q_targets(rewards, torch.ones(BATCH), q[:, 0]).requires_grad


def test_columns_are_refused_instead_of_broadcast():
    column, row = torch.zeros(BATCH, 1), torch.zeros(BATCH)
    for arguments in [(column, column, column), (row, row, column), (row, column, row), (row[:1], row[:1], row)]:
        with pytest.raises(AssertionError):
            q_targets(*arguments)
    for values, targets in [(column, row), (row, column), (row, row[:1]), (column, column)]:
        with pytest.raises(AssertionError):
            value_errors(values, targets)
    with pytest.raises(AssertionError):
        greedy_values(torch.zeros(BATCH, ACTIONS), torch.zeros(1, ACTIONS))


@pytest.mark.parametrize("kind", ["huber", "mse"])
def test_loss_and_gradient_equal_a_loop(kind):
    q, actions, targets = draw(BATCH, ACTIONS).requires_grad_(), draw_actions(), draw(BATCH, seed=7)
    loss = td_loss(q, actions, targets, kind)
    loss.backward()
    errors = [(q[i, actions[i]] - targets[i]).item() for i in range(BATCH)]
    assert min(map(abs, errors)) < 1 < max(map(abs, errors))  # both sides of Huber's bend
    assert loss.item() == pytest.approx(sum(slow_error(error, kind) for error in errors) / BATCH)
    expected = torch.zeros(BATCH, ACTIONS, dtype=torch.float64)
    for i, error in enumerate(errors):
        expected[i, actions[i]] = slow_slope(error, kind) / BATCH
    torch.testing.assert_close(q.grad, expected)


@pytest.mark.parametrize("kind", ["huber", "mse"])
@pytest.mark.parametrize(("reduction", "share"), [("mean", 1 / VIEWS), ("sum", 1.0)])
def test_views_share_actions_and_targets(kind, reduction, share):
    q, actions, targets = draw(VIEWS, BATCH, ACTIONS).requires_grad_(), draw_actions(), draw(BATCH, seed=7)
    loss = td_loss(q, actions, targets, kind, reduction)
    loss.backward()
    total = 0.0
    for m in range(VIEWS):
        for i in range(BATCH):
            error = (q[m, i, actions[i]] - targets[i]).item()
            total += slow_error(error, kind) / BATCH * share
            slope = q.grad[m, i, actions[i]].item()
            assert slope == pytest.approx(slow_slope(error, kind) / BATCH * share)
    assert loss.item() == pytest.approx(total)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_view_is_the_loss_without_views(reduction):
    q, actions, targets = draw(BATCH, ACTIONS), draw_actions(), draw(BATCH, seed=7)
    plain = td_loss(q, actions, targets)
    torch.testing.assert_close(td_loss(q[None], actions, targets, reduction=reduction), plain)
    torch.testing.assert_close(td_loss(q, actions, targets, reduction=reduction), plain)


def test_targets_get_no_gradient_from_the_loss():
    targets = draw(BATCH).requires_grad_()
    td_loss(draw(BATCH, ACTIONS, seed=1).requires_grad_(), draw_actions(), targets).backward()
    assert targets.grad is None


def test_half_precision_is_widened():
    q = (1000 + draw(BATCH, ACTIONS)).bfloat16()
    targets = q_targets(torch.full((BATCH,), 0.25), torch.ones(BATCH), greedy_values(q))
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets, q.float().amax(1) + 0.25)  # which bfloat16 would round off
    assert td_loss(q, draw_actions(), targets).dtype == torch.float32


def test_chosen_values_of_each_view():
    q = draw(VIEWS, BATCH, ACTIONS)
    chosen = chosen_values(q, draw_actions())
    for m in range(VIEWS):
        assert chosen[m].tolist() == [q[m, i, action].item() for i, action in enumerate(draw_actions())]


def test_augmentation_variance_equals_half_the_mean_squared_difference_of_pairs():
    q = draw(VIEWS, BATCH, ACTIONS)
    values = q.tolist()
    total, count = 0.0, 0
    for i in range(BATCH):
        for a in range(ACTIONS):
            for k in range(VIEWS):
                for other in range(k):
                    total += (values[k][i][a] - values[other][i][a]) ** 2
                    count += 1
    assert augmentation_variance(q).item() == pytest.approx(total / count / 2)
    # What items differ by is no variance over views.
    assert augmentation_variance(q[:1].repeat(2, 1, 1)).item() == 0


def test_one_view_has_no_variance():
    with pytest.raises(ValueError, match="at least 2 views, got 1"):
        augmentation_variance(draw(1, BATCH))
