"""Probes of encoders that are not ours, and which features a variable is probed on."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.cli.probing import (
    compute_features,
    encode_rows,
    probe_encoder,
    score_classifier,
    sources_of_variables,
)


class Pooled(nn.Module):
    """No LightningModule, no hyper-parameters: frames averaged over 15 x 16 blocks."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d((15, 16))

    def encode(self, frames):
        return self.pool(frames.float() / 255).flatten(1)


class Sliced(Pooled):
    def __init__(self, names):
        super().__init__()
        self.feature_slices = {name: slice(20 * k, 20 * (k + 1)) for k, name in enumerate(names)}


@pytest.fixture(scope="module")
def labelled(tiny_atari):
    data = tiny_atari(serve="labelled")
    data.setup()
    return data


def test_a_variable_reads_its_own_slice_then_its_category_s():
    categories = {"x": ["place"], "y": ["place", "misc"], "lives": ["none", "misc"], "tile": []}
    assert sources_of_variables(["x", "place", "misc"], list(categories), categories) == [0, 1, 2, 2]
    assert sources_of_variables(list(categories), list(categories), categories) == [0, 1, 2, 3]


@pytest.mark.parametrize("found", [["score"], []])
def test_a_variable_without_a_slice_is_an_error(found):
    with pytest.raises(CheckpointError, match=r"none for 'lives' \((score|misc)\), only for place"):
        sources_of_variables(["place"], ["x", "lives"], {"x": ["place"], "lives": found})


def test_features_are_those_of_the_encoder_in_the_order_of_the_rows(labelled):
    features, sources = compute_features(Pooled(), labelled)
    rows = labelled.labelled["test"].rows
    expected = torch.cat([Pooled().encode(labelled.frames.gather(torch.tensor([row]))) for row in rows])
    taken = torch.cat([batch["features"] for batch in features.predict_dataloader()])
    torch.testing.assert_close(taken, expected)
    torch.testing.assert_close(encode_rows(Pooled(), labelled, rows[::-1].copy()), expected.flip(0))
    assert sources is None


def test_slices_are_stacked(labelled):
    module, sources = compute_features(Sliced(labelled.variables), labelled)
    assert module.feature_shape == (len(labelled.variables), 20)
    assert sources == list(range(len(labelled.variables)))
    rows = labelled.labelled["test"].rows[:1]
    whole = Pooled().encode(labelled.frames.gather(torch.from_numpy(rows)))
    first = next(iter(module.predict_dataloader()))["features"][0]
    torch.testing.assert_close(first[1], whole[0, 20:40])


@pytest.mark.parametrize(("given", "used"), [(None, "best"), ("last", "last")])
def test_a_foreign_encoder_is_probed_and_means_are_means(labelled, given, used):
    scores = probe_encoder(Pooled(), labelled, max_epochs=2, test_weights=given)
    assert scores.method == "Pooled"
    assert (scores.details["test_weights"], scores.details["epochs"]) == (used, 2)
    means = {}
    for category in {c for found in labelled.categories.values() for c in found}:
        of = [scores.per_variable[v] for v in labelled.variables if category in labelled.categories[v]]
        means[category] = np.mean([values["f1"] for values in of])
    assert scores.f1_per_category == pytest.approx(means)
    assert scores.f1 == pytest.approx(np.mean(list(means.values())))
    assert scores.metrics()["probe/f1"] == scores.f1
    assert "probe/boxing/variables/player_y/accuracy" in scores.metrics("probe/boxing")


def test_no_epoch_is_an_error(labelled):
    with pytest.raises(ValueError, match="max_epochs must be at least 1, got 0"):
        probe_encoder(Pooled(), labelled, max_epochs=0)


def test_a_classifier_is_scored_on_each_test_frame_once(labelled):
    test = labelled.labelled["test"]
    frames = labelled.frames.gather(torch.from_numpy(test.rows))
    known = {frame.numpy().tobytes(): torch.from_numpy(label) for frame, label in zip(frames, test.labels, strict=True)}

    def oracle(batch):
        return torch.stack([known[frame.numpy().tobytes()] for frame in batch])

    assert score_classifier(oracle, labelled, name="Oracle").f1 == 1.0
    first = torch.from_numpy(test.labels[0])
    constant = score_classifier(lambda batch: first.expand(len(batch), -1), labelled, name="Constant")
    shares = (test.labels == test.labels[0]).mean(0)
    found = [constant.per_variable[name]["accuracy"] for name in labelled.variables]
    np.testing.assert_allclose(found, shares)
