import warnings

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional as F

from datamodules.features import Features
from lightning_zoo.checkpoints import load
from lightning_zoo.representation.linear_probe import LinearProbe

warnings.filterwarnings("ignore", ".*LeafSpec.*")

VARIABLES = ["easy", "noisy", "constant", "random"]
CATEGORIES = {"easy": ["position"], "noisy": ["position", "misc"], "constant": ["misc"]}
OPTIONS = {"learning_rate": 0.02, "plateau_patience": 1, "stop_patience": 3, "min_learning_rate": 1e-3}


def features(*, several=False, **options):
    """Four variables that are learned at different speeds, so that their probes stop at different epochs."""
    generator = np.random.default_rng(2)
    splits = {}
    for split, rows in (("train", 96), ("val", 40), ("test", 48)):
        x = generator.normal(size=(rows, 6))
        easy = 100 * (x[:, 0] > 0)
        noisy = 50 * (x[:, 1] + generator.normal(size=rows) > 0) + 1
        random = generator.integers(0, 4, rows)
        labels = np.stack([easy, noisy, np.full(rows, 255), random], 1).astype(np.int64)
        x = np.stack([x, -x[:, ::-1]], 1) if several else x
        splits[split] = {"features": x, "labels": labels, "episodes": np.arange(rows) // 7}
    return Features.from_arrays(splits, VARIABLES, CATEGORIES, batch_size=16, **options)


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**({"accelerator": "cpu", "precision": "64-true", "max_epochs": 30} | quiet | options))


class Recorder(L.Callback):
    def __init__(self):
        self.weights, self.stops = [], {}

    def on_train_batch_end(self, trainer, module, *_):
        self.weights.append((module.weight.detach().clone(), module.bias.detach().clone()))

    def on_train_epoch_end(self, trainer, module):
        for k in module.schedule.stopped.nonzero().flatten().tolist():
            self.stops.setdefault(k, trainer.current_epoch)


def separate_probes(data, probes, epochs, pick=lambda x, k: x):
    """The benchmark's way: each probe with its own Adam, scheduler and early stopping."""
    optimizers = [torch.optim.Adam(p.parameters(), lr=OPTIONS["learning_rate"], eps=1e-5) for p in probes]
    plateau = {"mode": "max", "factor": 0.2, "patience": OPTIONS["plateau_patience"], "min_lr": 1e-3}
    schedulers = [torch.optim.lr_scheduler.ReduceLROnPlateau(o, **plateau) for o in optimizers]
    best, count, stops, weights = [None] * len(probes), [0] * len(probes), {}, []
    train, val = data.train_dataloader(), data.val_dataloader()
    for epoch in range(epochs):
        train.sampler.set_epoch(epoch)
        val.sampler.set_epoch(epoch)
        for batch in train:
            for k, probe in enumerate(probes):
                if k not in stops:
                    optimizers[k].zero_grad()
                    F.cross_entropy(probe(pick(batch["features"].double(), k)), batch["labels"][:, k]).backward()
                    optimizers[k].step()
            weights.append([(p.weight.detach().clone(), p.bias.detach().clone()) for p in probes])
        held_out = list(val)
        for k, probe in enumerate(probes):
            if k in stops:
                continue
            hits = [(probe(pick(b["features"].double(), k)).argmax(1) == b["labels"][:, k]).double() for b in held_out]
            score = torch.cat(hits).mean().item()
            if best[k] is None or score > best[k]:
                best[k], count[k] = score, 0
            else:
                count[k] += 1
                if count[k] >= OPTIONS["stop_patience"]:
                    stops[k] = epoch
                    continue
            schedulers[k].step(score)
        if len(stops) == len(probes):
            break
    return weights, stops


@pytest.mark.parametrize("several", [False, True])
def test_equals_probes_trained_one_by_one_step_for_step(several):
    sources = [1, 0, 0, 1] if several else None
    data = features(several=several)
    torch.manual_seed(5)
    probes = [nn.Linear(6, 256) for _ in VARIABLES]
    torch.manual_seed(5)
    module = LinearProbe(variables=VARIABLES, num_features=6, feature_of_variable=sources, **OPTIONS)
    assert all(torch.equal(module.weight[k].T, probe.weight) for k, probe in enumerate(probes))
    recorder = Recorder()
    run = trainer(callbacks=[recorder])
    run.fit(module, data)
    pick = (lambda x, k: x[:, sources[k]]) if several else (lambda x, k: x)
    weights, stops = separate_probes(data, [p.double() for p in probes], 30, pick)
    assert recorder.stops == stops
    assert len(set(stops.values())) > 1, "the probes should stop at different epochs"
    assert len(recorder.weights) == len(weights)
    for (weight, bias), expected in zip(recorder.weights, weights, strict=True):
        for k in range(len(VARIABLES)):
            torch.testing.assert_close(weight[k].T, expected[k][0], rtol=0, atol=1e-9)
            torch.testing.assert_close(bias[k], expected[k][1], rtol=0, atol=1e-9)


def test_all_stopped_ends_the_run():
    run = trainer(max_epochs=200)
    module = LinearProbe(**OPTIONS)
    run.fit(module, features())
    assert module.schedule.stopped.all()
    assert run.current_epoch < 200
    assert run.callback_metrics["val/stopped"] == len(VARIABLES)


def test_a_finished_run_that_is_resumed_ends_at_once(tmp_path):
    first, module = trainer(max_epochs=200), LinearProbe(**OPTIONS)
    first.fit(module, features())
    first.save_checkpoint(tmp_path / "finished.ckpt")
    second, resumed = trainer(max_epochs=200), LinearProbe(**OPTIONS)
    second.fit(resumed, features(), ckpt_path=tmp_path / "finished.ckpt", weights_only=True)
    assert (second.global_step, second.current_epoch) == (first.global_step, first.current_epoch)
    assert torch.equal(resumed.weight, module.weight)


