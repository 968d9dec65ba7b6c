"""The likelihood that `test` reports, against models whose likelihood is known."""

import math
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributions import Bernoulli, Normal

from lightning_zoo.generative.cvae import CVAE
from lightning_zoo.generative.hierarchical_crvae import HierarchicalCRVAE
from lightning_zoo.generative.likelihood import streamed_log_likelihood
from lightning_zoo.generative.vae import VAE

warnings.filterwarnings("ignore", ".*LeafSpec.*")


def binary_images(count, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 28, 28, generator=generator).lt(0.3).float()


class OneVariable(nn.Module):
    """A posterior of one latent variable, whose mean depends on the image."""

    def __init__(self, slope, log_variance):
        super().__init__()
        self.slope, self.log_variance = slope, log_variance

    def forward(self, images):
        mean = self.slope * (images.mean((1, 2, 3), keepdim=True) - 0.3)
        return mean, torch.full_like(mean, self.log_variance)


class Pixels(nn.Module):
    """Logits that are linear in one latent variable; slope 0 makes them independent of it."""

    def __init__(self, slope):
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.offset = nn.Parameter(torch.randn(1, 1, 28, 28, generator=generator) - 1)
        self.direction = nn.Parameter(slope * torch.randn(1, 1, 28, 28, generator=generator))

    def forward(self, latent):
        return self.offset + self.direction * latent


def toy(decoder_slope, posterior_slope=0.0, log_variance=0.0, **options):
    model = VAE(base_channels=1, latent_channels=1, **options).eval()
    model.encoder, model.projection = nn.Identity(), nn.Identity()
    model.posterior_path = OneVariable(posterior_slope, log_variance)
    model.decoder = Pixels(decoder_slope)
    model.latent_shape = (1, 1, 1)
    return model


@torch.no_grad()
def exact(model, images):
    """Log-likelihood, ELBO and the deviation of a weight relative to its mean, each (B,), by quadrature in float64."""
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    logits = (model.decoder.offset + model.decoder.direction * grid.view(-1, 1, 1, 1)).double()
    step = (grid[1] - grid[0]).log()
    prior = Normal(0.0, 1.0).log_prob(grid)
    results = []
    for image in images:
        log_joint = Bernoulli(logits=logits).log_prob(image.double()).sum((1, 2, 3)) + prior
        likelihood = (log_joint + step).logsumexp(0)
        mean, log_variance = (x.double().squeeze() for x in model.posterior_path(image[None]))
        posterior = Normal(mean, (0.5 * log_variance).exp()).log_prob(grid)
        bound = ((posterior + step).exp() * (log_joint - posterior)).sum()
        square = (2 * (log_joint - likelihood) - posterior + step).exp().sum()
        results.append(torch.stack([likelihood, bound, (square - 1).sqrt()]))
    return torch.stack(results, 1)


def test_a_decoder_that_ignores_its_latent_variable_has_the_likelihood_of_the_pixels():
    model, images = toy(decoder_slope=0.0), binary_images(5)
    expected = Bernoulli(logits=model.decoder.offset).log_prob(images).sum((1, 2, 3)).double()
    found, bound = streamed_log_likelihood(model, images, num_draws=7, draws_per_chunk=4)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(bound, expected, rtol=1e-6, atol=0)


