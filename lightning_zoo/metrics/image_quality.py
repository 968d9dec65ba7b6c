"""How close generated images come to real ones: Frechet distance, kernel distance and inception score.

All three are torchmetrics'. Here they get features that were computed once, in float64, and draw from a generator of
their own instead of the process's. Every result says from how many images it is, since all of them depend on that:
the Frechet distance is biased upwards with few images, and more so with more features than images (Binkowski et al.
2018, arXiv 1801.01401, section 3.2), the inception score downwards. The kernel distance has no bias.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

QualityMetric = Literal["frechet", "kernel", "inception"]
METRICS: tuple[QualityMetric, ...] = get_args(QualityMetric)
SPLITS = 10
"""Parts of the generated images over which the inception score has its mean and standard deviation."""

SUBSETS, SUBSET_SIZE = 100, 1000
"""Random subsets over which the kernel distance has its mean and standard deviation, and the images of each."""

_ALONE: dict[str, Any] = {"sync_on_compute": False}
"""The features are those of all processes already; torchmetrics would gather, and count, them once per process."""

_ALIASES: dict[str, QualityMetric] = {"kid": "kernel", "fid": "frechet", "is": "inception"}


@dataclass(frozen=True)
class Quality:
    """One metric's value and how it came about.

    Args:
        name: "frechet_distance", "kernel_distance" or "inception_score".
        value: squared distance in the units of the features, squared maximum mean discrepancy, or score.
        deviation: standard deviation over splits or subsets; None for the Frechet distance, and for a kernel distance
            of so few images that they are all in one subset.
        num_real: real images behind it; 0 for the inception score, which looks at none.
        num_generated: generated images behind it.
    """

    name: str
    value: float
    deviation: float | None
    num_real: int
    num_generated: int


class _Ready(nn.Module):
    """Stands where torchmetrics has its feature extractor and hands on what is already features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def checked_metrics(names: Sequence[str]) -> tuple[QualityMetric, ...]:
    """The metrics by their right names, each once; "kid", "fid" and "is" are understood.

    Raises:
        ValueError: for an unknown name, or none at all.
    """
    right = [_ALIASES.get(name, name) for name in names]
    unknown = [name for name in right if name not in METRICS]
    if unknown or not right:
        raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {', '.join(names) or 'none'}")
    return tuple(name for name in METRICS if name in right)


def possible_metrics(num_classes: int | None) -> tuple[QualityMetric, ...]:
    """The metrics that an extractor with so many classes, or None, allows."""
    return METRICS if num_classes else ("frechet", "kernel")


def check_possible(metrics: Sequence[QualityMetric], num_classes: int | None, description: str) -> None:
    """Let only a classifier with one label per image give an inception score.

    Raises:
        ValueError: if "inception" is among ``metrics`` and the extractor has no classes.
    """
    if "inception" in metrics and not num_classes:
        raise ValueError(
            f"metrics: inception needs class probabilities, which the extractor ({description}) has not; leave it out "
            "or give a checkpoint of a Classifier of one label, or inception:PATH"
        )


def measure(
    real: Mapping[str, Tensor], generated: Mapping[str, Tensor], metrics: Sequence[QualityMetric], *, seed: int = 0
) -> list[Quality]:
    """All metrics of two sets of images.

    Args:
        real: "features" (N, F) of real images.
        generated: "features" (M, F) and, for the inception score, "logits" (M, C).
        metrics: which.
        seed: of the kernel distance's subsets and the inception score's splits.

    Raises:
        ValueError: if there are too few images.
    """
    if not len(real.get("features", ())):
        raise ValueError("there are no real images to compare the generated ones with")
    functions = {
        "frechet": lambda: frechet_distance(real["features"], generated["features"]),
        "kernel": lambda: kernel_distance(real["features"], generated["features"], seed=seed),
        "inception": lambda: inception_score(generated["logits"], seed=seed),
    }
    return [functions[name]() for name in metrics]


