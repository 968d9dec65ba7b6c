"""Frames of any Atari game, collected from the ROMs in ale-py, with the state variables in their RAM as labels."""

import sys
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from datamodules import atari_collection, atari_emulator
from datamodules.atari_emulator import CollectionSettings
from datamodules.atari_games import LabelMap, resolve_game
from datamodules.atari_protocol import make_protocol
from datamodules.atari_sampling import (
    Plan,
    clip_rows,
    clips_per_epoch,
    episode_uniform,
    training_plan,
    with_same_episode_rows,
)
from datamodules.atari_splits import Episodes, LabelledSplit, find_episodes, label_frames, split_episodes
from datamodules.errors import DataError
from datamodules.frame_memory import FrameMemory, MemoryMode
from datamodules.index_batches import Batch, IndexBatches, in_order
from datamodules.resized_frames import ResizedFrames, resize_frames, resized_path

PROBE_SEED_OFFSET = 100_000
"""Probes are trained on frames of their own: streams seeded this far from the encoder's."""


class AtariFrames(L.LightningDataModule):
    """Frames of an Atari game; `fit` collects them itself, once, from the ROM.

    A batch is a dictionary of tensors. Frames stay uint8 until they are on the device; a row of a batch is the same
    in every run with the same arguments.

    Args:
        game: any game of the emulator, in any usual spelling.
        root: folder of the recordings.
        preset: "clean" (splits without leaks, every label right) or "paper" (the released code of the benchmark with
            its quirks); every choice of a preset can be changed by the arguments below that default to null.
        serve: "clips" of consecutive frames (B, T, C, H, W), "labelled" frames (B, C, H, W) with labels (B, K), or
            plain "images" (B, C, H, W).
        image_size: null for frames as they are, 210x160; else "labelled" frames and "images" are averaged down to this
            height and width, at most 160, once, into a file beside the recording.
        clip_length: frames per clip; 2 for pairs.
        same_episode_negatives: add a random frame of the same episode to each clip, as "negatives" (B, C, H, W).
        batch_size: items per batch and process.
        num_frames: frames recorded for the encoder, of which 80 % of the episodes train it; what a protocol leaves out,
            such as terminal frames and short episodes, counts here.
        num_probe_frames: frames recorded for the probes, split by episodes into 70, 10 and 20 %.
        color: "gray" or "rgb".
        policy: "random", or the checkpoint of an agent that can act.
        epsilon: share of uniform actions mixed into an agent's.
        seed: of collection, splits and order.
        num_streams: emulators whose streams are recorded one after the other.
        num_workers: processes that collect; null for one per core. The frames do not depend on it.
        memory: how frames are kept: "auto", "compressed", "uncompressed" or on the "device".
        label_map: "paper" or "head" annotations of the RAM.
        split_order: episodes go to the splits as "collected" or "shuffled".
        first_pairs: pair an episode's first frame with its last ("wrap") or skip it.
        first_frames: their labels: "mislabelled" by the reset, their "own", or such frames "dropped".
        terminal_frames: keep the frame on which an episode ended.
        exclude_noop: the random agent never draws action 0.
        episodic_life: a lost life ends an episode.
        max_pooling: of two emulator frames, as "rgb" before or as "gray" after conversion.
        sampling: by "episode" with replacement, or each "frame" once an epoch.
        test_sampling: labelled test frames "with_replacement" or "once".
        min_episode_frames: leave out shorter episodes.
        duplicates: drop labelled frames of the "test" split or of "all" splits that an earlier split has, or "none".
        entropy_threshold: leave out variables with less label entropy, in nats.

    Raises:
        DataError: for a game that the emulator has not.
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        game: str = "pong",
        root: str = "data/atari",
        preset: Literal["clean", "paper"] = "clean",
        serve: Literal["clips", "labelled", "images"] = "clips",
        image_size: int | None = None,
        clip_length: int = 2,
        same_episode_negatives: bool = False,
        batch_size: int = 64,
        num_frames: int = 100_000,
        num_probe_frames: int = 50_000,
        color: Literal["gray", "rgb"] = "gray",
        policy: str = "random",
        epsilon: float = 0.2,
        seed: int = 42,
        num_streams: int = 8,
        num_workers: int | None = None,
        memory: MemoryMode = "auto",
        label_map: LabelMap | None = None,
        split_order: Literal["collected", "shuffled"] | None = None,
        first_pairs: Literal["wrap", "skip"] | None = None,
        first_frames: Literal["mislabelled", "own", "dropped"] | None = None,
        terminal_frames: bool | None = None,
        exclude_noop: bool | None = None,
        episodic_life: bool = True,
        max_pooling: Literal["rgb", "gray"] | None = None,
        sampling: Literal["episode", "frame"] | None = None,
        test_sampling: Literal["with_replacement", "once"] | None = None,
        min_episode_frames: int | None = None,
        duplicates: Literal["none", "test", "all"] | None = None,
        entropy_threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if clip_length < 1:
            raise ValueError(f"clip_length must be at least 1, got {clip_length}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if image_size is not None and (not 1 <= image_size <= 160 or serve == "clips"):
            raise ValueError(
                f"image_size must be 1 to 160, for 'images' or 'labelled', got {image_size} for {serve!r}: frames of "
                "210x160 are averaged down, not enlarged"
            )
        self.game = resolve_game(game)
        self.root = Path(root)
        self.serve = serve
        self.clip_length = clip_length if serve == "clips" else 1
        self.same_episode_negatives = same_episode_negatives
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.memory_mode: MemoryMode = memory
        self.protocol = make_protocol(
            preset,
            {
                "label_map": label_map,
                "split_order": split_order,
                "first_pairs": first_pairs,
                "first_frames": first_frames,
                "terminal_frames": terminal_frames,
                "exclude_noop": exclude_noop,
                "max_pooling": max_pooling,
                "sampling": sampling,
                "test_sampling": test_sampling,
                "min_episode_frames": min_episode_frames,
                "duplicates": duplicates,
                "entropy_threshold": entropy_threshold,
            },
        )
        labelled = serve == "labelled"
        self.settings = CollectionSettings(
            game=self.game,
            num_frames=num_probe_frames if labelled else num_frames,
            seed=seed + PROBE_SEED_OFFSET * labelled,
            num_streams=num_streams,
            color=color,
            max_pooling=self.protocol.max_pooling,
            exclude_noop=self.protocol.exclude_noop,
            episodic_life=episodic_life,
            policy=policy,
            epsilon=epsilon,
        )
        self.image_size = image_size
        self.image_shape = (1 if color == "gray" else 3, image_size or 210, image_size or 160)
        self.variables: list[str] = []
        self.categories: dict[str, list[str]] = {}
        self.labelled: dict[str, LabelledSplit] = {}
        self.episodes: dict[str, Episodes] = {}
        self._frames: FrameMemory | ResizedFrames | None = None

    @property
    def num_actions(self) -> int:
        """Size of the game's minimal action set."""
        return atari_emulator.num_actions(self.game)

    @property
    def path(self) -> Path:
        """The recording behind the batches."""
        return atari_collection.recording_path(self.settings, self.root)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the recording is: settings, versions, counts and a hash; with the size of resized frames."""
        resized = {} if self.image_size is None else {"image_size": self.image_size}
        return atari_collection.fingerprint(self.path) | resized

    @property
    def frames(self) -> FrameMemory | ResizedFrames:
        """All frames of the recording, by row; there after `setup`."""
        if self._frames is None:
            raise RuntimeError("AtariFrames has no frames before setup()")
        return self._frames

    def prepare_data(self) -> None:
        """Collect the recording unless it is there, and resize its frames if that was asked for."""
        from rich.progress import Progress

        with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
            if not self.path.is_file():
                task = progress.add_task(f"collecting {self.game}", total=self.settings.num_frames)
                atari_collection.collect_frames(
                    self.settings,
                    self.root,
                    num_workers=self.num_workers,
                    progress=lambda rows: progress.advance(task, rows),
                )
            if self.image_size is not None and not self._resized_path(self.image_size).is_file():
                recording = atari_collection.read_verified(self.settings, self.root)
                resizing = progress.add_task("resizing", total=len(recording))
                resize_frames(
                    recording,
                    self._resized_path(self.image_size),
                    self.image_size,
                    progress=lambda rows: progress.advance(resizing, rows),
                )

    def setup(self, stage: str | None = None) -> None:
        """Read the recording and cut it into splits; the same on every process."""
        if self._frames is not None:
            return
        recording = atari_collection.read_verified(self.settings, self.root)
        if self.serve == "labelled":
            variables, self.labelled = label_frames(recording, self.protocol, self.seed)
            self.variables = [variable.name for variable in variables]
            self.categories = {variable.name: list(variable.categories) for variable in variables}
        else:
            episodes = find_episodes(recording, self.protocol, self.clip_length)
            train, val = split_episodes(episodes, (0.8, 0.2), self.protocol, self.seed)
            self.episodes = {"train": train, "val": val}
        if self.image_size is not None:
            self._frames = ResizedFrames(self._resized_path(self.image_size), len(recording))
            return
        device = self.trainer.strategy.root_device if self.trainer is not None else None
        self._frames = FrameMemory(recording.frames, self.settings.frame_shape, self.memory_mode, device)

    def train_dataloader(self) -> IndexBatches:
        """Batches of the train split, another order each epoch."""
        return self._labelled_batches("train") if self.serve == "labelled" else self._clip_batches("train")

    def val_dataloader(self) -> IndexBatches:
        """Batches of the held-out episodes: each epoch the same, or drawn anew where sampling is by episode."""
        return self._labelled_batches("val") if self.serve == "labelled" else self._clip_batches("val")

    def test_dataloader(self) -> IndexBatches:
        """Labelled test frames; for clips and images the held-out episodes."""
        return self._labelled_batches("test") if self.serve == "labelled" else self._clip_batches("val")

    def predict_dataloader(self) -> IndexBatches:
        """Held-out frames (B, C, H, W) in order: the test split if labelled."""
        rows = self.labelled["test"].rows if self.serve == "labelled" else self.episodes["val"].rows()
        index = torch.from_numpy(rows)
        return self._batches(
            lambda items: {"frames": self.frames.gather(index[items])}, in_order(len(rows)), len(rows), drop_last=False
        )

    def _resized_path(self, image_size: int) -> Path:
        return resized_path(self.path, image_size, atari_collection.fingerprint(self.path)["hash"])

    def _clip_batches(self, split: str) -> IndexBatches:
        episodes = self.episodes[split]
        clips, episode_of_clip = clip_rows(episodes, self.clip_length, self.protocol)
        number = clips_per_epoch(len(clips), len(episodes), self.clip_length, self.protocol)
        plan = training_plan(episode_of_clip, self.protocol, number, self.seed)
        if self.same_episode_negatives:
            plan = with_same_episode_rows(plan, episodes, episode_of_clip, self.seed)
        rows = torch.from_numpy(clips)

        def gather(items: Tensor) -> Batch:
            clip_items = items[:, 0] if items.dim() == 2 else items
            frames = self.frames.gather(rows[clip_items])  # (B, T, C, H, W)
            batch = {"frames": frames[:, 0] if self.serve == "images" else frames}
            if items.dim() == 2:
                batch["negatives"] = self.frames.gather(items[:, 1])
            return batch

        return self._batches(gather, plan if split == "train" else self._held_out(plan), number, drop_last=True)

    def _labelled_batches(self, split: str) -> IndexBatches:
        data = self.labelled[split]
        number = len(data.rows)
        plan = training_plan(data.episodes, self.protocol, number, self.seed)
        if split == "val" and self.protocol.sampling == "frame":
            plan = in_order(number)
        with_replacement = self.protocol.test_sampling == "with_replacement"
        if split == "test":
            drawn = _always_first(episode_uniform(data.episodes, number, self.seed))
            plan = drawn if with_replacement else in_order(number)
        rows, labels = torch.from_numpy(data.rows), torch.from_numpy(data.labels)
        drop_last = split == "train" or self.protocol.sampling == "episode" or (split == "test" and with_replacement)
        return self._batches(
            lambda items: {"frames": self.frames.gather(rows[items]), "labels": labels[items]}, plan, number, drop_last
        )

    def _held_out(self, plan: Plan) -> Plan:
        # Like is compared with like over the epochs, but where the released code drew anew for each.
        return _always_first(plan) if self.protocol.sampling == "frame" else plan

    def _batches(self, gather: Any, plan: Plan, num_items: int, drop_last: bool) -> IndexBatches:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        world_size = self.trainer.world_size if self.trainer is not None else 1
        try:
            return IndexBatches(
                gather,
                plan,
                num_items,
                batch_size=self.batch_size,
                drop_last=drop_last and num_items >= self.batch_size * world_size,
                rank=rank,
                world_size=world_size,
            )
        except ValueError as error:
            raise DataError(f"{self.path.name}: {error}: collect more frames or lower --data.batch_size") from error


def _always_first(plan: Plan) -> Plan:
    """The plan of the first epoch in every epoch."""
    return lambda epoch: plan(0)
