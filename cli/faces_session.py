"""The faces page without the page: drawing, picking, drawing one block again, taking back, saving and opening."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .attribute_labels import readable
from .errors import UsageError
from .face_codes import SUFFIX, Code, Origin, read_code, write_code

if TYPE_CHECKING:
    import torch
    from torch import Tensor

REMEMBERED = 50
"""Steps that can be taken back."""


VISIBLE = 2.0
"""Levels of 255 that a picture changes by on average where people see that it does."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face.

    Attributes:
        latent: (C, h, w).
        attributes: (N,) in {-1, +1}.
        image: (C, H, W) uint8.
    """

    latent: Tensor
    attributes: Tensor
    image: Tensor


@dataclass(frozen=True, eq=False)
class Session:
    """What one visitor of the page sees; each action gives a new one.

    Attributes:
        candidates: the faces on show.
        shown: what they are, in a line.
        picked: which of them is the current face, if one is.
        current: the face that was picked last.
        notice: what there is to say about the last action.
        draws: actions so far that drew; each draws from a seed of its own, also after a step back.
        past: sessions before this one, the last one last.
    """

    candidates: tuple[Face, ...] = ()
    shown: str = ""
    picked: int | None = None
    current: Face | None = None
    notice: str = ""
    draws: int = 0
    past: tuple[Session, ...] = ()

    def then(self, **changes: Any) -> Session:
        """The session after an action, which can be taken back."""
        before = (*self.past, replace(self, past=()))[-REMEMBERED:]
        return replace(self, **({"notice": "", "past": before} | changes))

    def saying(self, notice: str) -> Session:
        """The same with another notice."""
        return replace(self, notice=notice)

    def back(self) -> Session:
        """The session before the last action."""
        if not self.past:
            return self.saying("There is nothing to undo.")
        return replace(self.past[-1], past=self.past[:-1], draws=self.draws, notice="Undone.")


class FaceMaker:
    """What the actions need: the method, where its saved faces go, and the seed.

    Args:
        model: a conditional method in evaluation mode.
        origin: what saved codes belong to.
        folder: for saved pictures and codes.
        seed: of all that is drawn.
    """

    def __init__(self, model: Any, origin: Origin, folder: Path, seed: int = 0) -> None:
        import torch

        from lightning_zoo.generative.attribute_choice import fill_in
        from lightning_zoo.generative.block_resampling import block_effects

        self.model = model
        self.origin = origin
        self.folder = folder
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        self.effects: list[float] = block_effects(
            model, fill_in({}, model.attribute_bank, 4, generator), generator
        ).tolist()

    def propose(self, session: Session, wanted: dict[int, int], *, number: int = 16, spread: float = 1.0) -> Session:
        """Independent draws from the prior of combinations that have what is wanted (column to -1 or +1).

        Args:
            session: so far.
            wanted: what is not in it is filled in, for each face anew, from combinations seen in training.
            number: of faces.
            spread: factor of the latents' deviations from the prior's mean.
        """
        import torch

        from lightning_zoo.generative.attribute_choice import contradictions, fill_in
        from lightning_zoo.generative.block_resampling import draw_latents_of

        generator = self._generator(session)
        attributes = fill_in(wanted, self.model.attribute_bank, number, generator)
        latents = draw_latents_of(self.model, attributes, generator, spread)
        named = torch.tensor([float(wanted.get(column, 0)) for column in range(attributes.shape[1])])
        found = contradictions(named, self.origin.attribute_names)
        pairs = ", ".join(" with ".join(map(readable, pair.split(" with "))) for pair in found)
        return session.then(
            candidates=self._faces(latents, attributes),
            shown=f"{number} faces, each drawn by itself. Click the one you like.",
            picked=None,
            notice=f"Contradictory attributes, drawn all the same: {pairs}." if found else "",
            draws=session.draws + 1,
        )

    def pick(self, session: Session, index: int) -> Session:
        """The candidate becomes the current face."""
        if not 0 <= index < len(session.candidates):
            return session.saying("That face is gone; pick one of those on show.")
        if index == session.picked:
            return session.saying("")
        return session.then(picked=index, current=session.candidates[index])

    def resample(self, session: Session, block: int, *, share: float, number: int = 16, spread: float = 1.0) -> Session:
        """Variants of the current face: block z_t, counted from 1, moved by a share of the way to new ones.

        Args:
            session: so far.
            block: t.
            share: of the way, 0 to 1.
            number: of variants.
            spread: factor of the new blocks' deviations from the prior's mean.
        """
        from lightning_zoo.generative.block_resampling import resample_block

        face = session.current
        if face is None:
            return session.saying("Pick a face first: click one of those on show.")
        latents = face.latent.expand(number, *face.latent.shape)
        attributes = face.attributes.expand(number, -1)
        drawn: dict[str, Any] = {"spread": spread, "generator": self._generator(session)}
        moved = resample_block(self.model, latents, attributes, block, share=share, **drawn)
        what = f"block {block}" if self.model.num_steps > 1 else "its whole latent tensor"
        return session.then(
            candidates=self._faces(moved, attributes),
            shown=f"{number} variants of the picked face: {what} moved by {share:.0%}. Click the one you like.",
            picked=None,
            draws=session.draws + 1,
        )

    def save(self, session: Session) -> Session:
        """Write the current face as a picture and a code of the same name; the notice says where."""
        if session.current is None:
            return session.saying("There is no face to save: click one of those on show.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._unused()
            write_code(file.with_suffix(SUFFIX), session.current.latent, session.current.attributes, self.origin)
            write_picture(file, session.current.image)
        except OSError as error:
            return session.saying(f"{self.folder} cannot be written: {error.strerror}; give another --output.")
        return session.saying(f"Saved {file} and {file.with_suffix(SUFFIX).name}.")

    def open(self, session: Session, file: Path) -> Session:
        """The face of a saved code becomes the current one; the notice says why where it cannot."""
        try:
            code = read_code(file, self.origin)
        except UsageError as error:
            return session.saying(str(error))
        (face,) = self._faces(code.latent[None], code.attributes[None])
        return session.then(current=face, picked=None, notice=f"Opened {file.name}.{self._elsewhere(code)}")

    def block_names(self) -> list[str]:
        """A line for each block: by how many levels of 255 it changes a picture, and what attends to it most."""
        attended = self._attended()
        if self.model.num_steps == 1:
            return [f"The whole latent tensor ({self.effects[0]:.1f}): this method has no blocks"]
        names = []
        for step, effect in enumerate(self.effects, start=1):
            own = f": {attended[step - 1]}" if attended and attended[step - 1] else ""
            names.append(f"Block {step} ({effect:.1f}){own}")
        return names

    def gentle_block(self) -> int:
        """Of the blocks that change the picture visibly the one in the middle, counted from 1; else the strongest."""
        order = sorted(range(len(self.effects)), key=self.effects.__getitem__)
        seen = [block for block in order if self.effects[block] >= VISIBLE] or order[-1:]
        return seen[(len(seen) - 1) // 2] + 1

    def _elsewhere(self, code: Code) -> str:
        """A sentence for a code that another checkpoint drew, such as the same method before it grew."""
        if code.checkpoint == self.origin.checkpoint:
            return ""
        sizes = [" x ".join(map(str, shape[1:])) for shape in (code.image_shape, self.origin.image_shape)]
        where = "" if sizes[0] == sizes[1] else f", of {sizes[0]} pixels where this one draws {sizes[1]}"
        return f" It was saved from another checkpoint{where}: the picture may differ."

    def _attended(self) -> list[str]:
        """By block, the attributes whose attention is most on it, those with the most first."""
        if not callable(getattr(self.model, "attention", None)):
            return []
        mask = self.model.attention().detach().float().cpu()
        owners = mask.argmax(0).tolist()
        lines = []
        for step in range(self.model.num_steps):
            own = [column for column, owner in enumerate(owners) if owner == step]
            own.sort(key=mask[step].tolist().__getitem__, reverse=True)
            names = [readable(self.origin.attribute_names[column]) for column in own]
            lines.append(", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3))
        return lines

    def _faces(self, latents: Tensor, attributes: Tensor) -> tuple[Face, ...]:
        from lightning_zoo.generative.block_resampling import draw_images

        images = draw_images(self.model, latents, attributes)
        return tuple(Face(*parts) for parts in zip(latents, attributes, images, strict=True))

    def _generator(self, session: Session) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(self.seed * 1_000_003 + session.draws)

    def _unused(self) -> Path:
        number = 1
        while any((self.folder / f"face_{number:03d}{suffix}").exists() for suffix in (".png", SUFFIX)):
            number += 1
        return self.folder / f"face_{number:03d}.png"


def write_picture(file: Path, image: Tensor) -> None:
    """Write an image (C, H, W) uint8 as PNG, complete or not at all."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(png(image))
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def png(image: Tensor) -> bytes:
    """An image (C, H, W) uint8, of one channel or three, as the content of a PNG file."""
    from io import BytesIO

    from PIL import Image

    pixels = image.permute(1, 2, 0).contiguous().numpy()
    stream = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "png", compress_level=1)
    return stream.getvalue()
