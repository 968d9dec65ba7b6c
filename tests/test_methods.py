"""Every method of the package through one harness: fit, save, load, resume, predict, two processes.

The list is the package's own; what is trained is each method's packaged config, cut down to a few real frames.
"""

import json
import re
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy

import lightning_zoo
from lightning_zoo.checkpoints import load
from lightning_zoo.cli.find_config import CONFIGS
from lightning_zoo.cli.zoo import ZooCLI

NEEDS_SHORT_CLIPS = {"CPC": {"clip_length": 12}}
"""What a config asks of the data and a few hundred frames cannot give."""


SMALL_NETWORKS = {
    name: {"base_channels": 2, "latent_channels": 8, "num_draws": 4} for name in ("VAE", "CVAE", "CRVAE")
} | {
    "HierarchicalCRVAE": {"base_channels": 2, "latent_channels": 16, "num_draws": 4},
    "VAEGAN": {"base_channels": 2, "latent_channels": 8},
    "CRVAEGAN": {"base_channels": 2, "latent_channels": 8, "hidden_size": 8},
    "Classifier": {"base_channels": 2},
    "AttributeClassifier": {"base_channels": 2},
    "Stage2": {"base_channels": 2},
    "BlockSTN": {"channels": 4},
    "StaticsDynamics": {"channels": 8, "base_channels": 2, "hidden_size": 8, "transformer_epochs": 1},
    "VideoClassifier": {"base_channels": 2},
    "VideoAutoencoder": {"base_channels": 2},
}
"""Methods of images and clips whose published networks would take minutes here."""


def config_of(method):
    stem = lightning_zoo.METHODS[method].rpartition(".")[2]
    short = stem if stem == "vae_gan" else stem.removesuffix("_gan")
    names = (
        f"{stem}_pong",
        stem,
        f"{short}_atari",
        f"{short}_mnist",
        f"{stem}_celeba",
        f"{short}_celeba",
        f"{stem}_moving_mnist",
    )
    # The density model and the GAN of channel recurrency have the first word of their configs in common.
    names = ("crvae_mnist",) if method == "CRVAE" else names
    found = [CONFIGS / f"{name}.yaml" for name in names if (CONFIGS / f"{name}.yaml").is_file()]
    assert found, f"{method} has no packaged config named {' or '.join(names)}"
    return found[0]


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    random = np.random.default_rng(0)
    arrays = {}
    for split, number in (("train", 60), ("val", 20), ("test", 20)):
        arrays[f"{split}_features"] = random.normal(size=(number, 5)).astype(np.float32)
        arrays[f"{split}_labels"] = random.integers(0, 4, (number, 2))
        arrays[f"{split}_episodes"] = np.arange(number) // 10
    path = tmp_path_factory.mktemp("features") / "features.npz"
    categories = json.dumps({"ball_x": ["small_object_localization"], "score": ["score_clock_lives_display"]})
    np.savez(path, variables=np.array(["ball_x", "score"]), categories=np.array(categories), **arrays)
    return path


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    """The checkpoint of a small crVAE-GAN."""
    folder = tmp_path_factory.mktemp("stage1")
    unfitted = trainer(folder, max_epochs=1)
    unfitted.strategy.connect(lightning_zoo.CRVAEGAN(**SMALL_NETWORKS["CRVAEGAN"]))
    unfitted.save_checkpoint(folder / "stage1.ckpt")
    return folder / "stage1.ckpt"


@pytest.fixture
def build(recordings, features_file, mnist_files, faces_root, stage1, tmp_path):
    """A function from a method's name to its model and data, as its packaged config makes them, small."""

    def make(method, **data_changes):
        config = config_of(method)
        dataset = yaml.safe_load(config.read_text())["data"]["class_path"]
        small = {
            "AtariFrames": {
                "root": str(recordings),
                "num_frames": 400,
                "num_probe_frames": 800,
                "num_streams": 4,
                "batch_size": 4,
                "min_episode_frames": 2,
                "entropy_threshold": 0.3,
            }
            | NEEDS_SHORT_CLIPS.get(method, {}),
            "Features": {"path": str(features_file), "batch_size": 10},
            "CelebA": {
                "root": str(faces_root),
                "cache": str(tmp_path / "cache"),
                "batch_size": 4,
                "num_workers": 1,
            },
            "MNIST": {"root": str(mnist_files(tmp_path / "mnist")), "batch_size": 4, "num_val": 12},
            "MovingMNIST": {"digits": "digits8x8", "batch_size": 4, "num_train": 24, "num_val": 8, "num_test": 8},
        }[dataset]
        network = SMALL_NETWORKS.get(method, {}) | ({"stage1": str(stage1)} if method == "Stage2" else {})
        overlay = tmp_path / "small.yaml"
        changes = {"data": {"init_args": small | data_changes}, "model": {"init_args": network}}
        overlay.write_text(yaml.safe_dump(changes if network else {"data": changes["data"]}))
        cli = ZooCLI(["--config", str(config), "--config", str(overlay), "--trainer.logger", "false"], run=False)
        return cli.model, cli.datamodule

    return make


