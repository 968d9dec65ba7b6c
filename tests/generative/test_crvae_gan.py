"""The steps of VAE-GAN and crVAE-GAN against separate, straightforward backward passes, gate, average and options."""

import math

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from gradient_recorder import assert_same_gradients, recorded
from torch.nn import functional as F

from lightning_zoo import CRVAEGAN, VAEGAN
from lightning_zoo.callbacks.stop_on_non_finite import NonFiniteLossError, StopOnNonFinite
from lightning_zoo.generative.adversarial_steps import joint_step, released_step, take_step
from lightning_zoo.generative.crvae_gan import BLOCK_WEIGHTS, KL_WEIGHTS
from lightning_zoo.generative.discriminator_gate import DiscriminatorGate
from lightning_zoo.generative.rank_noise import seed_by_rank

SMALL = {"base_channels": 2, "latent_channels": 8, "dropout": 0.0}
RECURRENT = {"hidden_size": 6, "num_layers": 1}


def make(cls=CRVAEGAN, **changes):
    torch.manual_seed(0)
    module = cls(**(SMALL | (RECURRENT if cls is CRVAEGAN else {}) | changes)).train()
    assert module.gate.updates == 0
    return module


def slow_passes(module, images):
    network = module.autoencoder
    mean, log_variance = network.infer(images)
    latents = [mean + torch.exp(log_variance / 2) * torch.randn_like(mean), torch.randn_like(mean)]
    if not module.hparams.shared_statistics:
        return mean, log_variance, [network.generate(latent) for latent in latents]
    pictures, u = network.generate(torch.cat(latents))
    number = len(images)
    return mean, log_variance, [(pictures[:number], u[:number]), (pictures[number:], u[number:])]


def felt_by(module):
    """Names of the parts of the autoencoder that the adversarial loss reaches."""
    decoding = ("projection", "decoder")
    return (*decoding, "encoder", "posterior") if module.hparams.get("adversarial_encoder", True) else decoding


def slow(module, images, *, opened=True):
    """Every loss by a forward pass of its own; the gradients that thesis and released code describe."""
    torch.manual_seed(1)
    network, discriminator, recover = module.autoencoder, module.discriminator, module.recover
    names = {parameter: name for name, parameter in module.named_parameters()}
    gradients = {}

    def add(loss, parameters, weight=1.0):
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                gradients[names[parameter]] = gradients.get(names[parameter], 0) + weight * gradient

    mean, log_variance, passes = slow_passes(module, images)
    error = (passes[0][0] - images).square().sum() / images.numel()
    kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp())
    channels = kl.shape[1] // module.num_steps
    divergence = sum(
        weight * kl[:, step * channels : (step + 1) * channels].sum() / len(images)
        for step, weight in enumerate(module.kl_weights)
    )
    generator_parameters = list(network.parameters())
    add(error + divergence, generator_parameters)
    for (image, u), weights in zip(passes, module.sample_weights, strict=True):
        logits = discriminator(image)
        reached = [p for name, p in network.named_parameters() if name.startswith(felt_by(module))]
        add(-torch.log(torch.sigmoid(logits)).mean(), reached, weights.adversarial)
        if recover is not None:
            difference = (recover(discriminator.trunk(image)) - u.detach()).square()
            per_block = difference.unflatten(1, (len(weights.blocks), -1)).sum((0, 2, 3, 4))
            loss = sum(w * b for w, b in zip(weights.blocks, per_block, strict=True)) / difference.numel()
            add(loss, generator_parameters, weights.mutual_information)
            add(loss, [*recover.parameters(), *discriminator.trunk.parameters()])
    if opened:
        mixture, labels = images.clone(), torch.ones(len(images))
        for index in range(len(images)):
            if (index + 1) % 4 == 0:
                mixture[index], labels[index] = passes[0][0][index].detach(), 0
            elif (index + 2) % 4 == 0:
                mixture[index], labels[index] = passes[1][0][index].detach(), 0
        # The head sees real images first: the mean over the batch does not depend on the order.
        logits = discriminator(mixture)
        add(F.binary_cross_entropy_with_logits(logits, labels), list(discriminator.parameters()))
    return gradients


