"""Static DIM: Deep InfoMax inside one frame (Hjelm et al. 2019; as a baseline in Anand et al. 2019, "Static-DIM").

A frame's global features have to find the local features of the same frame among the batch, at every place. No time
takes part: a frame can be told from others by anything in it, also by what never moves.
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import by_place, global_local_logits, infonce, matching_accuracy
from lightning_zoo.networks.encoders import EncoderName, as_float, checked_images, make_encoder
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class StaticDIM(FrameEncoder, L.LightningModule):
    """Global-local InfoNCE within the same frame, mean over places.

    Args:
        encoder: "nature" (published) or "impala"; its own local layer is used.
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
        self.local_layer = self.encoder.default_local_layer
        self.scores = nn.Linear(feature_size, self.encoder.map_shapes[self.local_layer][0])
        self.gather_negatives = gather_negatives
        self.learning_rate = learning_rate

    def loss(self, frames: Tensor) -> dict[str, Tensor]:
        """InfoNCE in nats and the matching accuracy.

        Args:
            frames: (B, C, H, W), or clips (B, T, C, H, W) whose last frame is used (the later of a pair, as released).
        """
        images = checked_images(frames[:, -1] if frames.dim() == 5 else frames)
        maps = self.encoder.maps(as_float(images, self.encoder.input_channels))
        keys = by_place(maps[self.local_layer])  # (B, P, C)
        keys, first_positive = gather_keys(keys) if self.gather_negatives else (keys, 0)
        logits = global_local_logits(self.scores(self.encoder.features(maps)), keys)
        return {
            "loss": infonce(logits, first_positive=first_positive),
            "accuracy": matching_accuracy(logits.detach(), first_positive=first_positive),
        }

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on images or clips in ``batch["frames"]``."""
        terms = self.loss(batch["frames"])
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out frames."""
        values = {f"val/{name}": value for name, value in self.loss(batch["frames"]).items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder and the score layer."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)
