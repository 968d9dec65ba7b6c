"""crVAE-GAN: its training step against a loop without Lightning, and against the released order of steps."""

import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median

import lightning as L
import torch
from bench_stdim import StepClock
from measure import Result, in_turns

from lightning_zoo import CRVAEGAN
from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.generative.adversarial_steps import joint_step, released_step

STEPS = 6
BATCH = 16
ROUNDS = 5
IMAGES = torch.randint(0, 256, (BATCH * STEPS, 3, 64, 64), dtype=torch.uint8)


class Batches:
    """The same images in every epoch."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self):
        yield from ({"images": images} for images in IMAGES.split(BATCH))


def made(**changes) -> tuple[CRVAEGAN, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    module = CRVAEGAN(accuracy_limit=1.0, **changes)
    return module, [configured["optimizer"] for configured in module.configure_optimizers()]


def gan_step_overhead() -> Result:
    """Time per step from the start of one batch to the start of the next, logging included."""

    def step(module: L.LightningModule, batch: dict, optimizers: list[torch.optim.Optimizer]) -> None:
        joint_step(module, module._signed(batch["images"]), *optimizers)

    return overhead("crVAE-GAN", made, Batches(), step)


def overhead(name: str, make: Callable, batches: Iterable, step: Callable) -> Result:
    """A method's training step by Lightning, with logging, against `step(module, batch, optimizers)` in a loop."""
    module, optimizers = make()
    with tempfile.TemporaryDirectory() as folder:
        lightning, bare = [], []
        for _ in range(ROUNDS):
            lightning.append(_with_lightning(make()[0], batches, folder))
            bare.append(_without_lightning(lambda batch: step(module, batch, optimizers), batches))
    ratio = median(a / b for a, b in zip(lightning, bare, strict=True))
    size = len(next(iter(next(iter(batches)).values())))
    detail = f"with Lightning {median(lightning):.2f} s, bare loop {median(bare):.2f} s per step of {size}"
    return Result(f"{name}: a training step against the bare loop", ratio, "x", 1.05, False, detail)


def _with_lightning(module: L.LightningModule, batches: Iterable, folder: str) -> float:
    clock = StepClock()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    logger = RunFolder(folder, "bench")
    trainer = L.Trainer(max_epochs=1, callbacks=[clock], logger=logger, log_every_n_steps=2, accelerator="cpu", **quiet)
    trainer.fit(module, batches)
    if not (Path(logger.log_dir) / "metrics.csv").is_file():
        raise RuntimeError("nothing was logged, so the time is not that of a training step with logging")
    return median(later - earlier for earlier, later in pairwise(clock.times[1:]))


def _without_lightning(step: Callable[[dict], object], batches: Iterable) -> float:
    times = []
    for batch in batches:
        times.append(time.perf_counter())
        step(batch)
    times.append(time.perf_counter())
    return median(later - earlier for earlier, later in pairwise(times[1:]))


def gan_order() -> Result:
    """Five batches through the discriminator's trunk in the released order, two and a half in ours; ours channels_last.

    The bound is of order and memory format together; the detail says what the order alone brings.
    """
    plain, plain_optimizers = made(channels_last=False)
    ours, optimizers = made()
    images = IMAGES[:BATCH]
    _, _, order = in_turns(
        lambda: released_step(plain, plain._signed(images), *plain_optimizers),
        lambda: joint_step(plain, plain._signed(images), *plain_optimizers),
        ROUNDS,
    )
    slow, fast, ratio = in_turns(
        lambda: released_step(plain, plain._signed(images), *plain_optimizers),
        lambda: joint_step(ours, ours._signed(images), *optimizers),
        ROUNDS,
    )
    detail = (
        f"released order {slow:.2f} s, ours {fast:.2f} s per step of {BATCH} images at full width; {order:.2f}x by the "
        "order of steps alone, the rest by channels_last"
    )
    return Result(
        "crVAE-GAN: our step against the released one (order and channels_last)", ratio, "x", 1.3, True, detail
    )