images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1


WEIGHTS = {"sample_weights": "thesis", "mutual_information_weight": 0.7, "adversarial_weight": 0.3}
KINDS = [(CRVAEGAN, {}), (CRVAEGAN, WEIGHTS), (CRVAEGAN, {"mutual_information_weight": None})]


@pytest.mark.parametrize(
    ("cls", "changes", "order"),
    [(*kind, order) for kind in KINDS for order in (joint_step, released_step)]
    + [(cls, {"shared_statistics": True}, joint_step) for cls in (VAEGAN, CRVAEGAN)]
    + [(VAEGAN, {}, joint_step), (VAEGAN, {"adversarial_encoder": True}, joint_step)],
)
@pytest.mark.parametrize("limit", [1.0, -1.0])
def test_both_orders_have_the_gradients_of_separate_passes(cls, changes, order, limit):
    module = make(cls, accuracy_limit=limit, **changes)
    ours, metrics, _ = recorded(order, module, images)
    assert_same_gradients(ours, slow(module, images, opened=limit > 0))
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert (module.gate.updates, module.gate.skipped) == ((1, 0) if limit > 0 else (0, 1))


def test_a_moving_u_feels_the_recovery():
    module = make(moves_transformed=True, sample_weights="thesis", mutual_information_weight=0.5)
    still = make(mutual_information_weight=0.5, sample_weights="thesis")
    ours, theirs = recorded(joint_step, module, images)[0], recorded(joint_step, still, images)[0]
    torch.manual_seed(1)
    network = module.autoencoder
    mean, log_variance = network.infer(images)
    latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    pulled = 0
    for z in (latent, torch.randn_like(mean)):
        image, u = network.generate(z)
        recovered = module.recover(module.discriminator.trunk(image)).detach()
        blocks = torch.tensor(BLOCK_WEIGHTS).repeat_interleave(u.shape[1] // 8)[:, None, None]
        pulled = pulled + 0.5 * (blocks * (recovered - u).square()).mean()
    name, parameter = "autoencoder.projection.recurrence.output.weight", network.projection.recurrence.output.weight
    extra = torch.autograd.grad(pulled, parameter)[0]
    torch.testing.assert_close(ours[name] - theirs[name], extra, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("cls", [VAEGAN, CRVAEGAN])
def test_r1_against_its_definition(cls):
    gamma = 3.0
    plain = recorded(joint_step, make(cls), images)[0]
    module = make(cls, gradient_penalty=gamma)
    ours = recorded(joint_step, module, images)[0]
    real = images[[0, 1, 4, 5]].clone().requires_grad_()
    slopes = torch.autograd.grad(module.discriminator(real).sum(), real, create_graph=True)[0]
    penalty = gamma / 2 * sum(slope.square().sum() for slope in slopes) / 4
    for name, parameter in module.discriminator.named_parameters():
        expected = torch.autograd.grad(penalty, parameter, retain_graph=True, allow_unused=True)[0]
        found = ours[f"discriminator.{name}"] - plain[f"discriminator.{name}"]
        expected = torch.zeros_like(found) if expected is None else expected
        scale = plain[f"discriminator.{name}"].abs().max()
        torch.testing.assert_close(found / scale, expected / scale, atol=1e-4, rtol=1e-3, msg=name)


def test_the_same_number_of_steps_whatever_the_gate_says():
    for limit in (1.0, -1.0):
        assert recorded(joint_step, make(accuracy_limit=limit), images)[2] == (1, 1)
        assert recorded(released_step, make(accuracy_limit=limit), images)[2] == (2, 3)


def test_gradients_of_lstms_are_clamped_and_no_others():
    lstm, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    lstm.grad, other.grad = torch.tensor([7.0, -0.5]), torch.tensor([-9.0, 8.0])
    take_step(torch.optim.SGD([lstm, other], lr=1.0), [lstm, other], [lstm])
    assert lstm.tolist() == [-5.0, 0.5]
    assert other.tolist() == [9.0, -8.0]
    assert lstm.grad is None


def learning_rates(module):
    names = {parameter: name for name, parameter in module.named_parameters()}
    rates = {}
    for configured in module.configure_optimizers():
        for group in configured["optimizer"].param_groups:
            rates |= {names[parameter]: group["lr"] for parameter in group["params"]}
    return rates


def test_released_learning_rates():
    rates = learning_rates(make(learning_rate=0.8))
    assert rates["autoencoder.encoder.layers.1.weight"] == 0.8
    assert rates["autoencoder.posterior.recurrence.lstm.weight_ih_l0"] == pytest.approx(0.1)
    assert rates["autoencoder.projection.recurrence.output.bias"] == pytest.approx(0.1)
    assert rates["discriminator.trunk.0.weight"] == 0.4
    assert rates["discriminator.output.weight"] == 0.8
    assert rates["recover.shift.value"] == 0.8
    baseline = learning_rates(make(VAEGAN, learning_rate=0.8))
    assert {rate for name, rate in baseline.items() if name.startswith("discriminator")} == {0.4}
    assert set(learning_rates(make())) == {name for name, _ in make().named_parameters()}


def test_published_defaults():
    module = CRVAEGAN(base_channels=1)
    assert module.kl_weights == KL_WEIGHTS == (3e-4,) * 3 + (2e-4,) * 5
    reconstructions, samples = module.sample_weights
    assert (reconstructions.adversarial, reconstructions.mutual_information) == (0.0125, 0.02)
    # The released code swaps the two for samples and weights no block of u there.
    assert (samples.adversarial, samples.mutual_information, set(samples.blocks)) == (0.02, 0.0125, {1.0})
    optimizer = module.configure_optimizers()[0]["optimizer"]
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.9, 0.999), 1e-8)


