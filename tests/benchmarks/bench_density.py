"""Log-likelihood of images by importance sampling: streamed, against a loop over images and draws written plainly."""

import math

import torch
from measure import Result, in_turns
from torch.distributions import Bernoulli, Normal

from lightning_zoo import CRVAE
from lightning_zoo.generative.likelihood import streamed_log_likelihood

DRAWS = 10_000
SAMPLED_DRAWS = 100
IMAGES = 2
ROUNDS = 3


def likelihood() -> Result:
    """Images per second with 10,000 draws each; the plain loop is timed on a part of its draws, all of equal cost."""
    torch.manual_seed(0)
    model = CRVAE(base_channels=8, hidden_size=128, channels_last=True).eval()
    images = torch.rand(IMAGES, 1, 28, 28).lt(0.2).float()
    chunk = 128
    fast, slow, _ = in_turns(
        lambda: streamed_log_likelihood(model, images, num_draws=SAMPLED_DRAWS * 5, draws_per_chunk=chunk),
        lambda: [_one_by_one(model, image, SAMPLED_DRAWS) for image in images],
        ROUNDS,
    )
    ours, theirs = IMAGES / (fast * DRAWS / (SAMPLED_DRAWS * 5)), IMAGES / (slow * DRAWS / SAMPLED_DRAWS)
    detail = (
        f"{DRAWS:,} draws per image, crVAE with 8 base channels: one image and one draw at a time "
        f"{theirs:.3f} images/s, streamed in chunks of {chunk} draws {ours:.3f} images/s"
    )
    return Result("likelihood by importance sampling against a plain loop", ours / theirs, "x", 10, True, detail)


@torch.no_grad()
def _one_by_one(model: CRVAE, image: torch.Tensor, num_draws: int) -> float:
    """Log-likelihood of one image (1, 28, 28) by one draw after the other."""
    mean, log_variance = model.posterior(image[None])
    posterior, prior = Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)
    log_weights = []
    for _ in range(num_draws):
        latent = posterior.sample()
        log_weight = Bernoulli(logits=model.generate(latent)).log_prob(image[None]).sum()
        log_weight += prior.log_prob(latent).sum() - posterior.log_prob(latent).sum()
        log_weights.append(log_weight)
    return torch.stack(log_weights).logsumexp(0).item() - math.log(num_draws)
