"""Networks that turn images into features and class probabilities, by which sets of images are compared.

`make_extractor` builds one from a short text. All take float images in [0, 1] of any size and resize them themselves,
as each class says, so that real and generated images always go the same way.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import CheckpointError, load_encoder, read
from lightning_zoo.extras import require

INCEPTION = "inception:"
_SEED = 20_180_607
_COLOURS = {1: "gray", 3: "colour"}
_LUMA = (0.299, 0.587, 0.114)


class Extractor(nn.Module):
    """What metrics ask of a network; it never trains, is always in evaluation mode and builds no graph.

    Attributes:
        description: which network it is and how it resizes, in words.
        num_classes: of its logits; None where it has none, so that there is no inception score.
    """

    description: str
    num_classes: int | None = None

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, F) and logits (B, num_classes), both float32, of float images (B, C, H, W) in [0, 1]."""
        with torch.no_grad():
            features, logits = self._extract(images.float().clamp(0, 1))
        return features.float(), None if logits is None else logits.float()

    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The features alone."""
        return self.extract(images)[0]

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    @property
    def identity(self) -> str:
        """A hash of the weights and of how images are resized: equal for extractors that give equal features."""
        digest = hashlib.sha256(self._preparation().encode())
        for name, values in sorted(self.state_dict().items()):
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def _preparation(self) -> str:
        return type(self).__name__


class RandomExtractor(Extractor):
    """Means over places of three random convolutions' maps; needs no training and no file.

    Features are the same in every run and on every machine. They serve to watch one run: falling distances mean that
    images come closer to the data, but values compare with no published ones and with none of another extractor.
    Images are resized to 64x64 by torch's bilinear interpolation with antialiasing; gray ones count as three equal
    colours.
    """

    size = 64
    description = "random convolutions with a fixed seed at 64x64; comparable within one dataset alone"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        self.kernels = nn.ParameterList()
        for before, after in ((3, 32), (32, 64), (64, 128)):
            kernel = torch.randn(after, before, 4, 4, generator=generator)
            kernel -= kernel.mean((1, 2, 3), keepdim=True)
            self.kernels.append(nn.Parameter(kernel * (2 / (before * 16)) ** 0.5, requires_grad=False))

    def _extract(self, images: Tensor) -> tuple[Tensor, None]:
        maps = _resized(_with_channels(images, 3), self.size) * 2 - 1
        means = []
        for kernel in self.kernels:
            maps = F.relu(F.conv2d(maps, kernel, stride=2, padding=1))
            means.append(maps.mean((2, 3)))
        return torch.cat(means, 1), None


class EncoderExtractor(Extractor):
    """Any method of ours with ``encode``; a `Classifier` gives its logits too.

    Images are resized to the method's ``image_shape`` by torch's bilinear interpolation with antialiasing, colours
    become gray by their luma, and gray images three equal colours. A method without ``image_shape`` gets the images as
    they are.

    Args:
        module: the method.
        name: what to call it.
    """

    def __init__(self, module: nn.Module, name: str = "") -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        shape = getattr(module, "image_shape", None)
        self.image_shape = None if shape is None else cast(tuple[int, int, int], tuple(shape))
        # With several labels per image there is no one distribution over classes.
        single = callable(getattr(module, "logits_of", None)) and getattr(module, "num_labels", 0) == 1
        self.num_classes = int(cast(Any, module).num_classes) if single else None
        size = "" if self.image_shape is None else f" at {self.image_shape[1]}x{self.image_shape[2]}"
        self.description = f"{type(module).__name__} {name}".rstrip() + size
        super().train(False)

    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.image_shape is not None:
            images = _resized(_with_channels(images, self.image_shape[0]), *self.image_shape[1:])
        module = cast(Any, self.module)
        features = module.encode(images).flatten(1)
        return features, module.logits_of(features).flatten(1) if self.num_classes else None

    def _preparation(self) -> str:
        return f"{type(self.module).__name__} {self.image_shape}"


class InceptionExtractor(Extractor):
    """Inception-v3 of 2015, whose 2048 features and 1008 classes published distances and scores use.

    The network is torch-fidelity's, as is its resizing to 299x299: bilinear as TensorFlow 1 had it, without
    antialiasing, on images rounded to 8 bits. Logits are without the last bias, as in the published scores.

    Args:
        path: torch-fidelity's file of weights.

    Raises:
        MissingExtraError: if torch-fidelity is not installed.
        CheckpointError: if the file is missing, or holds anything but these weights.
    """

    num_classes = 1008

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        require("torch_fidelity")
        networks = require("torch_fidelity.feature_extractor_inceptionv3")
        _check_plain_weights(path)  # torch-fidelity itself reads the file with code in it allowed
        try:
            self.network = networks.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"extractor: {path} has not the weights of torch-fidelity: {reason}") from error
        self.description = f"Inception-v3 {Path(path).name} at 299x299"

    def _extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (_with_channels(images, 3) * 255).round().to(torch.uint8)
        features, logits = self.network(pixels)
        return features, logits


def make_extractor(spec: str) -> Extractor:
    """Build an extractor.

    Args:
        spec: "random"; the path of a checkpoint of `Classifier`, or of any method with ``encode``; or
            "inception:PATH", the path of torch-fidelity's Inception weights.

    Raises:
        CheckpointError: if a file is missing or not what it should be; one line.
        MissingExtraError: if a package is missing.
    """
    if spec == "random":
        return RandomExtractor()
    if spec.startswith(INCEPTION):
        return InceptionExtractor(spec.removeprefix(INCEPTION))
    if not Path(spec).is_file():
        raise CheckpointError(f"extractor: no file {spec}; give a checkpoint, inception:PATH, or random")
    read(spec)
    return EncoderExtractor(load_encoder(spec), Path(spec).name)


def extract_all(extractor: Extractor, batches: Any, number: int, device: str | torch.device) -> dict[str, Tensor]:
    """Features and logits of the first images of several batches, on the CPU.

    Args:
        extractor: on ``device``.
        batches: of images (B, C, H, W), uint8 or float in [0, 1]; no more of them are drawn than are needed.
        number: how many images; fewer where there are not as many.
        device: where to compute.

    Returns:
        "features" (N, F) and, if there are any, "logits" (N, num_classes).
    """
    parts: dict[str, list[Tensor]] = {"features": []}
    left = number
    for images in batches:
        images = images[:left].to(device)
        features, logits = extractor.extract(as_unit(images))
        parts["features"].append(features.cpu())
        if logits is not None:
            parts.setdefault("logits", []).append(logits.cpu())
        left -= len(images)
        if left <= 0:
            break
    return {name: torch.cat(values) for name, values in parts.items()}


def as_unit(images: Tensor) -> Tensor:
    """Images as float in [0, 1]; uint8 is divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if channels == 1 and images.shape[1] == 3:
        return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    wanted, got = _COLOURS.get(channels, str(channels)), images.shape[1]
    raise ValueError(f"the extractor takes {wanted} images, these have {got} channels")


def _resized(images: Tensor, height: int, width: int | None = None) -> Tensor:
    size = (height, width or height)
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _check_plain_weights(path: str | Path) -> None:
    if not Path(path).is_file():
        raise CheckpointError(
            f"extractor: no file {path} of Inception weights; it is torch-fidelity's "
            "weights-inception-2015-12-05-6726825d.pth"
        )
    load: Callable[..., Any] = torch.load
    try:
        load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as there are places where a file can break off
        raise CheckpointError(f"extractor: {path} is damaged or no file of plain weights") from error