@pytest.mark.parametrize(("cls", "trunk"), [(CRVAEGAN, False), (VAEGAN, True)])
def test_which_parts_of_the_discriminator_warm_up(cls, trunk):
    judge = make(cls).configure_optimizers()[1]["optimizer"]
    assert [group["warms_up"] for group in judge.param_groups][:2] == [True, trunk]


def test_a_closed_gate_leaves_moments_alone():
    module = make(accuracy_limit=-1.0)
    generator, judge = (configured["optimizer"] for configured in module.configure_optimizers())
    before = {name: p.clone() for name, p in module.discriminator.named_parameters()}
    joint_step(module, images, generator, judge)
    assert all(p not in judge.state for p in module.discriminator.head_parameters())
    assert torch.equal(module.discriminator.output.weight, before["output.weight"])
    assert not torch.equal(module.discriminator.trunk[0].weight, before["trunk.0.weight"]), "it still serves q_psi"


def test_the_first_updates_are_small():
    gate = DiscriminatorGate()
    optimizer = torch.optim.SGD(
        [{"params": [torch.zeros(1)], "warms_up": True}, {"params": [torch.zeros(1)], "warms_up": False}], lr=1.0
    )
    seen = []
    for _ in range(35):
        with gate.update(optimizer, True):
            seen.append([group["lr"] for group in optimizer.param_groups])
    assert [rate for rate, _ in seen] == [1 / 50] * 10 + [1 / 5] * 20 + [1.0] * 5
    assert {rate for _, rate in seen} == {1.0}
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0]
    skipping = DiscriminatorGate()
    for _ in range(10):
        with skipping.update(optimizer, False):
            assert optimizer.param_groups[0]["lr"] == 1.0
    with skipping.update(optimizer, True):  # a batch without an update counts as released
        assert optimizer.param_groups[0]["lr"] == 1 / 5
    resumed = DiscriminatorGate()
    resumed.load_state_dict(gate.state_dict())
    assert resumed.updates == 35


