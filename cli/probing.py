"""Probes any encoder on labelled Atari frames: features once, then all probes in one training run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

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

    def metrics(self) -> dict[str, float]:
        """The scores under the names that trackers get."""
        named = {"probe/f1": self.f1, "probe/accuracy": self.accuracy}
        named |= {f"probe/f1_{category}": value for category, value in self.f1_per_category.items()}
        for variable, scores in self.per_variable.items():
            named |= {f"probe/variables/{variable}/{name}": value for name, value in scores.items()}
        return named


def probe_encoder(
    encoder: torch.nn.Module,
    data: AtariFrames,
    *,
    max_epochs: int = 100,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> ProbeScores:
    """Train one linear probe per variable on an encoder's features and score them on the test split.

    Args:
        encoder: any module with ``encode(frames)`` from uint8 (B, C, H, W) to (B, D), ours or not.
        data: labelled frames (``serve="labelled"``), prepared and set up.
        max_epochs: at most; every probe also stops by itself.
        seed: of the probes' first weights and of the order of the frames.
        device: where encoder and probes run.
        progress: show a bar.
    """
    import lightning as L

    from lightning_zoo.representation.linear_probe import LinearProbe

    started = time.perf_counter()
    features, sources = compute_features(encoder, data, seed=seed, device=device)
    encoded = time.perf_counter()
    L.seed_everything(seed, verbose=False)
    weights: Literal["last", "best"] = "last" if data.hparams["preset"] == "paper" else "best"
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
    encoder: torch.nn.Module, data: AtariFrames, *, seed: int = 0, device: str = "cpu"
) -> tuple[Features, list[int] | None]:
    """Features of every labelled frame, computed once.

    An encoder with ``feature_slices`` (by variable or by category) gives each variable its own slice.

    Returns:
        The features as a DataModule, and for features (B, M, D) which of the M each variable reads.
    """
    from datamodules.features import Features

    slices, sources = _slices(encoder, data)
    splits = {}
    for split, part in data.labelled.items():
        features = encode_rows(encoder, data, part.rows, device=device)
        if slices:
            features = _stack_slices(features, slices)
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


def encode_rows(encoder: torch.nn.Module, data: AtariFrames, rows: Any, *, device: str = "cpu") -> Tensor:
    """Features (n, D) of rows (n,) of a recording, on the CPU."""
    import torch

    encode: Callable[[Tensor], Tensor] = encoder.encode  # type: ignore[assignment]
    encoder.to(device).eval()
    with torch.inference_mode():
        batches = torch.as_tensor(rows).split(FEATURE_BATCH_SIZE)
        return torch.cat([encode(data.frames.gather(batch).to(device)).float().cpu() for batch in batches])


def _slices(encoder: torch.nn.Module, data: AtariFrames) -> tuple[list[slice], list[int] | None]:
    named: dict[str, slice] = getattr(encoder, "feature_slices", None) or {}
    if not named:
        return [], None
    keys = list(named)
    sources = []
    for variable in data.variables:
        key = variable if variable in named else next((c for c in data.categories[variable] if c in named), keys[0])
        sources.append(keys.index(key))
    return list(named.values()), sources


def _stack_slices(features: Tensor, slices: list[slice]) -> Tensor:
    import torch

    return torch.stack([features[:, part] for part in slices], dim=1)  # (n, M, D)


def _trainer(max_epochs: int, device: str, progress: bool) -> Any:
    import lightning as L
    from lightning.pytorch.callbacks import RichProgressBar

    return L.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        callbacks=[RichProgressBar(leave=False)] if progress else [],
        num_sanity_val_steps=0,
    )


def _scores(method: str, data: AtariFrames, named: Any, details: dict[str, Any]) -> ProbeScores:
    values = {key.removeprefix("test/"): float(value) for key, value in named.items()}
    present = [name for name in published_categories() if f"f1_{name}" in values]
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


def published_categories() -> tuple[str, ...]:
    """The categories in the order of the published tables."""
    from datamodules.atari_games import CATEGORIES

    return CATEGORIES


@cache
def published() -> dict[str, Any]:
    """The published scores; see "about" in the file."""
    return json.loads(files("lightning_zoo.representation").joinpath("published_atari.json").read_text())


def published_f1(stem: str, data: AtariFrames) -> dict[str, float]:
    """Published weighted F1 of a method on a game: per category of the game, and under "f1" their mean.

    Args:
        stem: the method's module, as "stdim".
        data: which game, whose frames, which variables.

    Returns:
        What was published; empty for a game, agent or method that was not.
    """
    agent = "random" if data.settings.policy == "random" else "ppo"
    scores = {}
    value = published()[agent]["f1_per_game"].get(data.game, {}).get(stem)
    if value is not None:
        scores["f1"] = value
    variables = published()[agent].get("f1_per_variable", {}).get(data.game, {})
    from datamodules.atari_games import state_variables

    by_category: dict[str, list[float]] = {}
    for variable in state_variables(data.game, "paper"):
        if stem in variables.get(variable.name, {}):
            for category in variable.categories:
                by_category.setdefault(category, []).append(variables[variable.name][stem])
    return scores | {category: sum(found) / len(found) for category, found in by_category.items()}
