"""What all video datasets share: batches, orders, splits, mirrors, resuming and cutting over processes."""

import inspect
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from datamodules import RAVDESS, ClipFolder, Weizmann, video_data
from datamodules.errors import DataError
from datamodules.video_cache import DecodedVideo, VideoItem
from datamodules.video_clips import mirror
from datamodules.video_data import VideoData

LENGTHS = {"train": [8, 20, 30, 33, 9, 12], "val": [17, 8], "test": [25]}


class Tables(VideoData):
    """Videos of which every pixel tells video and frame: channel 0 the video, 1 the frame, 2 the column."""

    name = "tables"
    recipe = "none"

    def __init__(self, lengths=LENGTHS, **arguments):
        super().__init__(**({"image_size": 4, "batch_size": 2} | arguments))
        self.lengths = lengths
        self.class_names = ["even", "odd"]
        self.keypoint_names, self.keypoint_mirror = ["middle", "left", "right"], [0, 2, 1]

    def list_videos(self):
        self.root.mkdir(exist_ok=True)
        items = []
        for split, lengths in self.lengths.items():
            for length in lengths:
                number = len(items)
                path = self.root / f"{number}_{length}"
                path.touch()
                items.append(VideoItem(path.name, path, split, number % 2, f"actor{number // 2}"))
        return items

    def decode(self, item):
        number, length = (int(part) for part in item.name.split("_"))
        if length == 0:
            raise DataError(f"{item.name} has nothing")
        frames = np.zeros((length, 3, 4, 4), np.uint8)
        frames[:, 0], frames[:, 1] = number, np.arange(length)[:, None, None]
        frames[:, 2] = np.arange(4)
        points = np.zeros((length, 3, 2))
        points[:, :, 0] = (1, 0, 3)
        points[:, :, 1] = np.arange(length)[:, None]
        return DecodedVideo(frames, points)


def ready(root, lengths=LENGTHS, **arguments):
    data = Tables(lengths, root=str(root), **arguments)
    data.prepare_data()
    data.setup()
    return data


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return list(loader)


def test_training_batches_have_shapes_types_and_what_belongs_together(tmp_path):
    data = ready(tmp_path, clips_per_video=3, pair_gap=(2, 5))
    batches = epoch(data.train_dataloader())
    assert len(batches) == 9
    starts = np.cumsum([0, *(length for lengths in LENGTHS.values() for length in lengths)])
    for batch in batches:
        assert sorted(batch) == ["clips", "index", "keypoints", "labels", "pairs", "videos"]
        clips, pairs, videos = batch["clips"], batch["pairs"], batch["videos"]
        assert clips.dtype == pairs.dtype == torch.uint8
        assert clips.shape == (2, 8, 3, 4, 4)
        assert pairs.shape == (2, 2, 3, 4, 4)
        assert batch["keypoints"].dtype == torch.float32
        assert batch["keypoints"].shape == (2, 8, 3, 2)
        assert batch["index"].dtype == batch["labels"].dtype == videos.dtype == torch.int64
        assert (clips[:, :, 0] == videos[:, None, None, None]).all()
        assert (pairs[:, :, 0] == videos[:, None, None, None]).all()
        first = batch["index"] - torch.from_numpy(starts)[videos]
        assert (clips[:, :, 1, 0, 0] == first[:, None] + torch.arange(8)).all(), "consecutive frames"
        assert (batch["keypoints"][..., 0, 1] == clips[:, :, 1, 0, 0]).all()
        assert (batch["labels"] == videos % 2).all()
        gaps = (pairs[:, 0, 1, 0, 0].int() - pairs[:, 1, 1, 0, 0].int()).abs()
        assert ((gaps >= 2) & (gaps <= 5)).all()
        assert len(videos.unique()) == 2
    seen = torch.cat([batch["videos"] for batch in batches])
    assert seen.bincount().tolist() == [3] * 6


def test_training_draws_anew_each_epoch_and_the_same_each_time(tmp_path):
    data = ready(tmp_path, clips_per_video=2)

    def index(module, number):
        return torch.cat([b["index"] for b in epoch(module.train_dataloader(), number)]).tolist()

    assert index(data, 0) != index(data, 1)
    assert index(data, 1) == index(ready(tmp_path, clips_per_video=2), 1)
    assert index(data, 0) != index(ready(tmp_path, clips_per_video=2, seed=1), 0)