def test_the_gate_closes_above_ninety_percent():
    gate = DiscriminatorGate(0.9)
    assert gate.opens(torch.tensor(0.9))
    assert not gate.opens(torch.tensor(0.91))


def _decide(rank, port, accuracies, decisions):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    decisions[rank] = DiscriminatorGate(0.9).opens(torch.tensor(accuracies[rank]))
    dist.destroy_process_group()


@pytest.mark.parametrize(("accuracies", "opened"), [((1.0, 0.7), True), ((1.0, 0.85), False)])
def test_processes_decide_together(accuracies, opened, free_port):
    decisions = mp.get_context("fork").Manager().dict()
    mp.start_processes(_decide, (free_port(), accuracies, decisions), nprocs=2, start_method="fork")
    assert dict(decisions) == {0: opened, 1: opened}


def _joint_gradients(rank, port, found):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found[rank] = {k: v.numpy() for k, v in recorded(joint_step, make(), images[4 * rank : 4 * rank + 4])[0].items()}
    dist.destroy_process_group()


def test_two_processes_have_the_mean_of_their_gradients(free_port):
    found = mp.get_context("fork").Manager().dict()
    mp.start_processes(_joint_gradients, (free_port(), found), nprocs=2, start_method="fork")
    halves = [recorded(joint_step, make(), part)[0] for part in images.split(4)]
    for name, gradient in found[0].items():
        expected = (halves[0][name] + halves[1][name]) / 2
        tolerance = 1e-4 * expected.abs().max().item() + 2e-6
        assert (torch.from_numpy(gradient) == torch.from_numpy(found[1][name])).all(), name
        torch.testing.assert_close(torch.from_numpy(gradient), expected, atol=tolerance, rtol=0, msg=name)


class OneBatch(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"images": torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)}


def fit(module, folder, **arguments):
    loader = torch.utils.data.DataLoader(OneBatch(), batch_size=4)
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer = L.Trainer(default_root_dir=folder, **(settings | quiet | arguments))
    trainer.fit(module, loader)
    return trainer


def test_the_average_is_exponential_and_makes_the_samples(tmp_path):
    decay = 0.8
    module = make(averaging_decay=decay)
    name = "decoder.layers.0.weight"
    seen = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(module.autoencoder.get_parameter(name).detach().clone())

    fit(module, tmp_path, callbacks=[Watch()])
    expected = seen[0]
    for weights in seen[1:]:
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(module.averaged.module.get_parameter(name), expected)
    latent = torch.randn(2, *module.latent_shape)
    module.eval()
    averaged = (module.averaged.module.generate(latent)[0] + 1) / 2
    torch.testing.assert_close(module.decode(latent), averaged)
    assert not torch.equal(averaged, (module.autoencoder.generate(latent)[0] + 1) / 2)


def test_learning_rates_are_halved_and_metrics_logged(tmp_path):
    module = make(halving_period_epochs=1, learning_rate=1e-3)
    trainer = fit(module, tmp_path)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    assert trainer.global_step == 2 * 2 * 3
    wanted = ("loss", "kl", "discriminator_accuracy", "discriminator_updates", "mutual_information_sample")
    assert {f"train/{name}" for name in wanted} <= set(trainer.callback_metrics)


@pytest.mark.parametrize("changes", [{"adversarial_loss": "hinge", "spectral": True}, {"step_order": "released"}])
def test_options_train_under_bf16(changes, tmp_path):
    module = make(**changes)
    trainer = fit(module, tmp_path, precision="bf16-mixed")
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_float16_is_refused(tmp_path):
    with pytest.raises(ValueError, match="16-mixed is not supported here; use bf16-mixed"):
        _with_precision("16-mixed")


def _with_precision(precision):
    module = make()
    module._trainer = type("Trainer", (), {"precision": precision, "global_rank": 0})()
    module.on_fit_start()


def test_processes_draw_different_noise():
    drawn = []
    for rank in (0, 1, 2):
        torch.manual_seed(7)
        seed_by_rank(type("Module", (), {"global_rank": rank})())
        drawn.append(torch.randn(3))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    torch.manual_seed(7)
    assert torch.equal(drawn[0], torch.randn(3))


