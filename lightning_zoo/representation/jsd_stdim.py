"""JSD-ST-DIM: ST-DIM with the Jensen-Shannon estimate (Anand et al. 2019, "JSD-ST-DIM"; the loss: Hjelm et al. 2019).

A classifier tells the frame before this one from a random frame of the same episode, at every place of a feature map:
once from the global features (GL), once from the local features of the same place (LL).
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.jsd import binary_accuracy, jsd_loss, place_scores
from lightning_zoo.networks.encoders import EncoderName, as_float, checked_clips, make_encoder
from lightning_zoo.networks.nature_cnn import Maps
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class JSDSTDIM(FrameEncoder, L.LightningModule):
    """Binary cross-entropy on bilinear scores, GL + LL, with one negative per pair.

    Args:
        encoder: "nature" (published) or "impala"; its own local layer is used.
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        learning_rate: of Adam with eps 1e-5.
    """

    def __init__(
        self,
        *,
        encoder: EncoderName = "nature",
        input_channels: int = 1,
        feature_size: int = 256,
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = make_encoder(encoder, input_channels=input_channels, feature_size=feature_size)
        self.local_layer = self.encoder.default_local_layer
        depth = self.encoder.map_shapes[self.local_layer][0]
        self.global_scores = nn.Bilinear(feature_size, depth, 1)
        self.local_scores = nn.Bilinear(depth, depth, 1)
        self.learning_rate = learning_rate

    def loss(self, pairs: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """GL, LL and their sum, in nats, with the accuracies of both classifiers and their mean.

        Args:
            pairs: (B, 2, C, H, W), the earlier frame first.
            negatives: (B, C, H, W), another frame of each pair's episode.
        """
        triples = torch.cat([checked_clips(pairs, 2), negatives.unsqueeze(1)], dim=1)  # (B, 3, C, H, W)
        maps = self.encoder.maps(as_float(triples.flatten(0, 1), self.encoder.input_channels))
        later = Maps((name, m.unflatten(0, triples.shape[:2])[:, 1]) for name, m in maps.items())
        local = maps[self.local_layer].flatten(2).unflatten(0, triples.shape[:2])  # (B, 3, C, P)
        earlier_local, later_local, random_local = local.unbind(1)
        terms: dict[str, Tensor] = {}
        for name, scores, anchor in (
            ("global_local", self.global_scores, self.encoder.features(later)),
            ("local_local", self.local_scores, later_local),
        ):
            positive = place_scores(scores, anchor, earlier_local)
            negative = place_scores(scores, anchor, random_local)
            terms[f"{name}_loss"] = jsd_loss(positive, negative)
            terms[f"{name}_accuracy"] = binary_accuracy(positive, negative)
        terms["accuracy"] = (terms["global_local_accuracy"] + terms["local_local_accuracy"]) / 2
        terms["loss"] = terms["global_local_loss"] + terms["local_local_loss"]
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on pairs (B, 2, C, H, W) in ``batch["frames"]`` and ``batch["negatives"]`` (B, C, H, W)."""
        terms = self.loss(batch["frames"], _negatives(batch))
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out pairs."""
        terms = self.loss(batch["frames"], _negatives(batch))
        values = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder and the score layers."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)


def _negatives(batch: dict[str, Tensor]) -> Tensor:
    if "negatives" not in batch:
        raise ValueError("JSDSTDIM needs a random frame per pair in the batch: set --data.same_episode_negatives true")
    return batch["negatives"]
