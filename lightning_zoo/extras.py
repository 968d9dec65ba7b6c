"""Optional packages: found in this distribution's own metadata, asked for where they are used."""

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from types import ModuleType

_DISTRIBUTION = "lightning_zoo"
_NAMES = {"cv2": "opencv-python", "sklearn": "scikit-learn", "PIL": "pillow"}
_REQUIREMENT = re.compile(r"""^(?P<package>[\w.-]+).*?(?:;.*extra\s*==\s*["'](?P<extra>[\w-]+)["'])?$""")


class MissingExtraError(ModuleNotFoundError):
    """A package that an optional part needs; the message is one line with the command that installs it."""


def require(package: str) -> ModuleType:
    """Import an optional package by its import name, `av` or `skimage.metrics`.

    Raises:
        MissingExtraError: If it is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name != package.partition(".")[0]:
            raise
        raise MissingExtraError(how_to_install(error.name), name=error.name) from error


def how_to_install(package: str) -> str:
    """One line that says which command brings the missing import `package`."""
    command = f"pip install {package}"
    for text in _requirements():
        found = _REQUIREMENT.match(text)
        if found and _normalised(found["package"]) == _normalised(_NAMES.get(package, package)):
            command = (
                f"pip install 'lightning_zoo[{found['extra']}]'" if found["extra"] else "pip install lightning_zoo"
            )
            break
    return f"This needs {package!r}, which is not installed: {command}"


def is_ours(package: str) -> bool:
    """Whether the import `package` belongs to our requirements or to one of our extras."""
    names = {_normalised(found["package"]) for text in _requirements() if (found := _REQUIREMENT.match(text))}
    return _normalised(_NAMES.get(package, package)) in names


def _requirements() -> list[str]:
    try:
        return requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
