"""VAE, convolutional and channel-recurrent VAE: networks, bound, training. The likelihood has a file of its own."""

import warnings
from importlib.resources import files

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from lightning_zoo.checkpoints import load
from lightning_zoo.generative.crvae import CRVAE
from lightning_zoo.generative.cvae import CVAE
from lightning_zoo.generative.density_model import binarise
from lightning_zoo.generative.hierarchical_crvae import HierarchicalCRVAE
from lightning_zoo.generative.vae import VAE

warnings.filterwarnings("ignore", ".*LeafSpec.*")

MODELS = [VAE, CVAE, CRVAE, HierarchicalCRVAE]
SINGLE = [
    (VAE, {}),
    (CVAE, {}),
    (CRVAE, {"recurrency": "both"}),
    (CRVAE, {"recurrency": "inference"}),
    (CRVAE, {"recurrency": "generation"}),
]


def tiny(cls, **options):
    torch.manual_seed(0)
    small = {"base_channels": 1, "latent_channels": 8}
    if issubclass(cls, CRVAE | HierarchicalCRVAE):
        small |= {"num_steps": 2, "hidden_size": 6}
    return cls(**(small | options))


def images(count=3, seed=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def lstm(inputs, hidden):
    """Two layers: four gates, each with a matrix of inputs, one of states, and two biases."""
    return sum(4 * (hidden * width + hidden * hidden + 2 * hidden) for width in (inputs, hidden))


LATENTS, FEATURES, HIDDEN = 1024, 4096, 512
CONVOLUTIONS = {"in": 256 * 64 * 9 + 64, "out": 64 * 256 * 9 + 256 + 2 * 256}  # the second is normalised
RECURRENCES = {
    "in": lstm(512, HIDDEN) + HIDDEN * 128 + 128,
    "out": lstm(128, HIDDEN) + HIDDEN * 128 + 128 + LATENTS,  # with the additive tensor
}
MEAN = FEATURES * LATENTS + LATENTS + LATENTS


@pytest.mark.parametrize(
    ("cls", "options", "inference", "generation"),
    [
        (VAE, {}, 2 * (FEATURES * LATENTS + LATENTS), LATENTS * FEATURES + FEATURES),
        (CVAE, {}, 2 * CONVOLUTIONS["in"], CONVOLUTIONS["out"]),
        (CRVAE, {}, MEAN + RECURRENCES["in"], CONVOLUTIONS["out"] + RECURRENCES["out"]),
        (CRVAE, {"recurrency": "inference"}, MEAN + RECURRENCES["in"], CONVOLUTIONS["out"]),
        (CRVAE, {"recurrency": "generation"}, MEAN + CONVOLUTIONS["in"], CONVOLUTIONS["out"] + RECURRENCES["out"]),
    ],
)
def test_parameters_around_the_latent_tensor_of_the_released_models(cls, options, inference, generation):
    model = cls(**options)
    assert count(model.posterior_path) == inference
    assert count(model.projection) == generation
    assert count(model) == count(model.encoder) + inference + generation + count(model.decoder)
    assert model.latent_shape == (64, 4, 4)


def test_defaults_are_the_released_settings():
    assert [model().hparams.learning_rate for model in (VAE, CVAE, CRVAE)] == [3e-4, 3e-4, 3e-3]
    assert [model(base_channels=1).hparams.kl_weight for model in (VAE, CVAE)] == [pytest.approx(1e-3 * 784)] * 2
    kernels = [model().encoder.layers[12].kernel_size[0] for model in (VAE, CVAE, CRVAE)]
    assert kernels == [5, 5, 3]


@pytest.mark.parametrize("steps", [4, 8, 16])
def test_lstms_of_the_published_models_are_4096_by_t_wide(steps):
    name = "crvae_mnist" if steps == 8 else f"crvae_steps_{steps}_mnist"
    text = (files("lightning_zoo.configs") / f"{name}.yaml").read_text()
    model = CRVAE(**(yaml.safe_load(text)["model"].get("init_args") or {}))
    assert model.num_steps == steps
    for lstm in (model.posterior_path.recurrence.lstm, model.projection.recurrence.lstm):
        assert (lstm.hidden_size, lstm.num_layers) == (16 * 256 // steps, 2)


def test_the_hierarchical_model_has_as_many_latent_variables():
    model = HierarchicalCRVAE(base_channels=2, hidden_size=4)
    inferred = model.infer(torch.rand(2, 1, 28, 28))
    assert inferred[0][0].numel() == 512
    assert count(model.lower_posterior) == count(model.posterior_path)


@pytest.mark.parametrize("cls", MODELS)
def test_what_others_may_call(cls):
    model = tiny(cls).eval()
    assert model.image_shape == (1, 28, 28)
    batch = images()
    mean, log_variance = model.posterior(batch)
    assert mean.shape == log_variance.shape == (3, *model.latent_shape)
    torch.testing.assert_close(model.posterior(batch.float() / 255)[0], mean)
    for pictures in (model.decode(mean), model.reconstruct(batch), model.sample(3)):
        assert pictures.shape == batch.shape
        assert pictures.dtype == torch.float32
        assert pictures.min() > 0
        assert pictures.max() < 1
    torch.testing.assert_close(model(batch), mean.flatten(1))
    torch.testing.assert_close(model.predict_step({"images": batch}, 0)["features"], mean.flatten(1))
    with pytest.raises(ValueError, match="1x28x28.*1x32x32"):
        model.encode(torch.zeros(1, 1, 32, 32))


def test_samples_follow_generator_and_truncation():
    model = tiny(CRVAE).eval()
    first, second = (model.sample(4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    noise = torch.randn(4, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    drawn = model.sample(4, truncation=0.5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, model.decode(0.5 * noise))
    assert not torch.equal(model.sample(4, truncation=0.0)[0], first[0])
    assert not torch.equal(first[0], first[1])


def test_decode_is_differentiable_in_the_latent_tensor():
    for cls in MODELS:
        latent = torch.zeros(1, *tiny(cls).latent_shape, requires_grad=True)
        tiny(cls).eval().decode(latent).sum().backward()
        assert (latent.grad != 0).all()


@pytest.mark.parametrize("steps", [2, 4])
def test_a_block_of_channels_moves_itself_and_later_ones_alone(steps):
    model = tiny(CRVAE, num_steps=steps).eval()
    latent = torch.randn(1, *model.latent_shape)
    features = torch.randn(1, *model.encoder.feature_shape)
    for block in range(steps):
        for transform, x in (
            (model.projection.transform, latent),
            (lambda f: model.posterior_path(f)[1], features),
        ):
            moved = x.clone()
            moved.unflatten(1, (steps, -1))[:, block] += 1
            change = (transform(moved) - transform(x)).abs().unflatten(1, (steps, -1)).flatten(2).amax((0, 2))
            assert (change[:block] == 0).all()
            assert (change[block:] > 0).all()


def test_where_there_is_no_recurrency_nothing_is_recurrent():
    lstms = {
        name: [key for key, module in tiny(CRVAE, recurrency=name).named_modules() if isinstance(module, nn.LSTM)]
        for name in ("inference", "generation", "both")
    }
    assert lstms["inference"] == ["posterior_path.recurrence.lstm"]
    assert lstms["generation"] == ["projection.recurrence.lstm"]
    assert lstms["both"] == lstms["inference"] + lstms["generation"]
    assert not any(isinstance(module, nn.LSTM) for cls in (VAE, CVAE) for module in tiny(cls).modules())


# The bound.


def written_out(model, grey, seed, k):
    """Draw by draw with torch.distributions, from the same random numbers."""
    generator = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(grey.shape, generator=generator) < grey).to(grey.dtype)
    mean, log_variance = model.posterior_path(model.encoder(pixels))
    noise = torch.randn(len(grey), k, *model.latent_shape, generator=generator, dtype=grey.dtype)
    q = Normal(mean, (0.5 * log_variance).exp())
    latents = [q.mean + q.stddev * noise[:, draw] for draw in range(k)]
    # One pass: batch normalisation in training mode looks at all rows.
    logits = model.decoder(model.projection(torch.stack(latents, 1).flatten(0, 1))).unflatten(0, (len(grey), k))
    likelihoods, ratios = [], []
    for draw, latent in enumerate(latents):
        likelihoods.append(Bernoulli(logits=logits[:, draw]).log_prob(pixels).sum((1, 2, 3)))
        ratios.append((Normal(0.0, 1.0).log_prob(latent) - q.log_prob(latent)).sum((1, 2, 3)))
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum((1, 2, 3))
    return torch.stack(likelihoods), torch.stack(ratios), kl


@pytest.mark.parametrize(("cls", "options"), SINGLE)
@pytest.mark.parametrize("k", [1, 3])
def test_loss_equals_the_bound_written_out_in_value_and_gradient(cls, options, k):
    model = tiny(cls, num_importance_samples=k, kl_weight=0.6, **options).double().train()
    grey = images().double() / 255
    likelihoods, ratios, kl = written_out(model, grey, 5, k)
    if k == 1:
        expected = -(likelihoods[0] - 0.6 * kl).mean()
    else:
        expected = -(likelihoods + 0.6 * ratios).exp().mean(0).log().mean()
        # exp of -500 still has all its digits in float64.
    terms = model.loss(grey, torch.Generator().manual_seed(5))
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["kl"], kl.mean())
    torch.testing.assert_close(terms["reconstruction"], -likelihoods.mean())
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(terms["loss"], parameters.values(), allow_unused=True)
    theirs = torch.autograd.grad(expected, parameters.values(), allow_unused=True)
    for name, one, two in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("cls", MODELS)
def test_divergence_is_the_mean_of_the_log_ratio_of_draws(cls):
    model = tiny(cls).eval()
    with torch.no_grad():
        draws = model.draw(model.infer(torch.rand(2, 1, 28, 28)), 4000)
    error = draws.log_ratio.std(1) / 4000**0.5
    assert ((draws.kl + draws.log_ratio.mean(1)).abs() < 5 * error).all()
    # p / q is a ratio of densities: its mean under q is one.
    ratios = draws.log_ratio.exp()
    assert ((ratios.mean(1) - 1).abs() < 5 * ratios.std(1) / 4000**0.5).all()


def test_one_importance_sample_is_the_elbo_with_its_drawn_divergence():
    model = tiny(CRVAE, kl_weight=1.0).double().eval()
    grey = images().double() / 255
    likelihoods, ratios, _ = written_out(model, grey, 5, 1)
    pixels = binarise(grey, generator := torch.Generator().manual_seed(5))
    draws = model.draw(model.infer(pixels), 1, generator)
    torch.testing.assert_close(draws.log_ratio, ratios.T)
    torch.testing.assert_close(
        model._log_likelihood(grey, 1, torch.Generator().manual_seed(5))[0], (likelihoods + ratios)[0]
    )


def test_hierarchical_draws_equal_torch_distributions():
    model = tiny(HierarchicalCRVAE).double().eval()
    features = model.encoder(torch.rand(2, 1, 28, 28, dtype=torch.float64))
    noise = torch.randn(
        2, 2, 1, *model.latent_shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    ).squeeze(2)
    inferred = model.infer(torch.rand(2, 1, 28, 28, dtype=torch.float64))[:2]
    upper_q = Normal(inferred[0], (0.5 * inferred[1]).exp())
    upper = upper_q.mean + upper_q.stddev * noise[0]
    context = model.projection(upper)
    mean, log_variance = model.lower_posterior(model.joined_features(features, context))
    lower_q = Normal(mean, (0.5 * log_variance).exp())
    mean, log_variance = model.lower_prior(context)
    lower_p = Normal(mean, (0.5 * log_variance).exp())
    lower = lower_q.mean + lower_q.stddev * noise[1]
    ratio = Normal(0.0, 1.0).log_prob(upper) - upper_q.log_prob(upper) + lower_p.log_prob(lower)
    ratio = (ratio - lower_q.log_prob(lower)).sum((1, 2, 3))
    kl = (kl_divergence(upper_q, Normal(0.0, 1.0)) + kl_divergence(lower_q, lower_p)).sum((1, 2, 3))
    draws = model.draw((*inferred, features), 1, torch.Generator().manual_seed(7))
    torch.testing.assert_close(draws.log_ratio.squeeze(1), ratio)
    torch.testing.assert_close(draws.kl, kl)
    torch.testing.assert_close(draws.logits, model.decoder(model.lower_projection(lower) + context))
    # Without the lower layer's draw: its mean given the upper layer.
    torch.testing.assert_close(
        model.decode(upper), model.decoder(model.lower_projection(lower_p.mean) + context).sigmoid()
    )


def test_pixels_are_drawn_by_intensity_and_black_and_white_ones_stay():
    static = torch.tensor([0.0, 1.0]).repeat(5000)
    assert torch.equal(binarise(static), static)
    drawn = binarise(torch.full((40_000,), 0.3), torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert drawn.mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 40_000) ** 0.5)


@pytest.mark.parametrize("cls", MODELS)
def test_half_precision_changes_little(cls):
    # Batch statistics: by those of an untrained network its logits are too near 0 for rounding to show.
    model = tiny(cls, base_channels=2).train()
    expected = model.loss(images(), torch.Generator().manual_seed(1))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        found = model.loss(images(), torch.Generator().manual_seed(1))["loss"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=0.02)
    assert found.item() != expected.item(), "autocast did nothing"


# Training.


class Batches(L.LightningDataModule):
    def __init__(self, batches):
        super().__init__()
        self.batches = [{"images": batch} for batch in batches]

    def _loader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    train_dataloader = val_dataloader = _loader


def trainer(**options):
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**(quiet | options))


@pytest.mark.parametrize(("cls", "recurrent"), [(CVAE, 0), (CRVAE, 2), (HierarchicalCRVAE, 5)])
def test_lstms_learn_at_the_t_th_part_and_all_rates_are_halved(cls, recurrent):
    model = tiny(cls, learning_rate=0.8, halving_period_epochs=3)
    configured = model.configure_optimizers()
    groups, scheduler = configured["optimizer"].param_groups, configured["lr_scheduler"]["scheduler"]
    assert [group["lr"] for group in groups] == [0.8, 0.4][: 1 + bool(recurrent)]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    if recurrent:
        slow = {id(parameter) for parameter in groups[1]["params"]}
        assert len(slow) == recurrent * (8 + 2), "two layers of four tensors, and the linear layer that steps share"
        assert all((id(p) in slow) == (".recurrence." in name) for name, p in model.named_parameters())
    for epoch in range(7):
        assert groups[0]["lr"] == pytest.approx(0.8 / 2 ** (epoch // 3))
        assert groups[-1]["lr"] == pytest.approx(groups[0]["lr"] / (2 if recurrent else 1))
        configured["optimizer"].step()
        scheduler.step()


class Gradients(L.Callback):
    def __init__(self, scale=1.0):
        self.scale = scale

    def on_after_backward(self, trainer, module):
        for parameter in module.parameters():
            parameter.grad *= self.scale

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.stepped = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("limit", [5.0, None])
def test_gradients_of_lstms_alone_are_clamped_and_are_those_per_pixel(limit):
    found = Gradients(1e6)
    model = tiny(CRVAE, gradient_limit=limit)
    reference = tiny(CRVAE)
    trainer(callbacks=[found], limit_val_batches=0).fit(model, Batches([images()]))
    trained = reference.train()
    trained.loss(images(), model._generator(model.noise_seed, 0))["loss"].div(784).backward()
    for name, parameter in trained.named_parameters():
        expected = 1e6 * parameter.grad
        if ".recurrence." in name and limit:
            expected = expected.clamp(-limit, limit)
        # Step and zero_grad come after the backward pass of the same batch, so this is what the step saw.
        torch.testing.assert_close(found.stepped[name], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    largest = max(found.stepped[name].abs().max().item() for name in found.stepped if ".recurrence." in name)
    assert (largest == limit) if limit else largest > 5


@pytest.mark.parametrize("cls", MODELS)
def test_learns_and_loads_alone(cls, tmp_path):
    model = tiny(cls, base_channels=2, learning_rate=1e-2, num_val_draws=2)
    batch = (torch.arange(28) // 7 % 2 * 255).to(torch.uint8).expand(8, 1, 28, 28)
    with torch.no_grad():
        before = model.loss(batch)["loss"]
    run = trainer()
    run.fit(model, Batches([batch] * 25))
    with torch.no_grad():
        assert model.loss(batch)["loss"] < 0.5 * before
    assert set(run.callback_metrics) == {
        f"val/{name}" for name in ("loss", "reconstruction", "kl", "elbo", "nll_bound")
    }
    run.save_checkpoint(tmp_path / "model.ckpt")
    loaded = load(tmp_path / "model.ckpt")
    torch.testing.assert_close(loaded.encode(batch), model.eval().encode(batch), rtol=0, atol=0)


def fit_losses(ckpt_path=None, noise_seed=None, **options):
    class Losses(L.Callback):
        found: list

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            self.found.append(outputs["loss"].item())

    losses = Losses()
    losses.found = []
    model = tiny(CRVAE, num_val_draws=0)
    model.noise_seed = model.noise_seed if noise_seed is None else noise_seed
    callbacks = [losses, *options.pop("callbacks", [])]
    run = trainer(max_epochs=2, callbacks=callbacks, **options)
    seeds, seeded = [], model._generator
    model._generator = lambda *numbers: seeds.append(numbers) or seeded(*numbers)
    run.fit(model, Batches([images()] * 3), ckpt_path=ckpt_path, weights_only=True)
    return losses.found, [seeded(*numbers).initial_seed() for numbers in seeds]


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path):
    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            if (trainer.current_epoch, index) == (1, 0):
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole, seeds = fit_losses(callbacks=[Save()], limit_val_batches=0)
    assert len(set(seeds)) == 6, "each batch has its own noise"
    # A run without seed_everything has another seed each time.
    rest, _ = fit_losses(tmp_path / "half.ckpt", noise_seed=99, limit_val_batches=0)
    assert rest == whole[4:]


def test_validation_draws_the_same_each_time_and_changes_no_training():
    values = []
    for _ in range(2):
        torch.manual_seed(len(values))
        model = tiny(CRVAE)
        torch.manual_seed(len(values) + 5)
        values.append(trainer().validate(model, Batches([images()]), verbose=False)[0])
    assert values[0] == values[1]
    assert values[0]["val/elbo"] == pytest.approx(-values[0]["val/reconstruction"] - values[0]["val/kl"])
    with_validation, _ = fit_losses()
    without, _ = fit_losses(limit_val_batches=0)
    assert with_validation == without


def test_two_processes_draw_different_noise():
    class Compare(L.Callback):
        def on_fit_start(self, trainer, module):
            noise = torch.randn(50, generator=module._generator(module.noise_seed, 3))
            ours, theirs = module.all_gather(noise)
            assert not (ours == theirs).any()

    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    options = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False}
    trainer(callbacks=[Compare()], **options).fit(tiny(CRVAE, num_val_draws=1), Batches([images(4)]))


class SameStatistics(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        for name, value in module.state_dict().items():
            ours, theirs = module.all_gather(value.double())
            assert torch.equal(ours, theirs), name


def test_two_processes_have_the_same_running_statistics():
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    options = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False, "limit_val_batches": 0}
    trainer(callbacks=[SameStatistics()], **options).fit(tiny(CRVAE), Batches([images(4), images(4, seed=5)]))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (VAE, {"base_channels": 0}, "base_channels must be at least 1, got 0"),
        (CVAE, {"num_importance_samples": 0}, "num_importance_samples must be at least 1, got 0"),
        (VAE, {"num_draws": 0}, "num_draws must be at least 1, got 0"),
        (VAE, {"draws_per_chunk": 0}, "draws_per_chunk must be at least 1, got 0"),
        (VAE, {"num_val_draws": -1}, "num_val_draws .*-1"),
        (VAE, {"num_test_images": 1}, "num_test_images .*got 1"),
        (VAE, {"kl_weight": -0.1}, "kl_weight .*-0.1"),
        (VAE, {"learning_rate": 0.0}, "learning_rate .*0.0"),
        (VAE, {"norm_momentum": 0.0}, "norm_momentum .*0.0"),
        (CRVAE, {"recurrency": "none"}, "recurrency .*'none'"),
        (CRVAE, {"num_steps": 3}, "latent_channels=8 .*num_steps=3"),
        (CRVAE, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        (CRVAE, {"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        (CRVAE, {"latent_channels": 16, "num_steps": 16}, "num_steps=16 .*8 feature channels.*base_channels"),
        (CRVAE, {"gradient_limit": 0.0}, "gradient_limit .*0.0"),
        (HierarchicalCRVAE, {"latent_channels": 9}, "latent_channels must be even.*9"),
        (HierarchicalCRVAE, {"latent_channels": 8, "num_steps": 8}, "latent_channels=4 .*num_steps=8"),
    ],
)
def test_mistakes_are_named_in_one_line(cls, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(cls, **options)
    assert "\n" not in str(caught.value)