def frechet_distance(real: Tensor, generated: Tensor) -> Quality:
    """Squared Frechet distance of the normal distributions fitted to two sets (Heusel et al. 2017, arXiv 1706.08500).

    Covariances are divided by N - 1. The matrix root is taken in float64 on the CPU, which not every device has.

    Args:
        real: features (N, F).
        generated: features (M, F).

    Raises:
        ValueError: for fewer than two images in a set, or features that are not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, generated = _checked(real, "real"), _checked(generated, "generated")
    metric = FrechetInceptionDistance(feature=_Ready(real.shape[1]), normalize=True, **_ALONE)
    # Sums of squares lose the digits that a large common mean takes; the distance does not depend on it.
    centre = real.mean(0)
    metric.update(real - centre, real=True)
    metric.update(generated - centre, real=False)
    return Quality("frechet_distance", float(metric.compute()), None, len(real), len(generated))


def kernel_distance(
    real: Tensor, generated: Tensor, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = 0
) -> Quality:
    """Squared maximum mean discrepancy with the kernel (x.y / F + 1)^3, unbiased (Binkowski et al. 2018, equation 4).

    Args:
        real: features (N, F).
        generated: features (M, F).
        subsets: random subsets, whose mean and standard deviation (divided by their number) are the result.
        subset_size: images of each subset and set; the smaller set's number where that is less.
        seed: of the subsets.

    Raises:
        ValueError: for fewer than two images in a set, or features that are not finite.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    real, generated = _checked(real, "real"), _checked(generated, "generated")
    size = min(subset_size, len(real), len(generated))
    # A subset of everything is the same each time.
    subsets = 1 if size == len(real) == len(generated) else subsets
    with _quietly_seeded(seed):
        metric = KernelInceptionDistance(feature=_Ready(real.shape[1]), subsets=subsets, subset_size=size, **_ALONE)
        metric.update(real, real=True)
        metric.update(generated, real=False)
        mean, deviation = metric.compute()
    spread = float(deviation) if subsets > 1 else None
    return Quality("kernel_distance", float(mean), spread, len(real), len(generated))


def inception_score(logits: Tensor, *, splits: int = SPLITS, seed: int = 0) -> Quality:
    """Exponential of the mean divergence of p(y|x) from its mean p(y) (Salimans et al. 2016, arXiv 1606.03498).

    Args:
        logits: (M, C).
        splits: parts of the shuffled images; their mean and standard deviation (divided by their number less one) are
            the result.
        seed: of the shuffling.

    Raises:
        ValueError: for fewer than two splits, or two images per split, or logits that are not finite.
    """
    from torchmetrics.image.inception import InceptionScore

    logits = _checked(logits, "generated")
    if splits < 2:
        raise ValueError(f"splits must be at least 2, got {splits}: one has no standard deviation")
    if len(logits) < 2 * splits:
        raise ValueError(
            f"an inception score over {splits} splits needs {2 * splits} images or more, got {len(logits)}"
        )
    with _quietly_seeded(seed):
        metric = InceptionScore(feature=_Ready(logits.shape[1]), splits=splits, **_ALONE)
        metric.update(logits)
        mean, deviation = metric.compute()
    return Quality("inception_score", float(mean), float(deviation), 0, len(logits))


def _checked(features: Tensor, which: str) -> Tensor:
    if len(features) < 2:
        raise ValueError(f"two {which} images or more are needed, got {len(features)}")
    if not bool(torch.isfinite(features).all()):
        raise ValueError(
            f"features of the {which} images are not finite: the images, or the extractor's weights, are not"
        )
    return features.detach().cpu().double()


@contextmanager
def _quietly_seeded(seed: int) -> Iterator[None]:
    """Let torchmetrics draw from ``seed`` on the CPU, put the generator back, and drop its remark on memory."""
    generator: Any = torch.random.default_generator
    before = generator.get_state()
    try:
        generator.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Metric .* will save all extracted features in buffer")
            yield
    finally:
        generator.set_state(before)
