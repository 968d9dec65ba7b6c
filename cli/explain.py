"""Turns the parser's many-line complaints into one line with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .errors import nearest

_KEY = re.compile(r'^Parser key "([\w.+-]+)":')
_UNKNOWN_OPTION = re.compile(r"Option '([\w.+-]+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
_BAD_CLASS_PATH = re.compile(r"Problem with given class_path '([^']+)':\s*(.+)")
_INNER = re.compile(r'Parser key "([\w.+-]+)":\s*(.+)')
_UNKNOWN_KEY = re.compile(r"does not accept option '([\w.+-]+)'|unrecognized arguments: (\S+)")
_REQUIRED = re.compile(r"the following arguments are required: (.+)")
_GIVEN = re.compile(r"Given value: (.*)$")
_GOT = re.compile(r"Got value: (.*)$")
_LITERAL = re.compile(r"typing\.Literal\[([^\]]*)\]")


def explain(
    message: str,
    options: Iterable[str] = (),
    classes: Mapping[str, Iterable[str]] | None = None,
    parameters: Mapping[str, Iterable[str]] | None = None,
) -> str:
    """One line for a message of jsonargparse.

    Args:
        message: What the parser says, over many lines.
        options: Every dotted option, without the dashes in front.
        classes: Per key (`model`, `data`, `trainer.callbacks`) the class names that it takes.
        parameters: Per key the names that the chosen class takes.
    """
    key = found[1] if (found := _KEY.search(message)) else ""
    if found := _UNKNOWN_KEY.search(message):
        name = (found[1] or found[2]).lstrip("-").partition("=")[0]
        kind = "option" if found[1] or found[2].startswith("-") else "word"
        return f"No {kind} {name!r}.{nearest(name, options)}"
    if not key and (found := _REQUIRED.search(message)):
        return _missing([name.rpartition(".")[2] for name in found[1].split(", ")])
    return _prefixed(key, _reason(key, message, classes or {}, parameters or {}))


def _missing(names: list[str]) -> str:
    given = " ".join(f"--{name} ..." for name in names)
    return f"Missing: {', '.join(names)}. Give --config NAME (`lightning_zoo list` shows them) or {given}"


def _reason(
    key: str, message: str, classes: Mapping[str, Iterable[str]], parameters: Mapping[str, Iterable[str]]
) -> str:
    if found := _UNKNOWN_OPTION.search(message):
        if found[1] == "class_path":
            return "next to `class_path` stands only `init_args`; the arguments belong under it."
        if found[1] in parameters.get(key, ()):
            return f"{found[1]!r} is given, but no class; put a config with `class_path` before the overlay."
        return f"no argument {found[1]!r}.{nearest(found[1], parameters.get(key, ()))}"
    if found := _UNKNOWN_CLASS.search(message):
        return f"no class {found[1]!r}.{nearest(found[1], classes.get(key, ())) or _some(classes.get(key, ()))}"
    if found := _BAD_CLASS_PATH.search(message):
        return f"{found[1]!r}: {found[2]}"
    complaints = _complaints(message)
    if found := next((inner for text in complaints if (inner := _INNER.search(text))), None):
        return f"{found[1]}: {_expected([found[2]], message)}"
    specific = [text for text in complaints if not text.startswith(("Expected a ", "Not a valid subclass"))]
    return specific[0] if specific else _expected(complaints, message)


def _complaints(message: str) -> list[str]:
    """The items below `Errors:`, each on one line; the whole message where there is no such list."""
    _, mark, below = message.partition("Errors:\n")
    if not mark:
        return [" ".join(_KEY.sub("", message).split())]
    below = below.partition("Given value type:")[0]
    return [" ".join(item.split()) for item in re.split(r"^\s*- ", below, flags=re.MULTILINE) if item.strip()]


def _expected(complaints: list[str], message: str) -> str:
    inner = next((found[1] for text in complaints if (found := _GOT.search(text))), None)
    given = inner or (found[1] if (found := _GIVEN.search(message.strip())) else "")
    choices = [
        part.strip(" '\"") for text in complaints for values in _LITERAL.findall(text) for part in values.split(",")
    ]
    if choices:
        return f"{given!r} is none of {', '.join(dict.fromkeys(choices))}.{nearest(given, choices)}"
    names = [re.sub(r"^Expected an? |\. Got value: .*$|<class '|'>", "", text).strip() for text in complaints]
    if not all(text.startswith("Expected a") for text in complaints):
        return complaints[0]
    readable = " or ".join("null" if name == "NoneType" else name for name in dict.fromkeys(names))
    return f"expected {readable}, got {given!r}."


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return f" There are: {', '.join(listed)}." if 0 < len(listed) <= 20 else ""


def _prefixed(key: str, reason: str) -> str:
    text = " ".join(f"{key}: {reason}".split() if key else reason.split())
    return text if len(text) <= 400 else f"{text[:397]}..."
