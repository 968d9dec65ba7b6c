"""The two phases of StaticsDynamics in a run: who learns when and how fast, resumed, and what a run is refused for."""

import warnings

import lightning as L
import pytest
import torch
from video_toy import DECOMPOSITION, TRANSFORMER, MovingSquares, changed, copied, fitted, saved, shaken, trainer

from lightning_zoo.callbacks.best_checkpoint import LastCheckpoint
from lightning_zoo.callbacks.exact_resume import ExactResume
from lightning_zoo.video.block_stn import BlockSTN, pair_losses
from lightning_zoo.video.statics_dynamics import StaticsDynamics
from lightning_zoo.video.video_autoencoder import VideoAutoencoder

STEPS = 2
"""Of an epoch."""


def made(**options):
    torch.manual_seed(0)
    rates = {"transformer_learning_rate": 0.008, "learning_rate": 0.004, "halving_period_epochs": 2}
    return StaticsDynamics(**(DECOMPOSITION | rates | {"transformer_epochs": 3} | options))


def split(names):
    """Of the transformer, and of the networks."""
    return [{name for name in names if name.startswith(part)} for part in ("transformer.", "networks.")]


class Watch(L.Callback):
    """What changed within each epoch, the rates of both optimizers, the metrics."""

    def __init__(self):
        self.changes, self.rates, self.metrics, self.modes = [], [], [], []

    def on_train_epoch_start(self, trainer, module):
        self.before = copied(module)

    def on_train_batch_end(self, trainer, module, *_):
        self.modes.append((module.transformer.training, module.networks.training))

    def on_train_epoch_end(self, trainer, module):
        self.changes.append(changed(self.before, copied(module)))
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])
        self.metrics.append(set(trainer.callback_metrics))


@pytest.fixture(scope="module")
def watched():
    """A run of three epochs of the first phase and four of the second, with validation amid each and after it."""
    module, watch = made(warm_up_epochs=1, contrastive_weight=5.0), Watch()
    run = fitted(module, watch, max_epochs=7, val_check_interval=0.5)
    return module, watch, run


def test_each_phase_changes_its_own_part(watched):
    module, watch, _ = watched
    everything = split(copied(module))
    for epoch, names in enumerate(watch.changes):
        transformer, networks = split(names)
        if epoch < 3:
            assert (transformer, networks) == (everything[0], set()), epoch
        else:
            assert (transformer, networks) == (set(), everything[1]), epoch
    assert any("running_mean" in name for name in everything[0]), "statistics are among them"
    # The networks' mode matters to nobody in the first phase.
    assert watch.modes == [(True, True)] * 3 * STEPS + [(False, True)] * 4 * STEPS


def test_each_phase_has_its_rate_and_halves_it_anew(watched):
    _, watch, run = watched
    assert [rates[0] for rates in watch.rates[:3]] == pytest.approx([0.008, 0.008, 0.004])
    assert [rates[1] for rates in watch.rates[3:]] == pytest.approx([0.004, 0.004, 0.002, 0.002])
    assert run.global_step == 7 * STEPS


def test_each_phase_logs_its_own(watched):
    _, watch, _ = watched
    first = {f"{stage}/transformer_{name}" for stage in ("train", "val") for name in ("loss", "reconstruction")}
    second = {f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "statics", "frame", "contrastive")}
    for epoch, names in enumerate(watch.metrics):
        assert first <= names if epoch < 3 else second <= names, epoch
        assert not second & names if epoch < 3 else True, epoch
    assert ["train/warm_up" in names for names in watch.metrics[:4]] == [False] * 3 + [True]


@pytest.mark.parametrize(("epochs", "warm"), [(2, [True, True, False]), (0, [False, False, False])])
def test_warm_up_lasts_for_its_epochs(epochs, warm):
    module, found = made(transformer_epochs=1, warm_up_epochs=epochs), []
    losses = module.losses

    def watched(clips):
        loss, terms = losses(clips)
        found.append("warm_up" in terms)
        return loss, terms

    module.losses = watched
    fitted(module, max_epochs=4, limit_val_batches=0)
    assert found[::STEPS] == found[1::STEPS] == warm


