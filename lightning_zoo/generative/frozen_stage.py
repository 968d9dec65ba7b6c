"""A trained generative method inside another: frozen, and described so that it can be built again without its file."""

from contextvars import Context
from importlib import import_module
from inspect import signature
from typing import Any

import lightning as L

from lightning_zoo.checkpoints import load

NEEDED = ("posterior", "decode")
"""What a stage-1 method has to offer, beside `image_shape` and `latent_shape`."""


def build_stage(source: str | dict[str, Any]) -> tuple[L.LightningModule, dict[str, Any]]:
    """A method in evaluation mode, whose parameters take no gradient, and its description.

    Args:
        source: a checkpoint, or a description, which gives the method with weights as they are drawn.

    Returns:
        The method and its description {"method": dotted class name, "arguments": of its constructor}.

    Raises:
        CheckpointError: for a checkpoint that cannot be used.
        ValueError: for a description that names no method, or a method that makes no images.
    """
    # In a context of its own: Lightning hands the outer method's hyperparameters to any module built inside it.
    build: Any = load if isinstance(source, str) else _from_description
    stage: Any = Context().run(build, source)
    name = source if isinstance(source, str) else source["method"]
    if not all(callable(getattr(stage, need, None)) for need in NEEDED):
        raise ValueError(f"stage1: {name} is {type(stage).__name__}, which makes no images; give a VAEGAN or CRVAEGAN")
    height, width = stage.image_shape[1:]
    if height != width:
        raise ValueError(f"stage1: {name} makes images of {height}x{width}; they have to be square")
    stage.requires_grad_(False).eval()
    return stage, _description(stage)


def _description(stage: L.LightningModule) -> dict[str, Any]:
    cls = type(stage)
    known = signature(cls).parameters
    arguments = {name: value for name, value in dict(stage.hparams).items() if name in known}
    return {"method": f"{cls.__module__}.{cls.__qualname__}", "arguments": arguments}


def _from_description(description: dict[str, Any]) -> L.LightningModule:
    try:
        module, _, name = str(description["method"]).rpartition(".")
        cls = getattr(import_module(module), name)
        arguments = dict(description["arguments"])
    except (KeyError, ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"stage1: {description} describes no method; give the path of a checkpoint") from error
    if not (isinstance(cls, type) and issubclass(cls, L.LightningModule)):
        raise ValueError(f"stage1: {description['method']} is no method; give the path of a checkpoint")
    return cls(**arguments)
