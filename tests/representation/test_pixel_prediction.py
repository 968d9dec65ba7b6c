import warnings

import lightning as L
import pytest
import torch

from lightning_zoo.checkpoints import load
from lightning_zoo.representation.pixel_prediction import PixelPrediction

warnings.filterwarnings("ignore", ".*LeafSpec.*")


def clips(count=2, length=2, channels=1):
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, length, channels, 210, 160), dtype=torch.uint8, generator=generator)


def model(**options):
    torch.manual_seed(0)
    return PixelPrediction(feature_size=8, **options)


@pytest.mark.parametrize(("length", "channels"), [(2, 1), (3, 3)])
def test_loss_is_the_mean_squared_error_to_the_last_frame(length, channels):
    module = model(input_channels=channels)
    batch = clips(length=length, channels=channels)
    guess = module.decoder(module.transition(module.encoder(batch[:, 0].float() / 255)))
    expected = torch.stack(
        [(g - c[-1].float() / 255).square().mean() for g, c in zip(guess, batch, strict=True)]
    ).mean()
    torch.testing.assert_close(module.loss(batch), expected)
    ours = torch.autograd.grad(module.loss(batch), list(module.parameters()))
    theirs = torch.autograd.grad(expected, list(module.parameters()))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4 * two.abs().max().item())


def test_only_the_first_frame_is_looked_at():
    module = model()
    batch = clips()
    guess = module.predict_next(batch[:, 0])
    assert guess.shape == (2, 1, 210, 160)
    changed = batch.clone()
    changed[:, 1] = 0
    expected = guess.square().mean()
    torch.testing.assert_close(module.loss(changed), expected)


def test_learns_logs_and_loads_alone(tmp_path):
    module = model(learning_rate=3e-3)
    batch = (torch.arange(160) // 8 * 12).to(torch.uint8).expand(2, 2, 1, 210, 160)
    before = module.loss(batch)
    loader = torch.utils.data.DataLoader([{"frames": batch}] * 25, batch_size=None)
    run = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=5,
    )  # fmt: skip
    run.fit(module, loader, loader)
    assert module.loss(batch) < 0.5 * before
    assert run.callback_metrics["val/loss_of_no_change"] == 0
    assert run.callback_metrics["val/loss"].item() == pytest.approx(module.loss(batch).item(), rel=1e-4)
    assert "train/loss" in run.callback_metrics
    run.save_checkpoint(tmp_path / "pixel.ckpt")
    frames = batch[:, 0]
    assert torch.equal(
        load(tmp_path / "pixel.ckpt").predict_step({"frames": frames}, 0)["features"], module.encode(frames)
    )


def test_a_single_frame_has_nothing_to_predict():
    with pytest.raises(ValueError, match=r"1 frame .*--data\.clip_length"):
        model().loss(clips(length=1))