def test_evaluation_shows_all_clips_in_order(tmp_path):
    data = ready(tmp_path)
    for split, videos, loader in (
        ("val", (6, 7), data.val_dataloader()),
        ("test", (8,), data.test_dataloader()),
        ("test", (8,), data.predict_dataloader()),
        ("train", range(6), data.clips_dataloader("train")),
    ):
        batches = epoch(loader)
        assert all("pairs" not in batch for batch in batches)
        seen = [(int(c[0, 0, 0, 0]), int(c[0, 1, 0, 0])) for batch in batches for c in batch["clips"]]
        expected = [(v, f) for v, n in zip(videos, LENGTHS[split], strict=True) for f in range(0, n - 7, 8)]
        assert seen == expected
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'all'"):
        data.clips_dataloader("all")


def test_a_split_without_videos_is_the_other(tmp_path):
    data = ready(tmp_path, {"train": [8, 9], "test": [16]})
    assert epoch(data.val_dataloader())[0]["videos"].tolist() == [2, 2]
    data = ready(tmp_path, {"train": [8, 9], "val": [16]})
    assert epoch(data.test_dataloader())[0]["videos"].tolist() == [2, 2]


def test_facts(tmp_path):
    data = ready(tmp_path)
    assert data.frame_shape == (3, 4, 4)
    assert data.num_frames == 8
    assert data.actors == [f"actor{video // 2}" for video in range(9)]
    assert data.video_names[:2] == ["0_8", "1_20"]
    assert {key: data.fingerprint[key] for key in ("train_videos", "train_clips", "val_clips", "test_clips")} == {
        "train_videos": 6, "train_clips": 1 + 2 + 3 + 4 + 1 + 1, "val_clips": 3, "test_clips": 3,
    }  # fmt: skip
    assert data.fingerprint["test_actors"] == "actor4"


def test_the_fingerprint_tells_splits_apart_but_not_runs(tmp_path):
    hashes = [
        ready(tmp_path, lengths).fingerprint["hash"]
        for lengths in (LENGTHS, LENGTHS, {"train": [8, 20], "test": [30, 33]}, {"train": [8, 20, 30], "test": [33]})
    ]
    assert hashes[0] == hashes[1]
    hashes.append(ready(tmp_path, num_frames=4).fingerprint["hash"])
    assert len(set(hashes)) == 4


def test_all_splits_share_one_cache(tmp_path):
    for lengths in ({"train": [8, 20], "test": [30, 33]}, {"train": [8, 20, 30], "test": [33]}):
        ready(tmp_path, lengths)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_short_videos_are_named_or_left_out_and_counted(tmp_path):
    lengths = {"train": [8, 7, 3, 20], "test": [9]}
    with pytest.raises(DataError, match=r"1_7 has 7 frames .*\(as have 1 more\), fewer than the num_frames=8"):
        ready(tmp_path, lengths)
    data = ready(tmp_path, lengths, bad_videos="skip")
    assert data.video_names == ["0_8", "3_20", "4_9"]
    assert data.actors == ["actor0", "actor1", "actor2"]
    assert data.fingerprint["videos_too_short"] == 2
    for batch in epoch(data.train_dataloader()):
        for clip, video, label in zip(batch["clips"], batch["videos"], batch["labels"], strict=True):
            assert int(clip[0, 0, 0, 0]) == [0, 3][video]
            assert label == [0, 1][video]
    ready(tmp_path, lengths, num_frames=3)


def test_bad_videos_are_named_or_left_out_and_counted(tmp_path):
    lengths = {"train": [8, 0, 9], "test": [9]}
    with pytest.raises(DataError, match="1_0 has nothing"):
        ready(tmp_path, lengths)
    data = ready(tmp_path, lengths, bad_videos="skip")
    assert data.fingerprint["bad_videos_skipped"] == 1
    assert data.video_names == ["0_8", "2_9", "3_9"]
    with pytest.raises(DataError, match=r"tables in .* no test video is left"):
        ready(tmp_path, {"train": [8], "test": [0]}, bad_videos="skip")