def test_a_wrong_posterior_is_corrected_by_the_weights():
    # The posterior is not the prior that the decoder's indifference asks for: the ELBO is lower by its divergence.
    model, images = toy(decoder_slope=0.0, log_variance=-0.5), binary_images(2)
    expected = Bernoulli(logits=model.decoder.offset).log_prob(images).sum((1, 2, 3)).double()
    found, bound = streamed_log_likelihood(model, images, num_draws=40_000, draws_per_chunk=40_000)
    divergence = 0.5 * (math.exp(-0.5) - 1 + 0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(bound, expected - divergence, rtol=0, atol=0.02)


def test_one_latent_variable_against_quadrature():
    model, images = toy(decoder_slope=0.1, posterior_slope=3.0, log_variance=-1.0), binary_images(4)
    likelihood, expected_bound, deviation = exact(model, images)
    error = deviation / 20_000**0.5
    assert (likelihood - expected_bound).max() > 40 * error.max(), "the case is too easy to tell the two apart"
    generator = torch.Generator().manual_seed(0)
    found, bound = streamed_log_likelihood(model, images, num_draws=20_000, draws_per_chunk=9000, generator=generator)
    assert ((found - likelihood).abs() < 5 * error + 1e-3).all()
    torch.testing.assert_close(bound, expected_bound, rtol=0, atol=0.05)


def test_more_draws_come_closer_from_below():
    model, images = toy(decoder_slope=0.1, posterior_slope=3.0, log_variance=-1.0), binary_images(1)
    likelihood, expected_bound, _ = exact(model, images)
    many = images.expand(4000, -1, -1, -1)
    means = []
    for k in (1, 3, 10):
        found, _ = streamed_log_likelihood(model, many, num_draws=k, draws_per_chunk=8000)
        means.append((found.mean().item(), found.std().item() / 4000**0.5))
    assert means[0][0] == pytest.approx(expected_bound.item(), abs=5 * means[0][1])
    assert means[0][0] + 5 * means[0][1] < means[1][0] < means[1][0] + 5 * means[1][1] < means[2][0]
    assert means[2][0] < likelihood.item() + 5 * means[2][1]


class Counted(nn.Module):
    def __init__(self, module, rows):
        super().__init__()
        self.module, self.rows = module, rows

    def forward(self, x):
        self.rows.append(len(x))
        return self.module(x)


@pytest.mark.parametrize(
    ("num_draws", "chunk", "expected"),
    [(10, 4, [4, 4, 2] * 3), (3, 6, [6, 3]), (3, 100, [9]), (2, 1, [1] * 6), (5, 5, [5] * 3)],
)
def test_no_more_than_a_chunk_is_decoded_at_once_and_images_are_encoded_once(num_draws, chunk, expected):
    model = toy(decoder_slope=0.1)
    encoded, decoded = [], []
    model.encoder, model.decoder = Counted(model.encoder, encoded), Counted(model.decoder, decoded)
    streamed_log_likelihood(model, binary_images(3), num_draws=num_draws, draws_per_chunk=chunk)
    assert encoded == [3]
    assert decoded == expected


@pytest.mark.parametrize("cls", [CVAE, HierarchicalCRVAE])
def test_a_shared_chunk_keeps_images_apart(cls):
    torch.manual_seed(0)
    options = {"num_steps": 2, "hidden_size": 5} if cls is HierarchicalCRVAE else {}
    model = cls(base_channels=1, latent_channels=4, **options).eval()
    nn.init.constant_(model.decoder.layers[-1].bias, -1.0)
    images = torch.cat([binary_images(2), torch.ones(1, 1, 28, 28)])
    together, _ = streamed_log_likelihood(model, images, num_draws=400, draws_per_chunk=1200)
    alone = torch.cat([streamed_log_likelihood(model, x[None], num_draws=400, draws_per_chunk=400)[0] for x in images])
    assert (together[2] - together[0]).abs() > 10
    torch.testing.assert_close(together, alone, rtol=0, atol=1.5)


# What `test` logs.


class Tested(L.LightningDataModule):
    """Images in batches of the given sizes; of several processes each takes its own."""

    def __init__(self, images, *sizes):
        super().__init__()
        self.images, self.sizes = images, sizes

    def test_dataloader(self):
        parts = self.images.split(list(self.sizes))
        own = parts[self.trainer.global_rank :: self.trainer.world_size]
        return torch.utils.data.DataLoader([{"images": (255 * part).byte()} for part in own], batch_size=None)


def run_test(model, data, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return L.Trainer(**(quiet | options)).test(model, data, verbose=False)[0]


def known(count, **options):
    """A model whose likelihood is known, some images, and what `test` has to say of them."""
    model, images = toy(decoder_slope=0.0, num_draws=3, draws_per_chunk=2, **options), binary_images(count)
    exact_nll = -Bernoulli(logits=model.decoder.offset).log_prob(images).sum((1, 2, 3)).detach().double()
    return model, images, exact_nll


def check(logged, nll):
    assert logged["test/nll"] == pytest.approx(nll.mean().item(), rel=1e-6)
    assert logged["test/nll_standard_error"] == pytest.approx(nll.std().item() / len(nll) ** 0.5, rel=1e-4)
    assert logged["test/elbo"] == pytest.approx(-nll.mean().item(), rel=1e-6)
    assert logged["test/num_images"] == len(nll)


def test_batches_of_unequal_size_count_by_their_images():
    model, images, nll = known(7)
    check(run_test(model, Tested(images, 4, 1, 2)), nll)
    check(run_test(model, Tested(images, 4, 1, 2)), nll)


@pytest.mark.parametrize("limit", [2, 5, 9])
def test_the_first_images_alone_where_asked_for(limit):
    model, images, nll = known(7, num_test_images=limit)
    check(run_test(model, Tested(images, 4, 1, 2)), nll[:limit])


class InBothProcesses(L.Callback):
    """Lightning drops what a test raises in another process than the first, so all compare before they end."""

    def __init__(self, nll):
        self.nll = nll

    def on_test_end(self, trainer, module):
        check({name: value.item() for name, value in trainer.callback_metrics.items()}, self.nll)


@pytest.mark.parametrize("limit", [None, 6])
def test_two_processes_with_unequal_batches_report_all_images(limit):
    # In turn to the first and the second process: 4, 1, then 2, 3.
    model, images, nll = known(10, num_test_images=limit)
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    callbacks = [InBothProcesses(nll[:limit])]
    run_test(
        model,
        Tested(images, 4, 1, 2, 3),
        strategy=strategy,
        devices=2,
        use_distributed_sampler=False,
        callbacks=callbacks,
    )
