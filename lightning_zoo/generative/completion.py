"""Image completion: the latent tensor whose image agrees with the known pixels (Shang et al. 2018, section 5.4.4).

min over z of ||m * (x^ - x)||^2 - gamma log N(z; 0, I) + tau log(1 - D(x^)), with x^ = gen(z), both images in [-1, 1]
and m = 1 where a pixel is known. As printed, the density has a plus, by which unlikely latents would win; we take
minus, that is plus gamma |z|^2 / 2 and a constant. Optimiser, its steps and rate, first latents and restarts are not
stated: those here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.generative.images import to_unit
from lightning_zoo.generative.latent_model import (
    LatentModel,
    check_positive,
    device_of,
    draw_latents,
    held_still,
    posterior_means,
)
from lightning_zoo.generative.masks import checked_mask

PRIOR_WEIGHT = 1e-5
"""gamma of the thesis."""

ADVERSARIAL_WEIGHT = 3e-3
"""tau of the thesis."""

Start = Literal["both", "posterior", "prior"]


@dataclass(frozen=True)
class Completion:
    """What became of B images in R restarts, on the CPU.

    Attributes:
        images: (B, C, H, W) in [0, 1], the best restart's, with the known pixels put back.
        decoded: (B, C, H, W), the best restart's as the model draws them.
        restarts: (R, B, C, H, W), every restart's as the model draws them.
        latents: (R, B, *latent_shape).
        objectives: (R, B), what was minimised.
        best: (B,), the restart with the least objective.
    """

    images: Tensor
    decoded: Tensor
    restarts: Tensor
    latents: Tensor
    objectives: Tensor
    best: Tensor


@dataclass(frozen=True)
class Search:
    """How latents are searched.

    Args:
        steps: of Adam.
        learning_rate: of Adam, in standard deviations of the prior.
        prior_weight: gamma.
        adversarial_weight: tau; models without `realness` have no such term.
        error: squared errors of an image's known pixels over all its pixels as "mean", as in training, which keeps
            latents near the prior, or as their "sum", as printed, beside which the other two terms hardly count.

    Raises:
        ValueError: for a number out of range.
    """

    steps: int = 200
    learning_rate: float = 0.1
    prior_weight: float = PRIOR_WEIGHT
    adversarial_weight: float = ADVERSARIAL_WEIGHT
    error: Literal["sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("prior_weight", "adversarial_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.error not in ("sum", "mean"):
            raise ValueError(f"error must be 'sum' or 'mean', got {self.error!r}")


def complete(
    model: LatentModel,
    images: Tensor,
    mask: Tensor,
    *,
    restarts: int = 4,
    start: Start = "both",
    search: Search | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> Completion:
    """Fill in the hidden pixels of images by searching the latent space, all restarts side by side.

    The model's weights, modes and the global random state are left as they were. Where a discriminator compares the
    images of a batch, as batch discrimination does, restarts are not independent of one another.

    Args:
        model: any generative method; one with `realness` is asked for it.
        images: (B, C, H, W), uint8 or in [0, 1]; hidden pixels are not read.
        mask: (1 or C, H, W) or (B, 1 or C, H, W), 1 where a pixel is known.
        restarts: R.
        start: first latents from the "posterior" of the image with grey in place of what is hidden (its mean, then
            draws), from the "prior", or from "both": the posterior's mean once, then the prior.
        search: how latents are searched.
        seed: of the first latents.
        batch_size: latents at a time, at least R.

    Raises:
        ValueError: for images or a mask of another size than the model's, a mask that hides nothing or everything, an
            argument out of range, or a search that ends in no number.
    """
    check_positive(restarts=restarts, batch_size=batch_size)
    if batch_size < restarts:
        raise ValueError(
            f"batch_size must be at least restarts, which run side by side, got {batch_size} for {restarts} restarts"
        )
    search = search or Search()
    known = to_unit(images, model.image_shape).detach().cpu()
    mask = checked_mask(mask.detach().cpu(), model.image_shape).expand_as(known)
    first = first_latents(model, known, mask, restarts, start, seed, batch_size)
    per_pass = batch_size // restarts
    with held_still(model):
        parts = [
            search_latents(model, image, part_mask, latents, search)
            for image, part_mask, latents in zip(
                known.split(per_pass), mask.split(per_pass), first.split(per_pass, dim=1), strict=True
            )
        ]
    latents, decoded, objectives = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return _best_of(latents, decoded, objectives, known, mask)


def objective(
    latents: Tensor,
    decoded: Tensor,
    images: Tensor,
    mask: Tensor,
    search: Search,
    realness: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """What is minimised, per image (N,); differentiable.

    Args:
        latents: (N, ...).
        decoded: their images (N, C, H, W) in [0, 1].
        images: the images to complete (N, C, H, W) in [0, 1].
        mask: 1 where a pixel is known, broadcast to the images.
        search: weights of the terms.
        realness: logits (N,) of the discriminator for images in [0, 1].
    """
    squares = (mask * 2 * (decoded - images)).square().flatten(1)  # a difference on [-1, 1] is twice that on [0, 1]
    error = squares.sum(1) if search.error == "sum" else squares.mean(1)
    flat = latents.flatten(1)
    negative_log_density = 0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))
    total = error + search.prior_weight * negative_log_density
    if realness is not None and search.adversarial_weight > 0:
        total = total + search.adversarial_weight * F.logsigmoid(-realness(decoded))  # log(1 - D)
    return total


def first_latents(
    model: LatentModel, images: Tensor, mask: Tensor, restarts: int, start: Start, seed: int, batch_size: int
) -> Tensor:
    """Where the search starts: (R, B, *latent_shape) on the CPU; see `complete`."""
    if start not in ("both", "posterior", "prior"):
        raise ValueError(f"start must be 'both', 'posterior' or 'prior', got {start!r}")
    number = len(images)
    generator = torch.Generator().manual_seed(seed)
    latents = draw_latents(model, restarts * number, generator).unflatten(0, (restarts, number))
    if start == "prior":
        return latents
    masked = mask * images + (1 - mask) * 0.5
    means = posterior_means(model, masked, batch_size)
    if start == "posterior" and restarts > 1:
        with torch.no_grad(), held_still(model):
            log_variance = torch.cat([model.posterior(p.to(device_of(model)))[1] for p in masked.split(batch_size)])
        latents = means + torch.exp(0.5 * log_variance.float().cpu()) * latents
    latents[0] = means
    return latents


def search_latents(
    model: LatentModel, images: Tensor, mask: Tensor, latents: Tensor, search: Search
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise the objective from given latents by Adam; the model has to be held still.

    Args:
        model: a generative method.
        images: (B, C, H, W) in [0, 1].
        mask: (B, C, H, W).
        latents: (R, B, *latent_shape), where to start.
        search: how.

    Returns:
        Latents (R, B, *latent_shape), their images (R, B, C, H, W) and objectives (R, B), on the CPU.
    """
    device, (restarts, number) = device_of(model), latents.shape[:2]
    target, mask = (part.to(device).repeat(restarts, 1, 1, 1) for part in (images, mask))
    realness = getattr(model, "realness", None)
    free = latents.flatten(0, 1).to(device, torch.float32, copy=True).requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr=search.learning_rate)
    with torch.enable_grad():
        for _ in range(search.steps):
            loss = objective(free, model.decode(free), target, mask, search, realness).sum()
            (free.grad,) = torch.autograd.grad(loss, [free])
            optimizer.step()
    with torch.no_grad():
        decoded = model.decode(free)
        reached = objective(free, decoded, target, mask, search, realness)
    found = (free.detach(), decoded.float(), reached.float())
    latents, decoded, reached = (part.cpu().unflatten(0, (restarts, number)) for part in found)
    return latents, decoded, reached


def _best_of(latents: Tensor, decoded: Tensor, objectives: Tensor, known: Tensor, mask: Tensor) -> Completion:
    usable = objectives.nan_to_num(nan=math.inf)
    if not usable.isfinite().any(0).all():
        raise ValueError("learning_rate: the search ended in no number for every restart of an image; lower it")
    best = usable.argmin(0)
    chosen = decoded[best, torch.arange(decoded.shape[1])]
    return Completion(
        images=torch.where(mask.bool(), known, chosen),
        decoded=chosen,
        restarts=decoded,
        latents=latents,
        objectives=objectives,
        best=best,
    )
