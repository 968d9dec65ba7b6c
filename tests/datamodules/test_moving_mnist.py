"""Moving MNIST as batches: what they hold, whose digits they show, epochs, processes, and what goes wrong."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import MovingMNIST, digit_glyphs, mnist_files
from datamodules.digit_glyphs import mnist_glyphs, small_glyphs
from datamodules.errors import DataError
from lightning_zoo.extras import MissingExtraError

TINY = {"num_train": 20, "num_val": 6, "num_test": 9, "num_val_digits": 10, "batch_size": 4}


@pytest.fixture
def root(tmp_path, mnist_files):
    return mnist_files(tmp_path / "raw").parent


def build(root, **arguments):
    module = MovingMNIST(**({"root": str(root)} | TINY | arguments))
    module.prepare_data()
    module.setup()
    return module


def small(tmp_path, **arguments):
    return build(tmp_path / "nothing", digits="digits8x8", **arguments)


def whole(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def loaders(module):
    return {split: getattr(module, f"{split}_dataloader")() for split in ("train", "val", "test")}


def shown_digits(batch, size=28, apart=28):
    """Each digit's pixels (size, size), with its class, from every frame whose digits are ``apart`` along an axis."""
    for clip, frames in enumerate(batch["keypoints"]):
        for frame, centres in enumerate(frames):
            if (centres[0] - centres[1]).abs().max() >= apart:
                for (x, y), digit in zip((centres - (size - 1) / 2).int().tolist(), batch["digits"][clip], strict=True):
                    yield batch["clips"][clip, frame, 0, y : y + size, x : x + size].numpy(), int(digit)


def test_what_a_batch_holds(root):
    module = build(root)
    for split, loader in loaders(module).items():
        batch = next(iter(loader))
        kinds = {
            "clips": ((4, 8, 1, 64, 64), torch.uint8),
            "index": ((4,), torch.int64),
            "videos": ((4,), torch.int64),
            "labels": ((4,), torch.int64),
            "digits": ((4, 2), torch.int64),
            "keypoints": ((4, 8, 2, 2), torch.float32),
        }
        if split == "train":
            kinds["pairs"] = ((4, 2, 1, 64, 64), torch.uint8)
        assert {name: (tuple(each.shape), each.dtype) for name, each in batch.items()} == kinds
        assert all(each.is_contiguous() for each in batch.values())
        for label, digits in zip(batch["labels"], batch["digits"], strict=True):
            assert module.class_names[label] == "{} {}".format(*sorted(digits.tolist()))
    assert module.frame_shape == (1, 64, 64)
    assert (module.num_frames, len(module.keypoint_names), len(module.class_names)) == (8, 2, 55)
    assert {split: len(loader) for split, loader in loaders(module).items()} == {"train": 5, "val": 2, "test": 3}
    predicted, tested = whole(module.predict_dataloader()), whole(module.test_dataloader())
    assert torch.equal(predicted["clips"], tested["clips"])


@pytest.mark.parametrize("digits", ["mnist", "digits8x8"])
def test_a_split_shows_its_own_digits_and_names_them(root, digits):
    glyphs = mnist_glyphs(root, 10) if digits == "mnist" else small_glyphs()
    owner = {image.tobytes(): split for split, each in glyphs.items() for image in each.images}
    assert len(owner) == sum(len(each.labels) for each in glyphs.values()), "no image is in two splits, or twice in one"
    module = build(root, digits=digits, num_val=60, num_test=60, num_train=60)
    for split, loader in loaders(module).items():
        own = {image.tobytes(): label for image, label in zip(*glyphs[split], strict=True)}
        shown = [(image.tobytes(), digit) for image, digit in shown_digits(whole(loader))]
        assert len(set(shown)) > 5
        for image, digit in shown:
            assert owner[image] == split
            assert own[image] == digit


def test_the_last_training_images_are_those_of_validation(root):
    images, labels = mnist_files.read_pair(
        *(mnist_files.find_files(root)[0][f"train_{part}"] for part in ("images", "labels"))
    )
    glyphs = mnist_glyphs(root, 10)
    assert np.array_equal(glyphs["train"].images, images[:30])
    assert np.array_equal(glyphs["val"].images, images[30:])
    assert glyphs["val"].labels.tolist() == labels[30:].tolist()


@pytest.mark.parametrize("rule", ["A", "B"])
def test_a_pair_is_two_frames_of_the_same_way_within_the_gap(root, rule):
    module = build(root, rule=rule, pair_gap=(4, 25))
    longer = build(root, rule=rule, num_frames=26)
    index = torch.arange(30)
    batch, ways = module.clips("train", index, pairs=True), longer.clips("train", index)
    assert torch.equal(batch["clips"], ways["clips"][:, :8]), "the clip begins the way"
    for pair, way in zip(batch["pairs"], ways["clips"], strict=True):
        places = [[frame for frame in range(26) if torch.equal(way[frame], each)] for each in pair]
        assert any(4 <= abs(source - target) <= 25 for source in places[0] for target in places[1])


