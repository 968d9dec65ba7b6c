"""Video statics and dynamics (Shang, PhD thesis, chapter 7; Shang, Liu, Vahdat, De Mello and Kautz 2020).

First BlockSTN learns to warp frames onto each other; then, with BlockSTN as it is, a video encoder learns statics S
that warp onto every frame of a clip, and dynamics P that predict what a frame has beyond S. No code of it was ever
published; the numbered differences from the text are in this folder's README.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_zoo.checkpoints import CheckpointError, Loadable, read
from lightning_zoo.gradients import average_gradients, held, set_gradients
from lightning_zoo.losses.video import Contrast, Reduction, contrastive_prediction, frame_error
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.frame_dynamics import Feedback
from lightning_zoo.networks.statics_dynamics import Decomposition, StaticsDynamicsNetworks, best_frame
from lightning_zoo.step_logging import logs_now
from lightning_zoo.video.block_stn import TRANSFORMER_OPTIONS, pair_losses, transformer_of, transformer_strips
from lightning_zoo.video.clips import check_clips, ends_of, from_pixels, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters


class StaticsDynamics(Loadable, L.LightningModule):
    """Both phases in turn; the defaults are those for Moving MNIST.

    Args:
        frame_channels: C.
        frame_size: side of the frames, a multiple of 8.
        num_frames: T of a clip.
        channels: c of S and of BlockSTN's features (c, side / 8, side / 8).
        num_blocks: K of BlockSTN.
        base_channels: of the 3D-ResNet-18; 64 there.
        dynamics_size: D of P.
        frame_dynamics_size: d of p.
        hidden_size: of the LSTM that predicts.
        pixels: range of the frames within the networks: "unit", [0, 1], or "signed", [-1, 1].
        sees_all_channels: as of `BlockSTN`.
        bounded: as of `BlockSTN`.
        padding: as of `BlockSTN`.
        transformer_epochs: of the first phase; with 0, `transformer_path` has to be given.
        transformer_path: checkpoint of a BlockSTN, or of this method, whose transformer the run begins with.
        transformer_learning_rate: of the first phase.
        reconstruction_weight: lambda_r of the first phase.
        transformation_weight: lambda_t of the first phase.
        statics_weight: of eq. 7.3; the thesis states none.
        frame_weight: of eq. 7.4.
        contrastive_weight: of eq. 7.5.
        anchor_weight: of the squared distance of S from the features of the frame that warps best onto the others; 0.5
            for Weizmann.
        warm_up_epochs: of the second phase, in which S learns only to be the mean of the frames' features.
        reduction: of a frame's error: "sum", the squared norm, or "mean".
        contrast: scores of eq. 7.5: "raw" inner products, "normalized" or "standardized".
        temperature: of contrast "normalized".
        feedback: what the LSTM is told of the step before: its prediction (appendix 7.A.4), or the "true" one (7.3.2).
        learning_rate: of the second phase.
        halving_period_epochs: after which the learning rates are halved, counted anew in the second phase.
        gradient_norm: to which gradients are cut; null leaves them.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        frame_channels: int = 1,
        frame_size: int = 64,
        num_frames: int = 8,
        channels: int = 64,
        num_blocks: int = 2,
        base_channels: int = 64,
        dynamics_size: int = 32,
        frame_dynamics_size: int = 16,
        hidden_size: int = 1024,
        pixels: Pixels = "unit",
        sees_all_channels: bool = False,
        bounded: bool = False,
        padding: Literal["zeros", "border"] = "zeros",
        transformer_epochs: int = 250,
        transformer_path: str | None = None,
        transformer_learning_rate: float = 5e-3,
        reconstruction_weight: float = 0.1,
        transformation_weight: float = 1.0,
        statics_weight: float = 1.0,
        frame_weight: float = 1.0,
        contrastive_weight: float = 0.25,
        anchor_weight: float = 0.0,
        warm_up_epochs: int = 0,
        reduction: Reduction = "sum",
        contrast: Contrast = "raw",
        temperature: float = 0.1,
        feedback: Feedback = "predicted",
        learning_rate: float = 1e-3,
        halving_period_epochs: int = 50,
        gradient_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_hyperparameters(self.hparams)
        if num_frames < 2:
            raise ValueError(f"num_frames must be at least 2 for one to be predicted, got {num_frames}")
        self.automatic_optimization = False
        self.frame_shape = (frame_channels, frame_size, frame_size)
        self.num_frames = num_frames
        self.feature_size = dynamics_size
        self.transformer = transformer_of(self.hparams)
        self.networks = StaticsDynamicsNetworks(
            self.frame_shape,
            num_frames,
            self.transformer.feature_shape,
            dynamics_size=dynamics_size,
            frame_dynamics_size=frame_dynamics_size,
            base_channels=base_channels,
            hidden_size=hidden_size,
            pixels=pixels,
        )

    @property
    def transforming(self) -> bool:
        """Whether the first phase is on."""
        return bool(self.current_epoch < self.hparams["transformer_epochs"])

    def forward(self, clips: Tensor) -> Tensor:
        """Dynamics P (B, D), as `encode`."""
        return self.encode(clips)

    def encode(self, clips: Tensor) -> Tensor:
        """Dynamics P (B, D) of clips (B, T, C, H, W), uint8 or in [0, 1]."""
        return self.features(clips)["dynamics"]

    def features(self, clips: Tensor) -> dict[str, Tensor]:
        """Of clips: "dynamics" P (B, D), and "statics", S flat (B, c h w)."""
        statics, dynamics = self.networks.video(self._clips(clips))
        return {"dynamics": dynamics.float(), "statics": statics.float().flatten(1)}

    def statics(self, clips: Tensor) -> Tensor:
        """S (B, c, h, w) of clips (B, T, C, H, W)."""
        return self.networks.video(self._clips(clips))[0]

    def frame_features(self, clips: Tensor) -> Tensor:
        """Features s_t, flat (B, T, c h w), of the frames of clips (B, T, C, H, W), which S is warped onto."""
        return self.transformer.encode(self._clips(clips)).flatten(2)

    def frame_dynamics(self, clips: Tensor, statics: Tensor) -> Tensor:
        """Dynamics p_t (B, T, d) of the frames of clips, given S (B, c, h, w)."""
        return self.networks.frame_dynamics(self._clips(clips), statics)

    def decode(self, frame_dynamics: Tensor, statics: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) in [0, 1] of p (B, T, d) and S (B, c, h, w)."""
        return self._shown(self.networks.draw(frame_dynamics, statics))

    def decode_statics(self, statics: Tensor) -> Tensor:
        """How S (B, c, h, w) looks: frames (B, C, H, W) in [0, 1] (figure 7.3)."""
        return self._shown(self.transformer.decode(statics))

    def warp(self, clips: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) in [0, 1]: S warped onto each frame of its clip (eq. 7.3)."""
        return self._shown(self._decomposed(self._clips(clips)).warped)

    def swap(self, statics_of: Tensor, dynamics_of: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) in [0, 1]: S of the first clips with every p of the second ones (figure 7.4a)."""
        p = self.frame_dynamics(dynamics_of, self.statics(dynamics_of))
        return self.decode(p, self.statics(statics_of))

    @torch.no_grad()
    def strips(self, clips: Tensor) -> Tensor:
        """What clips (B, T, C, H, W) are taken apart into: three rows (B, 3, T + 1, C, H, W) in [0, 1].

        Frames behind a white one; S, then S warped onto each; S, then drawn from S and each p. In a run's first phase
        there are two, as `transformer_strips`.
        """
        if self._in_first_phase():
            return transformer_strips(self.transformer, clips, self.frame_shape, self.hparams["pixels"])
        frames = to_pixels(clips, self.frame_shape, "unit")
        found = self._decomposed(self._clips(clips))
        seen = self.decode_statics(found.statics)[:, None]
        rows = [(torch.ones_like(seen), frames), (seen, self._shown(found.warped)), (seen, self._shown(found.frames))]
        return torch.stack([torch.cat(row, 1) for row in rows], 1)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step of BlockSTN on "pairs" (B, 2, C, H, W), or of all others on "clips" (B, T, C, H, W)."""
        logs = logs_now(self)
        phase: nn.Module = self.transformer if self.transforming else self.networks
        if self.transforming:
            loss, terms = pair_losses(self.transformer, self._pixels(batch["pairs"]), self.hparams)
            terms = {f"transformer_{name}": value for name, value in terms.items()}
        else:
            loss, terms = self.losses(batch["clips"])
        parameters = list(phase.parameters())
        set_gradients(parameters, torch.autograd.grad(loss, parameters))
        average_gradients(parameters)
        if self.hparams["gradient_norm"] is not None:
            nn.utils.clip_grad_norm_(parameters, self.hparams["gradient_norm"])
        optimizers: Any = self.optimizers()
        optimizers[0 if self.transforming else 1].step()
        average_batch_statistics(phase)
        if logs:
            self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss.detach()

    def losses(self, clips: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 7.3 to 7.5 of clips (B, T, C, H, W), weighted and summed; and what to log."""
        given, clips = self.hparams, self._clips(clips)
        found = self._decomposed(clips)
        contrast, accuracy = contrastive_prediction(
            found.predicted, found.frame_dynamics[:, 1:], given["contrast"], given["temperature"]
        )
        terms = {
            "statics": frame_error(found.warped, clips, given["reduction"]),
            "frame": frame_error(found.frames, clips, given["reduction"]),
            "contrastive": contrast,
        }
        weights = {name: given[f"{name}_weight"] for name in terms}
        if self._warming_up():
            terms["warm_up"] = frame_error(found.statics, found.features.mean(1), given["reduction"])
            weights |= {"statics": 0.0, "warm_up": 1.0}
        if given["anchor_weight"]:
            terms["anchor"] = frame_error(
                found.statics, best_frame(found.features, self.transformer), given["reduction"]
            )
            weights["anchor"] = given["anchor_weight"]
        loss = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
        terms |= {
            "loss": loss,
            "contrastive_accuracy": accuracy,
            "dynamics_norm": found.frame_dynamics.norm(dim=-1).mean(),
        }
        return loss, {name: value.detach() for name, value in terms.items()}

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """In the first phase `val/transformer_...`, from first to last frames; then the losses of all others."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The losses of the second phase."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """`features` of the clips."""
        return self.features(batch["clips"])

    def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Adam for each phase; the transformer's weights are taken here, where a new run begins."""
        path, trainer = self.hparams["transformer_path"], self._trainer
        if path is not None and trainer is not None and trainer.training and not trainer.ckpt_path:
            self.take_transformer(path)
        return (
            torch.optim.Adam(self.transformer.parameters(), lr=self.hparams["transformer_learning_rate"]),
            torch.optim.Adam(self.networks.parameters(), lr=self.hparams["learning_rate"]),
        )

    def on_fit_start(self) -> None:
        """Refuse float16, and a transformer that nobody trains; warn of a run without a second phase."""
        if self.trainer.precision in ("16-mixed", "16-true"):
            raise ValueError(f"--trainer.precision {self.trainer.precision} is not supported here; use bf16-mixed")
        if not self.hparams["transformer_epochs"] and self.hparams["transformer_path"] is None:
            raise ValueError(
                "transformer_epochs=0 leaves the transformer untrained: give --model.transformer_path, a checkpoint of "
                "BlockSTN"
            )

        epochs, first = self.trainer.max_epochs, self.hparams["transformer_epochs"]
        if first and self.hparams["transformer_path"] is not None and not self.trainer.ckpt_path:
            rank_zero_warn(
                f"transformer_path is trained on for transformer_epochs={first}; with 0 the second phase begins at once"
            )
        if epochs is not None and 0 < epochs <= first and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_warn(
                f"trainer.max_epochs={epochs} ends within the first phase (transformer_epochs={first}): S and P learn "
                "nothing before the second"
            )

    def on_train_start(self) -> None:
        """Begin as an epoch does: a run that is resumed within one, or with its last step, begins no epoch."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Set the phase's learning rate, and keep the other part as it is."""
        given, first = self.hparams, self.hparams["transformer_epochs"]
        index, epoch, rate = 1, self.current_epoch - first, given["learning_rate"]
        if self.transforming:
            index, epoch, rate = 0, self.current_epoch, given["transformer_learning_rate"]
        optimizers: Any = self.optimizers()
        for group in optimizers[index].param_groups:
            group["lr"] = rate * 0.5 ** (epoch // given["halving_period_epochs"])
        self.train()

    def train(self, mode: bool = True) -> "StaticsDynamics":
        """As always, but that the transformer's running statistics stay as they are in the second phase."""
        super().train(mode)
        if mode and not self.transforming:
            self.transformer.eval()
        return self

    def take_transformer(self, path: str | Path) -> None:
        """Take the transformer of a checkpoint of BlockSTN or of this method.

        Raises:
            ValueError: if the file cannot be read, has none, or one that works in another way.
        """
        try:
            checkpoint = read(Path(path))
        except CheckpointError as error:
            raise ValueError(
                f"transformer_path: {error} Train one with a block_stn config, or name it by --model.transformer_path"
            ) from error
        theirs, weights = checkpoint.get("hyper_parameters", {}), checkpoint["state_dict"]
        found = {name.removeprefix("transformer."): w for name, w in weights.items() if name.startswith("transformer.")}
        if not found:
            raise ValueError(f"transformer_path: {path} holds no BlockSTN")
        for name in TRANSFORMER_OPTIONS:
            if theirs.get(name) != self.hparams[name]:
                raise ValueError(
                    f"transformer_path: {path} has {name}={theirs.get(name)!r}, this run {self.hparams[name]!r}: set "
                    f"--model.{name}"
                )
        self.transformer.load_state_dict(found)

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        clips = batch["clips"]
        if stage == "val" and self._in_first_phase():
            _, terms = pair_losses(self.transformer, ends_of(self._clips(clips)), self.hparams)
            terms = {f"transformer_{name}": value for name, value in terms.items()}
        else:
            _, terms = self.losses(clips)
        self.log_dict(
            {f"{stage}/{name}": value for name, value in terms.items()}, sync_dist=True, batch_size=len(clips)
        )

    def _in_first_phase(self) -> bool:
        # Outside of a run all checkpoints are of epoch 0.
        return bool(self.transforming and self._trainer is not None and self._trainer.state.fn == "fit")

    def _warming_up(self) -> bool:
        given = self.hparams
        epoch = self.current_epoch - given["transformer_epochs"]
        return bool(self.training and 0 <= epoch < given["warm_up_epochs"])

    def _decomposed(self, pixels: Tensor) -> Decomposition:
        with held(self.transformer):
            found: Decomposition = self.networks(pixels, self.transformer, self.hparams["feedback"])
        return found

    def _clips(self, clips: Tensor) -> Tensor:
        check_clips(clips, self.num_frames)
        return self._pixels(clips)

    def _pixels(self, frames: Tensor) -> Tensor:
        return to_pixels(frames, self.frame_shape, self.hparams["pixels"])

    def _shown(self, frames: Tensor) -> Tensor:
        return from_pixels(frames, self.hparams["pixels"])
