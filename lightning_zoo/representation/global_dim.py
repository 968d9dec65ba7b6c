"""Global-T DIM: ST-DIM's ablation that contrasts whole frames only (Anand et al. 2019, section 4, "Global-T-DIM").

The later frame's global features have to find the global features of the frame before it among the batch's earlier
frames; no local features take part.
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import infonce, matching_accuracy, pair_logits
from lightning_zoo.networks.encoders import EncoderName, checked_clips, make_encoder
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class GlobalDIM(FrameEncoder, L.LightningModule):
    """One InfoNCE between the global features of consecutive frames.

    Args:
        encoder: "nature" (published) or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        gather_negatives: under DDP, use the frames of all processes as negatives.
        learning_rate: of Adam with eps 1e-5.
    """

    def __init__(
        self,
        *,
        encoder: EncoderName = "nature",
        input_channels: int = 1,
        feature_size: int = 256,
        gather_negatives: bool = False,
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = make_encoder(encoder, input_channels=input_channels, feature_size=feature_size)
        self.scores = nn.Linear(feature_size, feature_size)
        self.gather_negatives = gather_negatives
        self.learning_rate = learning_rate

    def loss(self, pairs: Tensor) -> dict[str, Tensor]:
        """InfoNCE in nats and the matching accuracy.

        Args:
            pairs: (B, 2, C, H, W), the earlier frame first.
        """
        checked_clips(pairs, 2)
        earlier, later = self(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2]).unbind(1)
        keys, first_positive = gather_keys(earlier) if self.gather_negatives else (earlier, 0)
        logits = pair_logits(self.scores(later), keys)
        return {
            "loss": infonce(logits, first_positive=first_positive),
            "accuracy": matching_accuracy(logits.detach(), first_positive=first_positive),
        }

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on pairs (B, 2, C, H, W) in ``batch["frames"]``."""
        terms = self.loss(batch["frames"])
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out pairs."""
        values = {f"val/{name}": value for name, value in self.loss(batch["frames"]).items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder and the score layer."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)
