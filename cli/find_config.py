"""Where `--config NAME` is looked for: the working directory, then the configs that the package brings."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from .errors import UsageError, nearest

CONFIGS = Path(str(files("lightning_zoo") / "configs"))
"""The packaged configs, `<method>_<dataset>.yaml`; each is complete but for `defaults.yaml`."""

DEFAULTS = CONFIGS / "defaults.yaml"
"""What every run gets before any other config."""


def find_config(name: str) -> Path:
    """The file that `--config NAME` means.

    A file in the working directory wins, so that an edited copy is used, and a line on stderr says when it hides a
    packaged config of the same name. Packaged configs are found with or without `.yaml`.

    Raises:
        UsageError: If there is no such file; the message offers the nearest name.
    """
    packaged = next((CONFIGS / file for file in (name, f"{name}.yaml") if (CONFIGS / file).is_file()), None)
    local = Path(name)
    if local.is_file():
        if packaged and local.resolve() != packaged.resolve():
            print(f"note: using ./{name}; the packaged config of that name is {packaged}", file=sys.stderr)
        return local
    if packaged:
        return packaged
    names = [file.name for folder in (CONFIGS, Path()) for file in folder.glob("*.yaml")]
    hint = nearest(Path(name).name, [*names, *(Path(file).stem for file in names)])
    raise UsageError(
        f"No config {name!r} in {Path.cwd()} or among the packaged ones.{hint or ' See `lightning_zoo list`.'}"
    )


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a config file; empty for an empty file.

    Raises:
        UsageError: If it is no YAML, or no mapping of keys.
    """
    try:
        # libyaml reads a folder of configs ten times as fast as the Python loader, where it is there.
        content = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} is no YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file} is no config: it holds {type(content).__name__} instead of `key: value` lines.")
    return content
