"""What methods conditioned on attributes log, average, limit and normalise, each against a computation of its own."""

import pytest
import torch
from conditional_steps import ACVAEGAN, AUTOENCODERS, THIRDS, N, Step, attributes, images, make, slow
from gradient_recorder import recorded
from torch.distributions import Normal, kl_divergence

from lightning_zoo import ConditionalGAN, ConditionalVAEGAN
from lightning_zoo.generative.adversarial_steps import joint_step

RECURRENT = ("autoencoder.posterior.recurrence.", "autoencoder.projection.recurrence.", "autoencoder.prior_network.")


def judged(module):
    """Logits of the discriminator's batch, and which rows are real and which are mismatched."""
    step = Step(module)
    return step.judge(step.autoencoding(), THIRDS)


def with_three_of_four_mismatched_rows_right():
    module = make()
    logits, _, mismatched = judged(module)
    ordered = logits[mismatched].sort().values
    with torch.no_grad():
        module.discriminator.output.bias -= (ordered[-2] + ordered[-1]) / 2
    return module


def test_the_gate_counts_mismatched_rows_too():
    module = with_three_of_four_mismatched_rows_right()
    logits, real, mismatched = judged(module)
    right = (logits > 0) == real
    whole, others = right.float().mean(), right[~mismatched].float().mean()
    assert whole != others, "there is something to see"
    # Between the two: what is said of the mismatched rows decides.
    module.gate.accuracy_limit = float(whole + others) / 2
    _, metrics, _ = recorded(joint_step, module, images, attributes)
    assert float(metrics["discriminator_accuracy"]) == pytest.approx(float(whole))
    assert float(metrics["mismatch_accuracy"]) == 0.75
    assert (module.gate.updates, module.gate.skipped) == ((1, 0) if whole < others else (0, 1))


def moved_apart(cls):
    """A method whose averaged weights are not the live ones, in evaluation."""
    module = make(cls, averaging_decay=0.9)
    for network in (module.autoencoder, module.averaged.module):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    # As it is initialised all images are grey; one batch's statistics bring them apart.
    module.averaged.module.train().generate(torch.randn(32, *module.latent_shape), attributes[torch.arange(32) % 12])
    return module.eval()


@pytest.mark.parametrize("cls", [*AUTOENCODERS, ConditionalGAN])
def test_the_averaged_weights_draw(cls):
    module = moved_apart(cls)
    averaged = module.averaged.module
    if cls is ConditionalGAN:
        mean = log_variance = torch.zeros(12, *module.latent_shape)
    else:
        mean, log_variance = averaged.prior_network(averaged.attention(attributes))
        assert not torch.allclose(mean, module.autoencoder.prior(module.autoencoder.attend(attributes))[0])
    for ours, theirs in zip(module.prior(attributes), (mean, log_variance), strict=True):
        assert torch.equal(ours, theirs)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    latent = mean + (log_variance / 2).exp() * noise
    drawn = module.sample(12, attributes=attributes, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, (averaged.generate(latent, attributes)[0] + 1) / 2)
    assert not torch.allclose(drawn, (module.autoencoder.generate(latent, attributes)[0] + 1) / 2, atol=1e-3)
    if cls is ACVAEGAN:
        assert torch.equal(module.attention(), averaged.attention.scores.softmax(0))
        assert not torch.equal(module.attention(), module.autoencoder.attention.scores.softmax(0))


@torch.no_grad()
def by_hand(module, network):
    """Loss, KL divergence and the mask's entropy of a network, decoded from the posterior's mean."""
    mask = network.attention.scores.softmax(0)
    steps = attributes[:, None] * mask
    mean, log_variance = network.posterior(network.encoder(images), steps)
    prior_mean, prior_log_variance = network.prior_network(steps)
    posterior, prior = Normal(mean, (log_variance / 2).exp()), Normal(prior_mean, (prior_log_variance / 2).exp())
    blocks = kl_divergence(posterior, prior).unflatten(1, (module.num_steps, -1)).sum((0, 2, 3, 4)) / len(images)
    entropy = -(mask * mask.log()).sum() / N
    balance = (mask.sum(1) - N / len(mask)).square().mean()
    loss = (network.generate(mean, attributes)[0] - images).square().mean() + 0.5 * entropy + 0.5 * balance
    return loss + (torch.tensor(module.kl_weights) * blocks).sum(), blocks.sum(), entropy


