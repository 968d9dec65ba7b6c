"""The attribute classifier: what it learns, counts and keeps, and what it refuses."""

import warnings

import lightning as L
import pytest
import torch
from torch.nn import functional as F

from lightning_zoo import AttributeClassifier
from lightning_zoo.checkpoints import load
from lightning_zoo.metrics.feature_extractors import make_extractor
from lightning_zoo.metrics.image_quality import check_possible

warnings.filterwarnings("ignore", ".*LeafSpec.*")
NAMES = ["Bald", "Male", "Smiling"]


class Corners(L.LightningDataModule):
    """Noise; each of the first two attributes lights up a corner of its own, the third is not in the image."""

    def __init__(self, size=28, names=NAMES):
        super().__init__()
        self.image_shape = (3, size, size)
        self.attribute_names = names
        generator = torch.Generator().manual_seed(0)
        shares = torch.tensor([0.25, 0.6, 0.5])
        self.attributes = (2 * (torch.rand(96, 3, generator=generator) < shares).int() - 1).to(torch.int8)
        images = torch.randint(0, 60, (96, *self.image_shape), generator=generator)
        for image, row in zip(images, self.attributes, strict=True):
            image[:, : size // 2, : size // 2] += 150 * (row[0] > 0)
            image[:, size // 2 :, size // 2 :] += 150 * (row[1] > 0)
        self.images = images.to(torch.uint8)

    def attributes_of(self, split):
        return self.attributes if split == "train" else None

    def _loader(self):
        parts = zip(self.images.split(16), self.attributes.split(16), strict=True)
        batches = [{"images": images, "attributes": attributes} for images, attributes in parts]
        return torch.utils.data.DataLoader(batches, batch_size=None)

    train_dataloader = val_dataloader = test_dataloader = _loader


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 5,
    }
    return L.Trainer(**(quiet | options))


def small(**options):
    return AttributeClassifier(**({"base_channels": 4, "learning_rate": 0.01, "dropout": 0.0} | options))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    L.seed_everything(0, verbose=False)
    module, data, run = small(), Corners(), trainer()
    run.fit(module, data)
    path = tmp_path_factory.mktemp("classifier") / "attributes.ckpt"
    run.save_checkpoint(path)
    return module.eval(), data, run, path


def test_it_learns_what_is_in_the_images_and_its_checkpoint_loads_alone(fitted):
    module, data, run, path = fitted
    logged = run.test(module, data, verbose=False)[0]
    for name in ("Bald", "Male"):
        assert logged[f"test/attributes/{name}/balanced_accuracy"] > 0.95
    loaded = load(path)
    assert loaded.attribute_names == tuple(NAMES)
    assert loaded.image_shape == (3, 28, 28)
    torch.testing.assert_close(loaded.frequencies, (data.attributes > 0).float().mean(0))
    images = data.images[:5]
    assert loaded.logits(images).shape == (5, 3)
    torch.testing.assert_close(loaded.logits(images), module.logits(images), rtol=0, atol=0)
    torch.testing.assert_close(loaded.logits(images.float() / 255), loaded.logits(images))
    assert loaded.encode(images).shape == (5, 32)


def test_what_is_logged_is_counted_by_hand(fitted):
    module, data, run, _ = fitted
    logged = run.test(module, data, verbose=False)[0]
    with torch.no_grad():
        logits = module.eval().logits(data.images).double()
    there = data.attributes > 0
    probability = logits.sigmoid()
    loss = -torch.where(there, probability.log(), (1 - probability).log()).mean()
    assert logged["test/loss"] == pytest.approx(float(loss), rel=1e-4)
    right = (logits > 0) == there
    assert logged["test/accuracy"] == pytest.approx(float(right.double().mean()))
    for column, name in enumerate(NAMES):
        mine, has = right[:, column].double(), there[:, column]
        both = (mine[has].mean() + mine[~has].mean()) / 2
        assert logged[f"test/attributes/{name}/accuracy"] == pytest.approx(float(mine.mean()))
        assert logged[f"test/attributes/{name}/balanced_accuracy"] == pytest.approx(float(both))
        share = float(has.double().mean())
        assert logged[f"test/attributes/{name}/majority_accuracy"] == pytest.approx(max(share, 1 - share))
    assert set(run.callback_metrics) >= {"test/balanced_accuracy", "test/majority_accuracy"}


def test_predictions(fitted):
    module, data, _, _ = fitted
    result = module.predict_step({"images": data.images[:7], "attributes": data.attributes[:7]}, 0)
    assert result["predictions"].unique().tolist() == [-1, 1]
    assert torch.equal(result["predictions"] > 0, result["logits"] > 0)
    torch.testing.assert_close(result["features"], module.features(data.images[:7]))


def test_unknown_attributes_cost_nothing():
    module = small(image_shape=(3, 28, 28), attribute_names=NAMES).eval()
    data = Corners()
    images, attributes = data.images[:8], data.attributes[:8].clone()
    attributes[:, 1] = 0
    loss, logits, _ = module._loss({"images": images, "attributes": attributes})
    expected = F.binary_cross_entropy_with_logits(logits[:, [0, 2]], (attributes[:, [0, 2]] > 0).float())
    torch.testing.assert_close(loss, expected)


def test_some_of_the_datas_attributes_in_another_order():
    data = Corners()
    module, run = small(attribute_names=["Male", "Bald"]), trainer()
    run.fit(module, data)
    torch.testing.assert_close(module.frequencies, (data.attributes[:, [1, 0]] > 0).float().mean(0))
    logged = run.test(module, data, verbose=False)[0]
    assert min(logged[f"test/attributes/{name}/accuracy"] for name in ("Male", "Bald")) > 0.95


@pytest.mark.parametrize("size", [64, 128])
def test_both_resolutions_of_the_thesis(size):
    module = small(image_shape=(3, size, size), attribute_names=NAMES).eval()
    assert module.logits(torch.rand(2, 3, size, size)).shape == (2, 3)
    with pytest.raises(ValueError, match=f"images must be 3x{size}x{size}"):
        module.logits(torch.rand(2, 3, 32, 32))


def test_it_judges_pictures_by_features_but_gives_no_inception_score(fitted):
    module, data, _, path = fitted
    extractor = make_extractor(str(path))
    features, logits = extractor.extract(data.images[:3] / 255)
    torch.testing.assert_close(features, module.features(data.images[:3]).detach())
    assert logits is None
    with pytest.raises(ValueError, match=r"inception needs class probabilities, which .*AttributeClassifier"):
        check_possible(("inception",), extractor.num_classes, extractor.description)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"learning_rate_decay": 0.0}, r"learning_rate_decay must be in \(0, 1\], got 0.0"),
        ({"base_channels": 0}, "base_channels must be at least 1, got 0"),
        ({"image_shape": (3, 64, 60), "attribute_names": ["a"]}, "square and at least 28x28, got 64x60"),
        ({"image_shape": (3, 64, 64), "attribute_names": []}, "attribute_names is empty"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        AttributeClassifier(**options)
    assert "\n" not in str(error.value)


def test_data_that_do_not_fit():
    with pytest.raises(ValueError, match=r"attribute_names is not set and the data \(Corners\) have none"):
        trainer().fit(small(), Corners(names=[]))
    with pytest.raises(ValueError, match="attribute 'Smilling' is none of the data; the nearest: Smiling"):
        trainer().fit(small(attribute_names=["Smilling"]), Corners())
    module = small(image_shape=(3, 28, 28), attribute_names=NAMES)
    with pytest.raises(ValueError, match="has images but no attributes"):
        module._loss({"images": torch.zeros(1, 3, 28, 28)})
    with pytest.raises(ValueError, match="3 attributes per image, the batch has 5"):
        module._loss({"images": torch.zeros(1, 3, 28, 28), "attributes": torch.ones(1, 5)})
