"""The quality of samples while training: the right values, computed aside, refused before the first step."""

import logging
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from datamodules.index_batches import IndexBatches, in_order
from lightning_zoo.callbacks import sample_quality
from lightning_zoo.callbacks.sample_quality import SampleQuality
from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.metrics.feature_extractors import RandomExtractor
from lightning_zoo.metrics.image_quality import frechet_distance, kernel_distance

warnings.filterwarnings("ignore", ".*LeafSpec.*")


def trainer(*callbacks, **options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 2,
    }
    return L.Trainer(callbacks=list(callbacks), **(quiet | options))


def fit(toys, *callbacks, data=None, **options):
    L.seed_everything(0, verbose=False)
    module, run = toys.LinearToy(), trainer(*callbacks, **options)
    run.fit(module, data or toys.ToyPictures())
    return module, run


def expected_sets(module, images, number, shares):
    """Features of the real images, and of samples whose latents each process draws by itself."""
    extractor = RandomExtractor()
    samples = [
        module.eval().sample(count, generator=torch.Generator().manual_seed(3 * 1_000_003 + rank))
        for rank, count in enumerate(shares)
    ]
    return extractor(images[:number] / 255), extractor(torch.cat(samples)[:number])


def test_the_values_are_those_of_the_last_weights(generative_toy):
    module, run = fit(generative_toy, SampleQuality("random", 9, metrics=("fid", "kernel"), seed=3))
    data = generative_toy.ToyPictures()
    data.setup()
    real, generated = expected_sets(module, data.images, 9, [9])
    logged = run.callback_metrics
    assert logged["val/frechet_distance"] == pytest.approx(frechet_distance(real, generated).value, rel=1e-4)
    assert logged["val/kernel_distance"] == pytest.approx(kernel_distance(real, generated).value, rel=1e-4)


def test_a_run_is_the_same_without_it(generative_toy):
    plain, _ = fit(generative_toy)
    watched, _ = fit(generative_toy, SampleQuality("random", 6))
    assert plain.state_dict().keys() == watched.state_dict().keys()
    for name, values in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], values), name


def test_even_where_a_method_draws_from_the_global_generators(generative_toy, monkeypatch):
    plain, _ = fit(generative_toy)
    sample = generative_toy.LinearToy.sample
    monkeypatch.setattr(
        generative_toy.LinearToy, "sample", lambda self, n, **options: (torch.rand(5), sample(self, n, **options))[1]
    )
    watched, _ = fit(generative_toy, SampleQuality("random", 6))
    assert torch.equal(plain.decoder.weight, watched.decoder.weight)


def test_modes_are_put_back_part_by_part(generative_toy):
    module = generative_toy.LinearToy().train()
    module.encoder.eval()
    with sample_quality.evaluating(module):
        assert not module.training
        assert not module.dropout.training
        assert not torch.is_grad_enabled()
    assert module.training
    assert module.dropout.training
    assert not module.encoder.training


@pytest.mark.parametrize("crop", ["the middle 64x64", None])
def test_the_crop_stands_beside_the_numbers(generative_toy, caplog, crop):
    data = generative_toy.ToyPictures()
    if crop:
        data.crop = crop
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        fit(generative_toy, SampleQuality("random", 6), data=data, max_epochs=1)
    (line,) = [message for message in caplog.messages if message.startswith("SampleQuality: ")]
    assert f"6 generated against 6 real images, crop: {crop or 'none'}, " in line


class Counted(RandomExtractor):
    """Counts the images that it has seen."""

    seen = 0

    def extract(self, images):
        Counted.seen += len(images)
        return super().extract(images)


def test_real_images_are_seen_once(generative_toy, monkeypatch):
    monkeypatch.setattr(sample_quality, "make_extractor", lambda spec: Counted())
    monkeypatch.setattr(Counted, "seen", 0)
    fit(generative_toy, SampleQuality("random", 7), max_epochs=3, num_sanity_val_steps=2)
    assert Counted.seen == 7 + 3 * 7


class Recorded(L.Callback):
    def __init__(self):
        self.values = []

    def on_validation_end(self, run, module):
        if not run.sanity_checking:
            self.values.append(run.callback_metrics.get("val/frechet_distance"))


def test_only_every_nth_epoch(generative_toy):
    recorded = Recorded()
    fit(generative_toy, SampleQuality("random", 6, every_n_epochs=3), recorded, max_epochs=4)
    assert [value is not None for value in recorded.values] == [False, False, True, True]
    assert recorded.values[2] == recorded.values[3], "the value of the third epoch, not measured again"


def test_validation_alone_is_measured(generative_toy):
    module, run = generative_toy.LinearToy(), trainer(SampleQuality("random", 6, every_n_epochs=5))
    assert "val/frechet_distance" in run.validate(module, generative_toy.ToyPictures(), verbose=False)[0]


class CutPictures(L.LightningDataModule):
    """Pictures whose loaders give each process its part."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def _loader(self):
        rank, size = self.trainer.global_rank, self.trainer.world_size
        gather = lambda rows: {"images": self.images[rows]}  # noqa: E731
        return IndexBatches(gather, in_order(12), 12, batch_size=2, rank=rank, world_size=size)

    train_dataloader = val_dataloader = _loader


class Untrained(L.Callback):
    def on_before_optimizer_step(self, run, module, optimizer):
        for parameter in module.parameters():
            parameter.grad = None


class SameOnBoth(L.Callback):
    def on_validation_end(self, run, module):
        if not run.sanity_checking:
            first, second = module.all_gather(run.callback_metrics["val/kernel_distance"])
            assert first == second


def test_two_processes_share_the_work(generative_toy):
    data = generative_toy.ToyPictures()
    data.setup()
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    callbacks = [SampleQuality("random", 11, metrics=("kernel",), seed=3), Untrained(), SameOnBoth()]
    _, run = fit(generative_toy, *callbacks, data=CutPictures(data.images), strategy=strategy, devices=2)
    order = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10]  # the first process' batches, then the second's
    real, generated = expected_sets(generative_toy.LinearToy(), data.images[order], 11, [6, 6])
    distance = kernel_distance(real, generated).value
    assert run.callback_metrics["val/kernel_distance"] == pytest.approx(distance, rel=1e-5)


class NeverTrained(L.Callback):
    def on_fit_start(self, run, module):
        raise AssertionError("training began")

    on_sanity_check_start = on_train_start = on_fit_start


def test_mistakes_end_the_run_before_it_starts(generative_toy):
    with pytest.raises(CheckpointError, match="extractor: no file nowhere.ckpt"):
        fit(generative_toy, SampleQuality("nowhere.ckpt"), NeverTrained())
    with pytest.raises(ValueError, match="metrics: inception needs class probabilities"):
        fit(generative_toy, SampleQuality("random", metrics=("inception",)), NeverTrained())
    with pytest.raises(ValueError, match="Boring has no sample"):
        trainer(SampleQuality("random"), NeverTrained()).fit(Boring(), generative_toy.ToyPictures())


class Boring(L.LightningModule):
    def training_step(self, batch, batch_index):
        return None

    def configure_optimizers(self):
        return None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 1}, "num_images must be at least 2, got 1"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1, got 0"),
        ({"metrics": ("frechett",)}, "metrics must be some of frechet, kernel, inception, got frechett"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SampleQuality(**options)