def test_validation_has_the_averaged_weights_the_learned_prior_and_the_averaged_mask():
    module = moved_apart(ACVAEGAN)
    module.hparams.entropy_weight = module.hparams.balance_weight = 0.5
    module.kl_weights = (0.3, *(0.2,) * 7)
    logged = {}
    module.log_dict = lambda values, **_: logged.update(values)
    module.validation_step({"images": (images + 1) / 2, "attributes": attributes}, 0)
    expected, live = by_hand(module, module.averaged.module), by_hand(module, module.autoencoder)
    for name, value, other in zip(("loss", "kl", "attention_entropy"), expected, live, strict=True):
        assert float(logged[f"val/{name}"]) == pytest.approx(float(value), rel=1e-4), name
        assert float(other) != pytest.approx(float(value), rel=1e-3), name


def test_gradients_of_lstms_are_limited_in_a_step_and_no_others():
    module = make(ACVAEGAN, adversarial_weight=1e6, kl_weights=[1e5] * 8)
    ours, _, _ = recorded(joint_step, module, images, attributes)
    theirs = slow(module, THIRDS)
    for part in RECURRENT:
        assert max(float(value.abs().max()) for name, value in theirs.items() if name.startswith(part)) > 50, part
    for name, value in theirs.items():
        if name.startswith(RECURRENT):
            torch.testing.assert_close(ours[name], value.clamp(-5, 5), atol=1.0, rtol=0, msg=name)
        elif value.abs().max() > 50:
            assert float(ours[name].abs().max()) == pytest.approx(float(value.abs().max()), rel=0.05), name


def test_the_baselines_prior_hardly_looks_at_the_attributes_at_first():
    """As released."""
    weight = make(ConditionalVAEGAN).autoencoder.prior_network.hidden[0].weight.detach()
    assert 0 < float(weight.abs().max()) <= 1e-4


def wrapped(network):
    """Layers whose weights are divided by their largest singular value."""
    return {name: layer for name, layer in network.named_modules() if hasattr(layer, "parametrizations")}


def plain(network):
    """Convolutions and linear layers whose weights are not."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return {name for name, layer in network.named_modules() if isinstance(layer, kinds)} - {*wrapped(network)}


@pytest.mark.parametrize("cls", [ACVAEGAN, ConditionalVAEGAN, ConditionalGAN])
def test_spectral_normalisation_is_of_every_layer_that_judges(cls):
    judge = make(cls, spectral=True).discriminator
    assert plain(judge) == {"batch_discrimination.kernels"}
    for _ in range(30):
        judge(images, attributes)
    for name, layer in wrapped(judge).items():
        largest = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
        assert largest == pytest.approx(1, abs=0.1), name
    assert not wrapped(make(cls).discriminator)


def test_what_grows_is_normalised_as_what_is_built_that_large():
    grown, built = (make(ACVAEGAN, spectral=True, first_size=size) for size in (64, 128))
    grown.grow(128)
    judge = grown.discriminator
    assert plain(judge) == {"batch_discrimination.kernels"}
    assert {"trunk.0.colours.0", "trunk.0.old_colours.0", "trunk.0.blocks.0.0"} <= wrapped(judge).keys()
    weights = [
        layer.parametrizations.weight.original for layer in (judge.trunk[0].colours[0], judge.trunk[0].old_colours[0])
    ]
    assert torch.equal(*weights)
    assert weights[0] is not weights[1]
    judge(torch.rand(12, 3, 128, 128), attributes).sum().backward()
    grown.finish_growth()
    shapes = [{name: value.shape for name, value in module.state_dict().items()} for module in (grown, built)]
    assert shapes[0] == shapes[1]
