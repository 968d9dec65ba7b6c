import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from lightning_zoo.losses.likelihood import bernoulli_log_likelihood, gaussian_kl_between, log_density_ratio
from lightning_zoo.losses.vae import gaussian_kl


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def same_value_and_gradient(ours, theirs, inputs):
    torch.testing.assert_close(ours, theirs)
    weights = torch.linspace(-1, 2, ours.numel(), dtype=ours.dtype).view_as(ours)
    mine = torch.autograd.grad((ours * weights).sum(), inputs, retain_graph=True)
    others = torch.autograd.grad((theirs * weights).sum(), inputs)
    for one, two in zip(mine, others, strict=True):
        torch.testing.assert_close(one, two)


def test_bernoulli_equals_torch_distributions_draw_by_draw():
    logits = (3 * normal(6, 1, 4, 5)).requires_grad_()
    images = (normal(2, 1, 4, 5) > 0).double()
    slow = torch.stack(
        [
            torch.stack([Bernoulli(logits=logits[3 * image + draw]).log_prob(images[image]).sum() for draw in range(3)])
            for image in range(2)
        ]
    )
    same_value_and_gradient(bernoulli_log_likelihood(logits, images), slow, [logits])


def test_bernoulli_of_certain_pixels_is_exact():
    logits = torch.tensor([[200.0, -200.0]])
    assert bernoulli_log_likelihood(logits, torch.tensor([[1.0, 0.0]])).item() == 0
    assert bernoulli_log_likelihood(logits, torch.tensor([[0.0, 1.0]])).item() == -400


def test_half_precision_networks_have_full_precision_losses():
    logits = normal(4, 784).to(torch.bfloat16)
    images = (normal(2, 784) > 0).float()
    expected = bernoulli_log_likelihood(logits.double(), images.double()).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = bernoulli_log_likelihood(logits, images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("learned", [False, True])
def test_density_ratio_equals_torch_distributions(learned):
    noise = normal(3, 2, 4)
    mean, log_variance, prior_mean, prior_log_variance = (normal(3, 2, 4 + i)[..., :4] for i in (0, 1, 2, 3))
    inputs = [mean, log_variance] + ([prior_mean, prior_log_variance] if learned else [])
    for tensor in inputs:
        tensor.requires_grad_()
    q = Normal(mean, (0.5 * log_variance).exp())
    latent = mean + (0.5 * log_variance).exp() * noise
    p = Normal(prior_mean, (0.5 * prior_log_variance).exp()) if learned else Normal(0.0, 1.0)
    prior = (prior_mean, prior_log_variance) if learned else None
    slow = (p.log_prob(latent) - q.log_prob(latent)).sum(-1)
    same_value_and_gradient(log_density_ratio(noise, log_variance, latent, prior), slow, inputs)


def test_density_ratio_of_a_narrow_posterior_keeps_its_digits():
    # The standard deviation is below float32's resolution at the mean, so that (z - mean) / deviation is lost.
    noise, mean, log_variance = torch.full((1, 1), 0.5), torch.full((1, 1), 3.0), torch.full((1, 1), -40.0)
    latent = mean + (0.5 * log_variance).exp() * noise
    ratio = log_density_ratio(noise, log_variance, latent)
    assert ratio.item() == pytest.approx(-(3.0**2) / 2 + 0.5**2 / 2 - 40 / 2, abs=1e-4)


def test_kl_between_gaussians_equals_torch_distributions():
    tensors = [normal(3, 2, 4 + i)[..., :4].requires_grad_() for i in range(4)]
    mean, log_variance, prior_mean, prior_log_variance = tensors
    slow = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(prior_mean, (0.5 * prior_log_variance).exp()))
    same_value_and_gradient(gaussian_kl_between(*tensors), slow.flatten(1).sum(1), tensors)
    zero = torch.zeros_like(mean)
    torch.testing.assert_close(gaussian_kl_between(mean, log_variance, zero, zero), gaussian_kl(mean, log_variance))
