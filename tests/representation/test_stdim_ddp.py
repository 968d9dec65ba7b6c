"""Two processes on gloo: with gathered negatives their gradients are those of one process on the joint batch."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_zoo.representation.category_ensemble import CategoryEnsemble
from lightning_zoo.representation.global_dim import GlobalDIM
from lightning_zoo.representation.static_dim import StaticDIM
from lightning_zoo.representation.stdim import STDIM

METHODS = {
    "STDIM": (STDIM, {}),
    "STDIM-earlier": (STDIM, {"anchor": "earlier", "global_local_weight": 0.3}),
    "GlobalDIM": (GlobalDIM, {}),
    "StaticDIM": (StaticDIM, {}),
    "CategoryEnsemble": (CategoryEnsemble, {"categories": ["misc", "agent_localization"], "strides": {"misc": None}}),
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


def gradients_after_fit(name, frames, *, gather):
    """What one step of plain gradient descent with rate 1 took off the weights, in two processes."""
    model = build(name, gather)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_steps=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, RowsOfRank(frames))
    return {key: before[key] - value.detach() for key, value in model.named_parameters()}


def gradients_of_one_process(name, frames):
    model = build(name, gather=True)
    model.loss(frames)["loss"].backward()
    return {key: value.grad for key, value in model.named_parameters()}


def largest_difference(first, second):
    """Over all parameters, relative to the largest gradient of each."""
    return max(
        float((first[key] - second[key]).abs().max() / second[key].abs().max().clamp_min(1e-4)) for key in second
    )


@pytest.fixture(scope="module")
def frames():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 2, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_gathered_negatives_give_the_gradients_of_the_joint_batch(name, frames):
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
