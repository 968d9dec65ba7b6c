import copy
import warnings

import lightning as L
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F

from lightning_zoo.checkpoints import load
from lightning_zoo.representation.supervised import Supervised

warnings.filterwarnings("ignore", ".*LeafSpec.*")

VARIABLES = ["left", "noise"]
CATEGORIES = {"left": ["position"], "noise": ["misc"]}
OPTIONS = {"feature_size": 4, "learning_rate": 1e-3, "plateau_patience": 0, "stop_patience": 2}


class Squares(L.LightningDataModule):
    """Frames with a bright square on one side: "left" says which, "noise" is not in the frame."""

    def __init__(self, variables=VARIABLES, categories=CATEGORIES, dtype=torch.uint8):
        super().__init__()
        self.variables, self.categories = variables, categories
        generator = torch.Generator().manual_seed(0)
        self.batches = []
        for _ in range(3):
            left = torch.randint(0, 2, (4,), generator=generator)
            frames = torch.zeros(4, 1, 210, 160, dtype=torch.uint8)
            for frame, side in zip(frames, left, strict=True):
                frame[0, 50:150, 80 * side : 80 * side + 80] = 200
            labels = torch.stack([7 + 200 * left, torch.randint(0, 256, (4,), generator=generator)], 1)
            frames = frames if dtype == torch.uint8 else frames.to(dtype) / 255
            self.batches.append({"frames": frames, "labels": labels[:, : len(variables)]})

    def _loader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    train_dataloader = val_dataloader = test_dataloader = _loader


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**({"accelerator": "cpu", "max_epochs": 2} | quiet | options))


def parts_of(module):
    """K separate encoder + linear pairs with the module's weights."""
    parts = []
    for k in range(len(VARIABLES)):
        template = Supervised(variables=["one"], feature_size=4).classifiers
        for name, _ in list(template.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            stacked = dict(module.classifiers.named_parameters())[name]
            setattr(template.get_submodule(owner), leaf, torch.nn.Parameter(stacked[k].detach().clone()))
        parts.append(template)
    return parts


@pytest.mark.parametrize("vectorize", [False, True])
def test_equals_separate_models_trained_one_by_one(vectorize):
    torch.manual_seed(0)
    module = Supervised(variables=VARIABLES, vectorize=vectorize, **OPTIONS)
    separate = [part.double() for part in parts_of(module)]
    data = Squares(dtype=torch.float64)
    trainer(max_epochs=4, precision="64-true").fit(module, data)
    stopped = []
    for k, part in enumerate(separate):
        optimizer = torch.optim.Adam(part.parameters(), lr=1e-3, eps=1e-5)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.2, patience=0, min_lr=1e-5)
        best, count = None, 0
        for epoch in range(4):
            for batch in data.batches:
                optimizer.zero_grad()
                F.cross_entropy(part(batch["frames"])[1], batch["labels"][:, k]).backward()
                optimizer.step()
            hits = torch.cat([part(b["frames"])[1].argmax(1) == b["labels"][:, k] for b in data.batches])
            score = hits.double().mean().item()
            best, count = (score, 0) if best is None or score > best else (best, count + 1)
            if count == 2:
                stopped.append((k, epoch))
                break
            plateau.step(score)
    assert stopped, "one model should stop before the last epoch"
    assert module.schedule.stopped.nonzero().flatten().tolist() == [k for k, _ in stopped]
    for k, part in enumerate(separate):
        for name, parameter in module.classifiers.named_parameters():
            torch.testing.assert_close(parameter[k], dict(part.named_parameters())[name], rtol=1e-7, atol=1e-9)


def test_encoders_start_equal_and_heads_do_not():
    module = Supervised(variables=VARIABLES, **OPTIONS)
    for name, parameter in module.classifiers.named_parameters():
        assert parameter.shape[0] == 2
        if "encoder" in name:
            assert torch.equal(parameter[0], parameter[1])
    assert not torch.equal(*module.classifiers.head.weight.unbind())


