"""`lightning_zoo score`: how close a generative method's pictures come to the data, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.metrics.feature_extractors import Extractor
    from lightning_zoo.metrics.image_quality import Quality, QualityMetric

_FILE = "scores.json"


def score(
    ckpt_path: str,
    *,
    extractor: str,
    num_images: int = 10_000,
    split: Literal["val", "test"] = "val",
    metrics: list[str] | None = None,
    reconstructions: bool = False,
    truncation: float = 1.0,
    root: str | None = None,
    batch_size: int = 100,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Compare samples of a generative method with real images: Frechet and kernel distance, inception score.

    Features of the real images are kept in the folder statistics/ of the dataset. Published values stand nowhere
    beside these: the scores of Shang et al. (2018, table 5.1 of the thesis) were measured with VGG11 classifiers of
    birds and of faces that were not released, and Frechet distances compare only with the same extractor, crop,
    resizing and number of images. Density models draw grey probabilities; where the real images are black and
    white (MNIST with binarization static), that difference is in every distance, and a line below the table says so.

    Methods that draw by attributes draw what the images of the split show, one picture for each combination. The thesis
    has all of the test split, and the inception score of 10 parts: --split test --num_images 19962.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        extractor: a checkpoint of a Classifier or of any method with `encode`, inception:PATH for torch-fidelity's
            Inception weights, or random for fixed random convolutions, whose values compare within one dataset alone.
        num_images: generated images, and real ones at most.
        split: of the dataset that the checkpoint was trained on.
        metrics: some of frechet, kernel and inception; null for all that the extractor allows.
        reconstructions: measure the Frechet distance of the reconstructed real images too.
        truncation: factor of the latents.
        root: the dataset's folder, if it is not where it was.
        batch_size: images at a time.
        seed: of the latents, subsets and splits.
        device: where to compute.
        log: write the scores beside the checkpoint and to its MLflow run.
    """
    from lightning_zoo.metrics.feature_extractors import make_extractor

    from .allocator import keep_freed_memory
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes, pick_device, reconstructs

    quiet()
    keep_freed_memory()
    check_numbers(seed, num_images=num_images, batch_size=batch_size)
    if not 0 <= truncation < float("inf"):
        raise UsageError(f"--truncation must be 0 or more, got {truncation}")
    path = find_checkpoint(ckpt_path)
    network = make_extractor(extractor).to(pick_device(device))
    settings = {"split": split, "num_images": num_images, "truncation": truncation, "seed": seed}
    with mistakes():
        wanted = _metrics(metrics, network)
        model = load_generative(path, device, "score")
        if reconstructions and not reconstructs(model):
            raise UsageError(f"--reconstructions: {type(model).__name__} has no encoder; leave the option out")
        result = _Scores(path, model, network, root, settings)
        result.measure(wanted, batch_size, reconstructions)
    result.show()
    if log:
        result.log(_kind(extractor, network))


