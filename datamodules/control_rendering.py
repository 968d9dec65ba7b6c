"""The renderer of dm_control: which one, whether it works here, and what makes it ten times as fast."""

import os
import sys
from ctypes import CDLL
from importlib import import_module
from typing import Any

import numpy as np

from datamodules.environments import cannot_draw
from lightning_zoo.extras import require

_WAY_OUT = (
    "start with MUJOCO_GL=egl (needs libegl1 and a driver, Mesa's will do) or MUJOCO_GL=osmesa (needs libosmesa6), "
    "or use observations='state'"
)


def load_suite() -> Any:
    """The module `dm_control.suite`, with a renderer that needs no display where there is none.

    Raises:
        MissingExtraError: if dm_control is not installed.
        DataError: if the renderer that MUJOCO_GL names cannot be loaded.
    """
    _choose_renderer()
    require("dm_control")
    try:
        return import_module("dm_control.suite")
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise cannot_draw(f"dm_control with MUJOCO_GL={_chosen()}", error, _WAY_OUT) from error


def _choose_renderer() -> None:
    """Name EGL in MUJOCO_GL if nothing is named and no display is there; dm_control reads it at its first import."""
    has_display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.environ.get("MUJOCO_GL") or has_display:
        return
    try:
        CDLL("libEGL.so.1")
    except OSError:
        return
    os.environ["MUJOCO_GL"] = "egl"


def _chosen() -> str:
    return os.environ.get("MUJOCO_GL") or "(unset)"


class Camera:
    """Draws one physics.

    Args:
        physics: of dm_control; nothing may have been drawn of it before.
        camera: index of the camera.
        fast: no shadows, reflections and antialiasing.
    """

    def __init__(self, physics: Any, camera: int, fast: bool) -> None:
        self._physics, self._camera = physics, camera
        self._arguments = {"render_flag_overrides": {"shadow": False, "reflection": False}} if fast else {}
        if fast:  # these two are read when the first picture makes the context
            physics.model.vis.quality.shadowsize = 0
            physics.model.vis.quality.offsamples = 0

    def picture(self, height: int, width: int) -> np.ndarray:
        """What the camera sees now, (height, width, 3) uint8."""
        return self._physics.render(height, width, camera_id=self._camera, **self._arguments)

    def try_drawing(self, task: str) -> None:
        """Draw once, in order to fail before any training.

        Raises:
            DataError: if nothing can be drawn here.
        """
        try:
            self.picture(8, 8)
        except Exception as error:
            raise cannot_draw(f"{task} with MUJOCO_GL={_chosen()}", error, _WAY_OUT) from error
