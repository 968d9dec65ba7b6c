"""ST-DIM: spatiotemporal Deep InfoMax (Anand et al. 2019, "Unsupervised State Representation Learning in Atari").

The later frame's features have to find the frame before it among the batch's earlier frames, at every place of a
feature map: once from the global feature vector (GL), once from the local features of the same place (LL). The
numbered differences from the paper are in this folder's README.
"""

from collections.abc import Sequence
from typing import Literal

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import (
    by_place,
    global_local_logits,
    infonce,
    local_local_logits,
    matching_accuracy,
)
from lightning_zoo.networks.encoders import EncoderName, as_float, checked_clips, make_encoder
from lightning_zoo.networks.nature_cnn import Maps
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class STDIM(FrameEncoder, L.LightningModule):
    """ST-DIM on pairs of consecutive frames, with the options of its ablation studies.

    Args:
        encoder: "nature" (published) or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        channels: per layer of the encoder; None for its own.
        kernel_sizes: per layer, None for the encoder's own; changes the receptive field of a place.
        strides: per layer, None for the encoder's own; changes the number of places.
        paddings: per layer, None for the encoder's own.
        local_layers: maps that give the local features; several sum their losses (eq. 6 of the ablation study); None
            for the encoder's own ("conv3" or "block3").
        global_local_weight: None for GL + LL (published); p for p GL + (1 - p) LL (eq. 4 of the study); 1 leaves GL
            alone.
        reduction: over the places of a map: "mean" as released, "sum" as the paper's equation reads.
        anchor: which frame of a pair asks: "later" as released, "earlier" as the paper's equation reads.
        per_place_scores: an own GL projection at every place instead of a shared one.
        gather_negatives: under DDP, use the frames of all processes as negatives.
        learning_rate: of Adam with eps 1e-5.

    Raises:
        ValueError: for a weight outside [0, 1] or a layer that the encoder has not.
    """

    def __init__(
        self,
        *,
        encoder: EncoderName = "nature",
        input_channels: int = 1,
        feature_size: int = 256,
        channels: Sequence[int] | None = None,
        kernel_sizes: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        paddings: Sequence[int] | None = None,
        local_layers: Sequence[str] | None = None,
        global_local_weight: float | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        anchor: Literal["later", "earlier"] = "later",
        per_place_scores: bool = False,
        gather_negatives: bool = False,
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        if global_local_weight is not None and not 0 <= global_local_weight <= 1:
            raise ValueError(f"global_local_weight must lie in [0, 1] or be null (GL + LL), got {global_local_weight}")
        self.save_hyperparameters()
        self.encoder = make_encoder(
            encoder,
            input_channels=input_channels,
            feature_size=feature_size,
            channels=channels,
            kernel_sizes=kernel_sizes,
            strides=strides,
            paddings=paddings,
        )
        self.local_layers = list(local_layers or [self.encoder.default_local_layer])
        unknown = set(self.local_layers) - set(self.encoder.map_shapes)
        if unknown:
            known = ", ".join(self.encoder.map_shapes)
            raise ValueError(f"local_layers: {sorted(unknown)[0]!r} is no map of this encoder, which has {known}")
        self.global_scores = nn.ModuleDict()
        self.local_scores = nn.ModuleDict()
        for layer in self.local_layers:
            depth, height, width = self.encoder.map_shapes[layer]
            # No place has its own projection in the released method; with them there are P times as many outputs.
            outputs = depth * height * width if per_place_scores else depth
            self.global_scores[layer] = nn.Linear(feature_size, outputs)
            self.local_scores[layer] = nn.Linear(depth, depth)
        weight = global_local_weight
        self.loss_weights = (1.0, 1.0) if weight is None else (weight, 1.0 - weight)
        self.places_in_sum = reduction == "sum"
        self.anchor_index = 1 if anchor == "later" else 0
        self.gather_negatives = gather_negatives
        self.learning_rate = learning_rate

    def loss(self, pairs: Tensor, *, accuracies: bool = True) -> dict[str, Tensor]:
        """GL, LL and their weighted sum (eq. 2, 4 and 6), in nats, with the matching accuracies.

        Args:
            pairs: (B, 2, C, H, W), the earlier frame first.
            accuracies: without them the loss takes a tenth less time.
        """
        checked_clips(pairs, 2)
        maps = self.encoder.maps(as_float(pairs.flatten(0, 1), self.encoder.input_channels))
        anchors = {name: m.unflatten(0, pairs.shape[:2])[:, self.anchor_index] for name, m in maps.items()}
        others = {name: m.unflatten(0, pairs.shape[:2])[:, 1 - self.anchor_index] for name, m in maps.items()}
        features = self.encoder.features(Maps(anchors))  # (B, feature_size)
        totals: dict[str, Tensor] = {}
        for layer in self.local_layers:
            for name, value in self._layer_loss(layer, features, anchors[layer], others[layer], accuracies).items():
                mean = name.endswith("accuracy")
                totals[name] = totals.get(name, 0) + (value / len(self.local_layers) if mean else value)
        weight_global, weight_local = self.loss_weights
        totals["loss"] = weight_global * totals["global_local_loss"] + weight_local * totals["local_local_loss"]
        return totals

    def _layer_loss(
        self, layer: str, features: Tensor, anchor_map: Tensor, other_map: Tensor, accuracies: bool
    ) -> dict[str, Tensor]:
        local, keys = by_place(anchor_map), by_place(other_map)  # (B, P, C)
        keys, first_positive = gather_keys(keys) if self.gather_negatives else (keys, 0)  # with it (W * B, P, C)
        queries = self.global_scores[layer](features)  # (B, C) or (B, P * C)
        if queries.shape[1] != local.shape[2]:
            queries = queries.unflatten(1, local.shape[1:])
        global_logits = global_local_logits(queries, keys)
        local_logits = local_local_logits(self.local_scores[layer](local), keys)
        scale = local.shape[1] if self.places_in_sum else 1
        terms: dict[str, Tensor] = {}
        for name, logits in (("global_local", global_logits), ("local_local", local_logits)):
            terms[f"{name}_loss"] = scale * infonce(logits, first_positive=first_positive)
            if accuracies:
                terms[f"{name}_accuracy"] = matching_accuracy(logits.detach(), first_positive=first_positive)
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on pairs (B, 2, C, H, W) in ``batch["frames"]``."""
        terms = self.loss(batch["frames"], accuracies=logs_now(self))
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out pairs."""
        terms = self.loss(batch["frames"])
        values = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the encoder and the score layers."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)