def test_the_first_step_of_each_phase_is_adam_on_its_loss():
    data = MovingSquares(rows=4)
    rows = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    for first in (True, False):
        module, wanted = (shaken(made(transformer_epochs=1)) for _ in range(2))
        batch = data.batch("train", rows)
        if first:
            loss, _ = pair_losses(wanted.transformer, batch["pairs"] / 255, wanted.hparams)
            part = wanted.transformer
            fitted(module, data=data, limit_val_batches=0)
        else:
            wanted.hparams["transformer_epochs"] = module.hparams["transformer_epochs"] = 0
            module.hparams["transformer_path"] = "unread"
            module.take_transformer = lambda path: None
            loss, _ = wanted.train().losses(batch["clips"] / 255)
            part = wanted.networks
            fitted(module, data=data, limit_val_batches=0)
        optimizer = torch.optim.Adam(part.parameters(), 0.008 if first else 0.004)
        loss.backward()
        optimizer.step()
        for name, value in wanted.named_parameters():
            torch.testing.assert_close(module.get_parameter(name), value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("epochs", [0, 1])
def test_gradients_are_cut(epochs):
    norms = []
    watch = L.Callback()
    watch.on_before_optimizer_step = lambda run, module, optimizer: norms.append(
        torch.stack([p.grad.norm() for group in optimizer.param_groups for p in group["params"]]).norm().item()
    )
    for limit in (None, 0.01):
        module = made(transformer_epochs=epochs, transformer_path=None if epochs else "unread", gradient_norm=limit)
        module.take_transformer = lambda path: None
        fitted(module, watch, limit_val_batches=0)
    assert min(norms[:STEPS]) > 0.1
    assert norms[STEPS:] == pytest.approx([0.01] * STEPS, rel=1e-3)


class StopAfter(L.Callback):
    """An interruption."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.steps:
            raise RuntimeError("killed")


def run_in(folder, *more, epochs=4, ckpt_path=None, **every):
    """Two epochs of each phase, both halved after the first."""
    module = made(transformer_epochs=2, halving_period_epochs=1, warm_up_epochs=1)
    callbacks = [LastCheckpoint(**every), ExactResume(), *more]
    options = {"default_root_dir": folder, "enable_checkpointing": True, "max_epochs": epochs, "limit_val_batches": 1}
    return module, fitted(module, *callbacks, ckpt_path=ckpt_path, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("whole"), every_n_epochs=1)


def assert_same_end(found, expected):
    module, run = found
    assert changed(copied(expected[0]), copied(module)) == set()
    for ours, theirs in zip(run.optimizers, expected[1].optimizers, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours["state"].keys() == theirs["state"].keys()
        for index, state in theirs["state"].items():
            assert all(torch.equal(ours["state"][index][name], value) for name, value in state.items())
    rates = [[optimizer.param_groups[0]["lr"] for optimizer in each.optimizers] for each in (run, expected[1])]
    assert rates[0] == rates[1] == pytest.approx([0.004, 0.002])


@pytest.mark.parametrize("steps", [1, 4, 5, 6])
def test_a_resumed_run_ends_in_the_same_weights(whole, tmp_path, steps):
    """Saved within the first phase, with its last step, within the second, and where that halves its rate."""
    with pytest.raises(RuntimeError, match="killed"):
        run_in(tmp_path, StopAfter(steps + 1), every_n_train_steps=steps)
    last = tmp_path / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == steps
    assert_same_end(run_in(tmp_path, ckpt_path=last, every_n_train_steps=100), whole)


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_run_goes_on_where_another_ended(whole, tmp_path, epochs):
    run_in(tmp_path, every_n_epochs=1, epochs=epochs)
    assert_same_end(run_in(tmp_path, ckpt_path=tmp_path / "checkpoints/last.ckpt", every_n_epochs=1), whole)


@pytest.fixture(scope="module")
def block_stn(tmp_path_factory):
    """A BlockSTN and its checkpoint."""
    torch.manual_seed(5)
    module = shaken(BlockSTN(**TRANSFORMER), seed=5)
    return module, saved(module, tmp_path_factory.mktemp("block") / "block.ckpt")


def test_the_second_phase_alone_begins_with_a_transformer(block_stn, tmp_path):
    taken, path = block_stn
    module = made(transformer_epochs=0, transformer_path=str(path))
    before, watch = copied(module), Watch()
    run = fitted(module, watch, max_epochs=2, limit_val_batches=0)
    assert changed(copied(taken.transformer), copied(module.transformer)) == set()
    assert split(changed(before, copied(module)))[0], "it had other weights"
    assert watch.modes == [(False, True)] * 2 * STEPS
    run.save_checkpoint(tmp_path / "both.ckpt")
    other = made(transformer_epochs=0, transformer_path=str(tmp_path / "both.ckpt"))
    fitted(other, max_epochs=1, limit_val_batches=0)
    assert changed(copied(taken.transformer), copied(other.transformer)) == set(), "of a StaticsDynamics"


def test_the_first_phase_may_begin_with_a_transformer(block_stn):
    taken, path = block_stn
    module = made(transformer_epochs=1, transformer_path=str(path), transformer_learning_rate=1e-9)
    fitted(module, limit_val_batches=0)
    for name, values in taken.transformer.named_parameters():
        torch.testing.assert_close(module.transformer.get_parameter(name), values, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_does_not_read_the_transformer_again(block_stn, tmp_path):
    path = tmp_path / "block.ckpt"
    path.write_bytes(block_stn[1].read_bytes())
    begun = made(transformer_epochs=1, transformer_path=str(path))
    fitted(begun, limit_val_batches=0).save_checkpoint(tmp_path / "half.ckpt")
    path.unlink()
    resumed = made(transformer_epochs=1, transformer_path=str(path))
    fitted(resumed, max_epochs=2, limit_val_batches=0, ckpt_path=tmp_path / "half.ckpt")
    assert changed(copied(begun.transformer), copied(resumed.transformer)) == set()
    trainer().validate(made(transformer_path=str(path)), MovingSquares(), verbose=False)
    with pytest.raises(ValueError, match=r"^transformer_path: No checkpoint .*block\.ckpt"):
        fitted(made(transformer_path=str(path)))


def test_checkpoints_without_a_fitting_transformer_are_refused(tmp_path):
    other = saved(VideoAutoencoder(frame_size=16, base_channels=2), tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"^transformer_path: .*other\.ckpt holds no BlockSTN$"):
        fitted(made(transformer_path=str(other)))
    other = {"frame_channels": 3, "channels": 8, "num_blocks": 1, "frame_size": 32, "pixels": "signed"}
    for name, value in (other | {"sees_all_channels": True, "bounded": True, "padding": "border"}).items():
        path, module = (
            saved(BlockSTN(**(TRANSFORMER | {name: value})), tmp_path / "block.ckpt"),
            made(transformer_path=""),
        )
        module.hparams["transformer_path"] = str(path)
        message = f"has {name}={value!r}, this run {module.hparams[name]!r}: set --model.{name}$"
        with pytest.raises(ValueError, match=rf"^transformer_path: .*block\.ckpt {message}"):
            fitted(module)


@pytest.mark.parametrize(("epochs", "warned"), [(2, True), (3, False)])
def test_a_run_without_a_second_phase_is_warned_of(epochs, warned):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fitted(made(transformer_epochs=2), max_epochs=epochs, limit_train_batches=1, limit_val_batches=0)
    assert any("max_epochs=2 ends within the first phase" in str(one.message) for one in found) == warned


def test_an_untrained_transformer_is_refused():
    with pytest.raises(ValueError, match=r"^transformer_epochs=0 leaves the transformer untrained: give --model\.t"):
        fitted(made(transformer_epochs=0))


def test_validation_outside_of_a_run_is_of_the_second_phase(tmp_path):
    module = shaken(made())
    path, data = saved(module, tmp_path / "both.ckpt"), MovingSquares(rows=4)
    run = trainer()
    run.validate(made(), data, ckpt_path=path, weights_only=True, verbose=False)
    _, terms = module.eval().losses(data.clips["val"] / 255)
    assert run.callback_metrics["val/frame"].item() == pytest.approx(terms["frame"].item(), rel=1e-4)
    assert "val/transformer_loss" not in run.callback_metrics


def test_half_precision_is_bfloat16():
    run = trainer()
    run.strategy.precision_plugin.precision = "16-mixed"  # a CPU has none
    with pytest.raises(ValueError, match=r"^--trainer\.precision 16-mixed is not supported here; use bf16-mixed$"):
        run.fit(made(), MovingSquares())
    module = made(transformer_epochs=1)
    run = fitted(module, precision="bf16-mixed", max_epochs=2)
    assert all(value.isfinite() for value in run.callback_metrics.values())
    assert {values.dtype for values in module.parameters()} == {torch.float32}
