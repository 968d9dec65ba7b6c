import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from lightning_zoo.losses.vae import block_kl, gaussian_kl, gaussian_kl_between, squared_error_sum


def posterior(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(5, 3, dtype=dtype), torch.randn(5, 3, dtype=dtype)


def slow_kl(mean, log_variance):
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(Independent(Normal(mean, (0.5 * log_variance).exp()), 1), Independent(prior, 1))


def test_kl_equals_torch_distributions_in_value_and_gradient():
    mean, log_variance = (x.requires_grad_() for x in posterior())
    torch.testing.assert_close(gaussian_kl(mean, log_variance), slow_kl(mean, log_variance))
    ours = torch.autograd.grad(gaussian_kl(mean, log_variance).square().sum(), [mean, log_variance])
    theirs = torch.autograd.grad(slow_kl(mean, log_variance).square().sum(), [mean, log_variance])
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_kl_equals_a_monte_carlo_estimate():
    mean, log_variance = posterior()
    q = Normal(mean, (0.5 * log_variance).exp())
    z = q.sample((200_000,))
    estimates = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
    error = estimates.std(0) / len(z) ** 0.5
    assert ((gaussian_kl(mean, log_variance) - estimates.mean(0)).abs() < 5 * error).all()


def test_kl_of_the_prior_is_zero_and_small_ones_keep_their_digits():
    assert gaussian_kl(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0.0, 0.0]
    # (exp(s) - 1 - s) / 2 = s^2 / 4 + ..., which 1 + s - exp(s) in float32 would lose altogether.
    small = gaussian_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-3))
    assert small.item() == pytest.approx(1e-6 / 4, rel=0.05)


def test_kl_between_gaussians_equals_torch_distributions_in_value_and_gradient():
    torch.manual_seed(3)
    given = [torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    mean, log_variance, prior_mean, prior_log_variance = given
    q, p = Normal(mean, (0.5 * log_variance).exp()), Normal(prior_mean, (0.5 * prior_log_variance).exp())
    slow = kl_divergence(q, p).sum((1, 2))
    torch.testing.assert_close(gaussian_kl_between(*given), slow)
    ours = torch.autograd.grad(gaussian_kl_between(*given).square().sum(), given)
    theirs = torch.autograd.grad(slow.square().sum(), given)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_kl_by_blocks_of_channels_with_a_prior():
    torch.manual_seed(4)
    mean, log_variance, *prior = (torch.randn(2, 6, 2, 2) for _ in range(4))
    blocks = block_kl(mean, log_variance, 3, tuple(prior))
    assert blocks.shape == (2, 3)
    for step in range(3):
        channels = slice(2 * step, 2 * step + 2)
        own = gaussian_kl_between(*(x[:, channels] for x in (mean, log_variance, *prior)))
        torch.testing.assert_close(blocks[:, step], own)
    standard = block_kl(mean, log_variance, 3, (torch.zeros_like(mean), torch.zeros_like(mean)))
    torch.testing.assert_close(standard, block_kl(mean, log_variance, 3))


def test_squared_error_is_a_gaussian_likelihood():
    torch.manual_seed(1)
    guess = torch.rand(4, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    target = torch.rand(4, 1, 3, 2, dtype=torch.float64)
    density = Normal(guess, 0.5**0.5)
    slow = [
        sum((g - t) ** 2 for g, t in zip(a, b, strict=True))
        for a, b in zip(guess.flatten(1), target.flatten(1), strict=True)
    ]
    torch.testing.assert_close(squared_error_sum(guess, target), torch.stack(slow))
    constant = density.log_prob(guess.detach()).flatten(1).sum(1)
    torch.testing.assert_close(squared_error_sum(guess, target), constant - density.log_prob(target).flatten(1).sum(1))
    (gradient,) = torch.autograd.grad(squared_error_sum(guess, target).sum(), guess)
    torch.testing.assert_close(gradient, 2 * (guess - target).detach())


def test_half_precision_inputs_are_summed_in_float32():
    ones = torch.ones(1, 210 * 160, dtype=torch.bfloat16)
    assert squared_error_sum(ones, torch.zeros_like(ones)).item() == 210 * 160
    assert squared_error_sum(ones, ones).dtype == torch.float32
    assert gaussian_kl(2 * ones, 0 * ones).item() == 2 * 210 * 160