def test_batches_larger_than_the_videos_are_told(tmp_path):
    with pytest.raises(DataError, match=r"batch of 7 clips .* there are 6: lower --data\.batch_size"):
        ready(tmp_path, batch_size=7).train_dataloader()


def test_batches_count_over_all_processes(tmp_path):
    data = ready(tmp_path, batch_size=4)
    data.trainer = SimpleNamespace(world_size=2, global_rank=0)
    with pytest.raises(DataError, match=r"batch of 8 clips \(batch_size=4, over all processes\) .* there are 6"):
        data.train_dataloader()


def test_what_was_done_and_counted_is_said(tmp_path, monkeypatch):
    said = []  # not caplog: what tests before this one imported may have silenced loggers
    monkeypatch.setattr(video_data, "rank_zero_info", said.append)
    lengths = {"train": [8, 7, 0, 3, 20], "test": [9]}
    data = ready(tmp_path, lengths, bad_videos="skip")
    assert any(line.startswith(f"tables: decoding 6 videos, once, into {data.cache_folder}") for line in said)
    assert "tables: 3 videos; 1 bad videos skipped, 2 videos too short" in said
    said.clear()
    ready(tmp_path, lengths, bad_videos="skip")
    assert not any("decoding" in line for line in said)


@pytest.mark.parametrize("dataset", [Weizmann, RAVDESS, ClipFolder])
def test_every_dataset_hands_on_what_all_have(dataset, tmp_path):
    given = {
        "image_size": 32, "batch_size": 3, "num_frames": 5, "clips_per_video": 7, "pair_gap": (2, 9), "flip": False,
        "bad_videos": "skip", "num_workers": 2, "seed": 13,
    }  # fmt: skip
    data = dataset(root=str(tmp_path), cache=str(tmp_path / "elsewhere"), **given)
    shared = inspect.signature(VideoData.__init__).parameters.keys() - {"self", "root", "cache"}
    assert shared == given.keys()
    assert {name: getattr(data, name) for name in given} == given
    assert (data.root, data.cache_folder) == (tmp_path, tmp_path / "elsewhere")
    assert dataset(root=str(tmp_path)).cache_folder == tmp_path / "cache"
    assert set(given) <= set(data.hparams)
    assert sorted(data.keypoint_mirror) == list(range(len(data.keypoint_names or [])))


def test_the_published_distances_of_pairs():
    assert (Weizmann().pair_gap, RAVDESS().pair_gap) == ((1, 25), (5, 25))


def test_loaders_before_setup_are_told(tmp_path):
    with pytest.raises(DataError, match="tables: call setup"):
        Tables(root=str(tmp_path)).train_dataloader()


