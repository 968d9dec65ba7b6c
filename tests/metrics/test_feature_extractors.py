"""Every kind of extractor: what it computes, that it never changes, what it refuses."""

import sys

import lightning as L
import pytest
import torch
from torch.nn import functional as F

from lightning_zoo import STDIM, Classifier
from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.extras import MissingExtraError
from lightning_zoo.metrics.feature_extractors import (
    EncoderExtractor,
    InceptionExtractor,
    RandomExtractor,
    extract_all,
    make_extractor,
)


def saved(module, path):
    run = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    run.strategy.connect(module)
    run.save_checkpoint(path)
    return str(path)


def classifier(**options):
    torch.manual_seed(0)
    defaults = {"image_shape": (1, 28, 28), "class_names": list("abc"), "base_channels": 2}
    return Classifier(**(defaults | options))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Weights of the right names and shapes, random."""
    from torch_fidelity import feature_extractor_inceptionv3 as networks

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    reader = pytest.MonkeyPatch()
    reader.setattr(networks, "load_state_dict_from_url", lambda *words, **options: {})
    reader.setattr(networks.FeatureExtractorInceptionV3, "load_state_dict", lambda self, weights: None)
    network = networks.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    reader.undo()
    torch.save(network.state_dict(), path)
    return path


def test_random_features_are_the_same_everywhere():
    torch.manual_seed(1)
    first = RandomExtractor()
    before = torch.get_rng_state()
    second = make_extractor("random")
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the global generator"
    images = torch.rand(3, 3, 40, 40)
    assert torch.equal(first(images), second(images))
    assert first.identity == second.identity
    assert first(images).shape == (3, 32 + 64 + 128)
    assert first.num_classes is None
    assert second.extract(images)[1] is None
    gray = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(first(gray), first(gray.expand(-1, 3, -1, -1)))
    assert not torch.allclose(first(images), first(images.flip(1))), "colours count"


def test_random_features_tell_images_apart():
    extractor = RandomExtractor()
    plain = torch.full((1, 3, 64, 64), 0.5)
    stripes = plain.clone()
    stripes[..., ::4] = 1
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = extractor(torch.cat([plain, stripes, noise]))
    distances = torch.cdist(features, features)
    assert distances[0, 1] > 0.1
    assert distances[1, 2] > 0.1


def test_a_classifier_by_its_checkpoint(tmp_path):
    module = classifier().eval()
    extractor = make_extractor(saved(module, tmp_path / "digits.ckpt"))
    images = torch.rand(4, 1, 28, 28)
    features, logits = extractor.extract(images)
    torch.testing.assert_close(features, module.features(images).detach())
    torch.testing.assert_close(logits, module.logits(images).detach())
    assert extractor.num_classes == 3
    assert extractor.description == "Classifier digits.ckpt at 28x28"
    assert not features.requires_grad


def test_other_sizes_and_colours_are_made_to_fit():
    module = classifier().eval()
    extractor = EncoderExtractor(module)
    images = torch.rand(2, 3, 50, 50)
    luma = (0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2])[:, None]
    small = F.interpolate(luma, (28, 28), mode="bilinear", antialias=True)
    torch.testing.assert_close(extractor(images), module.features(small).detach())
    coloured = EncoderExtractor(classifier(image_shape=(3, 28, 28)))
    gray = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(coloured(gray), coloured(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="takes colour images, these have 4 channels"):
        coloured(torch.rand(1, 4, 28, 28))


def test_several_variables_give_features_and_no_score():
    extractor = EncoderExtractor(classifier(class_names=None, variables=["ball_x", "ball_y"]))
    features, logits = extractor.extract(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, 16)
    assert logits is None
    assert extractor.num_classes is None
    one = EncoderExtractor(classifier(class_names=None, variables=["ball_x"]))
    assert one.extract(torch.rand(2, 1, 28, 28))[1].shape == (2, 256)


def test_any_method_that_encodes(tmp_path):
    torch.manual_seed(0)
    module = STDIM(feature_size=4).eval()
    extractor = make_extractor(saved(module, tmp_path / "stdim.ckpt"))
    frames = torch.rand(2, 1, 210, 160)
    torch.testing.assert_close(extractor(frames), module.encode(frames).detach())
    assert extractor.num_classes is None


def test_an_extractor_stays_as_it_is():
    extractor = EncoderExtractor(classifier(dropout=0.9).train())
    before = {name: values.clone() for name, values in extractor.state_dict().items()}
    extractor.train()
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(extractor.extract(images)[1], extractor.extract(images)[1]), "no dropout"
    assert all(torch.equal(values, before[name]) for name, values in extractor.state_dict().items())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_identity_is_that_of_weights_and_resizing():
    assert EncoderExtractor(classifier()).identity == EncoderExtractor(classifier(), "another name").identity
    changed = classifier()
    with torch.no_grad():
        changed.head.bias[0] += 1
    identities = {
        EncoderExtractor(classifier()).identity,
        EncoderExtractor(changed).identity,
        EncoderExtractor(classifier(image_shape=(1, 32, 32))).identity,
        RandomExtractor().identity,
    }
    assert len(identities) == 4


def test_inception_by_path(inception_file):
    extractor = make_extractor(f"inception:{inception_file}")
    images = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    features, logits = extractor.extract(images)
    assert features.shape == (2, 2048)
    assert logits.shape == (2, extractor.num_classes) == (2, 1008)
    weights = torch.load(inception_file, weights_only=True)["fc.weight"]
    torch.testing.assert_close(logits, features @ weights.T)
    # What is measured is what a PNG would hold.
    torch.testing.assert_close(extractor(images), extractor((images * 255).round() / 255), rtol=0, atol=0)
    gray = images[:, :1]
    torch.testing.assert_close(extractor(gray), extractor(gray.expand(-1, 3, -1, -1)), rtol=0, atol=0)


def test_inception_without_its_package(monkeypatch, inception_file):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    with pytest.raises(MissingExtraError, match=r"lightning_zoo\[fidelity\]"):
        InceptionExtractor(inception_file)


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


def test_files_that_are_not_what_they_should_be(tmp_path):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({"fc.weight": Harmful()}, tmp_path / "harmful.pth")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for spec, message in (
        ("nowhere.ckpt", "extractor: no file nowhere.ckpt; give a checkpoint, inception:PATH, or random"),
        ("inception:nowhere.pth", "extractor: no file nowhere.pth of Inception weights"),
        (f"inception:{tmp_path / 'other.pth'}", "has not the weights of torch-fidelity"),
        (f"inception:{tmp_path / 'harmful.pth'}", "damaged or no file of plain weights"),
        (f"{tmp_path / 'text.ckpt'}", "is damaged or no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            make_extractor(spec)
        assert "\n" not in str(error.value)


def test_extract_all_takes_no_more_than_it_needs():
    taken = []

    def batches():
        for index in range(10):
            taken.append(index)
            yield torch.full((4, 3, 64, 64), index, dtype=torch.uint8)

    extractor = RandomExtractor()
    found = extract_all(extractor, batches(), 10, "cpu")
    assert found["features"].shape == (10, 224)
    assert taken == [0, 1, 2]
    torch.testing.assert_close(found["features"][9], extractor(torch.full((1, 3, 64, 64), 2 / 255))[0])
    assert len(extract_all(extractor, batches(), 1000, "cpu")["features"]) == 40