def test_scores_of_the_test_rows(tmp_path):
    data = features(test_sampling="once")
    run = trainer(max_epochs=4)
    module = LinearProbe(**OPTIONS)
    run.fit(module, data)
    logged = run.test(module, data, verbose=False)[0]
    with torch.no_grad():
        guess = module(data._splits["test"]["features"].double()).argmax(-1)
    truth = data._splits["test"]["labels"]
    f1 = [f1_score(truth[:, k], guess[:, k], average="weighted", zero_division=0) for k in range(4)]
    assert logged["test/variables/noisy/f1"] == pytest.approx(f1[1], abs=1e-6)
    assert logged["test/f1_position"] == pytest.approx((f1[0] + f1[1]) / 2, abs=1e-6)
    assert logged["test/f1"] == pytest.approx(((f1[0] + f1[1]) / 2 + (f1[1] + f1[2]) / 2) / 2, abs=1e-6)
    assert logged["test/f1_over_variables"] == pytest.approx(sum(f1) / 4, abs=1e-6)
    assert logged["test/accuracy"] > 0.5


def test_a_checkpoint_loads_alone_and_predicts(tmp_path):
    data = features()
    run = trainer(max_epochs=2, precision="32-true")
    module = LinearProbe(test_weights="best", **OPTIONS)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "probe.ckpt")
    loaded = load(tmp_path / "probe.ckpt")
    assert loaded.hparams["variables"] == VARIABLES
    assert loaded.hparams["categories"] == CATEGORIES
    batch = {"features": torch.randn(5, 6), "labels": torch.zeros(5, 4, dtype=torch.int64)}
    predictions = loaded.predict_step(batch, 0)["predictions"]
    assert predictions.shape == (5, 4)
    assert torch.equal(predictions, module.predict_step(batch, 0)["predictions"])


def test_best_weights_are_those_of_the_best_epoch():
    class Epochs(L.Callback):
        def __init__(self):
            self.weights, self.accuracy = [], []

        def on_validation_epoch_end(self, trainer, module):
            if not trainer.sanity_checking:
                self.weights.append(module.weight.detach().clone())
                self.accuracy.append(module.accuracy.compute().clone())

    epochs = Epochs()
    module = LinearProbe(test_weights="best", **OPTIONS)
    trainer(callbacks=[epochs], max_epochs=8).fit(module, features())
    accuracy = torch.stack(epochs.accuracy)
    for k in range(len(VARIABLES)):
        first_best = int((accuracy[:, k] == accuracy[:, k].max()).nonzero()[0])
        assert torch.equal(module.best_weight[k], epochs.weights[first_best][k])
    x = torch.randn(20, 6, dtype=torch.float64)
    module.best_bias[:, 7] += 1e6
    assert (module.predict(x) == 7).all()


@pytest.mark.parametrize("every", [{"every_n_train_steps": 8}, {"every_n_epochs": 1}])
def test_resume_ends_in_the_same_weights(tmp_path, every):
    def fresh():
        torch.manual_seed(0)
        return LinearProbe(**OPTIONS)

    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **every)
    whole = fresh()
    trainer(max_epochs=6, enable_checkpointing=True, callbacks=[saving]).fit(whole, features())
    steps = 8 if "every_n_train_steps" in every else 12
    second = fresh()
    trainer(max_epochs=6).fit(second, features(), ckpt_path=tmp_path / f"step={steps}.ckpt", weights_only=True)
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.schedule.rates(), whole.schedule.rates())
    assert whole.schedule.rates().min() < OPTIONS["learning_rate"]


def test_two_processes_end_where_one_does():
    torch.manual_seed(0)
    alone = LinearProbe(variables=VARIABLES, num_features=6, **OPTIONS)
    together = LinearProbe(variables=VARIABLES, num_features=6, **OPTIONS)
    together.load_state_dict(alone.state_dict())
    trainer(max_epochs=10).fit(alone, features())
    data = features()
    data.batch_size = 8
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    trainer(max_epochs=10, strategy=strategy, devices=2).fit(together, data)
    torch.testing.assert_close(together.weight.double(), alone.weight, rtol=0, atol=1e-6)
    assert torch.equal(together.schedule.stopped, alone.schedule.stopped)
    assert alone.schedule.stopped.any()


def test_validate_and_sanity_check_do_not_move_the_schedule():
    data = features()
    module = LinearProbe(**OPTIONS)
    run = trainer(max_epochs=1, num_sanity_val_steps=2)
    run.fit(module, data)
    best = module.schedule.best.clone()
    assert module.schedule.stop_epochs.max() == 0, "one epoch: the first score cannot be worse than an earlier one"
    run.validate(module, data, verbose=False)
    assert torch.equal(module.schedule.best, best)
    assert module.schedule.stop_epochs.max() == 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="test_weights .*'first'"):
        LinearProbe(test_weights="first")
    with pytest.raises(ValueError, match="got 1 for 2"):
        LinearProbe(variables=["a", "b"], num_features=3, feature_of_variable=[0])
    with pytest.raises(ValueError, match="no label that varies"):
        LinearProbe(variables=[], num_features=3)
    module = LinearProbe(variables=["a", "b"], num_features=3)
    with pytest.raises(ValueError, match="which of the 5 features"):
        module(torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match=r"variables is not set .*--model\.variables"):
        trainer(max_epochs=1).fit(LinearProbe(), torch.utils.data.DataLoader([0]), torch.utils.data.DataLoader([0]))
