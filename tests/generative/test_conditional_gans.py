"""The steps of methods conditioned on attributes against separate, straightforward backward passes; their options."""

import pytest
import torch
from gradient_recorder import assert_same_gradients, recorded
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from lightning_zoo import ACVAEGAN, ConditionalCRVAEGAN, ConditionalGAN, ConditionalVAEGAN
from lightning_zoo.generative.adversarial_steps import joint_step
from lightning_zoo.generative.crvae_gan import BLOCK_WEIGHTS, KL_WEIGHTS

N = 5
NAMES = tuple(f"attribute_{number}" for number in range(N))
SMALL = {"attribute_names": NAMES, "base_channels": 2, "latent_channels": 8, "dropout": 0.0, "accuracy_limit": 1.0}
RECURRENT = {"hidden_size": 6, "num_layers": 1}
LINEAR = (ConditionalVAEGAN, ConditionalGAN)
AUTOENCODERS = (ACVAEGAN, ConditionalCRVAEGAN, ConditionalVAEGAN)

images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
attributes = torch.randint(0, 2, (12, N), generator=torch.Generator().manual_seed(6)) * 2.0 - 1


def make(cls=ACVAEGAN, **changes):
    torch.manual_seed(0)
    return cls(**(SMALL | ({} if cls in LINEAR else RECURRENT) | changes)).train()


