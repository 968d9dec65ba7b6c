"""Where the regularisers of the attention mask are smallest and largest, and which way they push."""

import math

import pytest
import torch

from lightning_zoo.losses.attention import attention_balance, attention_entropy

SHAPES = pytest.mark.parametrize(("steps", "attributes"), [(8, 40), (4, 6), (2, 3), (1, 5)])


def masks(steps, attributes, number=50):
    generator = torch.Generator().manual_seed(0)
    return (4 * torch.randn(number, steps, attributes, dtype=torch.float64, generator=generator)).softmax(1)


@SHAPES
def test_no_mask_has_more_entropy_than_even_attention_or_less_than_certain_attention(steps, attributes):
    for mask in masks(steps, attributes):
        assert 0 <= float(attention_entropy(mask)) <= math.log(steps) + 1e-12
    even = torch.full((steps, attributes), 1 / steps, dtype=torch.float64)
    assert float(attention_entropy(even)) == pytest.approx(math.log(steps), abs=1e-12)
    certain = torch.eye(steps, dtype=torch.float64)[:, torch.arange(attributes) % steps]
    assert attention_entropy(certain) == 0


@SHAPES
def test_no_mask_is_further_from_balance_than_one_step_that_reads_all(steps, attributes):
    crowded = torch.zeros(steps, attributes, dtype=torch.float64)
    crowded[-1] = 1
    # N - N / T once and N / T for the T - 1 others, squared, over T.
    worst = attributes**2 * (steps - 1) / steps**2
    assert float(attention_balance(crowded)) == pytest.approx(worst)
    for mask in masks(steps, attributes):
        assert 0 <= float(attention_balance(mask)) <= worst + 1e-12


def test_balance_has_no_wish_for_even_attention():
    """Certain attention is balanced too, where each step reads as many attributes."""
    assert attention_balance(torch.eye(4).repeat(1, 3)) == 0


def test_balance_against_a_slow_sum_with_its_gradient():
    mask = masks(4, 6)[0].requires_grad_()
    slow, expected = 0.0, torch.zeros(4, 6, dtype=torch.float64)
    for step in range(4):
        excess = sum(float(mask[step, n]) for n in range(6)) - 6 / 4
        slow += excess**2 / 4
        expected[step] = 2 * excess / 4  # alike for all attributes
    balance = attention_balance(mask)
    assert float(balance.detach()) == pytest.approx(slow)
    torch.testing.assert_close(torch.autograd.grad(balance, mask)[0], expected)


def test_entropy_pushes_towards_the_step_that_is_attended_most():
    scores = torch.tensor([[0.5, -1.0], [0.0, 0.0], [-0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    mask = scores.softmax(0)
    (gradient,) = torch.autograd.grad(attention_entropy(mask), scores)
    with torch.no_grad():
        # dH / ds_t = -p_t (log p_t + H) of each column, over N columns.
        entropy = -(mask * mask.log()).sum(0)
        torch.testing.assert_close(gradient, -mask * (mask.log() + entropy) / 2)
    assert (gradient.argmin(0) == mask.argmax(0)).all()
