"""Statics and dynamics: a training step against a bare loop, and one backward pass against the text's three."""

from functools import partial

import torch
from bench_gan import overhead
from measure import Result, in_turns

from lightning_zoo import StaticsDynamics
from lightning_zoo.gradients import held
from lightning_zoo.losses.video import contrastive_prediction, frame_error

STEPS = 6
BATCH = 8
ROUNDS = 5
FEW = 2
"""Clips of a step at the published width."""

CLIPS = torch.randint(0, 256, (BATCH * STEPS, 8, 1, 64, 64), dtype=torch.uint8)


class Clips:
    """The same clips in every epoch."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self):
        yield from ({"clips": clips} for clips in CLIPS.split(BATCH))


def made(channels: int = 16) -> tuple[StaticsDynamics, list[torch.optim.Optimizer]]:
    """In its second phase, at a quarter of the published width unless told otherwise."""
    torch.manual_seed(0)
    # Nobody trained the transformer: what it costs is the same.
    module = StaticsDynamics(channels=channels, base_channels=channels, transformer_epochs=0)
    module.on_fit_start = lambda: None
    return module, list(module.configure_optimizers())


def video_step_overhead() -> Result:
    """Time per step from the start of one batch to the start of the next, logging included."""

    def step(module: StaticsDynamics, batch: dict, optimizers: list[torch.optim.Optimizer]) -> None:
        parameters = list(module.networks.parameters())
        loss, _ = module.losses(batch["clips"] / 255)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizers[1].step()

    return overhead("StaticsDynamics", made, Clips(), step)


def one_backward() -> Result:
    """A backward pass for each of the three losses, as the text has it, against one of their sum."""
    module, _ = made(64)
    module.train()
    clips = CLIPS[:FEW] / 255
    slow, fast, ratio = in_turns(partial(_three_passes, module, clips), partial(_one_pass, module, clips), ROUNDS)
    detail = f"three passes {slow:.2f} s, one {fast:.2f} s per step of {FEW} clips; the gradients are the same (test)"
    return Result("StaticsDynamics: one backward pass against three", ratio, "x", 1.2, True, detail)


def _one_pass(module: StaticsDynamics, clips: torch.Tensor) -> None:
    loss, _ = module.losses(clips)
    torch.autograd.grad(loss, list(module.networks.parameters()))


def _three_passes(module: StaticsDynamics, clips: torch.Tensor) -> None:
    networks, transformer = module.networks, module.transformer
    with torch.no_grad():
        features = transformer.encode(clips)
    statics, dynamics = networks.video(clips)
    repeated = statics[:, None].expand(-1, clips.shape[1], -1, -1, -1)
    with held(transformer):
        warped = transformer.decode(transformer.warped(repeated, features))
    frame_error(warped, clips).backward(retain_graph=True)
    fixed = statics.detach()
    p = networks.frame_dynamics(clips, fixed)
    frame_error(networks.draw(p, fixed), clips).backward()
    predicted = networks.predictor(p.detach(), dynamics)
    (0.25 * contrastive_prediction(predicted, p[:, 1:])[0]).backward()
    networks.zero_grad()
