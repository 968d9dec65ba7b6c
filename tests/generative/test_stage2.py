"""Stage 2 as a method: its interface, its steps against plain ones, its checkpoints, its refusals."""

import copy
import sys

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import lightning_zoo
from lightning_zoo.checkpoints import CheckpointError, Loadable
from lightning_zoo.cli.zoo import ZooCLI
from lightning_zoo.generative.classifier import Classifier
from lightning_zoo.generative.stage2 import Stage2
from lightning_zoo.generative.stage2_steps import discriminator_step, generator_step
from lightning_zoo.generative.vae_gan import VAEGAN

SMALL = {"base_channels": 4, "discriminator_channels": 2, "num_residual_blocks": 1}


class SmallStage1(Loadable, L.LightningModule):
    """The least that stage 2 asks of a stage 1, of 16x16 images, so that steps are quick."""

    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.image_shape, self.latent_shape = (3, 16, 16), (2, 4, 4)
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.Conv2d(width, 4, 1))
        self.decoder = nn.Sequential(nn.ConvTranspose2d(2, width, 4, 4), nn.BatchNorm2d(width), nn.Conv2d(width, 3, 1))

    def posterior(self, images):
        assert images.shape[1:] == self.image_shape
        return self.encoder(images).chunk(2, 1)

    def decode(self, latent):
        return self.decoder(latent).float().sigmoid()


