"""CPC: contrastive predictive coding (van den Oord et al. 2018, arXiv 1807.03748) as in Anand et al. 2019.

A GRU reads the features of a sequence of frames; from its state at each time a linear head per step finds the features
some steps ahead among all features of the batch, of other sequences and of other times.
"""

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import infonce, matching_accuracy, pair_logits
from lightning_zoo.networks.encoders import EncoderName, checked_clips, make_encoder
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class CPC(FrameEncoder, L.LightningModule):
    """CPC on sequences of consecutive frames, summed over the steps ahead 1, 1 + step_stride, 1 + 2 step_stride, ...

    Shorter sequences than ``sequence_length`` use the steps that fit into them.

    Args:
        encoder: "nature" (published) or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        context_size: length of the GRU's state.
        context_layers: layers of the GRU.
        sequence_length: frames of the longest sequence (``data.clip_length``); sets how many heads there are.
        step_stride: distance between the steps ahead; 4 gives 1, 5, ..., 97 for 100 frames.
        gather_negatives: under DDP, use the sequences of all processes as negatives.
        learning_rate: of Adam, here with PyTorch's own eps of 1e-8 (as released).

    Raises:
        ValueError: for a sequence shorter than two frames or a stride below one.
    """

    def __init__(
        self,
        *,
        encoder: EncoderName = "nature",
        input_channels: int = 1,
        feature_size: int = 256,
        context_size: int = 256,
        context_layers: int = 2,
        sequence_length: int = 100,
        step_stride: int = 4,
        gather_negatives: bool = False,
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        if sequence_length < 2:
            raise ValueError(f"sequence_length must be at least 2 for a step ahead, got {sequence_length}")
        if step_stride < 1:
            raise ValueError(f"step_stride must be at least 1, got {step_stride}")
        self.save_hyperparameters()
        self.encoder = make_encoder(encoder, input_channels=input_channels, feature_size=feature_size)
        self.context = nn.GRU(feature_size, context_size, context_layers, batch_first=True)
        self.steps = range(1, sequence_length, step_stride)
        # The heads are the blocks of one layer: rows k * feature_size to (k + 1) * feature_size predict self.steps[k].
        self.heads = nn.Linear(context_size, len(self.steps) * feature_size)
        self.feature_size = feature_size
        self.gather_negatives = gather_negatives
        self.learning_rate = learning_rate

    def loss(self, sequences: Tensor) -> dict[str, Tensor]:
        """InfoNCE summed over steps ahead, in nats, the accuracy's mean over them, and both for the nearest step.

        Args:
            sequences: (B, T, C, H, W) with 2 <= T.

        Raises:
            ValueError: for sequences of one frame, or longer than ``sequence_length``.
        """
        length = checked_clips(sequences).shape[1]
        if not 2 <= length <= self.hparams["sequence_length"]:
            raise ValueError(
                f"CPC was built for sequences of 2 to sequence_length={self.hparams['sequence_length']} frames, "
                f"got {length}: set --model.sequence_length and --data.clip_length to the same number"
            )
        features = self(sequences.flatten(0, 1)).unflatten(0, sequences.shape[:2])  # (B, T, feature_size)
        return self.sequence_loss(features)

    def sequence_loss(self, features: Tensor) -> dict[str, Tensor]:
        """The terms of `loss` from features (B, T, feature_size)."""
        contexts, _ = self.context(features)  # (B, T, context_size)
        # Once for all steps ahead, and outside of what is computed again; with it (W * B, T, feature_size).
        keys, first = gather_keys(features) if self.gather_negatives else (features, 0)
        results = [
            # At 6336 x 6336 logits a head needs some 500 MB; kept for all 25 it would be 12 GB, so they are recomputed.
            checkpoint(self._step_loss, index, contexts, keys, first, use_reentrant=False, preserve_rng_state=False)
            for index, step in enumerate(self.steps)
            if step < features.shape[1]
        ]
        losses = torch.stack([result[0] for result in results])
        accuracies = torch.stack([result[1] for result in results])
        return {
            "loss": losses.sum(),
            "accuracy": accuracies.mean(),
            "next_step_loss": losses[0],
            "next_step_accuracy": accuracies[0],
        }

    def _step_loss(self, index: int, contexts: Tensor, keys: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of head ``index``; ``first`` is which sequence of the keys is that of the first context."""
        step = self.steps[index]
        rows = slice(index * self.feature_size, (index + 1) * self.feature_size)
        predictions = F.linear(contexts[:, :-step], self.heads.weight[rows], self.heads.bias[rows])
        logits = pair_logits(predictions.flatten(0, 1), keys[:, step:].flatten(0, 1))
        first_positive = first * (keys.shape[1] - step)
        return (
            infonce(logits, first_positive=first_positive),
            matching_accuracy(logits.detach(), first_positive=first_positive),
        )

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on sequences (B, T, C, H, W) in ``batch["frames"]``."""
        terms = self.loss(batch["frames"])
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out sequences."""
        values = {f"val/{name}": value for name, value in self.loss(batch["frames"]).items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder, the GRU and the heads."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)
