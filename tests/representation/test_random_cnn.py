import warnings

import lightning as L
import pytest
import torch

from lightning_zoo.callbacks.best_checkpoint import LastCheckpoint
from lightning_zoo.checkpoints import load_encoder
from lightning_zoo.representation.random_cnn import RandomCNN

warnings.filterwarnings("ignore", ".*LeafSpec.*")


@pytest.mark.parametrize(("encoder", "channels"), [("nature", 1), ("impala", 3)])
def test_fit_writes_a_checkpoint_of_the_initial_weights(tmp_path, encoder, channels):
    torch.manual_seed(0)
    module = RandomCNN(encoder=encoder, input_channels=channels, feature_size=8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    frames = torch.randint(0, 256, (2, channels, 210, 160), dtype=torch.uint8)
    features = module.encode(frames)
    loader = torch.utils.data.DataLoader([{"frames": frames}] * 3, batch_size=None)
    run = L.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=1,
        logger=False,
        enable_progress_bar=False,
        callbacks=[LastCheckpoint()],
    )
    run.fit(module, loader, loader)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert run.callback_metrics["val/loss"] == 0
    assert run.callback_metrics["train/loss"] == 0
    (path,) = tmp_path.rglob("last.ckpt")
    loaded = load_encoder(path)
    assert torch.equal(loaded.encode(frames), features)
    assert torch.equal(loaded.predict_step({"frames": frames}, 0)["features"], features)
    assert features.shape == (2, 8)


def test_every_parameter_has_a_gradient_of_zero():
    class Gradients(L.Callback):
        def on_after_backward(self, trainer, module):
            self.found = [p.grad is not None and not p.grad.any() for p in module.parameters()]

    gradients = Gradients()
    loader = torch.utils.data.DataLoader([{"frames": torch.zeros(1, 1, 210, 160, dtype=torch.uint8)}], batch_size=None)
    run = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[gradients],
    )  # fmt: skip
    run.fit(RandomCNN(feature_size=2), loader)
    assert gradients.found
    assert all(gradients.found)


def test_seeds_give_different_encoders():
    frames = torch.randint(0, 256, (1, 1, 210, 160), dtype=torch.uint8)
    features = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        features.append(RandomCNN(feature_size=4).encode(frames))
    assert torch.equal(features[0], features[1])
    assert not torch.allclose(features[0], features[2])
