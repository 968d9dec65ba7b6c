"""ST-DIM: its loss against the original's loop over places, its training step against a loop without Lightning."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import lightning as L
import torch
from measure import Result, in_turns
from torch.nn import functional as F

from datamodules import AtariFrames
from lightning_zoo import STDIM
from lightning_zoo.networks.nature_cnn import Maps

STEPS = 25
ROUNDS = 5


def double_loop(module: STDIM, features: torch.Tensor, local: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The released way: a loop over places for each term, with projection, product and cross-entropy at each place."""
    local, keys = local.permute(0, 2, 3, 1), keys.permute(0, 2, 3, 1)  # (B, H, W, C)
    _, height, width, _ = local.shape
    total = torch.zeros(())
    for y in range(height):
        for x in range(width):
            logits = module.global_scores["conv3"](features) @ keys[:, y, x].T
            total = total + F.cross_entropy(logits, torch.arange(len(features)))
    for y in range(height):
        for x in range(width):
            logits = module.local_scores["conv3"](local[:, y, x]) @ keys[:, y, x].T
            total = total + F.cross_entropy(logits, torch.arange(len(features)))
    return total / (height * width)


def loss() -> Result:
    torch.manual_seed(0)
    module = STDIM()
    features = torch.randn(64, 256, requires_grad=True)
    # Each way gets its maps in the memory order in which its own encoder makes them.
    maps = [torch.rand(64, 11, 8, 128).permute(0, 3, 1, 2).requires_grad_() for _ in range(2)]
    original_maps = [values.detach().contiguous().requires_grad_() for values in maps]

    def ours() -> torch.Tensor:
        terms = module._layer_loss("conv3", features, *maps, accuracies=False)
        return terms["global_local_loss"] + terms["local_local_loss"]

    def theirs() -> torch.Tensor:
        return double_loop(module, features, *original_maps)

    torch.testing.assert_close(ours(), theirs())
    # Gradients as the encoder gets them: handed on, not added to what is stored from the step before.
    shared = [features, *module.global_scores.parameters(), *module.local_scores.parameters()]
    slow, fast, ratio = in_turns(
        lambda: torch.autograd.grad(theirs(), [*shared, *original_maps]),
        lambda: torch.autograd.grad(ours(), [*shared, *maps]),
        rounds=20,
    )
    detail = f"double loop {slow * 1e3:.0f} ms, all places at once {fast * 1e3:.1f} ms, batch 64, forward and backward"
    return Result("ST-DIM's loss against the loop over places", ratio, "x", 8, True, detail)


class StepClock(L.Callback):
    """When each step began and the last one ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.times.append(time.perf_counter())

    def on_train_epoch_end(self, *_: object) -> None:
        self.times.append(time.perf_counter())


def step_overhead() -> Result:
    """Time per step from the start of one batch to the start of the next, loading and logging included."""
    with tempfile.TemporaryDirectory() as folder:
        data = AtariFrames(game="pong", root=folder, num_frames=3000)
        data.prepare_data()
        data.setup()
        lightning, bare = [], []
        for _ in range(ROUNDS):
            lightning.append(_with_lightning(data, Path(folder)))
            bare.append(_without_lightning(data))
    ratio = median(a / b for a, b in zip(lightning, bare, strict=True))
    detail = (
        f"with Lightning {median(lightning) * 1e3:.0f} ms, bare loop {median(bare) * 1e3:.0f} ms per step of 64 pairs"
    )
    return Result("a training step against the bare loop", ratio, "x", 1.05, False, detail)


def _with_lightning(data: AtariFrames, folder: Path) -> float:
    from lightning.pytorch.callbacks import RichProgressBar

    from lightning_zoo.callbacks.exact_resume import ExactResume
    from lightning_zoo.callbacks.mlflow_store import MLflowStore
    from lightning_zoo.callbacks.run_folder import RunFolder
    from lightning_zoo.callbacks.stop_on_non_finite import StopOnNonFinite

    L.seed_everything(0, verbose=False)
    clock = StepClock()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        limit_val_batches=0,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=5,
        logger=[RunFolder(str(folder), "bench"), MLflowStore(tracking_uri=f"sqlite:///{folder}/mlflow.db")],
        callbacks=[clock, RichProgressBar(leave=False), ExactResume(), StopOnNonFinite()],
    )
    trainer.fit(STDIM(), train_dataloaders=data.train_dataloader())
    return median(later - earlier for earlier, later in pairwise(clock.times[2:]))


def _without_lightning(data: AtariFrames) -> float:
    torch.manual_seed(0)
    module = STDIM()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-4, eps=1e-5)
    times = []
    for index, batch in enumerate(data.train_dataloader()):
        times.append(time.perf_counter())
        if index == STEPS:
            break
        pairs = batch["frames"].flatten(0, 1).float() / 255
        maps = module.encoder.maps(pairs)
        maps = {name: values.unflatten(0, (64, 2)) for name, values in maps.items()}
        features = module.encoder.features(Maps((name, values[:, 1]) for name, values in maps.items()))
        terms = module._layer_loss("conv3", features, maps["conv3"][:, 1], maps["conv3"][:, 0], accuracies=False)
        total = terms["global_local_loss"] + terms["local_local_loss"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return median(later - earlier for earlier, later in pairwise(times[2:]))