@pytest.mark.parametrize("encoder", ["nature", "impala"])
def test_features_are_those_of_each_encoder_in_its_slice(encoder):
    torch.manual_seed(0)
    module = Supervised(variables=VARIABLES, encoder=encoder, feature_size=4)
    vectorized = Supervised(variables=VARIABLES, encoder=encoder, feature_size=4, vectorize=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    vectorized.load_state_dict(module.state_dict())
    frames = Squares().batches[0]["frames"]
    features = module.encode(frames)
    assert features.shape == (4, 8)
    assert module.feature_slices == {"left": slice(0, 4), "noise": slice(4, 8)}
    if encoder == "nature":
        for name, part in zip(VARIABLES, parts_of(module), strict=True):
            torch.testing.assert_close(features[:, module.feature_slices[name]], part(frames.float() / 255)[0])
    torch.testing.assert_close(vectorized.encode(frames), features, rtol=1e-3, atol=1e-4)
    assert torch.equal(vectorized.predict(frames), module.predict(frames))


def test_names_come_from_the_data_and_the_checkpoint_loads_alone(tmp_path):
    module, data = Supervised(**OPTIONS), Squares()
    run = trainer()
    run.fit(module, data)
    assert {"val/loss", "val/accuracy", "val/stopped"} <= set(run.callback_metrics)
    run.save_checkpoint(tmp_path / "supervised.ckpt")
    loaded = load(tmp_path / "supervised.ckpt")
    assert loaded.hparams["variables"] == VARIABLES
    assert loaded.hparams["categories"] == CATEGORIES
    result = loaded.predict_step(data.batches[0], 0)
    assert torch.equal(result["predictions"], module.predict(data.batches[0]["frames"]))
    assert torch.equal(result["features"], module.encode(data.batches[0]["frames"]))


def test_scores_are_those_of_the_classifiers():
    module, data = (
        Supervised(**OPTIONS | {"stop_patience": 15, "plateau_patience": 15, "learning_rate": 1e-2}),
        Squares(),
    )
    run = trainer(max_epochs=8)
    run.fit(module, data)
    logged = run.test(module, data, verbose=False)[0]
    guess = torch.cat([module.predict(b["frames"]) for b in data.batches])
    truth = torch.cat([b["labels"] for b in data.batches])
    f1 = [f1_score(truth[:, k], guess[:, k], average="weighted", zero_division=0) for k in range(2)]
    assert f1[0] > 0.9, "a side that fills half the frame is learned in 24 steps"
    assert logged["test/f1"] == pytest.approx(sum(f1) / 2, abs=1e-6)
    assert logged["test/f1_position"] == pytest.approx(f1[0], abs=1e-6)


def test_a_stopped_model_is_left_alone_while_others_go_on():
    module = Supervised(variables=VARIABLES, **OPTIONS)
    module.schedule.stopped[1] = True
    before = copy.deepcopy(module.classifiers)
    trainer(max_epochs=1).fit(module, Squares())
    for name, parameter in module.classifiers.named_parameters():
        assert torch.equal(parameter[1], dict(before.named_parameters())[name][1])
    assert not torch.equal(module.classifiers.head.weight[0], before.head.weight[0])


def test_a_finished_run_that_is_resumed_ends_at_once(tmp_path):
    module = Supervised(**OPTIONS | {"stop_patience": 1, "learning_rate": 0.0})
    first = trainer(max_epochs=9)
    first.fit(module, Squares())
    assert module.schedule.stopped.all()
    first.save_checkpoint(tmp_path / "finished.ckpt")
    resumed, second = Supervised(**OPTIONS), trainer(max_epochs=9)
    second.fit(resumed, Squares(), ckpt_path=tmp_path / "finished.ckpt", weights_only=True)
    assert second.global_step == first.global_step
    assert second.current_epoch == first.current_epoch < 9


def test_epochs_that_are_asked_for_after_the_last_model_stopped_take_no_step():
    module = Supervised(**OPTIONS | {"stop_patience": 1, "learning_rate": 0.0})
    run = trainer(min_epochs=4, max_epochs=9)
    run.fit(module, Squares())
    assert module.schedule.stopped.all()
    assert run.current_epoch == 4
    assert run.global_step < 4 * 3


def test_clips_are_refused():
    module = Supervised(variables=VARIABLES, **OPTIONS)
    with pytest.raises(ValueError, match=r"\(2, 3, 1, 210, 160\): set --data\.serve images, or labelled"):
        module.encode(torch.zeros(2, 3, 1, 210, 160))


def test_no_variable_is_an_error():
    with pytest.raises(ValueError, match="no label that varies"):
        trainer().fit(Supervised(), Squares(variables=[]))
