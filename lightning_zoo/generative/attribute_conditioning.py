"""What all methods share that draw by attributes: their names, those of a batch and of the data, drawing, decoding.

Attributes are -1 and +1; 0 stands for unknown (thesis, section 6.3.1: "composed of +-1 entries").
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lightning_zoo.generative.images import from_signed

BANK_SIZE = 1024
"""Combinations of attributes that a checkpoint keeps of its training data."""


class AttributedNetwork(Protocol):
    """Networks that read attributes, as `AttributeConditioned` uses them."""

    def attend(self, attributes: Tensor) -> Tensor:
        """What each time step reads (B, T, N)."""

    def prior(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of p(z | a)."""

    def generate_from(self, latent: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1], and u."""


class AttributeConditioned(nn.Module):
    """Mixin of a LightningModule; `condition` comes first, `networks` gives what draws.

    Attributes:
        attribute_names: of the N attributes.
        attribute_bank: int8 (1024, N), combinations of the training data; zeros before any training.
    """

    attribute_bank: Tensor
    hparams: Any
    trainer: Any
    device: Any

    def condition(self, attribute_names: Sequence[str]) -> int:
        """Take the attributes' names, and return how many there are.

        Raises:
            ValueError: if there are none, or two of one name.
        """
        names = tuple(attribute_names)
        if not names:
            raise ValueError("attribute_names is empty: name the data's attributes that the images are drawn by")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"attribute_names has {twice!r} more than once")
        self.attribute_names = names
        self._columns: Tensor | None = None
        self.register_buffer("attribute_bank", torch.zeros(BANK_SIZE, len(names), dtype=torch.int8))
        return len(names)

    def networks(self) -> AttributedNetwork:
        """What draws: the averaged networks, if there are any."""
        raise NotImplementedError(f"{type(self).__name__} has to say which networks draw")

    def setup(self, stage: str) -> None:
        """Find the attributes among those of the data, and keep some combinations of the training data.

        Raises:
            ValueError: if the data have no attributes, or not those that the method was built for.
        """
        data = getattr(self.trainer, "datamodule", None)
        known = list(getattr(data, "attribute_names", None) or [])
        if data is None:
            return
        if not known:
            raise ValueError(
                f"{type(self).__name__} draws by attributes and the data ({type(data).__name__}) have none: use CelebA"
            )
        columns = [_column(name, known, type(data).__name__) for name in self.attribute_names]
        whole = columns == list(range(len(known)))
        self._columns = None if whole else torch.tensor(columns, device=self.device)
        seen = (
            data.attributes_of("train") if stage == "fit" and callable(getattr(data, "attributes_of", None)) else None
        )
        if seen is not None and len(seen):
            rows = torch.arange(BANK_SIZE) * len(seen) // BANK_SIZE
            self.attribute_bank.copy_(seen[rows][:, columns])

    def attributes_of(self, batch: dict[str, Tensor]) -> Tensor:
        """The method's attributes (B, N) of a batch, as floats.

        Raises:
            ValueError: for a batch without attributes, or with another number of them.
        """
        if "attributes" not in batch:
            raise ValueError(f"the batch has {', '.join(sorted(batch))} but no attributes: use data with attributes")
        attributes = batch["attributes"]
        if self._columns is not None:
            attributes = attributes[:, self._columns.to(attributes.device)]
        return self.checked(attributes)

    def named(self, *names: str) -> Tensor:
        """Attributes (N,): +1 of the named ones, -1 of those with a minus before the name, 0 (unknown) of all others.

        Raises:
            ValueError: for a name that the method does not have, with the nearest.
        """
        attributes = torch.zeros(len(self.attribute_names))
        for name in names:
            column = _column(name.removeprefix("-"), list(self.attribute_names), type(self).__name__)
            attributes[column] = -1 if name.startswith("-") else 1
        return attributes

    def checked(self, attributes: Tensor) -> Tensor:
        """Attributes (B, N) as floats on the method's device.

        Raises:
            ValueError: for anything but a tensor, or another shape.
        """
        number = len(self.attribute_names)
        if not isinstance(attributes, Tensor):
            raise ValueError(
                f"attributes must be a tensor (B, {number}) of -1 and +1, got {type(attributes).__name__}; `named` "
                "makes one of names"
            )
        if attributes.dim() != 2 or attributes.shape[1] != number:
            raise ValueError(f"attributes must be (B, {number}), got {tuple(attributes.shape)}")
        return attributes.to(self.device, torch.float32)

    def attribute_steps(self, attributes: Tensor) -> Tensor:
        """What each time step reads of attributes (B, N), (B, T, N)."""
        return self.networks().attend(self.checked(attributes))

    def prior(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of p(z | a), of attributes (B, N)."""
        return self.networks().prior(self.attribute_steps(attributes))

    @torch.no_grad()
    def draw(self, attributes: Tensor, *, truncation: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Latent tensors (B, C, H, W) of p(z | a), their deviations times truncation; noise is drawn on the CPU."""
        mean, log_variance = self.prior(attributes)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return mean + truncation * torch.exp(0.5 * log_variance) * noise

    def decode_steps(self, latent: Tensor, steps: Tensor) -> Tensor:
        """Images (B, C, S, S) in [0, 1] of latent tensors and of what each time step reads (B, T, N)."""
        return from_signed(self.networks().generate_from(latent, steps)[0])

    def decode(self, latent: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) in [0, 1] of latent tensors (B, C, H, W) and attributes (B, N); None are unknown."""
        return self.decode_steps(latent, self.attribute_steps(self.known_or_none(attributes, len(latent))))

    @torch.no_grad()
    def sample(
        self,
        num_images: int,
        *,
        attributes: Tensor | None = None,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images (num_images, C, S, S) in [0, 1].

        Args:
            num_images: how many.
            attributes: (num_images, N) or (N,); None draws combinations of the training data.
            truncation: factor of the latent variables' deviations from the prior's mean.
            generator: of the CPU.

        Raises:
            ValueError: for attributes of another shape.
        """
        if attributes is None:
            attributes = self.attribute_bank.cpu()[torch.randint(BANK_SIZE, (num_images,), generator=generator)]
        one = isinstance(attributes, Tensor) and attributes.dim() == 1
        attributes = self.checked(attributes.expand(num_images, -1) if one else attributes)
        if len(attributes) != num_images:
            raise ValueError(
                f"attributes of {num_images} images must be ({num_images}, N) or (N,), got {tuple(attributes.shape)}"
            )
        latent = self.draw(attributes, truncation=truncation, generator=generator)
        return self.decode(latent, attributes)

    def known_or_none(self, attributes: Tensor | None, number: int) -> Tensor:
        """The attributes (B, N), or zeros where none are known."""
        if attributes is None:
            return torch.zeros(number, len(self.attribute_names), device=self.device)
        return self.checked(attributes)


def _column(name: str, known: list[str], data: str) -> int:
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; the nearest: {', '.join(near)}" if near else ""
    raise ValueError(f"attribute_names: {data} has no {name!r}{hint}")
