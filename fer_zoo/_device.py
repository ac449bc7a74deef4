"""Where to compute."""

from typing import TypeVar

import torch
from torch import nn

from fer_zoo.errors import ArgumentError

M = TypeVar("M", bound=nn.Module)


def resolve_device(device: torch.device | str | None) -> torch.device:
    """Return the device asked for, else CUDA where there is one, else the CPU."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"device {device!r} cannot be used here: {reason}") from None
    return found


def to_device(model: M, device: torch.device | str | None, dtype: torch.dtype | None) -> M:
    """Move a model to a device and a dtype, where they are given."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ArgumentError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    return model.to(device=None if device is None else resolve_device(device), dtype=dtype)
