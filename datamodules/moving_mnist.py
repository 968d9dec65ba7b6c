"""Moving MNIST of our own making: two digits that bounce in a frame, with their classes and their places."""

import hashlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules import digit_glyphs, moving_digits
from datamodules.digit_glyphs import DIGIT_SETS, DigitSet, Glyphs
from datamodules.errors import DataError
from datamodules.index_batches import Batch, IndexBatches, in_order, permutation
from datamodules.moving_digits import CANVAS, DIGIT_SIZES, PAIR_NAMES, SPLITS, VERSION, MovementRule

FIXED_SEED = 20150216
"""Of the clips of validation and test, so that they are the same in every run; no argument changes it."""


class MovingMNIST(L.LightningDataModule):
    """Clips uint8 (B, T, 1, 64, 64) of two moving digits as "clips", drawn when they are asked for.

    A batch also holds "index" int64 (B,), the number of the clip; "videos" int64 (B,), here the same; "digits" int64
    (B, 2); "labels" int64 (B,), which of the 55 unordered pairs they are; "keypoints" float32 (B, T, 2, 2), the centres
    (x, y) of the two digits in pixels, in the order of "digits", where a pixel's own number is its centre. Training
    batches also hold "pairs" uint8 (B, 2, 1, 64, 64), a source and a target frame of the same two digits on their way
    from the clip's first frame on.

    Each clip is a function of its number, so no file is written and none but the digits' is read. A split's digits
    appear in no other split. Drawn this way because the published test file of 10,000 sequences has neither classes nor
    places. Rules and sources: `datamodules.moving_digits`.

    Args:
        root: folder of MNIST's IDX files, plain or gzipped, themselves or in raw/ or MNIST/raw/; `fit` downloads them
            if there are none.
        digits: "mnist"; or "digits8x8", the 1,797 small digits that come with scikit-learn and need no file. Figures
            measured on these are not those of Moving MNIST: `name` and `fingerprint` then say moving_digits8x8.
        rule: of the movement, "A" (published) or "B".
        num_frames: T, frames of a clip.
        pair_gap: least and largest distance in frames of the two frames of a pair.
        pair_gap_epochs: first epochs of training, over which the largest distance grows evenly to that; 0 (published)
            for none. Far digits share no place, and little training does not find out how to move one onto the other.
        num_train: clips of a training epoch.
        num_val: clips of validation.
        num_test: clips of the test.
        fixed_train: every epoch shows the same training clips in another order; otherwise (published) new ones.
        num_val_digits: the last training images of MNIST are held out as the digits of validation.
        batch_size: clips per batch and process.
        seed: of the training clips, from 0 to 2**32 - 1; those of validation and test are fixed.

    Attributes:
        name: "moving_mnist" or "moving_digits8x8", in messages and the fingerprint.
        frame_shape: (C, H, W) of a frame.
        class_names: the pairs of digits by label.
        keypoint_names: by column of the keypoints.
        keypoints_unordered: which digit is the first means nothing.
        actors: by video, who is seen; here None.
        fingerprint: what is served: digits, rule, counts, hash; filled by `setup`.

    Raises:
        ValueError: for an argument out of range.
    """

    name: str = "moving_mnist"

    def __init__(
        self,
        *,
        root: str = "data/mnist",
        digits: DigitSet = "mnist",
        rule: MovementRule = "A",
        num_frames: int = 8,
        pair_gap: tuple[int, int] = (1, 25),
        pair_gap_epochs: int = 0,
        num_train: int = 10_000,
        num_val: int = 1_000,
        num_test: int = 10_000,
        fixed_train: bool = False,
        num_val_digits: int = 10_000,
        batch_size: int = 64,
        seed: int = 42,
    ) -> None:
        super().__init__()
        _check_counts(
            num_frames=num_frames,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            num_val_digits=num_val_digits,
            batch_size=batch_size,
        )
        _check_choice("digits", digits, DIGIT_SETS)
        _check_choice("rule", rule, DIGIT_SIZES)
        if len(pair_gap) != 2 or not 1 <= pair_gap[0] <= pair_gap[1]:
            raise ValueError(f"pair_gap must be (least, largest) with 1 <= least <= largest, got {tuple(pair_gap)}")
        if pair_gap_epochs < 0 or (pair_gap_epochs and fixed_train):
            raise ValueError(
                f"pair_gap_epochs must be at least 0, and 0 with fixed_train=True, got {pair_gap_epochs}: clips that "
                "are the same in every epoch do not tell which epoch it is"
            )
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
        self.save_hyperparameters()
        self.root = Path(root)
        self.digits = digits
        self.rule: MovementRule = rule
        self.num_frames = num_frames
        self.pair_gap = (pair_gap[0], pair_gap[1])
        self.pair_gap_epochs = pair_gap_epochs
        self.num_clips = {"train": num_train, "val": num_val, "test": num_test}
        self.fixed_train = fixed_train
        self.num_val_digits = num_val_digits
        self.batch_size = batch_size
        self.seed = seed
        if digits != "mnist":
            self.name = f"moving_{digits}"
        self.frame_shape = (1, CANVAS, CANVAS)
        self.class_names = list(PAIR_NAMES)
        self.keypoint_names = ["first digit", "second digit"]
        self.keypoints_unordered = True
        self.actors: list[str] | None = None
        self.fingerprint: dict[str, str | int | float] = {}
        self._glyphs: dict[str, Glyphs] = {}

    def prepare_data(self) -> None:
        """Download MNIST's files unless there are any, or other digits were chosen.

        Raises:
            DataError: if there are some but not all, or the download fails.
        """
        if self.digits == "mnist":
            digit_glyphs.obtain_mnist(self.root)

    def setup(self, stage: str | None = None) -> None:
        """Read the digits, the same on every process.

        Raises:
            DataError: if files are missing or damaged.
            MissingExtraError: if the digits are scikit-learn's, and it is not installed.
        """
        if self._glyphs:
            return
        found = (
            digit_glyphs.mnist_glyphs(self.root, self.num_val_digits)
            if self.digits == "mnist"
            else digit_glyphs.small_glyphs()
        )
        size = DIGIT_SIZES[self.rule]
        if size != digit_glyphs.SIZE:
            found = {
                split: each._replace(images=digit_glyphs.resized(each.images, size)) for split, each in found.items()
            }
        self._glyphs = found
        self.fingerprint = self._describe()

    def clips(self, split: str, index: Tensor, *, pairs: bool = False) -> Batch:
        """The batch of some clips of a split, any there are: also those of training as a database.

        Args:
            split: "train", "val" or "test".
            index: numbers of the clips, int64 (B,), at least 0; training epoch e shows those from e * num_train on.
            pairs: with "pairs".

        Raises:
            ValueError: for another split.
        """
        _check_choice("split", split, SPLITS)
        glyphs, count = self._glyphs[split], self.num_frames
        scenes = moving_digits.draw_scenes(
            self.seed if split == "train" else FIXED_SEED,
            split,
            index.tolist(),
            num_glyphs=len(glyphs.labels),
            length=max(count, self.pair_gap[1] + 1) if pairs else count,
            rule=self.rule,
            pair_gap=(self.pair_gap[0], self._largest_gaps(index)),
        )
        images, digits, places = glyphs.images[scenes.glyphs], glyphs.labels[scenes.glyphs], scenes.positions[:, :count]
        if pairs:
            places = np.concatenate([places, np.take_along_axis(scenes.positions, scenes.pairs[..., None, None], 1)], 1)
        frames = torch.from_numpy(moving_digits.render(images, places, self.rule))[:, :, None]
        batch = {
            "clips": frames[:, :count].contiguous(),
            "index": index,
            "videos": index,
            "digits": torch.from_numpy(digits),
            "labels": torch.from_numpy(moving_digits.pair_labels(digits)),
            "keypoints": torch.from_numpy(moving_digits.centres(places[:, :count], self.rule)),
        }
        return batch | ({"pairs": frames[:, count:].contiguous()} if pairs else {})

    def _largest_gaps(self, index: Tensor) -> np.ndarray:
        """Of the pairs of training clips (N,), by the epoch that shows them."""
        least, largest = self.pair_gap
        epoch = index.numpy() // self.num_clips["train"] + 1
        grown = least + (largest - least) * epoch // max(self.pair_gap_epochs, 1)
        return np.minimum(grown, largest)

    def train_dataloader(self) -> IndexBatches:
        """New clips in every epoch, or the same in another order; a last batch that is not full is left out."""
        number = self.num_clips["train"]
        return self._loader("train", permutation(number, self.seed) if self.fixed_train else in_turn(number))

    def first_clips_dataloader(self, number: int | None = None) -> IndexBatches:
        """The first training clips in order, as many as wanted, also more than an epoch has; without "pairs".

        Args:
            number: how many; null for those of an epoch.
        """
        number = number or self.num_clips["train"]
        gather = partial(self.clips, "train")
        return IndexBatches(gather, in_order(number), number, batch_size=min(self.batch_size, number))

    def val_dataloader(self) -> IndexBatches:
        """The clips of validation, in order."""
        return self._loader("val", in_order(self.num_clips["val"]))

    def test_dataloader(self) -> IndexBatches:
        """The clips of the test, in order."""
        return self._loader("test", in_order(self.num_clips["test"]))

    def predict_dataloader(self) -> IndexBatches:
        """As `test_dataloader`."""
        return self.test_dataloader()

    def _loader(self, split: str, plan: Callable[[int], Tensor]) -> IndexBatches:
        trainer = self.trainer
        try:
            return IndexBatches(
                lambda index: self.clips(split, index, pairs=split == "train"),
                plan,
                self.num_clips[split],
                batch_size=self.batch_size,
                drop_last=split == "train",
                rank=trainer.global_rank if trainer is not None else 0,
                world_size=trainer.world_size if trainer is not None else 1,
            )
        except ValueError as error:
            raise DataError(f"{self.name} {split}: {error}: lower --data.batch_size") from error

    def _describe(self) -> dict[str, str | int | float]:
        digest = hashlib.blake2b(digest_size=16)
        description: dict[str, str | int | float] = {"source": self.name, "rule": self.rule, "drawing": VERSION}
        description |= {"num_frames": self.num_frames, "pair_gap": "{}-{}".format(*self.pair_gap)}
        if self.pair_gap_epochs:
            description["pair_gap_epochs"] = self.pair_gap_epochs
        for split, glyphs in self._glyphs.items():
            digest.update(glyphs.images.tobytes() + glyphs.labels.tobytes())
            description |= {f"{split}_clips": self.num_clips[split], f"{split}_digits": len(glyphs.labels)}
        # Clips as well: what numpy's random generators draw may change with its version.
        digest.update(self.clips("test", torch.arange(8), pairs=True)["pairs"].numpy().tobytes())
        description["train"] = "fixed clips" if self.fixed_train else "new clips each epoch"
        return description | {"hash": digest.hexdigest()}


def in_turn(num_clips: int) -> Callable[[int], Tensor]:
    """A plan of ``num_clips`` clips that no epoch before has shown."""

    def plan(epoch: int) -> Tensor:
        return torch.arange(epoch * num_clips, (epoch + 1) * num_clips)

    return plan


def _check_counts(**arguments: int) -> None:
    for argument, value in arguments.items():
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")


def _check_choice(argument: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(choices)}, got {value!r}")
