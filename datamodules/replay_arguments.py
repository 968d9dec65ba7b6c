"""What a replay memory is given, checked: its settings once, and the arrays of every step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

DType = torch.dtype | np.dtype | type | str
"""A dtype of torch or NumPy, or what NumPy takes for one."""


def check_settings(
    capacity: int,
    num_envs: int,
    frame_shape: tuple[int, ...],
    stack: int,
    num_steps: int,
    discount: float,
    padding: str,
) -> None:
    """Look at the arguments of a `FrameReplay`, which explains them.

    Raises:
        ValueError: if one is out of its range.
    """
    for name, value, most in (("num_envs", num_envs, None), ("stack", stack, 255), ("num_steps", num_steps, None)):
        if value < 1 or (most is not None and value > most):
            raise ValueError(f"{name} must be at least 1{f' and at most {most}' if most else ''}, got {value}")
    if not frame_shape:
        raise ValueError("frame_shape must be (C, H, W) or (D,), got (): a frame of one number is (1,)")
    if stack > 1 and len(frame_shape) != 3:
        raise ValueError(f"stack={stack} needs frames (C, H, W), got frame_shape={frame_shape}: use stack=1")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be from 0 to 1, got {discount}")
    if padding not in ("zeros", "first"):
        raise ValueError(f"padding must be 'zeros' or 'first', got {padding!r}")
    fewest = (stack + num_steps + 1) * num_envs
    if capacity < fewest:
        raise ValueError(
            f"capacity must be at least {fewest} with num_envs={num_envs}, stack={stack} and num_steps={num_steps}, "
            f"got {capacity}"
        )


def on_host(values: np.ndarray | Tensor, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Values as an array on the host.

    Raises:
        ValueError: if their shape is not ``shape``, or ``dtype`` would lose more of them than precision.
    """
    if type(values) is np.ndarray and values.shape == shape and values.dtype == dtype:
        return values
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
    return array


def torch_dtype(dtype: DType) -> torch.dtype:
    """Torch's name of a dtype."""
    return dtype if isinstance(dtype, torch.dtype) else torch.from_numpy(np.empty(0, dtype)).dtype


def numpy_dtype(dtype: DType) -> np.dtype:
    """NumPy's name of a dtype."""
    return torch.empty(0, dtype=dtype).numpy().dtype if isinstance(dtype, torch.dtype) else np.dtype(dtype)