def distances_of_pairs(root, epoch=0, **arguments):
    """In frames, of the training pairs whose digits stand nowhere twice on their way."""
    module, longer = (build(root, num_train=200, num_frames=frames, **arguments) for frames in (8, 26))
    pairs = whole(module.train_dataloader(), epoch)["pairs"]
    ways = whole(longer.train_dataloader(), epoch)["clips"]
    distances = []
    for pair, way in zip(pairs, ways, strict=True):
        source, target = ((way == each).flatten(1).all(1).nonzero()[:, 0] for each in pair)
        if len(source) == len(target) == 1:
            distances.append(int((target - source).abs()))
    return distances


def test_training_pairs_go_as_far_apart_as_the_gap_allows(root):
    """The way is longer than the clip, and all of it is used: most pairs lie beyond what a clip could give."""
    distances = distances_of_pairs(root)
    assert len(distances) > 100
    assert max(distances) == 25
    assert sum(distance > 7 for distance in distances) > len(distances) / 2


@pytest.mark.parametrize(("epoch", "largest"), [(0, 7), (1, 13), (2, 19), (3, 25), (9, 25)])
def test_the_distance_of_pairs_grows_over_the_first_epochs(root, epoch, largest):
    distances = distances_of_pairs(root, epoch, pair_gap_epochs=4)
    assert max(distances) == largest
    assert set(range(1, largest - 1)) <= set(distances)


def test_training_clips_in_order_go_beyond_an_epoch(root):
    module = build(root)
    first, later = whole(module.first_clips_dataloader(10)), module.clips("train", torch.arange(7, 10))
    assert first["index"].tolist() == list(range(10))
    assert torch.equal(first["clips"][7:], later["clips"])
    assert "pairs" not in first
    assert len(whole(module.first_clips_dataloader())["index"]) == module.num_clips["train"]


def test_pairs_do_not_change_a_clip(root):
    module, index = build(root), torch.tensor([5, 2])
    plain, paired = module.clips("train", index), module.clips("train", index, pairs=True)
    assert paired.keys() - plain.keys() == {"pairs"}
    assert all(torch.equal(plain[name], paired[name]) for name in plain)


def test_a_clip_depends_on_its_number_not_on_its_batch(root):
    one, other = (whole(build(root, batch_size=size).test_dataloader()) for size in (1, 5))
    assert all(torch.equal(one[name], other[name]) for name in one)
    alone = build(root).clips("test", torch.tensor([7]))
    assert torch.equal(alone["clips"][0], one["clips"][7])


