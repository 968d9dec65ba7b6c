"""Growth while training: on schedule, exact across a resume, alike in all processes, refused before the first step."""

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from lightning_zoo.callbacks import progressive_growth
from lightning_zoo.callbacks.best_checkpoint import LastCheckpoint
from lightning_zoo.callbacks.exact_resume import ExactResume
from lightning_zoo.callbacks.progressive_growth import ProgressiveGrowth

warnings.filterwarnings("ignore", ".*LeafSpec.*")

BATCHES = 3
"""Of an epoch; two optimizer steps each."""


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "toys")
    import growing_toy

    return growing_toy


class Watch(L.Callback):
    """Remembers what trained in each batch."""

    def __init__(self):
        self.states, self.logged, self.rates = [], [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.states.append((module.image_shape[-1], round(module.fade, 4), module.fading))
        self.rates.append(module.optimizers()[1].param_groups[0]["lr"])
        metrics = trainer.callback_metrics
        self.logged.append((int(metrics["train/image_size"]), round(float(metrics["train/fade"]), 4)))


def trainer(*callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    usual = {"enable_checkpointing": False, "max_epochs": 4, "log_every_n_steps": 1}
    return L.Trainer(callbacks=list(callbacks), **(quiet | usual | options))


def fit(toy, *callbacks, model=None, data=None, ckpt_path=None, **options):
    L.seed_everything(0, verbose=False)
    module = toy.GrowingToy(**(model or {}))
    run = trainer(*callbacks, **options)
    run.fit(module, data or toy.Pictures(), ckpt_path=ckpt_path)
    return module, run


def test_per_epoch(toy):
    watch = Watch()
    module, run = fit(toy, ProgressiveGrowth((16,), 2, 2), watch, max_epochs=6)
    expected = [(8, 1.0, False)] * 2 + [(16, 0.0, True), (16, 0.5, True)] + [(16, 1.0, False)] * 2
    assert watch.states == [state for state in expected for _ in range(BATCHES)]
    assert watch.logged == [state[:2] for state in watch.states]
    in_optimizers = [p for optimizer in run.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in in_optimizers} == {id(p) for p in module.parameters()}
    steps = [
        {float(run.optimizers[0].state[p]["step"]) for p in part.parameters()}
        for part in (module.middle, module.encoder)
    ]
    assert steps == [{6 * BATCHES}, {4 * BATCHES}], "the middle stays all the time, the encoder's layers are new"


def test_per_step_and_by_default_over_half_a_stage(toy):
    watch = Watch()
    fit(toy, ProgressiveGrowth((16,), per="step"), watch, max_epochs=4)
    fades = [number / BATCHES for number in range(BATCHES)] + [1.0] * BATCHES
    assert [fade for _, fade, _ in watch.states] == [1.0] * 2 * BATCHES + [round(fade, 4) for fade in fades]


def test_several_doublings_in_turn(toy):
    watch = Watch()
    module, _ = fit(toy, ProgressiveGrowth((16, 32)), watch, data=toy.Pictures(32), max_epochs=6)
    assert [state[:2] for state in watch.states[::BATCHES]] == [(8, 1), (8, 1), (16, 0), (16, 1), (32, 0), (32, 1)]
    assert module.encoder.num_doublings == 2
    # The second growth comes while the first is still at 0: it is finished first.
    module, _ = fit(toy, ProgressiveGrowth((16, 32), 1, 1), data=toy.Pictures(32), max_epochs=4)
    assert (module.image_shape[-1], module.fading) == (32, False)


def test_no_random_number_of_the_run_is_used_up(toy):
    drawn = []

    class Draw(L.Callback):
        def on_train_batch_start(self, *_):
            drawn[-1].append(torch.get_rng_state())

    for callbacks in ([ProgressiveGrowth((16,), 1, 0)], []):
        drawn.append([])
        fit(toy, *callbacks, Draw(), max_epochs=2, limit_train_batches=1)
    # The toy's noise has the first resolution's size whatever it has grown to.
    assert all(torch.equal(*states) for states in zip(*drawn, strict=True))


def growing_weights(toy, seed):
    L.seed_everything(seed, verbose=False)
    module = toy.GrowingToy(learning_rate=1e-6)
    trainer(ProgressiveGrowth((16,), 1, 0), max_epochs=2, limit_train_batches=1).fit(module, toy.Pictures())
    return module.encoder.blocks[0][0].weight


def test_other_seeds_have_other_new_weights(toy):
    first, again, other = (growing_weights(toy, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-2)


def test_rates_of_the_grown_stage(toy):
    """Halved every 2 epochs; from 0.003 again after each growth; the judge learns at half the rate."""
    growth = ProgressiveGrowth((16, 32), 3, 1, rate_factor=0.3)
    watch = Watch()
    model = {"halving_period_epochs": 2}
    fit(toy, growth, watch, model=model, data=toy.Pictures(32), max_epochs=10)
    expected = [0.005, 0.005, 0.0025, 0.0015, 0.0015, 0.00075, 0.0015, 0.0015, 0.00075, 0.00075]
    assert watch.rates[::BATCHES] == pytest.approx(expected)
    watch = Watch()
    _, run = fit(toy, ProgressiveGrowth((16,), 3, 1), watch, model=model, max_epochs=6)
    assert watch.rates[::BATCHES] == pytest.approx([0.005, 0.005, 0.0025, 0.0025, 0.00125, 0.00125])
    assert run.optimizers[1].param_groups[0]["warms_up"]


class StopAt(L.Callback):
    """An interruption."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, trainer, *_):
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise RuntimeError("killed")


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("saved", [2 * BATCHES, 2 * BATCHES + 1, 3 * BATCHES + 2, 4 * BATCHES + 1])
def test_a_resumed_run_ends_in_the_same_weights(toy, tmp_path, saved, per):
    """Saved at the last step before the growth, while it fades in, and after it."""

    def run(name, *more, **options):
        # Growth comes before the random states are put back: it must not depend on them.
        growth = ProgressiveGrowth((16,), 2, 2, per, rate_factor=0.5)
        callbacks = [growth, LastCheckpoint(every_n_train_steps=2 * saved), ExactResume()]
        folder = {"default_root_dir": tmp_path / name, "enable_checkpointing": True, "max_epochs": 6}
        return fit(toy, *callbacks, *more, model={"halving_period_epochs": 2}, **folder, **options)

    whole, whole_run = run("whole")
    with pytest.raises(RuntimeError, match="killed"):
        run("killed", StopAt(saved))
    last = tmp_path / "killed/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2 * saved
    ended, ended_run = run("killed", ckpt_path=last)
    assert ended_run.global_step == whole_run.global_step == 2 * 6 * BATCHES
    expected = whole.state_dict()
    assert ended.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ended.state_dict().items())
    for ours, theirs in zip(ended_run.optimizers, whole_run.optimizers, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for index, state in theirs["state"].items():
            assert all(torch.equal(ours["state"][index][name], value) for name, value in state.items())


@pytest.mark.parametrize(("fade", "epochs", "state"), [(0, 2, (16, 1.0, False)), (4, 3, (16, 0.25, True))])
def test_what_is_further_than_the_schedule_stays(toy, tmp_path, fade, epochs, state):
    growth, folder = ProgressiveGrowth((16,), 1, fade), {"default_root_dir": tmp_path, "enable_checkpointing": True}
    fit(toy, growth, LastCheckpoint(), max_epochs=epochs, **folder)
    watch = Watch()
    later = ProgressiveGrowth((16,), 5, 2)
    fit(toy, later, watch, max_epochs=6, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert watch.states[: (5 - epochs) * BATCHES] == [state] * (5 - epochs) * BATCHES
    assert watch.states[-1][0] == 16


def test_one_callback_serves_two_runs(toy):
    growth = ProgressiveGrowth((16,), 0, 0)
    assert [fit(toy, growth, max_epochs=1)[0].image_shape[-1] for _ in range(2)] == [16, 16]


class SameOnBoth(L.Callback):
    """All weights of the two processes are equal after every batch, and they have seen the whole growth."""

    def __init__(self):
        self.seen = []

    def on_fit_start(self, trainer, module):
        torch.manual_seed(trainer.global_rank)

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append((module.image_shape[-1], module.fade))
        for name, parameter in module.named_parameters():
            values = trainer.strategy.all_gather(parameter.detach().clone())
            assert torch.equal(values[0], values[1]), name

    def on_train_end(self, trainer, module):
        assert self.seen[::BATCHES] == [(8, 1.0), (16, 0.0), (16, 0.5), (16, 1.0)]


def fit_two_processes(toy):
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    fit(toy, ProgressiveGrowth((16,), 1, 2), SameOnBoth(), strategy=strategy, devices=2, max_epochs=4)


def test_two_processes_grow_alike(toy):
    fit_two_processes(toy)


def test_new_weights_are_those_of_the_first_process(toy, monkeypatch):
    """Also where the processes draw differently."""
    monkeypatch.setattr(progressive_growth, "_seeded_by_weights", lambda module: nullcontext())
    fit_two_processes(toy)


def test_two_processes_go_on_in_the_fade(toy, tmp_path):
    def run(name, **options):
        strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
        folder = {"default_root_dir": tmp_path / name, "enable_checkpointing": True, "max_epochs": 4}
        callbacks = [ProgressiveGrowth((16,), 1, 2), LastCheckpoint(every_n_train_steps=2), ExactResume()]
        fit(toy, *callbacks, strategy=strategy, devices=2, **folder, **options)
        return tmp_path / name / "checkpoints/last.ckpt"

    last = run("stopped", max_steps=2 * (2 * BATCHES + 1))
    fade = torch.load(last, weights_only=True)["state_dict"]["encoder.fade"]
    assert float(fade) == 0.5
    ended, whole = (torch.load(path, weights_only=True) for path in (run("stopped", ckpt_path=last), run("whole")))
    assert ended["global_step"] == whole["global_step"] == 2 * 4 * BATCHES
    assert ended["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in ended["state_dict"].items())


@pytest.mark.parametrize(
    ("growth", "options", "message"),
    [
        (((32,),), {}, r"sizes \[32\] must begin with 16, twice GrowingToy's first_size"),
        (((16, 32),), {}, "grows to 32, the data's images are 16 and must be 32 .*: give --data.image_size 32"),
        (((16,),), {"size": 24}, "the data's images are 24 and must be 16 or a whole number of times that: give"),
        (((16,),), {"max_epochs": 1}, "max_epochs=1 ends before the growth to 16"),
        (((16,), 4), {"max_epochs": 4}, "max_epochs=4 ends before the growth to 16 in epoch 4"),
        (((16,),), {"max_epochs": -1, "max_steps": 4}, "stage_epochs is needed where max_epochs is unlimited"),
    ],
)
def test_mistakes_end_the_run_before_its_first_step(toy, growth, options, message):
    watch, data = Watch(), toy.Pictures(options.pop("size", 16))
    with pytest.raises(ValueError, match=message):
        fit(toy, ProgressiveGrowth(*growth), watch, data=data, **options)
    assert not watch.states


def test_a_method_that_does_not_grow_is_named(generative_toy):
    with pytest.raises(ValueError, match="ProgressiveGrowth: LinearToy does not grow; leave the callback out"):
        trainer(ProgressiveGrowth()).fit(generative_toy.LinearToy(), generative_toy.ToyPictures())


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="rate_factor must be positive or null, got 0"):
        ProgressiveGrowth(rate_factor=0)
    with pytest.raises(ValueError, match=r"sizes must double from one to the next, got \[128, 192\]"):
        ProgressiveGrowth(sizes=[128, 192])


def test_a_fade_that_does_not_end_is_said(toy):
    with pytest.warns(UserWarning, match="The growth to 16 is still fading in when max_epochs=2 is over"):
        fit(toy, ProgressiveGrowth((16,), 1, 1), max_epochs=2)


def test_a_trial_run_never_grows(toy):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module, _ = fit(toy, ProgressiveGrowth((16,)), fast_dev_run=True)
    assert module.image_shape[-1] == 8
