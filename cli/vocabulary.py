"""The right names that a misspelt one is compared with: options, classes, and the arguments of the chosen classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from datamodules import DATASETS
from lightning_zoo import METHODS

from .errors import UsageError
from .explain import explain
from .find_config import find_config, read_yaml

_BASES: dict[str, type] = {
    "model": L.LightningModule,
    "data": L.LightningDataModule,
    "trainer.callbacks": Callback,
    "trainer.logger": Logger,
}
_OURS = {"model": METHODS, "data": DATASETS}


def explain_words(message: str, words: Sequence[str], options: Iterable[str]) -> str:
    """One line for the parser's `message`, with the nearest name that would have been right.

    Args:
        message: What jsonargparse says.
        words: The command line.
        options: The parser's dotted options, without the dashes.
    """
    classes = {key: [*_OURS.get(key, ()), *(cls.__name__ for cls in _subclasses(base))] for key, base in _BASES.items()}
    parameters = {key: list(_parameters(key, words)) for key in _BASES}
    dotted = [f"{key}.{name}" for key in _OURS for name in parameters[key]]
    return explain(message, [*options, *dotted], classes, parameters)


def _subclasses(base: type) -> Iterator[type]:
    cls: type
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _parameters(key: str, words: Sequence[str]) -> set[str]:
    """Arguments of the class chosen for `key`; of every possible class where none is, or several are, chosen."""
    chosen = {name.rpartition(".")[2] for name in _chosen(key, words)} if key in _OURS else set()
    subclasses = list(_subclasses(_BASES[key]))
    matching = [cls for cls in subclasses if cls.__name__ in chosen] or subclasses
    return {name for cls in matching for name in inspect.signature(cls).parameters}


def _chosen(key: str, words: Sequence[str]) -> list[str]:
    """The last class path that the command line or one of its configs gives for `key`, in a list."""
    last: list[str] = []
    options = list(_options(words))
    for option, value in options:
        if option in ("-c", "--config"):
            with suppress(UsageError):
                last = _in_config(read_yaml(find_config(value)), key) or last
        elif option in (f"--{key}", f"--{key}.class_path"):
            last = [value]
    return last


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, word in enumerate(words):
        name, mark, value = word.partition("=")
        if not mark:
            value = words[index + 1] if index + 1 < len(words) else ""
        yield name, value


def _in_config(content: dict[str, Any], key: str) -> list[str]:
    entry = content.get(key)
    path = entry.get("class_path") if isinstance(entry, dict) else entry
    return [path] if isinstance(path, str) else []