def test_validation_and_test_are_the_same_under_every_seed(root):
    one, other = build(root), build(root, seed=7)
    for split in ("val", "test"):
        assert torch.equal(whole(loaders(one)[split])["clips"], whole(loaders(other)[split])["clips"])
    assert not torch.equal(*(whole(each.train_dataloader())["keypoints"] for each in (one, other)))
    assert one.fingerprint == other.fingerprint
    kinds = [whole(loader)["keypoints"][:6] for loader in loaders(one).values()]
    assert not any(torch.equal(kinds[i], kinds[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_every_epoch_brings_new_clips(root):
    loader = build(root).train_dataloader()
    first, second = whole(loader, 0), whole(loader, 1)
    assert first["index"].tolist() == list(range(20))
    assert second["index"].tolist() == list(range(20, 40))
    assert not (first["keypoints"] == second["keypoints"]).all((1, 2, 3)).any()


def test_fixed_training_clips_change_their_order_alone(root):
    loader = build(root, fixed_train=True).train_dataloader()
    first, second = whole(loader, 0), whole(loader, 1)
    assert first["index"].tolist() != second["index"].tolist()
    for name in ("clips", "pairs", "keypoints"):
        assert torch.equal(first[name][first["index"].argsort()], second[name][second["index"].argsort()])


@pytest.mark.parametrize("fixed", [False, True])
def test_a_resumed_epoch_serves_the_rest_of_it(root, fixed):
    loader = build(root, fixed_train=fixed).train_dataloader()
    loader.sampler.set_epoch(3)
    batches = iter(loader)
    next(batches), next(batches)
    state, rest = loader.state_dict(), list(batches)
    resumed = build(root, fixed_train=fixed).train_dataloader()
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(3)
    again = list(resumed)
    assert len(again) == len(rest) == 3
    for one, other in zip(rest, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_share_an_epoch(root):
    alone = whole(build(root, batch_size=8).train_dataloader(), 2)
    parts = []
    for rank in range(2):
        module = build(root, batch_size=4)
        module.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        parts.append(whole(module.train_dataloader(), 2))
    seen = [set(part["index"].tolist()) for part in parts]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(alone["index"].tolist())
    mine = (alone["index"][:, None] == parts[1]["index"]).any(1)
    assert torch.equal(alone["pairs"][mine], parts[1]["pairs"])


def test_small_digits_need_no_file_and_are_named_so(tmp_path, root, monkeypatch):
    monkeypatch.setattr(mnist_files, "download", lambda root: pytest.fail("downloaded"))
    module = small(tmp_path)
    assert not (tmp_path / "nothing").exists()
    assert module.name == module.fingerprint["source"] == "moving_digits8x8"
    assert [module.fingerprint[f"{split}_digits"] for split in ("train", "val", "test")] == [1200, 300, 297]
    other = build(root)
    assert other.name == other.fingerprint["source"] == "moving_mnist"
    assert module.fingerprint["hash"] != other.fingerprint["hash"]


def test_small_digits_are_split_in_like_shares_and_lie_as_mnists_do():
    glyphs = small_glyphs()
    counts = {split: np.bincount(each.labels, minlength=10) for split, each in glyphs.items()}
    total = sum(counts.values())
    for each in counts.values():
        assert np.abs(each - total * each.sum() / 1797).max() <= 1
    images = glyphs["train"].images
    assert (images.shape, images.dtype) == ((1200, 28, 28), np.uint8)
    border = np.ones((28, 28), bool)
    border[4:24, 4:24] = False
    assert images[:, border].max() == 0
    assert images.max() == 255


def test_fingerprints_tell_what_is_served(root):
    kinds = [{}, {"rule": "B"}, {"num_frames": 5}, {"pair_gap": (1, 5)}, {"fixed_train": True}, {"num_val_digits": 9}]
    kinds.append({"pair_gap_epochs": 3})
    fingerprints = [tuple(build(root, **kind).fingerprint.items()) for kind in kinds]
    assert len(set(fingerprints)) == len(kinds)
    assert build(root).fingerprint == dict(fingerprints[0])


def test_rule_b_shows_the_digits_enlarged(root):
    batch = build(root, rule="B").clips("val", torch.arange(300))
    enlarged = {
        np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))[1:-1, 1:-1].tobytes(): label
        for image, label in zip(*mnist_glyphs(root, 10)["val"], strict=True)
    }
    # 64 pixels leave digits of 32 the places 0 to 31, so that two of them share a row or a column at least.
    shown = [(image[1:-1, 1:-1].tobytes(), digit) for image, digit in shown_digits(batch, 32, 31)]
    assert len(set(shown)) > 3
    assert all(enlarged[image] == digit for image, digit in shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_train": -1}, "num_train must be at least 1, got -1"),
        ({"num_val_digits": 0}, "num_val_digits must be at least 1, got 0"),
        ({"digits": "svhn"}, "digits must be one of mnist, digits8x8, got 'svhn'"),
        ({"rule": "C"}, "rule must be one of A, B, got 'C'"),
        ({"pair_gap": (0, 5)}, r"pair_gap must be .* got \(0, 5\)"),
        ({"pair_gap": (6, 5)}, r"pair_gap must be .* got \(6, 5\)"),
        ({"pair_gap": (1, 2, 3)}, r"pair_gap must be .* got \(1, 2, 3\)"),
        ({"pair_gap_epochs": -1}, "pair_gap_epochs must be at least 0, .* got -1"),
        ({"pair_gap_epochs": 3, "fixed_train": True}, "pair_gap_epochs must be .* 0 with fixed_train=True, got 3"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        MovingMNIST(**arguments)
    assert "\n" not in str(caught.value)


def test_a_split_that_there_is_not(root):
    with pytest.raises(ValueError, match="^split must be one of train, val, test, got 'database'$"):
        build(root).clips("database", torch.arange(2))


def test_missing_files_are_one_error_of_four_lines(tmp_path, monkeypatch):
    def offline(root):
        raise OSError("unreachable")

    monkeypatch.setattr(mnist_files, "download", offline)
    module = MovingMNIST(root=str(tmp_path / "nowhere"))
    expected = r"(?s)^MovingMNIST: train-images-idx3-ubyte is missing and 3 more files.*digits8x8.*licence.*place.*run:"
    with pytest.raises(DataError, match=expected) as caught:
        module.prepare_data()
    assert "the download failed: unreachable" in str(caught.value)
    assert str(caught.value).count("\n") == 3
    with pytest.raises(DataError, match=expected) as caught:
        module.setup()
    assert str(caught.value).count("\n") == 3


def test_some_files_are_not_completed_by_a_download(root, monkeypatch):
    monkeypatch.setattr(mnist_files, "download", lambda root: pytest.fail("downloaded"))
    (root / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="MovingMNIST: t10k-labels-idx1-ubyte is missing in"):
        MovingMNIST(root=str(root)).prepare_data()


def test_files_are_downloaded_if_there_are_none(tmp_path, mnist_files, monkeypatch):
    monkeypatch.setattr(digit_glyphs.mnist_files, "download", lambda root: mnist_files(root / "raw"))
    assert build(tmp_path).fingerprint["train_digits"] == 30


def test_too_few_digits_or_clips(root):
    with pytest.raises(DataError, match="^num_val_digits=40 leaves none of the 40 training images: lower it$"):
        build(root, num_val_digits=40)
    with pytest.raises(DataError, match="^moving_mnist train: batch_size=21 .* lower --data.batch_size$"):
        build(root, batch_size=21).train_dataloader()


def test_without_scikit_learn_the_small_digits_say_how_to_install_it(tmp_path, monkeypatch):
    class Nowhere:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "sklearn":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match="needs 'sklearn', which is not installed: pip install"):
        small(tmp_path)