SmallStage1.__module__ = "small_stage1"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Checkpoints name classes by their module; those of tests cannot be imported."""
    monkeypatch.setitem(sys.modules, "small_stage1", sys.modules[__name__])


def trainer(**arguments):
    settings = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**(settings | arguments))


def save(model, path):
    writer = trainer()
    writer.strategy.connect(model)
    writer.save_checkpoint(path)
    return str(path)


def stage1_file(folder, model=None):
    torch.manual_seed(1)
    model = model or SmallStage1()
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return save(model, folder / "stage1.ckpt")


def build(folder, **options):
    if "stage1" not in options:
        options["stage1"] = stage1_file(folder)
    torch.manual_seed(0)
    return with_larger_weights(Stage2(**({"output_size": 32} | SMALL | options)))


def with_larger_weights(model):
    """Drawn as they are, with few channels, they make every image gray in evaluation mode."""
    for parameter in (*model.generator.parameters(), *model.discriminator.parameters()):
        if parameter.dim() == 4:
            nn.init.normal_(parameter, 0, 0.2)
    return model


@pytest.fixture
def classifier_file(tmp_path):
    torch.manual_seed(0)
    model = Classifier(image_shape=(3, 32, 32), class_names=["a", "b"], base_channels=2)
    return save(model, tmp_path / "classifier.ckpt")


def loader(number=4, size=32, batch_size=4, seed=0):
    images = torch.randint(0, 256, (number, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return DataLoader([{"images": image.to(torch.uint8)} for image in images], batch_size=batch_size)


@pytest.mark.parametrize("size", [128, 224])
def test_the_interface_after_a_vae_gan(tmp_path, size):
    torch.manual_seed(1)
    model = build(
        tmp_path, stage1=stage1_file(tmp_path, VAEGAN(base_channels=2, latent_channels=4)), output_size=size
    ).eval()
    assert model.image_shape == (3, size, size)
    assert (model.latent_shape, model.num_steps) == ((4, 4, 4), 1)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, log_variance = model.posterior(images)
    assert mean.shape == log_variance.shape == (2, 4, 4, 4)
    if size == 128:
        torch.testing.assert_close(mean, model.stage1.posterior(F.avg_pool2d(images / 255, 2))[0])
    torch.testing.assert_close(model.encode(images / 255), mean.flatten(1))
    torch.testing.assert_close(model(images), mean.flatten(1))
    reconstructed = model.reconstruct(images)
    assert reconstructed.shape == (2, 3, size, size)
    assert reconstructed.dtype == torch.float32
    assert 0 <= reconstructed.min() < reconstructed.max() - 0.05 <= 0.95
    torch.testing.assert_close(reconstructed, model.decode(mean))
    assert model.realness(reconstructed).shape == (2,)
    latent = torch.zeros(1, 4, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decode(latent).square().sum(), latent)
    assert gradient.abs().max() > 0


def test_samples_follow_the_generator_and_the_truncation(tmp_path):
    model = build(tmp_path).eval()
    first, second = (model.sample(3, generator=torch.Generator().manual_seed(5), truncation=0.7) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    latent = 0.7 * torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(first, model.decode(latent))
    assert (first[0] - first[1]).abs().max() > 1e-3


class Identity(nn.Module):
    """A stage 1 whose images are its latent tensors, all from N(3, 4) a posteriori."""

    def posterior(self, images):
        mean = torch.full((len(images), 2, 4, 4), 3.0)
        return mean, torch.full_like(mean, 4.0).log()

    def decode(self, latent):
        return latent


def test_stage_1_draws_from_the_prior_and_from_the_posterior(tmp_path, monkeypatch):
    model = build(tmp_path)
    model.stage1 = Identity()
    images = torch.zeros(500, 3, 32, 32)
    drawn = model.stage1_images(images, 0)
    samples, reconstructions = drawn.chunk(2)
    for values, mean, deviation in ((samples, 0, 1), (reconstructions, 3, 2)):
        assert abs(float(values.mean()) - mean) < 5 * deviation / 16000**0.5
        assert abs(float(values.std()) - deviation) < 5 * deviation / 32000**0.5
    torch.testing.assert_close(model.stage1_images(images, 0), drawn, rtol=0, atol=0)
    other = [*model.stage1_images(images, 1).chunk(2), (reconstructions - 3) / 2]
    for name in ("current_epoch", "global_rank"):
        with monkeypatch.context() as patch:
            patch.setattr(Stage2, name, 1)
            other.append(model.stage1_images(images, 0)[:500])
    for values in other:
        similarity = torch.corrcoef(torch.stack([values.flatten(), samples.flatten()]))[0, 1]
        assert abs(float(similarity)) < 5 / 16000**0.5, "noise was used twice"


def plain_step(model, images, perceptual, objective, gamma, reduction):
    """The step as one would write it first: two `backward`, images -1 ... 1, everything in the open."""
    generator, discriminator = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    optimizers = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (generator, discriminator)]
    small = model.stage1_images(images, 0)
    fake = generator(2 * small - 1)
    samples, reconstructions = fake[: len(images)], fake[len(images) :]

    def probability(logits):
        return torch.sigmoid(logits)

    real = probability(discriminator(2 * images - 1))
    judged = probability(discriminator(fake.detach()))
    loss = -real.log().mean() - 2 * (1 - judged).log().mean()  # equally many of both kinds
    loss.backward()
    optimizers[1].step()
    judged = probability(discriminator(torch.cat([samples, reconstructions])))
    adversarial = 2 * (1 - judged).log().mean() if objective == "minimax" else -2 * judged.log().mean()
    squares = (perceptual.features(images) - perceptual.features(reconstructions / 2 + 0.5)) ** 2
    distance = squares.mean() if reduction == "mean" else squares.sum() / len(images)
    generator_loss = adversarial + gamma * distance
    for parameter in generator.parameters():
        (parameter.grad,) = torch.autograd.grad(generator_loss, parameter, retain_graph=True)
    optimizers[0].step()
    return generator, discriminator


@pytest.mark.parametrize(
    ("objective", "gamma", "reduction"),
    [("non_saturating", 0.0, "mean"), ("minimax", 10.0, "mean"), ("non_saturating", 3.0, "sum")],
)
def test_one_step_equals_the_plain_one(tmp_path, classifier_file, objective, gamma, reduction):
    model = build(
        tmp_path,
        adversarial_loss=objective,
        perceptual_weight=gamma,
        perceptual_network="classifier",
        perceptual_path=classifier_file,
        perceptual_reduction=reduction,
    )
    data = loader()
    images = next(iter(data))["images"].float() / 255
    perceptual = lightning_zoo.load(classifier_file).requires_grad_(False)
    wanted = plain_step(model.train(), images, perceptual, objective, gamma, reduction)
    before = copy.deepcopy(model.state_dict())
    fit = trainer(log_every_n_steps=1)
    fit.fit(model, data)
    for network, plain in zip((model.generator, model.discriminator), wanted, strict=True):
        for (name, got), expected in zip(network.named_parameters(), plain.parameters(), strict=True):
            # Adam's first step is the gradient's sign: where the gradient is rounding alone, it says nothing.
            moved = expected.grad.abs() > 1e-6 * expected.grad.abs().max()
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-6, msg=name)
            torch.testing.assert_close(got[moved], expected[moved], rtol=0, atol=2e-5)
            assert moved.any(), name
    for name, value in model.stage1.state_dict().items():
        torch.testing.assert_close(value, before[f"stage1.{name}"], rtol=0, atol=0)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.stage1.parameters())
    assert all(parameter.grad is None for network in model.perceptual for parameter in network.parameters())
    optimized = {id(p) for o in fit.optimizers for group in o.param_groups for p in group["params"]}
    networks = (model.generator, model.discriminator)
    assert optimized == {id(parameter) for network in networks for parameter in network.parameters()}
    names = {"generator_loss", "discriminator_loss", "discriminator_accuracy"} | (
        {"perceptual_loss"} if gamma else set()
    )
    assert {name for name in fit.callback_metrics if name.startswith("train/")} == {f"train/{name}" for name in names}


def test_metrics_are_logged_at_the_steps_that_the_logger_writes(tmp_path, monkeypatch):
    model = build(tmp_path)
    steps = []
    monkeypatch.setattr(model, "log_dict", lambda metrics: steps.append(model.global_step))
    trainer(log_every_n_steps=3).fit(model, loader(7, batch_size=1))
    assert steps == [6, 12]  # after both optimizers' steps of the third and the sixth batch


class NoStep:
    """An optimizer that leaves the weights, so that gradients can be looked at."""

    def step(self):
        pass


def test_each_step_sets_the_gradients_of_its_own_network(tmp_path, classifier_file):
    model = build(tmp_path, perceptual_weight=1.0, perceptual_network="classifier", perceptual_path=classifier_file)
    seen = []

    class Seen(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.flatten(1)

    model.perceptual = [Seen()]
    images = torch.rand(3, 3, 32, 32)
    generated = model.enlarge(model.stage1_images(images, 0))
    discriminator_step(model, images * 2 - 1, generated.detach(), NoStep())
    assert all(parameter.grad is None for parameter in model.generator.parameters())
    gradients = [parameter.grad.clone() for parameter in model.discriminator.parameters()]
    generator_step(model, images, generated, NoStep())
    for parameter, gradient in zip(model.discriminator.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)
    assert all(parameter.grad.abs().max() > 0 for parameter in model.generator.parameters())
    torch.testing.assert_close(seen[0], images)
    torch.testing.assert_close(seen[1], (generated[3:] + 1) / 2)  # reconstructions alone
    assert len(seen) == 2


def test_a_checkpoint_loads_without_the_file_of_stage_1(tmp_path):
    path = stage1_file(tmp_path, SmallStage1(width=5))
    model = build(tmp_path, stage1=path)
    trainer().fit(model, loader())
    saved = save(model, tmp_path / "stage2.ckpt")
    (tmp_path / "stage1.ckpt").unlink()
    loaded = lightning_zoo.load(saved)
    assert loaded.hparams["stage1"] == {"method": "small_stage1.SmallStage1", "arguments": {"width": 5}}
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any(module.training for module in loaded.modules())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.reconstruct(images), model.eval().reconstruct(images), rtol=0, atol=0)
    again = lightning_zoo.load(save(loaded, tmp_path / "again.ckpt"))
    torch.testing.assert_close(again.reconstruct(images), loaded.reconstruct(images), rtol=0, atol=0)


def test_the_command_line_builds_what_loads_without_the_file_of_stage_1(tmp_path):
    """Lightning hands the outer hyperparameters of a config to every module that is built meanwhile."""
    path = stage1_file(tmp_path, VAEGAN(base_channels=2, latent_channels=4))
    words = ["--config", "stage2_atari", "--trainer.logger", "false", "--model.stage1", path]
    words += [word for name, value in SMALL.items() for word in (f"--model.{name}", str(value))]
    model = with_larger_weights(ZooCLI(words, run=False).model)
    description = model.hparams["stage1"]
    assert description["method"] == "lightning_zoo.generative.vae_gan.VAEGAN"
    assert (description["arguments"]["latent_channels"], description["arguments"]["base_channels"]) == (4, 2)
    saved = save(model, tmp_path / "stage2.ckpt")
    (tmp_path / "stage1.ckpt").unlink()
    loaded = lightning_zoo.load(saved)
    latent = torch.randn(1, *model.latent_shape)
    torch.testing.assert_close(loaded.decode(latent), model.eval().decode(latent), rtol=0, atol=0)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    def fit(max_epochs, seed, **arguments):
        model = build(tmp_path, halving_period_epochs=1)
        model.noise_seed = seed  # a run without seed_everything has another one each time
        fitted = trainer(max_epochs=max_epochs)
        fitted.fit(model, loader(8), weights_only=True, **arguments)
        return fitted, model

    _, whole = fit(3, 7)
    first, _ = fit(1, 7)
    first.save_checkpoint(tmp_path / "half.ckpt")
    last, resumed = fit(3, 8, ckpt_path=tmp_path / "half.ckpt")
    assert last.global_step == 3 * 2 * 2
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("period", "rates"), [(2, [8, 8, 4, 4, 2]), (None, [8] * 5)])
def test_learning_rates_are_halved(tmp_path, period, rates):
    seen = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer, *arguments):
            seen.append([group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups])

    model = build(tmp_path, learning_rate=8e-4, halving_period_epochs=period)
    trainer(max_epochs=5, callbacks=[Rates()]).fit(model, loader())
    assert seen == [pytest.approx([rate * 1e-4] * 2) for rate in rates]


def test_validation_is_the_squared_error_of_reconstructions(tmp_path):
    model = build(tmp_path)
    data = loader(6)
    images = torch.cat([batch["images"] for batch in data]) / 255
    (got,) = trainer().validate(model, data, verbose=False)
    wanted = float(((model.eval().reconstruct(images) - images) ** 2).mean())
    assert got["val/loss"] == pytest.approx(wanted, rel=1e-5)
    (got,) = trainer().test(model, data, verbose=False)
    assert got["test/loss"] == pytest.approx(wanted, rel=1e-5)
    predicted = trainer().predict(model, data)
    torch.testing.assert_close(torch.cat([batch["features"] for batch in predicted]), model.encode(images))


def test_bfloat16_trains_float32_weights(tmp_path, classifier_file):
    model = build(
        tmp_path,
        perceptual_weight=1.0,
        perceptual_network="classifier",
        perceptual_path=classifier_file,
        channels_last=True,
    )
    before = copy.deepcopy(model.generator.state_dict())
    fit = trainer(precision="bf16-mixed", log_every_n_steps=1)
    fit.fit(model, loader(), loader())
    for name, value in model.generator.named_parameters():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[name])
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in fit.callback_metrics.values())


class TwoRanks(L.Callback):
    """Fails unless both processes see different images and agree on weights and statistics after each step."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        ours, theirs = module.all_gather(batch["images"].double())
        assert not torch.equal(ours, theirs)
        for name, value in module.state_dict().items():
            ours, theirs = module.all_gather(value.double())
            assert torch.equal(ours, theirs), name
        for parameter in (*module.generator.parameters(), *module.discriminator.parameters()):
            ours, theirs = module.all_gather(parameter.grad)
            assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_two_processes(tmp_path):
    model = build(tmp_path)
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    trainer(strategy=strategy, devices=2, callbacks=[TwoRanks()]).fit(model, loader(16), loader(8))


