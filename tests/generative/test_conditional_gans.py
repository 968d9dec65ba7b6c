"""The steps of methods conditioned on attributes against separate, straightforward backward passes; their options."""

import pytest
import torch
from conditional_steps import AUTOENCODERS, QUARTERS, THIRDS, N, Step, attributes, images, make, slow
from gradient_recorder import assert_same_gradients, recorded

from lightning_zoo import ACVAEGAN, ConditionalGAN, ConditionalVAEGAN
from lightning_zoo.generative.adversarial_steps import joint_step
from lightning_zoo.generative.crvae_gan import BLOCK_WEIGHTS, KL_WEIGHTS

# What the published settings do not have; with a smaller penalty the slopes at first would vanish beside the loss.
OPTIONS = {"adversarial_loss": "hinge", "gradient_penalty": 70.0}


@pytest.mark.parametrize("cls", AUTOENCODERS)
@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        (THIRDS, {}),
        (QUARTERS, {"discriminator_batch": "quarters"}),
        (THIRDS, OPTIONS),
        (THIRDS, {"shared_statistics": True}),
    ],
)
def test_a_step_has_the_gradients_of_separate_passes(cls, pattern, options):
    changes = {"adversarial_weight": 0.3} | options
    if cls is not ConditionalVAEGAN:
        changes |= {"mutual_information_weight": 0.7}
    module = make(cls, **changes)
    ours, metrics, _ = recorded(joint_step, module, images, attributes)
    assert_same_gradients(ours, slow(module, pattern), rounding=1e-5 if "shared_statistics" in options else 2e-6)
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


@pytest.mark.parametrize(
    ("pattern", "options"), [("xsm", {}), ("xmxs", {"discriminator_batch": "quarters"}), ("xsm", OPTIONS)]
)
def test_a_gans_step_has_the_gradients_of_separate_passes(pattern, options):
    module = make(ConditionalGAN, channels_last=False, **options)
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
    expected.add(expected.deceive(logits), list(module.autoencoder.parameters()))
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