def test_setup_decodes_nothing(tmp_path):
    with pytest.raises(DataError, match="does not exist: run prepare_data"):
        Tables(root=str(tmp_path)).setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"clips_per_video": 0}, "clips_per_video must be at least 1, got 0"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"num_frames": 1}, "num_frames must be at least 2, got 1"),
        ({"pair_gap": (0, 5)}, r"pair_gap must be .* got \(0, 5\)"),
        ({"pair_gap": (6, 5)}, r"pair_gap must be .* got \(6, 5\)"),
        ({"bad_videos": "ignore"}, "bad_videos must be 'error' or 'skip', got 'ignore'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tables(root="x", **arguments)


def test_the_mirror_turns_clips_pairs_and_keypoints_together():
    random = torch.Generator().manual_seed(0)
    batch = {
        "clips": torch.randint(0, 256, (3, 2, 3, 5, 6), generator=random, dtype=torch.uint8),
        "pairs": torch.randint(0, 256, (3, 2, 3, 5, 6), generator=random, dtype=torch.uint8),
        "keypoints": torch.rand(3, 2, 4, 2, generator=random) * 5,
        "labels": torch.arange(3),
    }
    batch["keypoints"][0, 0, 2] = float("nan")
    mirrored = torch.tensor([True, False, True])
    seen = mirror(batch, mirrored, [0, 2, 1, 3])
    for row in range(3):
        for name in ("clips", "pairs"):
            expected = batch[name][row].flip(-1) if mirrored[row] else batch[name][row]
            assert torch.equal(seen[name][row], expected)
        for keypoint, other in enumerate([0, 2, 1, 3] if mirrored[row] else range(4)):
            x, y = batch["keypoints"][row, :, other].unbind(-1)
            expected = torch.stack([5 - x if mirrored[row] else x, y], -1)
            assert torch.equal(seen["keypoints"][row, :, keypoint].nan_to_num(-1), expected.nan_to_num(-1))
    twice = mirror(seen, mirrored, [0, 2, 1, 3])
    assert torch.equal(twice["clips"], batch["clips"])
    assert torch.allclose(twice["keypoints"].nan_to_num(-1), batch["keypoints"].nan_to_num(-1))
    assert seen["labels"] is batch["labels"]


class Recorder(L.LightningModule):
    """Remembers what it saw in each loop."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = {"train": [], "val": [], "test": []}

    def _see(self, batch, loop):
        mirrored = batch["clips"][:, 0, 2, 0, 0] > batch["clips"][:, 0, 2, 0, -1]
        if "pairs" in batch:
            assert (mirrored == (batch["pairs"][:, 1, 2, 0, 0] > batch["pairs"][:, 1, 2, 0, -1])).all()
        assert (batch["keypoints"][:, 0, 0, 0] == torch.where(mirrored, 2, 1)).all()
        assert (batch["keypoints"][:, 0, 1, 0] == 0).all(), "the left one stays on the left"
        self.seen[loop] += list(zip(batch["index"].tolist(), mirrored.tolist(), strict=True))

    def training_step(self, batch, batch_index):
        self._see(batch, "train")
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_index):
        self._see(batch, "val")

    def test_step(self, batch, batch_index):
        self._see(batch, "test")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def trainer(**arguments):
    defaults = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(**(defaults | {"enable_checkpointing": False, "max_epochs": 2} | arguments))


@pytest.mark.parametrize("flip", [True, False])
def test_only_training_clips_are_mirrored(tmp_path, flip):
    data, module, run = Tables(root=str(tmp_path), clips_per_video=10, flip=flip), Recorder(), trainer()
    torch.manual_seed(1)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    mirrored = [turned for _, turned in module.seen["train"]]
    assert len(mirrored) == 2 * 60
    assert (35 < sum(mirrored) < 85) if flip else not any(mirrored)
    assert not any(turned for _, turned in module.seen["val"] + module.seen["test"])


def test_mirrors_are_drawn_by_the_seed_alone(tmp_path):
    drawn = []
    for process, seed in enumerate((0, 0, 1)):
        torch.manual_seed(process)
        module = Recorder()
        trainer(max_epochs=1).fit(module, datamodule=Tables(root=str(tmp_path), clips_per_video=10, seed=seed))
        drawn.append([turned for _, turned in module.seen["train"]])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_resumed_run_sees_the_clips_it_had_not_seen(tmp_path):
    def data():
        return Tables(root=str(tmp_path / "data"), clips_per_video=2)

    whole = Recorder()
    torch.manual_seed(0)
    trainer().fit(whole, datamodule=data())
    first, rest = Recorder(), Recorder()
    torch.manual_seed(3)
    keep = ModelCheckpoint(tmp_path, filename="half", every_n_train_steps=4, save_top_k=-1)
    trainer(max_steps=4, callbacks=[keep], enable_checkpointing=True).fit(first, datamodule=data())
    trainer().fit(rest, datamodule=data(), ckpt_path=tmp_path / "half.ckpt")
    assert first.seen["train"] == whole.seen["train"][:8]
    assert rest.seen["train"] == whole.seen["train"][8:]


def test_two_processes_see_together_what_one_sees(tmp_path):
    class Rank:
        world_size = 2

        def __init__(self, rank):
            self.global_rank = rank

    one = epoch(ready(tmp_path, clips_per_video=3, batch_size=4).train_dataloader(), 5)
    parts = []
    for rank in range(2):
        data = ready(tmp_path, clips_per_video=3, batch_size=2)
        data.trainer = Rank(rank)
        parts.append(epoch(data.train_dataloader(), 5))
    for whole, *halves in zip(one, *parts, strict=True):
        for name, tensor in whole.items():
            assert torch.equal(tensor, torch.cat([half[name] for half in halves]))
        assert len(whole["videos"].unique()) == 4
