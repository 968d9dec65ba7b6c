"""Grids and scores of methods that draw by attributes, and of methods whose images grow."""

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.index_batches import IndexBatches, in_order
from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.callbacks.sample_grid import (
    SampleGrid,
    attributes_in_words,
    averaged_to,
    fixed_combinations,
)
from lightning_zoo.callbacks.sample_quality import SampleQuality
from lightning_zoo.metrics.feature_extractors import RandomExtractor
from lightning_zoo.metrics.image_quality import kernel_distance


class Faces(L.LightningDataModule):
    """Noise at twice the toy's size, with more attributes than the toy reads."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.images = torch.randint(0, 256, (12, 3, 32, 32), generator=generator).to(torch.uint8)
        self.attributes = (torch.randint(0, 2, (12, 7), generator=generator) * 2 - 1).to(torch.int8)

    def train_dataloader(self):
        gather = lambda rows: {"images": self.images[rows], "attributes": self.attributes[rows]}  # noqa: E731
        return IndexBatches(gather, in_order(12), 12, batch_size=5)

    val_dataloader = train_dataloader


@pytest.fixture
def growing(conditional_toy):
    """The toy, which reads columns 2 to 6 of the data and draws 32x32 from its third epoch on."""

    class Growing(conditional_toy.ConditionalToy):
        grows_at = 2

        def attributes_of(self, batch):
            return batch["attributes"][:, 2:].float()

        def on_train_epoch_start(self):
            if self.current_epoch == self.grows_at:
                self.image_shape = (3, 32, 32)

        def decode_steps(self, latent, steps):
            kept, self.image_shape = self.image_shape, (3, 16, 16)
            images = super().decode_steps(latent, steps)
            self.image_shape = kept
            return images.repeat_interleave(kept[2] // 16, 2).repeat_interleave(kept[2] // 16, 3)

        def training_step(self, batch, batch_index):
            return super().training_step({"attributes": self.attributes_of(batch)}, batch_index)

        def validation_step(self, batch, batch_index):
            pass

    return Growing


@pytest.fixture
def train(tmp_path):
    def run(module, *callbacks, max_epochs=3):
        trainer = L.Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=RunFolder(str(tmp_path), "a", 0),
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(module, Faces())
        return trainer

    return run


def cell(file, row, column, size):
    pixels = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) / 255
    top, left = 2 + row * (size + 2), 2 + column * (size + 2)
    return pixels[:, top : top + size, left : left + size]


def halved(images):
    return images.float().unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5)) / 255


def test_reconstructions_know_the_attributes_and_originals_have_the_methods_size(train, growing, tmp_path):
    module, data = growing(), Faces()
    train(module, SampleGrid(num_images=7), max_epochs=1)
    drawn = module.eval().reconstruct(data.images[:7], data.attributes[:7, 2:].float())
    file = tmp_path / "a/version_0/pictures/reconstructions_epoch0000.png"
    real = halved(data.images[:7])
    for index in range(7):  # of two batches
        row, column = divmod(index, 4)
        np.testing.assert_allclose(cell(file, 2 * row, column, 16), real[index], atol=1 / 255)
        np.testing.assert_allclose(cell(file, 2 * row + 1, column, 16), drawn[index], atol=1 / 255)


def test_after_growth_they_are_shown_as_they_are(train, growing, tmp_path):
    train(growing(), SampleGrid(num_images=4))
    folder = tmp_path / "a/version_0/pictures"
    small, large = (folder / f"reconstructions_epoch000{epoch}.png" for epoch in (1, 2))
    assert Image.open(small).size == (4 * 18 + 2, 2 * 18 + 2)
    assert Image.open(large).size == (4 * 34 + 2, 2 * 34 + 2)
    np.testing.assert_allclose(cell(large, 0, 3, 32), Faces().images[3] / 255, atol=1e-6)


def test_a_row_per_combination_with_the_same_noise_in_a_column(train, growing, tmp_path):
    module = growing()
    train(module, SampleGrid(num_images=2, seed=3), max_epochs=2)
    folder = tmp_path / "a/version_0/pictures"
    assert {f"attributes_epoch000{epoch}.png" for epoch in (0, 1)} < {file.name for file in folder.iterdir()}
    chosen = fixed_combinations(module.attribute_bank, 8, 3)
    assert len(chosen) == 6, "the toy's bank has no more"
    noise = torch.randn((8, 8, 2, 2), generator=torch.Generator().manual_seed(3))
    file = folder / "attributes_epoch0001.png"
    with torch.no_grad():
        for row, asked in enumerate(chosen.float()):
            for column in range(8):
                latent = module.prior(asked[None])[0] + noise[column]
                expected = module.decode(latent, asked[None])[0]
                np.testing.assert_allclose(cell(file, row, column, 16), expected, atol=1 / 255)
    lines = (folder / "attributes.txt").read_text().splitlines()
    assert lines[0] == f"row 1: {attributes_in_words(chosen[0], module.attribute_names)}"
    assert len(lines) == 6


def test_a_method_without_attributes_has_no_such_grid(generative_toy, train, tmp_path):
    class Plain(generative_toy.LinearToy):
        def training_step(self, batch, batch_index):
            return self.decoder.weight.mean()

        def validation_step(self, batch, batch_index):
            pass

    train(Plain(size=32, channels=3), SampleGrid(num_images=2), max_epochs=1)
    found = sorted(file.name for file in (tmp_path / "a/version_0/pictures").iterdir())
    assert found == ["reconstructions_epoch0000.png", "samples_epoch0000.png"]


def test_combinations_differ_are_known_and_always_the_same():
    bank = torch.tensor([[1, 1], [1, 1], [0, 1], [-1, 1], [1, -1]], dtype=torch.int8)
    chosen = fixed_combinations(bank, 8, 0)
    assert sorted(map(tuple, chosen.tolist())) == [(-1, 1), (1, -1), (1, 1)]
    assert torch.equal(chosen, fixed_combinations(bank, 8, 0))
    assert len(fixed_combinations(bank, 2, 0)) == 2
    assert fixed_combinations(torch.zeros(3, 2), 8, 0).tolist() == [[0, 0]], "before any training"


def test_attributes_in_words():
    names = ("Bald", "Male", "Young")
    assert attributes_in_words(torch.tensor([1, -1, 1]), names) == "Bald, Young"
    assert attributes_in_words(torch.tensor([-1, 0, -1]), names) == "none"


def test_only_whole_multiples_are_averaged_down():
    images = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(averaged_to(images, 3)[0, 0, 0, 0], images[0, 0, :2, :2].mean())
    assert averaged_to(images, 4) is images
    assert averaged_to(images, 12) is images


class Recorded(L.Callback):
    def __init__(self):
        self.values = []

    def on_validation_end(self, run, module):
        if not run.sanity_checking:
            self.values.append(float(run.callback_metrics["val/kernel_distance"]))


def test_samples_are_compared_with_real_images_of_their_size_also_after_growth(train, growing):
    recorded, module = Recorded(), growing()
    quality = SampleQuality("random", 12, metrics=("kernel",), seed=3)

    class Still(L.Callback):
        def on_before_optimizer_step(self, run, module, optimizer):
            for parameter in module.parameters():
                parameter.grad = None

    train(module, quality, recorded, Still())
    extractor, data = RandomExtractor(), Faces()
    for shape, value in (((3, 16, 16), recorded.values[1]), ((3, 32, 32), recorded.values[2])):
        module.image_shape = shape
        samples = module.sample(12, generator=torch.Generator().manual_seed(3 * 1_000_003))
        real = halved(data.images) if shape[1] == 16 else data.images / 255
        assert value == pytest.approx(kernel_distance(extractor(real), extractor(samples), seed=3).value, rel=1e-4)
    assert recorded.values[0] == recorded.values[1] != recorded.values[2]


def test_features_are_taken_anew_after_growth_alone(train, growing, monkeypatch):
    seen = []

    class Counted(RandomExtractor):
        def extract(self, images):
            seen.append((len(images), images.shape[-1]))
            return super().extract(images)

    monkeypatch.setattr("lightning_zoo.callbacks.sample_quality.make_extractor", lambda spec: Counted())
    train(growing(), SampleQuality("random", 12, metrics=("frechet",)), max_epochs=4)
    count = {side: sum(number for number, other in seen if other == side) for side in (16, 32)}
    # Real images once per size, samples after each epoch.
    assert count == {16: 12 + 2 * 12, 32: 12 + 2 * 12}
