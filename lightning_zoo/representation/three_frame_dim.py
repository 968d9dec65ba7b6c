"""ST-DIM on three frames: what its ablation study (Alacchi et al. 2019) proposes in eq. 5 and left untried.

A frame has to find the two that follow it, together, among all pairs of the batch's second and third frames: once from
its global features (GL3), once from its local features (LL3), at every place of a feature map.
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import (
    by_place,
    global_local_logits,
    local_local_logits,
    matching_accuracy,
    three_frame_infonce,
)
from lightning_zoo.networks.encoders import EncoderName, as_float, checked_clips, make_encoder
from lightning_zoo.networks.nature_cnn import Maps
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class ThreeFrameDIM(FrameEncoder, L.LightningModule):
    """InfoNCE over triples of consecutive frames, GL3 + LL3, mean over places.

    The study leaves the score f(a, b, c) of three frames open. Here it is s12(a, b) + s13(a, c) + s23(b, c), each
    bilinear with its own matrix. A pairwise sum is the smallest extension of ST-DIM's bilinear score, and it makes the
    sum over N x N negatives a product of matrices. The term s23 has to be there: without it the denominator factors
    into a sum over second frames times a sum over third frames, and the loss is nothing but two InfoNCE of two frames.
    With it a second and a third frame that each suit the first but not one another are negatives that count.

    Args:
        encoder: "nature" (that of ST-DIM) or "impala"; its own local layer is used.
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        gather_negatives: under DDP, the N x N pairs are those of the frames of all processes.
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
        depth = self.encoder.map_shapes[self.local_layer][0]
        self.global_scores = _pairwise_scores(feature_size, depth)
        self.local_scores = _pairwise_scores(depth, depth)
        self.gather_negatives = gather_negatives
        self.learning_rate = learning_rate

    def loss(self, triples: Tensor) -> dict[str, Tensor]:
        """GL3, LL3 and their sum, in nats, with the accuracy of finding the second frame when the third is known.

        Args:
            triples: (B, 3, C, H, W), the earliest frame first.
        """
        checked_clips(triples, 3)
        maps = self.encoder.maps(as_float(triples.flatten(0, 1), self.encoder.input_channels))
        first_maps = Maps((name, m.unflatten(0, triples.shape[:2])[:, 0]) for name, m in maps.items())
        features = self.encoder.features(first_maps)  # (B, feature_size)
        local = by_place(maps[self.local_layer]).unflatten(0, triples.shape[:2])  # (B, 3, P, C)
        first, followers = local[:, 0].contiguous(), local[:, 1:]
        followers, first_positive = gather_keys(followers) if self.gather_negatives else (followers, 0)
        second, third = (frames.contiguous() for frames in followers.unbind(1))  # (M, P, C), with gathering M = W * B
        terms: dict[str, Tensor] = {}
        for name, scores, anchor in (
            ("global_local", self.global_scores, features),
            ("local_local", self.local_scores, first),
        ):
            first_second = _logits(scores["first_second"], anchor, second)  # (P, B, M)
            first_third = _logits(scores["first_third"], anchor, third)
            second_third = _logits(scores["second_third"], second, third)  # (P, M, M)
            terms[f"{name}_loss"] = three_frame_infonce(
                first_second, first_third, second_third, first_positive=first_positive
            )
            own_third = second_third[..., first_positive : first_positive + len(first)]
            given_third = (first_second + own_third.transpose(-2, -1)).detach()
            terms[f"{name}_accuracy"] = matching_accuracy(given_third, first_positive=first_positive)
        terms["loss"] = terms["global_local_loss"] + terms["local_local_loss"]
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on clips (B, 3, C, H, W) in ``batch["frames"]``."""
        terms = self.loss(batch["frames"])
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out clips."""
        values = {f"val/{name}": value for name, value in self.loss(batch["frames"]).items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder and the score layers."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)


def _pairwise_scores(anchor_size: int, depth: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "first_second": nn.Linear(anchor_size, depth),
            "first_third": nn.Linear(anchor_size, depth),
            "second_third": nn.Linear(depth, depth),
        }
    )


def _logits(scores: nn.Module, queries: Tensor, keys: Tensor) -> Tensor:
    """(P, N, M) of queries (N, D) or (N, P, C), projected by ``scores``, against keys (M, P, C)."""
    if queries.dim() == 2:
        return global_local_logits(scores(queries), keys)
    return local_local_logits(scores(queries), keys)
