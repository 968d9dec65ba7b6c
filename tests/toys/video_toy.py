"""Clips of one bright square that moves, in the batches that video methods read, and runs on them."""

import lightning as L
import torch
from torch import nn

from datamodules.index_batches import IndexBatches, in_order, permutation

TINY = {"frame_size": 16, "base_channels": 2}
TRANSFORMER = {"frame_size": 16, "channels": 4}
DECOMPOSITION = {**TINY, "channels": 4, "dynamics_size": 6, "frame_dynamics_size": 5, "hidden_size": 8}


def moving_squares(number, *, num_frames=8, channels=1, size=16, seed=0):
    """Clips (number, T, C, H, W), uint8, whose squares start and go where chance wants, over noise."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 40, (number, num_frames, channels, size, size), generator=generator, dtype=torch.uint8)
    start = torch.randint(0, size - 4, (number, 2), generator=generator)
    step = torch.randint(-2, 3, (number, 2), generator=generator)
    for clip in range(number):
        for frame in range(num_frames):
            x, y = ((start[clip] + frame * step[clip]) % (size - 3)).tolist()
            clips[clip, frame, :, y : y + 4, x : x + 4] = 255 - 10 * clip
    return clips


class MovingSquares(L.LightningDataModule):
    """Training clips with pairs, and others for validation; a clip's class is its number modulo that of classes."""

    def __init__(self, *, rows=8, batch_size=4, classes=None, **clips):
        super().__init__()
        self.rows = rows
        self.batch_size = batch_size
        self.class_names = classes
        self.clips = {split: moving_squares(rows, seed=seed, **clips) for seed, split in enumerate(("train", "val"))}

    def batch(self, split, rows):
        clips = self.clips[split][rows]
        found = {"clips": clips, "index": rows, "videos": rows}
        if split == "train":
            found["pairs"] = clips[torch.arange(len(rows))[:, None], torch.stack([rows % 7, 7 - rows % 3], 1)]
        if self.class_names:
            found["labels"] = rows % len(self.class_names)
        return found

    def _loader(self, split, plan):
        place = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return IndexBatches(lambda rows: self.batch(split, rows), plan, self.rows, batch_size=self.batch_size, **place)

    def train_dataloader(self):
        return self._loader("train", permutation(self.rows, 0))

    def val_dataloader(self):
        return self._loader("val", in_order(self.rows))

    test_dataloader = predict_dataloader = val_dataloader


def trainer(*callbacks, **options):
    """A quiet trainer on the CPU."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    short = {"max_epochs": 1, "log_every_n_steps": 1, "enable_checkpointing": False}
    return L.Trainer(callbacks=list(callbacks), **(quiet | short | options))


def fitted(module, *callbacks, data=None, ckpt_path=None, **options):
    """The trainer, after it."""
    run = trainer(*callbacks, **options)
    run.fit(module, MovingSquares() if data is None else data, ckpt_path=ckpt_path, weights_only=True)
    return run


def saved(module, path):
    """The checkpoint of a module that was never trained."""
    run = trainer()
    run.strategy.connect(module)
    run.save_checkpoint(path)
    return path


def shaken(network, scale=0.3, seed=0):
    """The network with all that begins at zero or one moved a little, so that nothing hides behind it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if values.is_floating_point():
                noise = scale * torch.randn(values.shape, generator=generator)
                size = values.std(correction=0).clamp_min(0.1)
                values.copy_(values * noise.exp() if "running_var" in name else values + size * noise)
    return network


@torch.no_grad()
def used_to(network, forward):
    """The network with the running statistics of one forward pass, so that units are neither dead nor saturated."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [norm.training for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    forward()
    for norm, mode in zip(norms, modes, strict=True):
        norm.train(mode).momentum = 0.1
    return network


def changed(before, after):
    """Names of what differs between two state dictionaries."""
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def copied(module):
    """Its state dictionary, as it is now."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
