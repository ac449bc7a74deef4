"""What tensors are stored in: as they are, in half precision, or in int8 with scales.

int8 is weight-only: each output channel of a weight has one float32 scale, stored beside it as
`NAME:scale`, and the weight is float again once loaded. Biases and batch norm stay as they are.
Symmetric rounding to 255 levels by the largest value of each channel, as in Krishnamoorthi 2018
(arXiv 1806.08342, section 2.2).

A gray stem may be stored as one for RGB that answers the same, for libraries that have no other.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.weights.reading import DTYPES

SCALE = ":scale"
STORAGE = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}
"""What `fer_zoo.save(..., dtype=)` takes, by name."""


def storage_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the type that weights are to be stored in."""
    found = STORAGE.get(dtype) if isinstance(dtype, str) else dtype
    if found is torch.int8 or (
        isinstance(found, torch.dtype) and found.is_floating_point and found in DTYPES.values()
    ):
        return found
    raise ArgumentError(f"dtype must be one of {', '.join(STORAGE)}, got {dtype!r}")


def pack(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors as they are stored in `dtype`, if it can hold the values."""
    if dtype is torch.int8:
        stored: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel():
                stored[name], stored[name + SCALE] = _to_int8(tensor)
            else:
                stored[name] = tensor
        return stored
    stored = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
    lost = [k for k in stored if not torch.equal(stored[k].isfinite(), tensors[k].isfinite())]
    if lost:
        raise ArgumentError(f"{dtype} cannot hold the values of {lost[:3]}; use another dtype")
    return stored


def unpack(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `pack` stored as it is once read: int8 with scales is float32."""
    tensors = {name: t for name, t in stored.items() if not name.endswith(SCALE)}
    for name in (name.removesuffix(SCALE) for name in stored if name.endswith(SCALE)):
        scale, weight = stored[name + SCALE], tensors.get(name)
        one_each = weight is not None and weight.ndim > 0 and scale.shape == weight.shape[:1]
        kinds = scale.dtype, weight.dtype if weight is not None else None
        if weight is None or not one_each or kinds != (torch.float32, torch.int8):
            raise CheckpointError(f"{name}{SCALE} fits no int8 weight")
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise CheckpointError(f"{name}{SCALE} holds what is no scale")
        tensors[name] = weight.float().mul_(scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return tensors


def to_rgb(stem: Tensor) -> Tensor:
    """Return the stem `(O, 3, H, W)` that makes of a colour image what `(O, 1, H, W)` does of gray.

    Its channels are the gray one times 0.299, 0.587 and 0.114. The last is what the others leave,
    which is a number of the same type without rounding (Sterbenz's lemma), so that `to_gray` gives
    back each bit.

    Example:
        >>> stem = torch.randn(2, 1, 3, 3)
        >>> torch.equal(to_gray(to_rgb(stem)), stem)
        True
    """
    red, green = stem * 0.299, stem * 0.587
    rest = stem - (red + green)
    return torch.cat([red, green, torch.where(stem == 0, stem, rest)], 1)  # the sign of a zero


def to_gray(stem: Tensor) -> Tensor:
    """Return the stem `(O, 1, H, W)` that `to_rgb` made `(O, 3, H, W)` of."""
    red, green, blue = stem.split(1, 1)
    gray: Tensor = (red + green) + blue
    return gray


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    flat = weight.detach().float().flatten(1)
    scale = flat.abs().amax(1) / 127
    # A channel of zeros has no scale of its own; any will do.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    rounded = (flat / scale[:, None]).round().clamp(-127, 127)
    return rounded.to(torch.int8).reshape(weight.shape), scale
