import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributions import Normal, kl_divergence

from lightning_zoo.checkpoints import load
from lightning_zoo.representation.frame_vae import FrameVAE

warnings.filterwarnings("ignore", ".*LeafSpec.*")


def images(count=3, channels=1):
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, channels, 210, 160), dtype=torch.uint8, generator=generator)


def model(**options):
    torch.manual_seed(0)
    return FrameVAE(feature_size=8, **options)


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**({"accelerator": "cpu", "max_epochs": 1} | quiet | options))


class Batches(L.LightningDataModule):
    def __init__(self, batches):
        super().__init__()
        self.batches = [{"frames": frames} for frames in batches]

    def _loader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    train_dataloader = val_dataloader = _loader


def written_out(vae, frames, noise=None):
    """The released loss, image by image, with a second pass through the convolutions for the variance."""
    errors, divergences = [], []
    for index, frame in enumerate(frames):
        x = frame[None].double() / 255
        mean = vae.encoder(x)
        last = x
        for layer in vae.encoder.layers.values():
            last = torch.relu(layer(last))
        log_variance = vae.log_variance(last.flatten(1))
        latent = mean if noise is None else mean + noise[index : index + 1] * (0.5 * log_variance).exp()
        errors.append(((vae.decoder(latent) - x) ** 2).sum())
        divergences.append(kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum())
    return torch.stack(errors), torch.stack(divergences)


@pytest.mark.parametrize("channels", [1, 3])
def test_loss_equals_the_released_one_image_by_image(channels):
    vae = model(input_channels=channels, beta=0.7).double().eval()
    frames = images(channels=channels).double() / 255
    errors, divergences = written_out(vae, images(channels=channels))
    terms = vae.loss(frames)
    torch.testing.assert_close(terms["reconstruction"].double(), errors.mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["kl"].double(), divergences.mean(), rtol=1e-9, atol=0)
    torch.testing.assert_close(terms["loss"].double(), (errors + 0.7 * divergences).mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("reduction", "scale"), [("sum", 3), ("mean", 1)])
def test_step_has_the_gradient_of_the_sum_or_the_mean(reduction, scale):
    class Gradients(L.Callback):
        def on_after_backward(self, trainer, module):
            self.found = {name: p.grad.clone() for name, p in module.named_parameters()}

    vae, gradients = model(reduction=reduction), Gradients()
    reference = model()
    reference.load_state_dict(vae.state_dict())
    trainer(callbacks=[gradients]).fit(vae, Batches([images()]))
    reference.train()
    seed = (reference.noise_seed + 1_000_003) % 2**63
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    errors, divergences = written_out(reference.double(), images(), noise.double())
    (scale * (errors + divergences).mean()).backward()
    for name, parameter in reference.named_parameters():
        expected = parameter.grad.float()
        torch.testing.assert_close(gradients.found[name], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_convolutions_run_once():
    vae = model()
    calls = []
    vae.encoder.layers["conv1"].register_forward_hook(lambda *_: calls.append(1))
    vae.loss(images())
    assert len(calls) == 1


def test_clips_count_as_images():
    vae = model().eval()
    frames = images(4)
    torch.testing.assert_close(vae.loss(frames.unflatten(0, (2, 2)))["loss"], vae.loss(frames)["loss"])


def test_the_latent_is_drawn_in_training_alone():
    vae = model()
    latent = torch.zeros(1000, 8)
    noise = vae._noise(latent, 0)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    frames = images(1)
    vae.train()
    drawn = vae.loss(frames)["reconstruction"]
    vae.eval()
    assert torch.equal(vae.loss(frames)["reconstruction"], vae.loss(frames)["reconstruction"])
    assert not torch.equal(drawn, vae.loss(frames)["reconstruction"])


class Noises(FrameVAE):
    """Keeps what it drew."""

    def __init__(self):
        super().__init__(feature_size=8)
        self.drawn = []

    def _noise(self, latent, draw):
        self.drawn.append(super()._noise(latent, draw))
        return self.drawn[-1]


def fit_noises(**options):
    torch.manual_seed(0)
    vae, resume_from = Noises(), options.pop("ckpt_path", None)
    run = trainer(max_epochs=2, limit_val_batches=0, **options)
    run.fit(vae, Batches([images(1)] * 4), ckpt_path=resume_from, weights_only=True)
    return vae.drawn


def test_every_batch_has_its_own_noise_also_where_gradients_are_accumulated():
    drawn = fit_noises(accumulate_grad_batches=2)
    assert len(drawn) == 8
    assert len({tuple(noise.flatten().tolist()) for noise in drawn}) == 8


def test_a_run_resumed_within_an_epoch_draws_what_it_would_have_drawn(tmp_path):
    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            if (trainer.current_epoch, index) == (1, 1):
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole = fit_noises(callbacks=[Save()])
    rest = fit_noises(ckpt_path=tmp_path / "half.ckpt")
    assert len(rest) == 2
    torch.testing.assert_close(torch.stack(rest), torch.stack(whole[-2:]), rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_two_processes_have_the_gradient_of_one(tmp_path, reduction):
    class Save(L.Callback):
        def on_after_backward(self, trainer, module):
            torch.save({name: p.grad for name, p in module.named_parameters()}, tmp_path / "gradients.pt")

    class Compare(L.Callback):
        def on_after_backward(self, trainer, module):
            for name, expected in torch.load(tmp_path / "gradients.pt", weights_only=True).items():
                atol = 1e-4 * expected.abs().max().item()
                torch.testing.assert_close(module.get_parameter(name).grad, expected, rtol=1e-3, atol=atol)

    class Halves(Batches):
        def train_dataloader(self):
            half = self.batches[0]["frames"].chunk(2)[self.trainer.global_rank]
            return torch.utils.data.DataLoader([{"frames": half}], batch_size=None)

    trainer(callbacks=[Save()], limit_val_batches=0).fit(model(reduction=reduction), Batches([images(4)]))
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    options = {"strategy": strategy, "devices": 2, "use_distributed_sampler": False, "limit_val_batches": 0}
    trainer(callbacks=[Compare()], **options).fit(model(reduction=reduction), Halves([images(4)]))


def test_learns_and_loads_alone(tmp_path):
    vae = model(learning_rate=3e-3)
    frames = (torch.arange(160) // 8 * 12).to(torch.uint8).expand(2, 1, 210, 160)
    before = vae.eval().loss(frames)["loss"]
    run = trainer(max_epochs=1)
    run.fit(vae, Batches([frames] * 25))
    assert vae.eval().loss(frames)["loss"] < 0.5 * before
    run.save_checkpoint(tmp_path / "vae.ckpt")
    loaded = load(tmp_path / "vae.ckpt")
    assert torch.equal(loaded.encode(frames), vae.encode(frames))
    assert torch.equal(loaded.predict_step({"frames": frames}, 0)["features"], vae(frames))
    assert loaded.reconstruct(frames).shape == frames.shape
    assert {"val/loss", "val/reconstruction", "val/kl"} <= set(run.callback_metrics)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"beta .*-1"):
        FrameVAE(beta=-1)
    with pytest.raises(ValueError, match=r"reduction .*'none'"):
        FrameVAE(reduction="none")
    with pytest.raises(ValueError, match=r"input_channels 3"):
        model().encode(images(channels=3))
