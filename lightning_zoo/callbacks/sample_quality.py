"""How good a generative method's samples are, measured while it trains."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_zoo.callbacks.sample_grid import averaged_to, evaluating
from lightning_zoo.metrics.feature_extractors import Extractor, as_unit, extract_all, make_extractor
from lightning_zoo.metrics.image_quality import check_possible, checked_metrics, measure

_BATCH = 100
LOGGED = {
    "kernel_distance": "kernel_distance",
    "frechet_distance": "frechet_distance",
    "inception_score": "inception_mean",
}
"""Under which names the metrics are logged."""


class SampleQuality(Callback):
    """Logs val/frechet_distance, val/kernel_distance and val/inception_mean of samples against validation images.

    With several processes each extracts features of its share, all shares are gathered, and every process computes the
    same values. Samples are those of the same latent variables each time. Nothing is drawn from the global random
    generators, and the extractor is no part of the method, so that a run is the same with and without this callback.
    The real images are those of the first validation that is measured, as far as it goes. Where their side is a
    whole multiple of the method's they are averaged down to its size; their features are taken anew when it has grown.

    Args:
        extractor: "random", a checkpoint of a `Classifier` or of any method with ``encode``, or "inception:PATH".
        num_images: generated images, and real ones at most; the values depend on it.
        every_n_epochs: measure at the end of each n-th epoch's validation.
        metrics: some of "frechet", "kernel" and "inception".
        seed: of the latent variables, subsets and splits.

    Raises:
        ValueError: for an unknown metric, or a number out of range.
    """

    def __init__(
        self,
        extractor: str = "random",
        num_images: int = 1000,
        every_n_epochs: int = 1,
        metrics: Sequence[str] = ("frechet",),
        seed: int = 0,
    ) -> None:
        if num_images < 2:
            raise ValueError(f"num_images must be at least 2, got {num_images}")
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.extractor = extractor
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.metrics = checked_metrics(metrics)
        self.seed = seed
        self._network: Extractor | None = None
        self._real: dict[str, Tensor] | None = None
        self._collected: list[dict[str, Tensor]] = []
        self._side: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Build the extractor, so that a missing file ends the run before it starts."""
        if not callable(getattr(pl_module, "sample", None)):
            raise ValueError(f"SampleQuality: {type(pl_module).__name__} has no sample() to look at; leave it out")
        self._network = make_extractor(self.extractor)
        self._real, self._collected = None, []
        check_possible(self.metrics, self._network.num_classes, self._network.description)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget features of real images in a size that the method has outgrown."""
        side = _side_of(pl_module)
        if side != self._side:
            self._real, self._collected, self._side = None, [], side

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the real images' features as validation goes by, the first time."""
        left = self._share(trainer) - sum(len(part["features"]) for part in self._collected)
        if self._real is None and left > 0 and dataloader_idx == 0 and self._due(trainer):
            images = batch["images"] if "images" in batch else batch["frames"]
            if self._side is not None:
                images = averaged_to(as_unit(images[:left]), self._side)
            self._collected.append(self._extracted([images], left, pl_module.device))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sample, measure and log."""
        if not self._due(trainer):
            return
        if self._real is None:
            self._real = _gathered(self._collected, self.num_images)
            self._collected = []
            self._announce(len(self._real.get("features", ())), getattr(trainer, "datamodule", None))
        share = self._share(trainer)
        with evaluating(pl_module):
            samples = self._samples(pl_module, share, trainer.global_rank)
            own = self._extracted(samples, share, pl_module.device)
        generated = _gathered([own], self.num_images)
        for quality in measure(self._real, generated, self.metrics, seed=self.seed):
            pl_module.log(f"val/{LOGGED[quality.name]}", quality.value, sync_dist=True)

    def _due(self, trainer: L.Trainer) -> bool:
        in_fit = trainer.state.fn == "fit"
        return not trainer.sanity_checking and (not in_fit or (trainer.current_epoch + 1) % self.every_n_epochs == 0)

    def _share(self, trainer: L.Trainer) -> int:
        return -(-self.num_images // trainer.world_size)

    def _extracted(self, batches: Iterable[Tensor], number: int, device: torch.device) -> dict[str, Tensor]:
        assert self._network is not None
        return extract_all(self._network.to(device), batches, number, device)

    def _samples(self, module: Any, number: int, rank: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + rank)
        for start in range(0, number, _BATCH):
            yield module.sample(min(_BATCH, number - start), generator=generator)

    def _announce(self, num_real: int, data: Any) -> None:
        assert self._network is not None
        crop = getattr(data, "crop", None) or "none"
        rank_zero_info(
            f"SampleQuality: {self.num_images} generated against {num_real} real images, crop: {crop}, "
            f"{self._network.description}"
        )


def _side_of(module: Any) -> int | None:
    shape = getattr(module, "image_shape", None)
    return None if shape is None else int(shape[-1])


def _gathered(own: list[dict[str, Tensor]], number: int) -> dict[str, Tensor]:
    """The first images' arrays of all processes, joined in the order of the processes."""
    parts = [own]
    if dist.is_available() and dist.is_initialized():
        parts = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, own)
    flat = [arrays for one in parts for arrays in one]
    return {name: torch.cat([arrays[name] for arrays in flat])[:number] for name in (flat[0] if flat else ())}
