"""Probes any encoder on labelled Atari frames: features once, then all probes in one training run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datamodules.atari_frames import AtariFrames
    from datamodules.features import Features

FEATURE_BATCH_SIZE = 128


@dataclass(frozen=True)
class ProbeScores:
    """What the probes of one encoder reached on the test split.

    Attributes:
        method: the encoder's class.
        game: the ROM's name.
        f1: mean over categories of weighted F1.
        accuracy: mean over categories of accuracy.
        f1_per_category: by category, those of the game alone.
        accuracy_per_category: by category.
        per_variable: by variable: "f1", "accuracy" and "mean_absolute_error" in RAM units.
        details: how they were measured: frames, epochs, seconds, seeds.
    """

    method: str
    game: str
    f1: float
    accuracy: float
    f1_per_category: dict[str, float]
    accuracy_per_category: dict[str, float]
    per_variable: dict[str, dict[str, float]]
    details: dict[str, Any] = field(default_factory=dict)

    def metrics(self, prefix: str = "probe") -> dict[str, float]:
        """The scores under the names that trackers get."""
        named = {f"{prefix}/f1": self.f1, f"{prefix}/accuracy": self.accuracy}
        named |= {f"{prefix}/f1_{category}": value for category, value in self.f1_per_category.items()}
        for variable, scores in self.per_variable.items():
            named |= {f"{prefix}/variables/{variable}/{name}": value for name, value in scores.items()}
        return named


def probe_encoder(
    encoder: torch.nn.Module,
    data: AtariFrames,
    *,
    max_epochs: int = 100,
    seed: int = 0,
    device: str = "cpu",
    test_weights: Literal["last", "best"] | None = None,
    progress: bool = False,
) -> ProbeScores:
    """Train one linear probe per variable on an encoder's features and score them on the test split.

    Args:
        encoder: any module with ``encode(frames)`` from uint8 (B, C, H, W) to (B, D), ours or not.
        data: labelled frames (``serve="labelled"``), prepared and set up.
        max_epochs: at most; every probe also stops by itself.
        seed: of the probes' first weights and of the order of the frames.
        device: where encoder and probes run.
        test_weights: score each probe's "last" weights or its "best" by validation accuracy; None scores the last with
            the data's preset "paper" and the best with "clean".
        progress: show a bar.

    Raises:
        ValueError: for fewer than one epoch.
        CheckpointError: if no slice of the features belongs to one of the variables.
    """
    import lightning as L

    from lightning_zoo.representation.linear_probe import LinearProbe

    if max_epochs < 1:
        raise ValueError(f"max_epochs must be at least 1, got {max_epochs}")
    started = time.perf_counter()
    features, sources = compute_features(encoder, data, seed=seed, device=device, progress=progress)
    encoded = time.perf_counter()
    L.seed_everything(seed, verbose=False)
    weights = test_weights or weights_of_preset(data)
    probe = LinearProbe(feature_of_variable=sources, test_weights=weights)
    trainer = _trainer(max_epochs, device, progress)
    trainer.fit(probe, datamodule=features)
    scores = trainer.test(probe, datamodule=features, verbose=False)[0]
    details = {
        "frames": {split: len(part.rows) for split, part in data.labelled.items()},
        "epochs": trainer.current_epoch,
        "seconds_features": round(encoded - started, 2),
        "seconds_probes": round(time.perf_counter() - encoded, 2),
        "seed": seed,
        "test_weights": weights,
    }
    return _scores(type(encoder).__name__, data, scores, details)


def weights_of_preset(data: AtariFrames) -> Literal["last", "best"]:
    """Which weights of a probe are scored: the last under the published protocol, the best under the clean one."""
    return "last" if data.hparams["preset"] == "paper" else "best"


def score_classifier(
    classifier: Callable[[Tensor], Tensor], data: AtariFrames, *, name: str, device: str = "cpu"
) -> ProbeScores:
    """Score a module that names the variables' values itself, on the same test batches.

    Args:
        classifier: from uint8 (B, C, H, W) to predicted values (B, K).
        data: labelled frames, prepared and set up.
        name: of the method.
        device: where the classifier runs.
    """
    import torch

    from lightning_zoo.metrics.variable_scores import VariableScores, named_scores

    started = time.perf_counter()
    metric = VariableScores(len(data.variables))
    with torch.inference_mode():
        for batch in data.test_dataloader():
            metric.update(classifier(batch["frames"].to(device)).cpu(), batch["labels"])
    named = {
        f"test/{key}": value for key, value in named_scores(metric.compute(), data.variables, data.categories).items()
    }
    return _scores(name, data, named, {"seconds": round(time.perf_counter() - started, 2)})


def compute_features(
    encoder: torch.nn.Module, data: AtariFrames, *, seed: int = 0, device: str = "cpu", progress: bool = False
) -> tuple[Features, list[int] | None]:
    """Features of every labelled frame, computed once.

    An encoder with ``feature_slices`` (by variable or by category) gives each variable its own slice; see
    `sources_of_variables`.

    Returns:
        The features as a DataModule, and for features (B, M, D) which of the M each variable reads.

    Raises:
        CheckpointError: if no slice belongs to one of the variables.
    """
    from datamodules.features import Features

    named: dict[str, slice] = getattr(encoder, "feature_slices", None) or {}
    sources = sources_of_variables(list(named), data.variables, data.categories) if named else None
    splits = {}
    for split, part in data.labelled.items():
        features = encode_rows(encoder, data, part.rows, device=device, progress=f"encoding {split}" * progress)
        if named:
            features = _stack_slices(features, list(named.values()))
        splits[split] = {"features": features, "labels": part.labels, "episodes": part.episodes}
    module = Features.from_arrays(
        splits,
        data.variables,
        data.categories,
        batch_size=data.batch_size,
        sampling=data.protocol.sampling,
        test_sampling=data.protocol.test_sampling,
        seed=seed,
    )
    return module, sources


def encode_rows(
    encoder: torch.nn.Module, data: AtariFrames, rows: Any, *, device: str = "cpu", progress: str = ""
) -> Tensor:
    """Features (n, D) of rows (n,) of a recording, on the CPU; with a bar named ``progress`` unless that is empty."""
    import torch
    from rich.progress import track

    encode: Callable[[Tensor], Tensor] = encoder.encode  # type: ignore[assignment]
    encoder.to(device).eval()
    with torch.inference_mode():
        batches = track(torch.as_tensor(rows).split(FEATURE_BATCH_SIZE), progress, disable=not progress, transient=True)
        return torch.cat([encode(data.frames.gather(batch).to(device)).float().cpu() for batch in batches])


def sources_of_variables(
    names: Sequence[str], variables: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> list[int]:
    """Which slice of an encoder's features each variable reads.

    Its own, else that of its first category that has one. A variable without any category, which counts in no mean,
    reads the slice "misc".

    Args:
        names: of the slices: variables or categories.
        variables: names of the K variables.
        categories: per variable the categories it counts in.

    Raises:
        CheckpointError: for a variable that no slice belongs to.
    """
    places = {name: place for place, name in enumerate(names)}
    sources = []
    for variable in variables:
        wanted = [variable, *(categories[variable] or ["misc"])]
        place = next((places[name] for name in wanted if name in places), None)
        if place is None:
            raise CheckpointError(
                f"feature_slices: none for {variable!r} ({', '.join(wanted[1:])}), only for {', '.join(names)}; probe "
                "an encoder that was trained for it, or a game without such variables"
            )
        sources.append(place)
    return sources


def _stack_slices(features: Tensor, slices: list[slice]) -> Tensor:
    import torch

    return torch.stack([features[:, part] for part in slices], dim=1)  # (n, M, D)


def _trainer(max_epochs: int, device: str, progress: bool) -> Any:
    import lightning as L

    return L.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[_epoch_bar(max_epochs)] if progress else [],
        num_sanity_val_steps=0,
    )


def _epoch_bar(max_epochs: int) -> Any:
    """A callback with a bar that is gone when the probes are trained, which Lightning's own is not."""
    from lightning.pytorch.callbacks import LambdaCallback
    from rich.progress import Progress

    bar = Progress(transient=True)
    task = bar.add_task("training probes", total=max_epochs)
    return LambdaCallback(
        on_train_start=lambda trainer, module: bar.start(),
        on_train_epoch_end=lambda trainer, module: bar.advance(task),
        on_train_end=lambda trainer, module: bar.stop(),
        on_exception=lambda trainer, module, error: bar.stop(),
    )


def _scores(method: str, data: AtariFrames, named: Any, details: dict[str, Any]) -> ProbeScores:
    from datamodules.atari_games import CATEGORIES

    values = {key.removeprefix("test/"): float(value) for key, value in named.items()}
    present = [name for name in CATEGORIES if f"f1_{name}" in values]
    scores = ("f1", "accuracy", "mean_absolute_error")
    return ProbeScores(
        method=method,
        game=data.game,
        f1=values["f1"],
        accuracy=values["accuracy"],
        f1_per_category={name: values[f"f1_{name}"] for name in present},
        accuracy_per_category={name: values[f"accuracy_{name}"] for name in present},
        per_variable={
            variable: {score: values[f"variables/{variable}/{score}"] for score in scores}
            for variable in data.variables
        },
        details=details,
    )