def test_what_one_wants_from_the_trained_model():
    module = make().eval()
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    mean, log_variance = module.posterior(pictures)
    assert mean.shape == log_variance.shape == (3, 8, 4, 4) == (3, *module.latent_shape)
    assert torch.equal(module.encode(pictures), mean.flatten(1))
    torch.testing.assert_close(module(pictures.float() / 255), mean.flatten(1))
    for made in (module.reconstruct(pictures), module.sample(3)):
        assert made.shape == (3, 3, 64, 64)
        assert 0 <= made.min() <= made.max() <= 1
    draws = [module.sample(2, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)
    assert torch.equal(module.sample(1, truncation=0.0), module.decode(torch.zeros(1, *module.latent_shape)))
    assert module.realness(pictures).shape == (3,)
    latent = torch.randn(2, *module.latent_shape, requires_grad=True)
    assert torch.autograd.grad(module.decode(latent).sum(), latent)[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 4}, "kl_weights has 8 published values for num_steps=4"),
        ({"num_steps": 4, "kl_weights": [1.0] * 4}, "block_weights has 8 published values for num_steps=4"),
        ({"kl_weights": [1.0]}, "kl_weights has 1 given values for num_steps=8"),
        ({"adversarial_loss": "wgan"}, "adversarial_loss must be 'bce' or 'hinge', got 'wgan'"),
        ({"step_order": "any"}, "step_order must be 'joint' or 'released', got 'any'"),
        ({"sample_weights": "any"}, "sample_weights must be 'released' or 'thesis', got 'any'"),
        ({"gradient_penalty": -1.0}, "gradient_penalty must not be negative, got -1.0"),
        ({"halving_period_epochs": 0}, "halving_period_epochs must be at least 1, got 0"),
        ({"kl_weights": [-1.0] * 8}, "kl_weights must not be negative, got -1.0"),
        ({"averaging_decay": 1.0}, "averaging_decay must lie between 0 and 1 or be null, got 1.0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"step_order": "released", "gradient_penalty": 1.0}, "knows no gradient_penalty"),
        ({"step_order": "released", "shared_statistics": True}, "knows no shared_statistics"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_images_of_another_size_are_named():
    with pytest.raises(ValueError, match="images must be 3x64x64 .*got 1x28x28"):
        make().encode(torch.zeros(1, 1, 28, 28))


def test_weights_start_as_released():
    bounds = {  # 1 / sqrt(kernel area * output channels)
        "decoder.layers.0": 1 / math.sqrt(16 * 64),
        "posterior.mean": 1 / math.sqrt(9 * 64),
        "projection.convolution": 1 / math.sqrt(9 * 64),
    }
    network = CRVAEGAN(base_channels=8).autoencoder
    for name, bound in bounds.items():
        layer = network.get_submodule(name)
        assert 0.95 * bound < layer.weight.abs().max() <= bound, name
        assert not layer.bias.any(), name
    baseline = VAEGAN(base_channels=2, latent_channels=4).autoencoder
    assert not any(linear.bias.any() for linear in (baseline.posterior.mean, baseline.projection.linear))


def test_a_loss_that_is_no_number_is_seen_at_once(tmp_path):
    module = make()
    with torch.no_grad():
        module.recover.shift.value.fill_(float("nan"))  # no loss of the autoencoder depends on it
    with pytest.raises(
        NonFiniteLossError, match="Training loss is nan at step 2 of epoch 0; .* Lower the learning rate.$"
    ):
        fit(module, tmp_path, callbacks=[StopOnNonFinite()])


def test_processes_get_their_own_noise_when_training_starts():
    states = []
    for rank in (0, 1):
        torch.manual_seed(3)
        module = make()
        torch.manual_seed(3)
        module._trainer = type("Trainer", (), {"precision": "32-true", "global_rank": rank})()
        module.on_fit_start()
        states.append(torch.randn(2))
    assert not torch.equal(*states)
