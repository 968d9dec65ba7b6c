"""The labelled frames that a checkpoint is probed on."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError

if TYPE_CHECKING:
    from datamodules.atari_frames import AtariFrames

BATCH_SIZE = 64


def trained_on(checkpoint: dict[str, Any], path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the Atari frames that a checkpoint was trained on; none if it says nothing of its data.

    Raises:
        CheckpointError: if it was trained on other data, and no game is named to probe it on.
    """
    from .image_data import data_name

    arguments = dict(checkpoint.get("datamodule_hyper_parameters", {}))
    if not arguments or "game" in arguments:
        return arguments
    if options.get("game") is None:
        data = data_name(checkpoint) or "other data"
        raise CheckpointError(
            f"{path} was trained on {data}; probes read the state of Atari games: name frames that it can encode with "
            "--game"
        )
    return {}


def labelled_frames(trained_on: dict[str, Any], options: dict[str, Any]) -> AtariFrames:
    """What to probe on, not yet collected: the arguments of the checkpoint's data, with the options that are not None.

    Raises:
        DataError: for an unknown game, or one without labels.
        UsageError: for an option out of range.
    """
    from datamodules.atari_frames import AtariFrames
    from datamodules.atari_games import state_variables

    known = inspect.signature(AtariFrames).parameters
    arguments = {name: value for name, value in trained_on.items() if name in known}
    arguments |= {name: value for name, value in options.items() if value is not None}
    arguments |= {"serve": "labelled", "same_episode_negatives": False, "batch_size": BATCH_SIZE}
    try:
        data = AtariFrames(**arguments)
    except ValueError as error:
        raise UsageError(str(error).replace("num_frames", "--num_probe_frames")) from error
    state_variables(data.game)  # before minutes go into frames that have no labels
    return data


def check_held_out(module: Any, trained_on: dict[str, Any], data: AtariFrames, options: dict[str, Any]) -> None:
    """Let a classifier be scored only on the test split of its own recording, so on no frame that it has learned.

    Raises:
        CheckpointError: if an option changes the recording, the labels or the splits, or if the checkpoint does not
            say what they were.
    """
    name = type(module).__name__
    if not trained_on:
        raise CheckpointError(f"{name} does not say which frames it was trained on; train it with `lightning_zoo fit`")
    if _recording_and_splits(data) == _recording_and_splits(labelled_frames(trained_on, {})):
        return
    given = [f"--{option}" for option, value in options.items() if value is not None and option != "root"]
    raise CheckpointError(
        f"{' '.join(given)}: {name} learned labels and is scored on the held-out part of its own frames alone; leave "
        "out what changes them, or train it anew with these settings"
    )


def collect(data: AtariFrames) -> AtariFrames:
    """Collect the frames if they are missing, and cut them into splits.

    Raises:
        DataError: if they cannot be read or split.
        UsageError: if they do not fill one batch of the probes.
    """
    from datamodules.errors import DataError

    data.prepare_data()
    try:
        data.setup()
    except DataError as error:
        # The message names the options of `fit`.
        message = str(error).replace("--data.num_frames and ", "").replace("--data.num_probe", "--num_probe")
        raise DataError(message) from error
    rows = len(data.labelled["train"].rows)
    if rows < BATCH_SIZE:
        raise UsageError(
            f"--num_probe_frames {data.settings.num_frames} leaves {rows} frames to train on, less than a batch of "
            f"{BATCH_SIZE}: give more"
        )
    return data


def is_classifier(module: Any) -> bool:
    """Whether a module names the values of its own variables, so that it needs no probes."""
    return callable(getattr(module, "predict", None)) and "variables" in getattr(module, "hparams", {})


def _recording_and_splits(data: AtariFrames) -> tuple[Any, ...]:
    # How frames are drawn from a split moves none to another split.
    return data.settings, replace(data.protocol, sampling="frame", test_sampling="once"), data.seed
