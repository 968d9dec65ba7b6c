"""A new run that starts from the weights of a finished one: what is taken, when, and what is refused."""

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from lightning_zoo import ACVAEGAN, ConditionalCRVAEGAN, ConditionalGAN, ConditionalVAEGAN
from lightning_zoo.checkpoints import CheckpointError

NAMES = ("Bald", "Male", "Smiling")
SMALL = {"attribute_names": NAMES, "base_channels": 2, "latent_channels": 8}
RECURRENT = {"hidden_size": 4, "num_layers": 1}
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

rows = torch.arange(8)
ATTRIBUTES = ((rows[:, None] >> torch.arange(3) & 1) * 2 - 1).to(torch.int8)


class Data(L.LightningDataModule):
    """Two batches of noise, with every combination of attributes or with one alone."""

    attribute_names = list(NAMES)

    def __init__(self, size=64, attributes=ATTRIBUTES):
        super().__init__()
        self.size, self.attributes = size, attributes

    def attributes_of(self, split):
        return self.attributes

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(self.trainer.global_rank)
        images = torch.rand(8, 3, self.size, self.size, generator=generator)
        halves = [{"images": images[half], "attributes": self.attributes[half]} for half in (rows[:4], rows[4:])]
        return DataLoader(halves, batch_size=None)


class Start(L.Callback):
    """The weights that a run begins with."""

    def on_train_start(self, trainer, module):
        self.weights = {name: value.clone() for name, value in module.state_dict().items()}


def make(cls=ACVAEGAN, seed=0, **changes):
    torch.manual_seed(seed)
    return cls(**(SMALL | (RECURRENT if cls in (ACVAEGAN, ConditionalCRVAEGAN) else {}) | changes))


