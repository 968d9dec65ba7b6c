"""The loss of the conditional VAE written out value by value, its gradients, and what evaluation leaves to chance."""

import math
from types import SimpleNamespace

import pytest
import torch
from gradient_recorder import assert_same_gradients

from lightning_zoo import ConditionalVAE

N, C = 3, 2
SMALL = {"attribute_names": ("a", "b", "c"), "base_channels": 2, "latent_channels": C}
pictures = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
attributes = torch.tensor([[1, -1, 1], [-1, -1, -1], [1, 1, 0], [-1, 1, 1]], dtype=torch.int8)
BATCH = {"images": pictures, "attributes": attributes}


def make(**changes):
    """With a prior and a posterior that are neither N(0, 1) nor each other."""
    torch.manual_seed(0)
    module = ConditionalVAE(**(SMALL | changes))
    network = module.autoencoder
    for layer in (network.prior_network.mean, network.prior_network.log_variance, network.posterior.log_variance):
        torch.nn.init.normal_(layer.weight, std=0.05)
        torch.nn.init.normal_(layer.bias, std=0.5)
    torch.nn.init.normal_(network.prior_network.hidden[0].weight)
    return module.train()


def slow(module, kl_weight, *, draws=True):
    """Every sum by hand, by way of the layers alone."""
    network, given = module.autoencoder, attributes.float()
    images = pictures.float() / 127.5 - 1
    features = network.encoder(images)
    mean, log_variance = network.posterior(features, given[:, None])
    torch.manual_seed(1)
    noise = torch.randn(4, C, 4, 4)
    latent = mean + (log_variance.exp() ** 0.5 * noise if draws else 0)
    drawn = network.decoder(network.projection.features(network.projection.transform(latent, given[:, None])))
    prior_mean, prior_log_variance = network.prior_network(given[:, None])
    error = sum((drawn[row] - images[row]).pow(2).sum() for row in range(4)) / pictures.numel()
    divergence = 0
    for row in range(4):
        flat = zip(*(x[row].flatten() for x in (mean, log_variance, prior_mean, prior_log_variance)), strict=True)
        for mu, s, m, r in flat:
            # KL(N(mu, e^s) || N(m, e^r)) of one dimension.
            divergence = divergence + (r - s) / 2 + (s.exp() + (mu - m) ** 2) / (2 * r.exp()) - 1 / 2
    return error + kl_weight * divergence / 4, error, divergence / 4


def gradients(loss, module):
    names = [name for name, _ in module.named_parameters()]
    found = torch.autograd.grad(loss, list(module.parameters()), materialize_grads=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


# With the published weight the divergence would vanish behind the pixels' error.
@pytest.mark.parametrize("kl_weight", [0.3, 0.0])
def test_the_loss_and_its_gradients_written_out(kl_weight):
    module = make(kl_weight=kl_weight)
    expected, error, divergence = slow(module, kl_weight)
    theirs = gradients(expected, module)
    torch.manual_seed(1)
    loss, terms = module._loss(BATCH, draws=True)
    assert divergence > 1, "there is something to see"
    for value, slow_value in ((loss, expected), (terms["reconstruction"], error), (terms["kl"], divergence)):
        assert float(value) == pytest.approx(float(slow_value), rel=1e-4)
    assert terms["loss"] is loss
    ours = gradients(loss, module)
    # Nothing but the divergence trains the prior.
    assert any(values.any() for name, values in ours.items() if "prior_network" in name) == (kl_weight > 0)
    assert all(values.any() for name, values in ours.items() if "prior_network" not in name)
    assert_same_gradients(ours, theirs)


def test_a_training_step_draws_and_evaluation_does_not():
    module = make(kl_weight=0.3)
    logged = {}
    module.log_dict = lambda values, **_: logged.update(values)
    torch.manual_seed(1)
    module.trainer = SimpleNamespace(log_every_n_steps=0)
    assert float(module.training_step(BATCH, 0)) == pytest.approx(float(slow(module, 0.3)[0]), rel=1e-4)
    module.eval()
    expected = slow(module, 0.3, draws=False)
    for seed, stage in enumerate((module.validation_step, module.test_step)):
        torch.manual_seed(seed)
        stage(BATCH, 0)
    for stage in ("val", "test"):
        for name, value in zip(("loss", "reconstruction", "kl"), expected, strict=True):
            assert float(logged[f"{stage}/{name}"]) == pytest.approx(float(value), rel=1e-4), name


def test_what_the_released_weights_start_from():
    """alpha of the thesis' released command; a prior that at first hardly looks at the attributes."""
    module = ConditionalVAE(**SMALL)
    assert module.hparams.kl_weight == 3e-4
    weight = module.autoencoder.prior_network.hidden[0].weight
    assert 0 < float(weight.abs().max()) <= 1e-4


def test_larger_pictures_are_averaged_and_attributes_are_read():
    module = make().eval()
    large = pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module.encode(large, attributes), module.encode(pictures, attributes))
    assert module.encode(pictures, attributes).shape == (4, 16 * C)
    assert torch.equal(module(pictures), module.encode(pictures, torch.zeros(4, N)))
    assert not torch.allclose(module(pictures), module.encode(pictures, attributes), atol=1e-6)
    assert torch.equal(module.predict_step(BATCH, 0)["features"], module.encode(pictures, attributes))
    images = module.reconstruct(pictures, attributes)
    torch.testing.assert_close(images, module.decode(module.posterior(pictures, attributes)[0], attributes))
    with pytest.raises(ValueError, match="64x64 or a whole number of times that, got 32x32"):
        module.encode(pictures[:, :, :32, :32])


def test_learning_rate_halves_on_schedule():
    configured = make(learning_rate=0.8, halving_period_epochs=2).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])
    assert configured["lr_scheduler"]["interval"] == "epoch"
    assert len(optimizer.param_groups[0]["params"]) == len(list(make().parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_weight": -0.5}, "kl_weight must not be negative, got -0.5"),
        ({"halving_period_epochs": 0}, "halving_period_epochs must be at least 1, got 0"),
        ({"attribute_names": []}, "attribute_names is empty"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        ConditionalVAE(**(SMALL | changes))


def test_the_divergence_is_nothing_where_the_posterior_is_the_prior():
    """Both constant: the divergence is that of two numbers per dimension, as often as there are dimensions."""
    module = make(kl_weight=1.0)
    network = module.autoencoder
    for part, mean, log_variance in ((network.posterior, 0.5, math.log(4.0)), (network.prior_network, 0.5, 0.0)):
        for layer, value in ((part.mean, mean), (part.log_variance, log_variance)):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.constant_(layer.bias, value)
    expected = 16 * C * (4 - 1 - math.log(4.0)) / 2
    assert float(module._loss(BATCH, draws=True)[1]["kl"]) == pytest.approx(expected, rel=1e-5)
    torch.nn.init.zeros_(network.posterior.log_variance.bias)
    assert float(module._loss(BATCH, draws=True)[1]["kl"].detach()) == 0
