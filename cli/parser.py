"""Parsers that answer a mistake with one line: what is wrong, and the nearest right name."""

from __future__ import annotations

from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]
from jsonargparse import ActionConfigFile, ArgumentParser, Path

from .errors import UsageError
from .explain import explain
from .find_config import find_config, read_yaml

CLASSES = "classes"
"""Key of an overlay under which arguments stand by class name."""


class PackagedConfigFile(ActionConfigFile):
    """`--config NAME`: a file here, or one that the package brings."""

    def __call__(self, parser: ArgumentParser, cfg: Any, values: str, option_string: str | None = None) -> None:  # type: ignore[override]
        """Read the file that `values` names into `cfg`; of its `classes`, the arguments of those that are used."""
        file = find_config(values)
        content = read_yaml(file)
        if CLASSES not in content:
            super().__call__(parser, cfg, str(file), option_string)
            return
        super().__call__(parser, cfg, yaml.safe_dump(for_classes(content, cfg, file)), option_string)
        cfg[self.dest][-1] = Path(str(file), mode="fr")


def for_classes(overlay: dict[str, Any], cfg: Any, file: Any) -> dict[str, Any]:
    """An overlay with the arguments for the method and the dataset of `cfg` in place of those by class.

    Args:
        overlay: top-level keys apply to every run; `classes` maps class names to arguments that apply to runs with that
            class and, under `data` and `trainer`, to arguments of the dataset and the trainer in such runs.
        cfg: what the configs before it said.
        file: of the overlay, for the message.

    Raises:
        UsageError: if no config before it names a class.
    """
    merged = {key: value for key, value in overlay.items() if key != CLASSES}
    named = {part: str((cfg.get(part) or {}).get("class_path") or "").rpartition(".")[2] for part in ("model", "data")}
    if not any(named.values()):
        raise UsageError(f"{file.name} changes a config: put a config with `class_path` before the overlay.")
    for part, name in reversed(named.items()):  # what a method asks of the data wins
        arguments = dict(overlay[CLASSES].get(name) or {})
        merged["trainer"] = merged.get("trainer", {}) | (arguments.pop("trainer", None) or {})
        data = arguments.pop("data", None) or {}
        for target, values in ((part, arguments), ("data", data)):
            if values:
                merged[target] = {"init_args": merged.get(target, {}).get("init_args", {}) | values}
    return merged


class OneLineParser(ArgumentParser):
    """A parser whose errors are `UsageError`s instead of pages of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `UsageError` with one line that names the nearest right option."""
        options = [name.lstrip("-") for action in self._actions for name in action.option_strings]
        # Packaged configs are for the trainer's commands.
        line = explain(message, options).replace("--config NAME (`lightning_zoo list` shows them) or ", "")
        raise UsageError(line) from ex
