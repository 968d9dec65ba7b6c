import json

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.features import PARTS, SPLITS, Features, episode_then_frame, save_features

CATEGORIES = {"x": ["position"], "lives": ["count", "misc"]}


def splits(rows=(40, 16, 20), shape=(3,)):
    generator = np.random.default_rng(0)
    return {
        split: {
            "features": generator.normal(size=(n, *shape)).astype(np.float32),
            "labels": generator.integers(0, 256, (n, 2)),
            "episodes": np.sort(generator.integers(0, 4, n)) * 7 - 3,
        }
        for split, n in zip(SPLITS, rows, strict=True)
    }


def rows_of(module, batches, split):
    """Which row of a split each served row is, found by its features."""
    features = module._splits[split]["features"]
    served = torch.cat([batch["features"] for batch in batches])
    return [int((features == row).all(-1).nonzero()) for row in served]


def test_file_and_memory_serve_the_same(tmp_path):
    arrays = splits()
    save_features(tmp_path / "f.npz", arrays, ["x", "lives"], CATEGORIES)
    from_file = Features(path=str(tmp_path / "f.npz"), batch_size=8)
    from_file.setup()
    from_memory = Features.from_arrays(arrays, ["x", "lives"], CATEGORIES, batch_size=8)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"):
        for one, two in zip(getattr(from_file, loader)(), getattr(from_memory, loader)(), strict=True):
            assert torch.equal(one["features"], two["features"])
            assert torch.equal(one["labels"], two["labels"])
    assert from_file.variables == ["x", "lives"]
    assert from_file.categories == CATEGORIES
    assert from_file.feature_shape == (3,)
    assert from_file.fingerprint["sha256"] == from_memory.fingerprint["sha256"]
    assert from_file.fingerprint["train_rows"] == 40
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.npz"]


def test_fingerprint_sees_one_changed_label():
    arrays = splits()
    before = Features.from_arrays(arrays, ["x", "lives"]).fingerprint
    arrays["test"]["labels"][3, 1] ^= 1
    assert Features.from_arrays(arrays, ["x", "lives"]).fingerprint["sha256"] != before["sha256"]


def test_frame_sampling_shows_every_row_once_and_reorders():
    module = Features.from_arrays(splits(), ["x", "lives"], batch_size=8, sampling="frame", test_sampling="once")
    loader = module.train_dataloader()
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        orders.append(rows_of(module, loader, "train"))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert orders[0] != orders[1]
    assert rows_of(module, module.val_dataloader(), "val") == list(range(16))
    assert rows_of(module, module.test_dataloader(), "test") == list(range(20))


def test_rows_keep_their_labels():
    module = Features.from_arrays(splits(shape=(2, 3)), ["x", "lives"], batch_size=8)
    for batch in module.train_dataloader():
        assert batch["features"].shape == (8, 2, 3)
        for features, labels in zip(batch["features"], batch["labels"], strict=True):
            row = int((module._splits["train"]["features"] == features).all(-1).all(-1).nonzero())
            assert torch.equal(module._splits["train"]["labels"][row], labels)


def test_episode_sampling_gives_each_episode_the_same_share():
    episodes = torch.tensor([5] * 1 + [2] * 99 + [5] * 1 + [9] * 899)
    plan = episode_then_frame(episodes, seed=1)
    drawn = torch.cat([plan(epoch) for epoch in range(30)])
    shares = torch.stack([(episodes[drawn] == e).double().mean() for e in (2, 5, 9)])
    assert (shares - 1 / 3).abs().max() < 0.015  # 30,000 draws: 5 standard deviations
    inside = drawn[episodes[drawn] == 5]
    assert set(inside.tolist()) == {0, 100}
    assert abs((inside == 0).double().mean().item() - 0.5) < 0.03
    assert torch.equal(plan(3), plan(3))
    assert not torch.equal(plan(3), plan(4))


def test_published_protocol_counts_full_batches_and_repeats_its_test_draw():
    module = Features.from_arrays(splits(), ["x", "lives"], batch_size=12)
    assert [len(module.train_dataloader()), len(module.val_dataloader()), len(module.test_dataloader())] == [3, 1, 1]
    loader = module.test_dataloader()
    first = rows_of(module, loader, "test")
    loader.sampler.set_epoch(17)
    assert rows_of(module, loader, "test") == first


@pytest.mark.parametrize("name", ["val_labels", "train_episodes", "categories", "variables"])
def test_a_missing_part_is_named_with_its_file(tmp_path, name):
    arrays = {f"{split}_{part}": splits()[split][part] for split in SPLITS for part in PARTS}
    arrays |= {"variables": np.array(["x", "lives"]), "categories": np.array(json.dumps(CATEGORIES))}
    del arrays[name]
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=rf"f\.npz has no '{name}'"):
        Features(path=str(tmp_path / "f.npz")).setup()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"No file .*g\.npz"):
        Features(path=str(tmp_path / "g.npz")).setup()
    with pytest.raises(DataError, match=r"--data\.path"):
        Features().setup()
    path = tmp_path / "f.npz"
    save_features(path, splits(), ["x", "lives"], CATEGORIES)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[:-50]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"f\.npz is damaged") as caught:
            Features(path=str(path)).setup()
        assert "\n" not in str(caught.value)
    np.savez(path, **{"train_features": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match=r"damaged or no \.npz"):
        Features(path=str(path)).setup()


@pytest.mark.parametrize(
    ("split", "part", "value", "message"),
    [
        ("val", "labels", np.zeros((16, 3), int), r"'val_labels' must be \(16, 2\), got \(16, 3\)"),
        ("test", "episodes", np.zeros(3, int), r"'test_episodes' must be \(20,\), got \(3,\)"),
        ("train", "features", np.zeros((40,)), r"'train_features' must be .* got \(40,\)"),
        ("val", "features", np.zeros((16, 9)), r"differ in shape"),
        ("train", "labels", np.full((40, 2), 256), r"'train_labels' must lie in 0\.\.255"),
        ("test", "features", np.zeros((0, 3)), r"'test_features' has no rows"),
    ],
)
def test_parts_that_do_not_fit(split, part, value, message):
    arrays = splits()
    arrays[split][part] = value
    with pytest.raises(DataError, match=message):
        Features.from_arrays(arrays, ["x", "lives"])


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f.npz"
    save_features(path, splits(), ["x", "lives"], CATEGORIES)
    before = path.read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space"):
        save_features(path, splits(), ["x", "lives"], {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.npz"]
