"""Two processes on gloo: with gathered negatives their gradients are those of one process on the joint batch."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import infonce, pair_logits
from lightning_zoo.representation.category_ensemble import CategoryEnsemble
from lightning_zoo.representation.cpc import CPC
from lightning_zoo.representation.global_dim import GlobalDIM
from lightning_zoo.representation.static_dim import StaticDIM
from lightning_zoo.representation.stdim import STDIM
from lightning_zoo.representation.three_frame_dim import ThreeFrameDIM

METHODS = {
    "STDIM": (STDIM, {}),
    "STDIM-earlier": (STDIM, {"anchor": "earlier", "global_local_weight": 0.3}),
    "GlobalDIM": (GlobalDIM, {}),
    "StaticDIM": (StaticDIM, {}),
    "CategoryEnsemble": (CategoryEnsemble, {"categories": ["misc", "agent_localization"], "strides": {"misc": None}}),
    "CPC": (CPC, {"context_size": 8, "sequence_length": 3, "step_stride": 1}),
    "ThreeFrameDIM": (ThreeFrameDIM, {}),
}


class RowsOfRank(L.LightningDataModule):
    """One batch, of which each process gets its own rows."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames

    def train_dataloader(self):
        rows = self.frames.chunk(self.trainer.world_size)[self.trainer.global_rank]
        return DataLoader([{"frames": pair} for pair in rows], batch_size=len(rows))


def build(name, gather):
    cls, options = METHODS[name]

    class WithPlainGradientStep(cls):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    torch.manual_seed(0)
    return WithPlainGradientStep(gather_negatives=gather, feature_size=16, **options)


def gradients_after_fit(name, frames, *, gather, callbacks=()):
    """What one step of plain gradient descent with rate 1 took off the weights, in two processes."""
    model = build(name, gather)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_steps=1,
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, RowsOfRank(frames))
    return {key: before[key] - value.detach() for key, value in model.named_parameters()}


def gradients_of_one_process(name, frames, loss=lambda model, frames: model.loss(frames)["loss"]):
    model = build(name, gather=True)
    loss(model, frames).backward()
    return {key: value.grad for key, value in model.named_parameters()}


def largest_difference(first, second):
    """Over all parameters, relative to the largest gradient of each."""
    return max(
        float((first[key] - second[key]).abs().max() / second[key].abs().max().clamp_min(1e-4)) for key in second
    )


def clips(number, length):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (number, length, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def frames():
    return clips(4, 2)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_gathered_negatives_give_the_gradients_of_the_joint_batch(name):
    frames = clips(4, 3 if name in ("CPC", "ThreeFrameDIM") else 2)
    joint = gradients_of_one_process(name, frames)
    assert largest_difference(gradients_after_fit(name, frames, gather=True), joint) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_own_negatives_give_the_mean_of_both_processes_gradients(frames):
    first, second = (gradients_of_one_process("STDIM", rows) for rows in frames.chunk(2))
    mean = {key: (first[key] + second[key]) / 2 for key in first}
    found = gradients_after_fit("STDIM", frames, gather=False)
    assert largest_difference(found, mean) < 1e-3
    # The two ways differ, so that neither test can pass for the other's reason.
    assert largest_difference(found, gradients_of_one_process("STDIM", frames)) > 0.05


class KeysOfBoth(L.Callback):
    """Fails in a process that does not see all keys by rank, or its own first one elsewhere."""

    def on_train_batch_start(self, trainer, module, batch, index):
        rank = trainer.global_rank
        keys, first = gather_keys(torch.full((3 - rank, 1), float(rank)))
        assert keys.flatten().tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
        assert first == 3 * rank


def mean_of_the_processes_losses(model, frames):
    """GlobalDIM's loss of rows 0 to 2 and that of rows 3 and 4, each against all five keys."""
    earlier, later = model(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).unbind(1)
    logits = pair_logits(model.scores(later), earlier)
    return (infonce(logits[:3]) + infonce(logits[3:], first_positive=3)) / 2


@pytest.mark.filterwarnings("ignore")
def test_processes_may_differ_in_their_number_of_keys():
    frames = clips(5, 2)  # three rows for process 0, two for process 1
    found = gradients_after_fit("GlobalDIM", frames, gather=True, callbacks=[KeysOfBoth()])
    expected = gradients_of_one_process("GlobalDIM", frames, mean_of_the_processes_losses)
    assert largest_difference(found, expected) < 1e-3
