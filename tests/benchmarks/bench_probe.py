"""All probes at once on features computed once, against each probe with the encoder run again on every batch."""

import tempfile
from importlib import import_module

import torch
from measure import Result, seconds
from torch import nn
from torch.nn import functional as F

from datamodules import AtariFrames
from lightning_zoo import STDIM

EPOCHS = 20
FRAMES = 10_000
SAMPLED_BATCHES = 4


def probing() -> Result:
    probe_encoder = import_module("lightning_zoo.cli.probing").probe_encoder
    torch.manual_seed(0)
    encoder = STDIM().eval()
    with tempfile.TemporaryDirectory() as folder:
        data = AtariFrames(game="pong", root=folder, serve="labelled", num_probe_frames=FRAMES, preset="paper")
        data.prepare_data()
        data.setup()
        ours = seconds(lambda: probe_encoder(encoder, data, max_epochs=EPOCHS))
        batches = [batch for batch, _ in zip(data.train_dataloader(), range(SAMPLED_BATCHES), strict=False)]
        train_batches, val_batches = len(data.train_dataloader()), len(data.val_dataloader())
        train, evaluate = _per_variable(encoder, batches)
    count = len(data.variables)
    # The original's cost is the same for every batch, so that a few batches tell it: they are timed, the rest counted.
    theirs = EPOCHS * count * (train_batches * train + val_batches * evaluate)
    detail = (
        f"{count} variables of Pong, {FRAMES:,} frames, {EPOCHS} epochs: one by one {theirs:.0f} s "
        f"({SAMPLED_BATCHES} batches timed, {train_batches + val_batches} per epoch counted), all at once {ours:.1f} s"
    )
    return Result("probing all variables against one by one", theirs / ours, "x", 20, True, detail)


def _per_variable(encoder: STDIM, batches: list[dict[str, torch.Tensor]]) -> tuple[float, float]:
    """Seconds per batch and variable of training and of validation."""
    probe = nn.Linear(256, 256)
    optimizer = torch.optim.Adam(probe.parameters(), lr=3e-4, eps=1e-5)

    def train() -> None:
        for batch in batches:
            with torch.no_grad():
                features = encoder.encode(batch["frames"])
            optimizer.zero_grad()
            F.cross_entropy(probe(features), batch["labels"][:, 0]).backward()
            optimizer.step()

    def evaluate() -> None:
        with torch.no_grad():
            for batch in batches:
                F.cross_entropy(probe(encoder.encode(batch["frames"])), batch["labels"][:, 0])

    train()
    return seconds(train) / len(batches), seconds(evaluate) / len(batches)
