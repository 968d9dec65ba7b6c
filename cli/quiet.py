"""Keeps known noise of the libraries off the terminal; everything that a user can act on stays."""

import logging
import warnings

WARNINGS = (
    ".*LeafSpec.*",  # lightning with torch 2.15
    "The number of training batches .* is smaller than the logging interval",
    "The '.*_dataloader' does not have many workers",  # frames are gathered by index, workers would only copy
    "Using ModelCheckpoint with manual optimization",
    "Experiment logs directory .* exists and is not empty",  # a resumed run; RunFolder keeps its metrics
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed",
    "You're resuming from a checkpoint that ended before the epoch ended",  # our loaders know their place
    "Found .* module.* in eval mode at the start of training",
)

LINES = (
    "Tip:",
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "Seed set to",
    "Restor",
    "Loaded model weights",
    "`Trainer.fit` stopped",
    "LOCAL_RANK",
    "Initializing distributed",
    "distributed_backend=",
    "Detected KeyboardInterrupt",
    "not found. Creating it.",
)


def quiet() -> None:
    """Drop the warnings and log lines above, in this process."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not any(line in text for line in LINES)
