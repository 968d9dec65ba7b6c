import warnings

import lightning as L
import pytest
import torch
from torch import nn

import lightning_zoo
from lightning_zoo.checkpoints import CheckpointError, Loadable, find_last, load, load_encoder, read

warnings.filterwarnings("ignore", ".*LeafSpec.*")


class Encoder(Loadable, L.LightningModule):
    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(2, width)

    def encode(self, frames):
        return self.net(frames)


class Plain(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)


class Deaf(Loadable, Plain):
    pass


@pytest.fixture
def importable(monkeypatch):
    """Pytest's importlib mode gives test modules names that cannot be imported; checkpoints need one that can."""
    import sys

    monkeypatch.setitem(sys.modules, "zoo_checkpoint_example", sys.modules[__name__])
    for cls in (Encoder, Deaf):
        monkeypatch.setattr(cls, "__module__", "zoo_checkpoint_example")


def save(module, path):
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def test_load_gives_the_module_back_from_the_file_alone(tmp_path, importable):
    module = Encoder(width=5)
    loaded = lightning_zoo.load(save(module, tmp_path / "a.ckpt"))
    assert type(loaded) is Encoder
    assert not loaded.training
    frames = torch.randn(4, 2)
    assert torch.equal(loaded.encode(frames), module.encode(frames))
    assert read(tmp_path / "a.ckpt")["lightning_zoo"]["version"] == lightning_zoo.__version__


def test_a_module_of_the_command_line_loads_by_its_class_path(tmp_path, importable):
    path = save(Encoder(width=4), tmp_path / "a.ckpt")
    checkpoint = read(path)
    del checkpoint["lightning_zoo"]
    checkpoint["hyper_parameters"]["_class_path"] = "zoo_checkpoint_example.Encoder"
    torch.save(checkpoint, tmp_path / "b.ckpt")
    assert load(tmp_path / "b.ckpt").hparams.width == 4


def test_a_missing_file_names_the_nearest(tmp_path, importable):
    save(Encoder(), tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"No checkpoint .*lst\.ckpt\. Did you mean .*last\.ckpt"):
        load(tmp_path / "lst.ckpt")
    with pytest.raises(CheckpointError, match="There is no folder"):
        load(tmp_path / "nowhere" / "last.ckpt")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, importable, keep):
    path = save(Encoder(), tmp_path / "a.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_foreign_files_are_refused(tmp_path, importable):
    text = tmp_path / "text.ckpt"
    text.write_text("hello")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load(text)
    torch.save({"weights": torch.zeros(2)}, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="no Lightning checkpoint"):
        load(tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="does not say which class"):
        load(save(Plain(), tmp_path / "nameless.ckpt"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package.Net", "cannot be imported"),
        ("math.Net", "cannot be imported"),
        ("math.sqrt", "no LightningModule"),
    ],
)
def test_a_class_that_is_not_there(tmp_path, importable, name, reason):
    checkpoint = read(save(Encoder(), tmp_path / "a.ckpt"))
    checkpoint["lightning_zoo"]["class_path"] = name
    torch.save(checkpoint, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match=reason):
        load(tmp_path / "b.ckpt")


def test_weights_that_do_not_fit_are_one_line(tmp_path, importable):
    checkpoint = read(save(Encoder(), tmp_path / "a.ckpt"))
    checkpoint["state_dict"]["net.weight"] = torch.zeros(9, 9)
    torch.save(checkpoint, tmp_path / "b.ckpt")
    with pytest.raises(CheckpointError, match=r"does not fit Encoder.*net\.weight") as caught:
        load(tmp_path / "b.ckpt")
    assert "\n" not in str(caught.value)


def test_encode_is_asked_for(tmp_path, importable):
    path = save(Deaf(), tmp_path / "a.ckpt")
    assert isinstance(load(path), Deaf)
    with pytest.raises(CheckpointError, match="Deaf, which has no `encode"):
        load_encoder(path)


def test_find_last_takes_the_newest(tmp_path, monkeypatch):
    import os

    monkeypatch.chdir(tmp_path)
    assert find_last() is None
    for age, run in enumerate(["a/version_0", "b/version_3", "a/version_1"]):
        folder = tmp_path / "runs" / run / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
        os.utime(folder / "last.ckpt", (1000 - age, 1000 - age))
    assert find_last().as_posix() == "runs/a/version_0/checkpoints/last.ckpt"
    assert find_last("b").as_posix() == "runs/b/version_3/checkpoints/last.ckpt"
    assert find_last("c") is None
    assert find_last("a", kind="best") is None