def trainer(folder, *, max_epochs, **arguments):
    settings = {
        "accelerator": "cpu",
        "max_epochs": max_epochs,
        "limit_train_batches": 2,
        "limit_val_batches": 2,
        "limit_test_batches": 2,
        "limit_predict_batches": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return L.Trainer(**(settings | arguments))


def predictions(model, data, folder):
    batch = trainer(folder, max_epochs=1).predict(model, datamodule=data, weights_only=True)[0]
    assert all(torch.isfinite(values.float()).all() for values in batch.values())
    return batch


def assert_equal_weights(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        torch.testing.assert_close(theirs[name], values, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


methods = pytest.mark.parametrize("method", lightning_zoo.METHODS)


@methods
def test_fit_save_load_predict(method, build, tmp_path):
    L.seed_everything(0, verbose=False)
    model, data = build(method)
    fitted = trainer(tmp_path, max_epochs=2)
    fitted.fit(model, datamodule=data)
    assert fitted.current_epoch == 2
    for name, value in fitted.callback_metrics.items():
        assert name.startswith(("train/", "val/")), name
        assert torch.isfinite(value), name
    checkpoint = tmp_path / "method.ckpt"
    fitted.save_checkpoint(checkpoint)

    loaded = load(checkpoint)
    assert type(loaded) is getattr(lightning_zoo, method)
    assert not loaded.training
    assert_equal_weights(model, loaded)
    expected = predictions(model, data, tmp_path)
    for name, values in predictions(loaded, data, tmp_path).items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=0)
    if method != "LinearProbe":  # a probe reads features, it makes none
        assert_encodes(loaded, data)


def assert_encodes(model, data):
    shape = data.image_shape if hasattr(data, "image_shape") else data.frame_shape
    clip = (model.num_frames,) if hasattr(model, "num_frames") else ()
    frames = torch.randint(0, 256, (3, *clip, *shape), dtype=torch.uint8)
    features = model.encode(frames)
    assert features.dim() == 2
    assert len(features) == 3
    assert features.dtype == torch.float32
    torch.testing.assert_close(model.encode(frames.float() / 255), features)


def test_the_readmes_lines_load_and_encode(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    lines = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load(" in block)
    monkeypatch.chdir(tmp_path)
    unfitted = trainer(tmp_path, max_epochs=1)
    unfitted.strategy.connect(lightning_zoo.STDIM())
    unfitted.save_checkpoint(re.search(r'load\("(.+?)"\)', lines)[1])
    names = {"frames": torch.zeros(2, 1, 210, 160, dtype=torch.uint8)}
    exec(lines, names)
    assert names["features"].shape == (2, 256)


@methods
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(method, build, tmp_path):
    from lightning_zoo.callbacks.exact_resume import ExactResume

    def fit(max_epochs, **arguments):
        L.seed_everything(0, verbose=False)
        model, data = build(method)
        made = trainer(tmp_path, max_epochs=max_epochs, callbacks=[ExactResume()])
        made.fit(model, datamodule=data, weights_only=True, **arguments)
        return made, model

    _, whole = fit(3)
    first, _ = fit(1)
    first.save_checkpoint(tmp_path / "half.ckpt")
    second, resumed = fit(3, ckpt_path=tmp_path / "half.ckpt")
    assert second.current_epoch == 3
    assert_equal_weights(whole, resumed)


@methods
def test_two_processes_learn_one_model_from_different_data(method, build, tmp_path):
    L.seed_everything(0, verbose=False)
    model, data = build(method)
    data.prepare_data()
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    # Two phases of an epoch each, after which nothing is as it was.
    epochs = 2 if method == "StaticsDynamics" else 1
    made = trainer(tmp_path, max_epochs=epochs, strategy=strategy, devices=2, callbacks=[TwoRanks()])
    made.fit(model, datamodule=data)


class TwoRanks(L.Callback):
    """Fails in a process that sees the other's batches, averages no gradients, or ends with other values than it.

    DDP alone keeps parameters equal, and overwrites buffers whenever it runs forward; what a step counts after that,
    the schedules, the validation metrics and which data a rank reads are a method's own business.
    """

    def on_fit_start(self, trainer, module):
        self.before = {name: values.detach().clone() for name, values in module.named_parameters()}
        self.batches = []

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        self.batches.append(torch.stack([values.double().mean() for values in batch.values()]))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        counted = {name: values for name, values in module.state_dict().items() if name not in self.before}
        self.compare(module, counted)

    def compare(self, module, state):
        for name, values in state.items():
            if values.numel():
                ours, theirs = module.all_gather(values if values.is_floating_point() else values.double())
                assert torch.equal(ours, theirs), f"{name} differs between the processes"

    def on_train_end(self, trainer, module):
        ours, theirs = module.all_gather(torch.stack(self.batches))
        assert not (ours == theirs).all(1).any(), "both processes saw the same batch"
        self.compare(module, module.state_dict())
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/"):
                ours, theirs = module.all_gather(value)
                assert torch.equal(ours, theirs), f"{name} is not that of both processes"
        if any(group["lr"] > 0 for group in trainer.optimizers[0].param_groups):
            trained = [(name, values) for name, values in module.named_parameters() if values.requires_grad]
            moved = [not torch.equal(self.before[name], values) for name, values in trained]
            assert all(moved), "a parameter got no gradient"
