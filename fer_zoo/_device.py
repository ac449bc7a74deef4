"""Where to compute."""

import torch

from fer_zoo.errors import ArgumentError


def resolve_device(device: torch.device | str | None) -> torch.device:
    """Return the device asked for, else CUDA where there is one, else the CPU.

    Raises:
        ArgumentError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"device {device!r} cannot be used here: {reason}") from None
    return found
