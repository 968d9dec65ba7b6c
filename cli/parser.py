"""Parsers that answer a mistake with one line: what is wrong, and the nearest right name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser

from .errors import UsageError
from .explain import explain
from .find_config import find_config, read_yaml

if TYPE_CHECKING:
    from argparse import Namespace


class PackagedConfigFile(ActionConfigFile):
    """`--config NAME`: a file here, or one that the package brings."""

    def __call__(  # type: ignore[override]
        self, parser: ArgumentParser, cfg: Namespace, values: str, option_string: str | None = None
    ) -> None:
        """Read the file that `values` names into `cfg`."""
        file = find_config(values)
        read_yaml(file)
        super().__call__(parser, cfg, str(file), option_string)


class OneLineParser(ArgumentParser):
    """A parser whose errors are `UsageError`s instead of pages of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `UsageError` with one line that names the nearest right option."""
        options = [name.lstrip("-") for action in self._actions for name in action.option_strings]
        raise UsageError(explain(message, options)) from ex