def trainer(*callbacks, **options):
    usual = {"enable_checkpointing": False, "max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    return L.Trainer(callbacks=list(callbacks), **(QUIET | usual | options))


def trained(path, module, data=None):
    run = trainer()
    run.fit(module, data or Data())
    run.save_checkpoint(path)
    return path


def saved(path, module):
    run = trainer()
    run.strategy.connect(module)
    run.save_checkpoint(path)
    return path


def begun(path, data=None, **changes):
    """A module that starts from a file, and the weights that it starts with."""
    start, module = Start(), make(seed=1, initial_weights=str(path), **changes)
    run = trainer(start, limit_train_batches=1)
    run.fit(module, data or Data())
    return module, start.weights, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a run without averaging, which updated its discriminator twice."""
    return trained(tmp_path_factory.mktemp("finished") / "a.ckpt", make(accuracy_limit=1.0))


def weights_in(path):
    return torch.load(path, weights_only=True)["state_dict"]


def different(ours, theirs):
    return {name for name, value in ours.items() if name not in theirs or not torch.equal(value, theirs[name])}


def test_all_weights_are_taken_and_the_gate_counts_anew(finished):
    theirs = weights_in(finished)
    assert theirs["gate.updates"] == 2
    _, ours, _ = begun(finished)
    assert ours.keys() == theirs.keys()
    assert different(ours, theirs) == {"gate.updates"}
    assert ours["gate.updates"] == 0


def test_skipped_updates_are_counted_anew(tmp_path):
    path = trained(tmp_path / "a.ckpt", make(accuracy_limit=-1.0))
    assert weights_in(path)["gate.skipped"] == 2
    assert begun(path)[1]["gate.skipped"] == 0


def test_the_bank_is_of_the_run_s_own_data(finished):
    """Not of the data that the weights were trained on."""
    assert len(weights_in(finished)["attribute_bank"].unique(dim=0)) == 8
    _, ours, _ = begun(finished, Data(attributes=ATTRIBUTES[[3]].repeat(8, 1)))
    assert torch.equal(ours["attribute_bank"].unique(dim=0), ATTRIBUTES[[3]])


def test_training_goes_on_from_there(finished):
    module, start, run = begun(finished)
    held = {id(p) for optimizer in run.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(parameter) for parameter in module.parameters()}
    moved = different({name: p.detach() for name, p in module.named_parameters()}, start)
    assert "autoencoder.attention.scores" in moved
    assert any(name.startswith("discriminator.trunk.") for name in moved)
    module.configure_optimizers()
    assert not different({name: p.detach() for name, p in module.named_parameters() if name not in moved}, start)
    assert "autoencoder.attention.scores" in different(dict(module.named_parameters()), start), "not taken again"


def test_averaging_begins_with_the_weights_that_were_taken(finished):
    _, ours, _ = begun(finished, averaging_decay=0.9)
    assert ours["averaged.n_averaged"] == 0
    for name, value in weights_in(finished).items():
        if name.startswith("autoencoder."):
            assert torch.equal(ours[name], value), name
            average = ours[name.replace("autoencoder.", "averaged.module.", 1)]
            assert torch.equal(average, value), f"{name}: else what is drawn before the first step is noise"


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("averaged") / "a.ckpt", make(averaging_decay=0.5))


def test_an_average_is_taken_or_left_out(averaged):
    theirs = weights_in(averaged)
    _, ours, _ = begun(averaged, averaging_decay=0.9)
    assert ours.keys() == theirs.keys()
    assert not {name for name in different(ours, theirs) if not name.startswith("gate.")}
    assert ours["averaged.n_averaged"] == 2
    module, ours, _ = begun(averaged)
    assert module.averaged is None
    assert theirs.keys() - ours.keys() == {name for name in theirs if name.startswith("averaged.")}
    assert different(ours, theirs) <= {"gate.updates", "gate.skipped"}


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("alpha", [0.375, 1.0])
def test_weights_from_a_fade_go_on_fading(tmp_path, alpha, decay):
    source = make(averaging_decay=0.5)
    source.grow(128)
    source.set_fade(alpha)
    if alpha == 1.0:
        source.finish_growth()
    path = saved(tmp_path / "a.ckpt", source)
    module, ours, run = begun(path, Data(128), averaging_decay=decay)
    assert (module.image_size, module.fading, module.fade) == (128, alpha < 1, alpha)
    assert module.hparams.first_size == 64
    assert not {name for name in different(ours, weights_in(path)) if not name.startswith(("gate.", "attribute_bank"))}
    held = {id(p) for optimizer in run.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in module.parameters() if p.requires_grad}


def test_a_larger_method_does_not_start_from_a_smaller_one(finished):
    with pytest.raises(ValueError, match="checkpoint has images of 64 pixels, the method those of 128: .* first_size"):
        begun(finished, Data(128), first_size=128)


@pytest.mark.parametrize(
    ("name", "value", "theirs"),
    [
        ("base_channels", 4, 2),
        ("latent_channels", 16, 8),
        ("num_steps", 4, 8),
        ("hidden_size", 6, 4),
        ("attribute_names", ["Male", "Bald", "Smiling"], "['Bald', 'Male', 'Smiling']"),
    ],
)
def test_other_shapes_are_named(finished, name, value, theirs):
    changes = {name: value}
    if name == "num_steps":
        changes |= {"kl_weights": [0.1] * 4, "block_weights": [1.0] * 4}
    message = rf"initial_weights: {finished} has {name}={theirs}, this method {name}={value}; give --model.{name}"
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("]", r"\]")):
        begun(finished, **changes)


@pytest.mark.parametrize(
    ("name", "value", "theirs"),
    [("spectral", True, False), ("mutual_information_weight", None, 0.01), ("num_layers", 2, 1)],
)
def test_options_that_add_or_drop_layers_are_named(finished, name, value, theirs):
    with pytest.raises(ValueError, match=f"initial_weights: .* has {name}={theirs}, this method {name}={value}; give"):
        begun(finished, **{name: value})


def test_options_that_change_no_layer_may_differ(finished):
    changes = {"mutual_information_weight": 0.5, "learning_rate": 1e-5, "discriminator_batch": "quarters"}
    _, ours, _ = begun(finished, **changes)
    assert different(ours, weights_in(finished)) == {"gate.updates"}


@pytest.mark.parametrize("cls", [ConditionalCRVAEGAN, ConditionalVAEGAN, ConditionalGAN])
def test_another_class_is_named(tmp_path, cls):
    path = saved(tmp_path / "a.ckpt", make(cls))
    with pytest.raises(ValueError, match=f"initial_weights: {path} is of {cls.__name__}, not of ACVAEGAN"):
        begun(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"initial_weights: No checkpoint .*nothing\.ckpt"):
        begun(tmp_path / "nothing.ckpt")


def test_a_run_that_is_resumed_takes_nothing_and_needs_no_file(finished, tmp_path):
    module, _, run = begun(finished)
    run.save_checkpoint(tmp_path / "half.ckpt")
    start, again = Start(), make(seed=2, initial_weights=str(tmp_path / "moved_away.ckpt"))
    trainer(start, max_epochs=2).fit(again, Data(), ckpt_path=tmp_path / "half.ckpt")
    assert not different(start.weights, weights_in(tmp_path / "half.ckpt"))
    assert start.weights["gate.updates"] == module.gate.updates == 1
    with pytest.raises(CheckpointError, match="No checkpoint"):
        trainer().fit(again, Data())


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_only_fitting_takes_them(tmp_path, stage):
    module = make(initial_weights=str(tmp_path / "nothing.ckpt"))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = trainer(limit_val_batches=1, limit_test_batches=1, limit_predict_batches=1)
    batches = DataLoader([{"images": torch.rand(4, 3, 64, 64), "attributes": ATTRIBUTES[:4]}], batch_size=None)
    getattr(run, stage)(module, batches)
    assert not different(before, module.state_dict())


class SameOnBoth(L.Callback):
    """Weights, averages and statistics are equal in both processes before and after every batch."""

    def on_train_batch_start(self, trainer, module, *_):
        for name, tensor in module.state_dict().items():
            values = trainer.strategy.all_gather(tensor.detach().clone())
            assert torch.equal(values[0], values[1]), name

    on_train_batch_end = on_train_batch_start

    def on_train_end(self, trainer, module):
        assert (module.image_size, module.fading) == (128, True)
        assert not torch.equal(module.autoencoder.decoder.ends.blocks[0][0].weight, self.before)

    def on_train_start(self, trainer, module):
        self.before = module.autoencoder.decoder.ends.blocks[0][0].weight.detach().clone()


def test_two_processes_start_and_go_on_alike(tmp_path):
    """The networks grow after they were handed to the processes, which then see other images."""
    source = make()
    source.grow(128)
    source.set_fade(0.5)
    path = saved(tmp_path / "a.ckpt", source)
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    run = trainer(SameOnBoth(), strategy=strategy, devices=2)
    run.fit(make(seed=1, initial_weights=str(path), averaging_decay=0.9), Data(128))