class _Scores:
    """One call of `score`: what is compared with what, and what came out."""

    def __init__(
        self, path: Path, model: Any, network: Extractor, root: str | None, settings: Mapping[str, Any]
    ) -> None:
        from lightning_zoo.checkpoints import read

        from .image_data import data_of

        self.path = path
        self.model = model
        self.network = network
        self.settings = settings
        self.checkpoint = read(path)
        self.data = data_of(self.checkpoint, path, {"root": root})
        self.rows: dict[str, Quality] = {}

    def measure(self, metrics: Sequence[QualityMetric], batch_size: int, reconstructions: bool) -> None:
        from lightning_zoo.generative.conditional_model import is_conditional
        from lightning_zoo.metrics.feature_extractors import extract_all
        from lightning_zoo.metrics.image_quality import frechet_distance, inception_score, measure

        from .sample import sample_batches
        from .score_report import caption

        number, seed, place = self.settings["num_images"], self.settings["seed"], self.model.device
        real = self._real(batch_size)
        samples = sample_batches(self.model, number, seed, self.settings["truncation"], batch_size, self._asked())
        generated = extract_all(self.network, samples, number, place)
        self.rows = {quality.name: quality for quality in measure(real, generated, metrics, seed=seed)}
        if "inception" in metrics:
            self.rows["inception_score_of_real_images"] = inception_score(real["logits"], seed=seed)
        if reconstructions:
            made = extract_all(self.network, self._reconstructed(batch_size), number, place)["features"]
            self.rows["frechet_distance_of_reconstructions"] = frechet_distance(real["features"], made)
        how = {**self.settings, "averaged_down": self._averages(), "conditional": is_conditional(self.model)}
        self.caption = caption(self.model, self.path, self.data, self.network, real["features"], how)

    def _real(self, batch_size: int) -> dict[str, Tensor]:
        from lightning_zoo.metrics.feature_extractors import extract_all
        from lightning_zoo.metrics.real_features import cached_features

        from .image_data import averaged_down, images_of

        self.data.prepare_data()
        self.data.setup({"val": "validate", "test": "test"}[self.settings["split"]])
        root = self.data.hparams.get("root")
        folder = None if root is None else Path(root) / "statistics"

        def compute() -> dict[str, Tensor]:
            images = images_of(self.data, self.settings["split"], self.settings["num_images"])
            images = averaged_down(images, self.model.image_shape)
            return extract_all(self.network, images.split(batch_size), len(images), self.model.device)

        return cached_features(folder, self._key(), compute)

    def _key(self) -> dict[str, Any]:
        """All that the features of the real images depend on; the dataset's arguments hold seeds of its splits."""
        from .runs import NOT_DATA
        from .score_report import crop_of, fingerprint_hash

        arguments = {name: value for name, value in self.data.hparams.items() if name not in NOT_DATA}
        return {
            "dataset": type(self.data).__name__,
            "arguments": {name: str(value) for name, value in arguments.items()},
            "fingerprint": fingerprint_hash(self.data),
            "image_shape": list(self.data.image_shape),
            "crop": crop_of(self.data),
            "split": self.settings["split"],
            "num_images": self.settings["num_images"],
            "extractor": self.network.identity,
        } | ({"averaged_down_to": list(self.model.image_shape)} if self._averages() else {})

    def _averages(self) -> bool:
        """Whether the real images are averaged down to the size of the drawn ones."""
        from .image_data import whole_factor

        return whole_factor(tuple(self.data.image_shape), tuple(self.model.image_shape)) > 1

    def _asked(self) -> Tensor | None:
        """What the images of the split show, (num_images, A), from the first one again where they are fewer."""
        from lightning_zoo.generative.conditional_model import is_conditional

        from .image_data import attributes_of

        if not is_conditional(self.model):
            return None
        number = self.settings["num_images"]
        attributes = attributes_of(self.model, self.data, self.settings["split"], number)
        return attributes.repeat(-(-number // len(attributes)), 1)[:number]

    def _reconstructed(self, batch_size: int) -> Any:
        import torch

        from .image_data import averaged_down, images_of

        images = images_of(self.data, self.settings["split"], self.settings["num_images"])
        images, asked = averaged_down(images, self.model.image_shape), self._asked()
        inputs = (images,) if asked is None else (images, asked[: len(images)])
        for part in zip(*(values.split(batch_size) for values in inputs), strict=True):
            with torch.no_grad():
                yield self.model.reconstruct(*(values.to(self.model.device) for values in part)).float()

    def show(self) -> None:
        from .probe_report import console
        from .score_report import table

        terminal = console()
        terminal.print(table(f"Samples of {type(self.model).__name__}", self.rows))
        terminal.print()
        for line in self.caption:
            terminal.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)

    def log(self, kind: str) -> None:
        """Add the scores to `scores.json` in the run's folder, under a name that tells settings apart."""
        from .score_report import add_entry
        from .trained import run_folder

        folder, settings = run_folder(self.path), self.settings
        parts = [self.path.stem, settings["split"], str(settings["num_images"]), kind]
        parts += [f"truncation{settings['truncation']:g}"] * (settings["truncation"] != 1)
        parts += [f"seed{settings['seed']}"] * (settings["seed"] != 0)
        name, target = "_".join(parts), folder / _FILE
        entry = {"checkpoint": self.path.name, "step": self.checkpoint.get("global_step"), "caption": self.caption}
        entry["scores"] = {key: asdict(row) for key, row in self.rows.items()}
        add_entry(target, name, entry)
        noted = folder / "mlflow_run_id"
        logged = noted.is_file() and self._log_to_run(noted.read_text().strip(), name, target)
        print(f"Written to {target}{' and to its MLflow run' * logged}")

    def _log_to_run(self, run_id: str, name: str, target: Path) -> bool:
        from lightning_zoo.callbacks.mlflow_store import log_to_run

        values = {f"score/{name}/{key}": row.value for key, row in self.rows.items()}
        spreads = {f"score/{name}/{k}_deviation": r.deviation for k, r in self.rows.items() if r.deviation is not None}
        return log_to_run(run_id, values | spreads, [target])


def _metrics(names: list[str] | None, network: Extractor) -> tuple[QualityMetric, ...]:
    from lightning_zoo.metrics.image_quality import check_possible, checked_metrics, possible_metrics

    if names is None:
        return possible_metrics(network.num_classes)
    chosen = checked_metrics([part for name in names for part in name.split(",") if part])
    check_possible(chosen, network.num_classes, network.description)
    return chosen


def _kind(spec: str, network: Extractor) -> str:
    word = "inception" if spec.startswith("inception:") else network.description.split()[0]
    return "random" if spec == "random" else f"{word}-{network.identity[:6]}"
