"""Features that an encoder computed, with the labels of their frames, for probes."""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.index_batches import IndexBatches, epoch_generator, in_order, permutation

SPLITS = ("train", "val", "test")
PARTS = ("features", "labels", "episodes")
Splits = Mapping[str, Mapping[str, Any]]


class Features(L.LightningDataModule):
    """Batches {"features": float32 (B, D) or (B, M, D), "labels": int64 (B, K)} from one file or from memory.

    The file is an ``.npz`` with ``train_features`` (N, D) or (N, M, D), ``train_labels`` (N, K) and ``train_episodes``
    (N,), any integer that is the same for the frames of one episode; the same for ``val`` and ``test``; ``variables``
    (K,); ``categories``, JSON of variable to list of categories. `save_features` writes it.

    Args:
        path: of the file; None for features in memory, see `from_arrays`.
        batch_size: rows per batch and process.
        sampling: of training and validation. "episode" (published): an episode uniformly, then one of its frames, with
            replacement, as many full batches as the rows fill. "frame": each frame once per epoch, in a new order for
            training.
        test_sampling: "with_replacement" (published) draws as "episode" does, so that the score depends on the draw;
            "once" looks at every frame once.
        seed: of all drawing.

    Attributes:
        variables: names of the K variables, after `setup`.
        categories: per variable the categories it counts in, after `setup`.
        feature_shape: (D,) or (M, D), after `setup`.
        fingerprint: where the features are from, their number and a hash, after `setup`.
    """

    variables: list[str]
    categories: dict[str, list[str]]
    feature_shape: tuple[int, ...]
    fingerprint: dict[str, str | int]

    def __init__(
        self,
        *,
        path: str | None = None,
        batch_size: int = 64,
        sampling: Literal["episode", "frame"] = "episode",
        test_sampling: Literal["with_replacement", "once"] = "with_replacement",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if sampling not in ("episode", "frame"):
            raise ValueError(f"sampling must be 'episode' or 'frame', got {sampling!r}")
        if test_sampling not in ("with_replacement", "once"):
            raise ValueError(f"test_sampling must be 'with_replacement' or 'once', got {test_sampling!r}")
        self.save_hyperparameters()
        self.path = path
        self.batch_size = batch_size
        self.sampling = sampling
        self.test_sampling = test_sampling
        self.seed = seed
        self._splits: dict[str, dict[str, Tensor]] | None = None

    @classmethod
    def from_arrays(
        cls,
        splits: Splits,
        variables: Sequence[str],
        categories: Mapping[str, Sequence[str]] | None = None,
        *,
        batch_size: int = 64,
        sampling: Literal["episode", "frame"] = "episode",
        test_sampling: Literal["with_replacement", "once"] = "with_replacement",
        seed: int = 0,
    ) -> "Features":
        """Features in memory.

        Args:
            splits: "train", "val" and "test", each with "features" (N, D) or (N, M, D), "labels" (N, K) and "episodes"
                (N,), as tensors or arrays.
            variables: names of the K variables.
            categories: per variable the categories it counts in.
            batch_size: as for the class.
            sampling: as for the class.
            test_sampling: as for the class.
            seed: as for the class.

        Raises:
            DataError: if a part is missing or does not fit the others.
        """
        module = cls(batch_size=batch_size, sampling=sampling, test_sampling=test_sampling, seed=seed)
        module._take(splits, variables, categories or {}, "features in memory")
        return module

    def setup(self, stage: str | None = None) -> None:
        """Read the file, once.

        Raises:
            DataError: if it is missing, damaged, or lacks a part.
        """
        if self._splits is not None:
            return
        if self.path is None:
            raise DataError("Features has no file: set --data.path, or build it with Features.from_arrays")
        content = _read(Path(self.path))
        splits = {split: {part: content[f"{split}_{part}"] for part in PARTS} for split in SPLITS}
        try:
            categories = json.loads(str(content["categories"]))
        except ValueError as error:
            raise DataError(f"{self.path}: 'categories' must be JSON of variable to list of categories") from error
        self._take(splits, [str(name) for name in content["variables"]], categories, self.path)

    def _take(
        self, splits: Splits, variables: Sequence[str], categories: Mapping[str, Sequence[str]], source: str
    ) -> None:
        self.variables = list(variables)
        self.categories = {name: list(found) for name, found in categories.items()}
        self._splits = {split: _checked(splits, split, len(self.variables), source) for split in SPLITS}
        shapes = {tuple(parts["features"].shape[1:]) for parts in self._splits.values()}
        if len(shapes) != 1:
            raise DataError(f"{source}: features differ in shape between the splits: {sorted(shapes)}")
        self.feature_shape = shapes.pop()
        digest = hashlib.sha256()
        for parts in self._splits.values():
            for part in PARTS:
                digest.update(parts[part].numpy().tobytes())
        self.fingerprint = {"source": source, "variables": len(self.variables), "sha256": digest.hexdigest()}
        self.fingerprint |= {f"{split}_rows": len(parts["labels"]) for split, parts in self._splits.items()}

    def train_dataloader(self) -> IndexBatches:
        """A new draw or order in every epoch."""
        return self._loader("train", self.sampling == "episode", permuted=True, salt=1)

    def val_dataloader(self) -> IndexBatches:
        """As training, but in order where every frame is seen once."""
        return self._loader("val", self.sampling == "episode", permuted=False, salt=2)

    def test_dataloader(self) -> IndexBatches:
        """As ``test_sampling`` says."""
        return self._loader("test", self.test_sampling == "with_replacement", permuted=False, salt=3)

    def predict_dataloader(self) -> IndexBatches:
        """The test rows once, in order."""
        return self._loader("test", False, permuted=False, salt=4)

    def _loader(self, split: str, with_replacement: bool, *, permuted: bool, salt: int) -> IndexBatches:
        assert self._splits is not None, "setup() has not run"
        parts = self._splits[split]
        features, labels = parts["features"], parts["labels"]
        rows, seed = len(labels), 4 * self.seed + salt
        trainer = self.trainer
        world_size = trainer.world_size if trainer is not None else 1
        if with_replacement:
            plan = episode_then_frame(parts["episodes"], seed)
            if split == "test":
                # Lightning counts on after a fit; the test is the same draw whenever it is run.
                drawn = plan(0)
                plan = lambda epoch: drawn  # noqa: E731
        else:
            plan = permutation(rows, seed) if permuted else in_order(rows)
        return IndexBatches(
            lambda index: {"features": features[index], "labels": labels[index]},
            plan,
            rows,
            batch_size=self.batch_size,
            drop_last=(with_replacement or permuted) and rows >= self.batch_size * world_size,
            rank=trainer.global_rank if trainer is not None else 0,
            world_size=world_size,
        )


def episode_then_frame(episodes: Tensor, seed: int) -> Callable[[int], Tensor]:
    """A plan of as many draws as there are rows: an episode uniformly, then one of its frames, with replacement.

    Args:
        episodes: (N,), equal for the rows of one episode.
        seed: of the drawing, together with the epoch's number.
    """
    order = torch.argsort(episodes, stable=True)
    _, lengths = torch.unique(episodes, return_counts=True)
    starts = lengths.cumsum(0) - lengths

    def plan(epoch: int) -> Tensor:
        generator = epoch_generator(seed, epoch)
        drawn = torch.randint(len(lengths), (len(episodes),), generator=generator)
        share = torch.rand(len(episodes), dtype=torch.float64, generator=generator)
        return order[starts[drawn] + (share * lengths[drawn]).long()]

    return plan


def save_features(
    path: str | Path, splits: Splits, variables: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> None:
    """Write the file that `Features` reads, whole or not at all; arguments as for `Features.from_arrays`."""
    path = Path(path)
    arrays: dict[str, Any] = {f"{split}_{part}": np.asarray(splits[split][part]) for split in SPLITS for part in PARTS}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez(file, variables=np.array(list(variables)), categories=np.array(json.dumps(categories)), **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(
            f"No file {path}: set --data.path to features that were saved by datamodules.features.save_features"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise DataError(f"{path} is damaged or no .npz of features: {' '.join(str(error).split())}") from error
    wanted = [f"{split}_{part}" for split in SPLITS for part in PARTS] + ["variables", "categories"]
    missing = [name for name in wanted if name not in content]
    if missing:
        raise DataError(f"{path} has no {missing[0]!r}; it must hold {', '.join(wanted)}")
    return content


def _checked(splits: Splits, split: str, num_variables: int, source: str) -> dict[str, Tensor]:
    missing = [part for part in PARTS if part not in splits.get(split, {})]
    if missing:
        raise DataError(f"{source}: no '{split}_{missing[0]}'")
    types = {"features": torch.float32, "labels": torch.int64, "episodes": torch.int64}
    parts = {part: torch.as_tensor(splits[split][part]).to("cpu", types[part]).contiguous() for part in PARTS}
    rows = len(parts["features"])
    if rows == 0:
        raise DataError(f"{source}: '{split}_features' has no rows")
    if parts["features"].dim() not in (2, 3):
        raise DataError(
            f"{source}: '{split}_features' must be (N, D) or (N, M, D), got {tuple(parts['features'].shape)}"
        )
    for part, shape in (("labels", (rows, num_variables)), ("episodes", (rows,))):
        if tuple(parts[part].shape) != shape:
            raise DataError(f"{source}: '{split}_{part}' must be {shape}, got {tuple(parts[part].shape)}")
    if ((parts["labels"] < 0) | (parts["labels"] > 255)).any():
        raise DataError(f"{source}: '{split}_labels' must lie in 0..255")
    return parts
