"""The regularisers of the attention mask against closed forms and slow sums."""

import math

import pytest
import torch

from lightning_zoo.losses.attention import attention_balance, attention_entropy


def test_entropy_of_certain_and_of_even_attention():
    assert attention_entropy(torch.eye(3)[:, [0, 2, 2, 1]]) == 0
    assert float(attention_entropy(torch.full((8, 40), 1 / 8))) == pytest.approx(math.log(8), rel=1e-6)


def test_entropy_against_a_slow_sum_with_its_gradient():
    scores = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = scores.softmax(0)
    slow = sum(-sum(float(p) * math.log(float(p)) for p in column) for column in mask.T) / 6
    assert float(attention_entropy(mask)) == pytest.approx(slow, rel=1e-6)
    assert torch.autograd.gradcheck(lambda s: attention_entropy(s.softmax(0)), scores)


def test_entropy_has_a_gradient_where_attention_is_certain():
    mask = torch.eye(2, requires_grad=True)
    attention_entropy(mask).backward()
    assert torch.isfinite(mask.grad).all()


def test_balance():
    assert attention_balance(torch.full((4, 8), 1 / 4)) == 0
    # All eight attributes at one of four steps: (8 - 2)^2 + 3 * 2^2, over four.
    crowded = torch.zeros(4, 8)
    crowded[1] = 1
    assert float(attention_balance(crowded)) == pytest.approx((36 + 12) / 4)