class Step:
    """One slow step: every loss by a forward pass of its own, every gradient added where thesis and code want it."""

    def __init__(self, module):
        torch.manual_seed(1)
        self.module = module
        self.names = {parameter: name for name, parameter in module.named_parameters()}
        self.gradients = {}

    def add(self, loss, parameters, weight=1.0):
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                name = self.names[parameter]
                self.gradients[name] = self.gradients.get(name, 0) + weight * gradient

    def steps(self):
        attention = self.module.autoencoder.attention
        if isinstance(self.module, ACVAEGAN):
            mask = torch.exp(attention.scores) / torch.exp(attention.scores).sum(0, keepdim=True)
            return attributes[:, None] * mask, mask
        return attributes[:, None].repeat(1, self.module.num_steps, 1), None

    def autoencoding(self):
        """The two generated batches, and the gradients of the lower bound and the attention's regularisers."""
        module, network = self.module, self.module.autoencoder
        steps, mask = self.steps()
        mean, log_variance = network.posterior(network.encoder(images), steps)
        latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        prior_mean, prior_log_variance = network.prior_network(steps)
        scale = torch.exp(prior_log_variance / 2)
        drawn = prior_mean + scale * torch.randn_like(prior_mean)
        if not module.hparams.adversarial_prior:
            drawn = drawn.detach()
        divergence = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(prior_mean, scale))
        channels = divergence.shape[1] // module.num_steps
        loss = (network.generate(latent, attributes)[0] - images).square().mean()
        for step, weight in enumerate(module.kl_weights):
            loss = loss + weight * divergence[:, step * channels : (step + 1) * channels].sum() / len(images)
        if mask is not None:
            entropy = -sum((mask[:, n] * mask[:, n].log()).sum() for n in range(N)) / N
            balance = sum((mask[t].sum() - N / len(mask)) ** 2 for t in range(len(mask))) / len(mask)
            loss = loss + module.hparams.entropy_weight * entropy + module.hparams.balance_weight * balance
        self.add(loss, list(network.parameters()))
        return [network.generate(each, attributes) for each in (latent, drawn)]

    def adversary(self, passes):
        """What the generator's side feels, and q_psi's own loss."""
        module = self.module
        judge, own = module.discriminator, list(module.autoencoder.parameters())
        for (image, u), weights in zip(passes, module.sample_weights, strict=True):
            logits = judge(image, attributes)
            self.add(-torch.log(torch.sigmoid(logits)).mean(), own, weights.adversarial)
            if module.recover is not None:
                recovered = module.recover(judge.join(judge.trunk(image), attributes))
                blocks = torch.tensor(weights.blocks).repeat_interleave(u.shape[1] // len(weights.blocks))
                loss = (blocks[:, None, None] * (recovered - u.detach()).square()).mean()
                self.add(loss, own, weights.mutual_information)
                trained = [*module.recover.parameters(), *judge.trunk.parameters(), *judge.join.parameters()]
                self.add(loss, trained)

    def judge(self, passes, pattern, *, opened=True, gated="discriminator"):
        """The discriminator's loss on rows that are real, mismatched (m), reconstructed (r) or sampled (s) in turn."""
        shift = int(torch.randint(1, len(images), ()))
        mixture, labels = [], []
        for index in range(len(images)):
            kind = pattern[index % len(pattern)]
            labels.append(float(kind == "x"))
            other = (index + shift) % len(images)
            chosen = {"x": images[index], "m": images[other]}
            chosen |= {"r": passes[0][0][index].detach(), "s": passes[-1][0][index].detach()}
            mixture.append(chosen[kind])
        discriminator = self.module.discriminator
        logits = discriminator(torch.stack(mixture), attributes)
        loss = F.binary_cross_entropy_with_logits(logits, torch.tensor(labels))
        parts = {"": list(discriminator.parameters())}
        if not opened:
            parts = {"": [*discriminator.trunk.parameters(), *discriminator.join.parameters()]}
        if opened or gated == "head":
            self.add(loss, parts[""])


def slow(module, pattern, **gate):
    step = Step(module)
    passes = step.autoencoding()
    step.adversary(passes)
    step.judge(passes, pattern, **gate)
    return step.gradients


THIRDS, QUARTERS = "xrmxsm", "xmsr"


@pytest.mark.parametrize("cls", AUTOENCODERS)
@pytest.mark.parametrize(("batch", "pattern"), [("thirds", THIRDS), ("quarters", QUARTERS)])
def test_a_step_has_the_gradients_of_separate_passes(cls, batch, pattern):
    changes = {"discriminator_batch": batch, "adversarial_weight": 0.3}
    if cls is not ConditionalVAEGAN:
        changes |= {"mutual_information_weight": 0.7}
    module = make(cls, **changes)
    ours, metrics, _ = recorded(joint_step, module, images, attributes)
    assert_same_gradients(ours, slow(module, pattern))
    assert set(ours) == {name for name, _ in module.named_parameters()}, "every parameter learns"
    assert all(torch.isfinite(value).all() for value in metrics.values())


@pytest.mark.parametrize("cls", [ACVAEGAN, ConditionalVAEGAN])
@pytest.mark.parametrize("gated", ["discriminator", "head"])
def test_a_closed_gate_holds_back_the_whole_loss_or_the_head_alone(cls, gated):
    module = make(cls, accuracy_limit=-1.0, gated=gated)
    ours, _, _ = recorded(joint_step, module, images, attributes)
    assert_same_gradients(ours, slow(module, THIRDS, opened=False, gated=gated))
    learned = {name.split(".")[1] for name in ours if name.startswith("discriminator.")}
    assert not learned & {"hidden", "output", "batch_discrimination"}
    # Without q_psi nothing but the adversarial loss trains the trunk.
    assert ("trunk" in learned) == (gated == "head" or module.recover is not None)


def test_samples_reach_the_prior_by_option():
    module = make(adversarial_prior=True, adversarial_weight=0.5)
    ours, _, _ = recorded(joint_step, module, images, attributes)
    assert_same_gradients(ours, slow(module, THIRDS))
    name = "autoencoder.prior_network.mean.weight"
    still = recorded(joint_step, make(adversarial_weight=0.5), images, attributes)[0]
    assert not torch.allclose(ours[name], still[name])


def test_options_of_the_attention():
    plain, free = make(), make(entropy_weight=0.0, balance_weight=0.0)
    name = "autoencoder.attention.scores"
    ours, theirs = (recorded(joint_step, module, images, attributes)[0] for module in (plain, free))
    assert_same_gradients(theirs, slow(free, THIRDS))
    assert not torch.allclose(ours[name], theirs[name])


@pytest.mark.parametrize(("batch", "pattern"), [("thirds", "xsm"), ("quarters", "xmxs")])
def test_a_gans_step_has_the_gradients_of_separate_passes(batch, pattern):
    module = make(ConditionalGAN, discriminator_batch=batch, channels_last=False)
    module.image_shape = (3, 64, 64)
    batch_of = {"images": ((images + 1) / 2), "attributes": attributes}

    def step(module, pictures, generator, judge):
        module.optimizers = lambda: (generator, judge)
        return module.take_step(batch_of)

    ours, _, _ = recorded(step, module, images)
    expected = Step(module)
    latent = torch.randn(len(images), *module.latent_shape)
    drawn = [module.autoencoder.generate(latent, attributes)]
    expected.module.recover = None
    logits = module.discriminator(drawn[0][0], attributes)
    expected.add(-torch.log(torch.sigmoid(logits)).mean(), list(module.autoencoder.parameters()))
    expected.judge(drawn, pattern)
    assert_same_gradients(ours, expected.gradients)


def test_mismatched_pairs_are_never_an_image_with_its_own_attributes():
    """The discriminator cannot win on pairs that are right: with two images each meets the other's attributes."""
    module = make(ConditionalVAEGAN)
    seen = []
    module.discriminator.joined, joined = lambda f, a: seen.append((f, a)) or joined(f, a), module.discriminator.joined
    marked = torch.stack([torch.full((3, 64, 64), value) for value in torch.linspace(-1, 1, 12)])
    for seed in range(5):
        torch.manual_seed(seed)
        joint_step(module, marked, *_silent(module), attributes=torch.linspace(-1, 1, 12)[:, None].repeat(1, N))
        features, given = seen[-1]
        expected = [module.discriminator.trunk(marked[row : row + 1])[0] for row in range(12)]
        for row in range(4, 8):
            image = min(range(12), key=lambda n: (expected[n] - features[row]).abs().sum())
            assert abs(float(torch.linspace(-1, 1, 12)[image]) - float(given[row, 0])) > 1e-3


def _silent(module):
    return [torch.optim.SGD([{**group, "lr": 0.0} for group in groups]) for groups in module.parameter_groups()]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_sizes_and_defaults():
    module = ACVAEGAN()
    encoder = (6 * 32 + 32 + 64) + sum(
        inputs * outputs * kernel**2 + outputs + 2 * outputs
        for inputs, outputs, kernel in (
            (32, 32, 5), (64, 64, 3), (128, 128, 3), (256, 256, 3), (256, 256, 3), (512, 256, 3)
        )
    )  # fmt: skip
    decoder = sum(
        inputs * outputs * kernel**2 + outputs + 2 * outputs
        for inputs, outputs, kernel in (
            (256, 256, 4), (256, 256, 3), (256, 128, 4), (128, 64, 4), (64, 64, 4), (64, 64, 3)
        )
    ) + (64 * 3 + 3)  # fmt: skip
    assert count(module.autoencoder.encoder) == encoder
    assert count(module.autoencoder.decoder) == decoder
    trunk = (3 * 32 + 32) + sum(
        i * o * k * k + o for i, o, k in ((32, 32, 5), (32, 64, 5), (64, 128, 5), (128, 256, 3))
    )
    head = (5120 * 512 + 512) + (512 * 500 + 500) + (612 + 1)
    assert count(module.discriminator) == trunk + head + (40 * 128 + 128)
    assert count(module.autoencoder.attention) == 8 * 40
    assert module.kl_weights == KL_WEIGHTS
    weights = module.sample_weights[0]
    assert (weights.adversarial, weights.mutual_information, weights.blocks) == (0.0025, 0.01, BLOCK_WEIGHTS)
    assert module.sample_weights[0] == module.sample_weights[1], "right for both kinds, unlike the earlier release"


def rates(module):
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = {}
    for configured in module.configure_optimizers():
        for group in configured["optimizer"].param_groups:
            found |= {names[parameter]: (group["lr"], group["betas"][0]) for parameter in group["params"]}
    return found


def test_released_learning_rates():
    found = rates(make(learning_rate=0.8, discriminator_beta1=0.5))
    assert set(found) == {name for name, _ in make().named_parameters()}
    assert found["autoencoder.encoder.layers.0.weight"] == (0.8, 0.9)
    assert found["autoencoder.attention.scores"] == (0.8, 0.9)
    for slow_one in (
        "prior_network.mean.weight",
        "posterior.recurrence.output.weight",
        "projection.recurrence.lstm.bias_hh_l0",
    ):
        assert found[f"autoencoder.{slow_one}"] == (pytest.approx(0.1), 0.9)
    for name, rate in found.items():
        if not name.startswith("autoencoder."):
            assert rate == (0.4, 0.5), name


def test_the_lstms_may_have_a_rate_of_their_own():
    found = rates(make(learning_rate=0.8, recurrent_learning_rate=0.3))
    assert found["autoencoder.projection.recurrence.lstm.bias_hh_l0"] == (0.3, 0.9)
    assert found["autoencoder.prior_network.mean.weight"] == (0.3, 0.9)
    assert found["autoencoder.encoder.layers.0.weight"] == (0.8, 0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recurrent_learning_rate": 0.0}, "recurrent_learning_rate must be positive or null, got 0.0"),
        ({"attribute_names": []}, "attribute_names is empty"),
        ({"attribute_names": ["Male", "Male"]}, "attribute_names has 'Male' more than once"),
        ({"first_size": 96}, "first_size must be 64, or doublings"),
        ({"num_steps": 3}, "num_steps=3"),
        ({"discriminator_batch": "fifths"}, "discriminator_batch must be 'thirds' or 'quarters', got 'fifths'"),
        ({"gated": "trunk"}, "gated must be 'discriminator' or 'head', got 'trunk'"),
        ({"entropy_weight": -1.0}, "entropy_weight must not be negative"),
        ({"balance_weight": -1.0}, "balance_weight must not be negative"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