def first_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


class NoData(L.LightningDataModule):
    def prepare_data(self):
        raise AssertionError("data were prepared for a run that cannot start")


def test_a_run_that_cannot_start_says_so_before_data_are_prepared(tmp_path):
    model = Stage2()
    with pytest.raises(ValueError, match="crvae_atari for stage2_atari, then give") as error:
        trainer().fit(model, datamodule=NoData())
    first_line(error)
    model = build(tmp_path, perceptual_weight=1.0)
    with pytest.raises(ValueError, match="perceptual_path is not set: vgg11 needs its file") as error:
        trainer().fit(model, datamodule=NoData())
    first_line(error)
    trainer().validate(model, loader(), verbose=False)  # which needs no perceptual network


def test_a_stage_1_that_cannot_be_used(tmp_path, classifier_file):
    with pytest.raises(CheckpointError, match="No checkpoint") as missing:
        Stage2(stage1=str(tmp_path / "none.ckpt"))
    first_line(missing)
    description = {"method": "small_stage1.SmallStage1", "arguments": {}}
    for stage1, message in [
        (classifier_file, "classifier.ckpt is Classifier, which makes no images"),
        ({"method": "no_such_module.Method", "arguments": {}}, "describes no method"),
        ({"arguments": {}}, "describes no method"),
        ({"method": "pathlib.Path", "arguments": {}}, "pathlib.Path is no method"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            Stage2(stage1=stage1)
        first_line(error)
    with pytest.raises(ValueError, match="description without weights"):
        trainer().fit(Stage2(stage1=description, output_size=32, **SMALL), loader())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_size": 16}, "output_size must be larger than stage 1's 16"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"perceptual_weight": -1.0}, "perceptual_weight must not be negative"),
        ({"halving_period_epochs": 0}, "halving_period_epochs must be at least 1"),
        ({"adversarial_loss": "hinge"}, "adversarial_loss must be 'non_saturating' or 'minimax', got 'hinge'"),
    ],
)
def test_arguments_out_of_range(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build(tmp_path, **options)
    first_line(error)


@pytest.mark.filterwarnings("ignore")
def test_float16_and_other_sizes_are_refused(tmp_path):
    model = build(tmp_path)
    with pytest.raises(ValueError, match="images are 16x16 and output_size is 32: set --data.image_size 32"):
        trainer().fit(model, loader(size=16))
    fit = trainer()
    fit.strategy.precision_plugin.precision = "16-mixed"  # a CPU has none
    with pytest.raises(ValueError, match="use bf16-mixed"):
        fit.fit(model, loader())
