"""What a predictor was given: one image, or many, and how fast they come."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from numbers import Number
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, Union

import numpy as np
from torch import Tensor

from fer_zoo.data import image_files
from fer_zoo.data.faces import as_dataset
from fer_zoo.errors import InputError
from fer_zoo.transforms.inputs import BYTES

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


class Readable(Protocol):
    """What is open for reading, as the file of an upload."""

    def read(self) -> bytes:
        """Return what is left of it."""


Bytes: TypeAlias = bytes | bytearray | memoryview
Image: TypeAlias = Union["PILImage", str, os.PathLike[str], Bytes, Readable, np.ndarray, Tensor]
"""One image; `fer_zoo.transforms.to_gray` says in which forms."""

T = TypeVar("T")
SLOW = 0.02  # seconds for which images may be waited for before those that came are answered
COLOURS = (1, 3)
WITH_ALPHA = (2, 4)


def many_of(images: Any) -> Iterable[Any] | None:
    """Return the images one by one, or None if it is one image; what may be either is refused."""
    if isinstance(images, str | os.PathLike):
        if not os.path.isdir(images):
            return None
        return image_files(images)
    if (faces := as_dataset(images)) is not None:
        return faces.images.unbind()
    if isinstance(images, np.ndarray | Tensor):
        return _rows(images)
    if isinstance(images, BYTES) or hasattr(images, "read"):
        return None
    kind = type(images).__name__
    if isinstance(images, Mapping):
        raise InputError(f"got a {kind}: pass its images, list(images.values())")
    if isinstance(images, list | tuple) and _is_pair(images):
        raise InputError(f"got an (image, label) pair as a {kind}: pass the image alone")
    # Datasets of torch have a length and rows, and cannot be iterated over.
    rows = hasattr(images, "__getitem__") and not isinstance(images, Iterable)
    listed = isinstance(images, list | tuple) and len(images)
    if rows or (listed and isinstance(images[0], list | tuple)):
        raise InputError(
            f"got a {kind} of rows, not of images: pass [image for image, _ in rows] where they "
            "are (image, label) pairs"
        )
    return images if isinstance(images, Iterable) else None


def _is_pair(images: Any) -> bool:
    """Whether it is an image with its label, a number."""
    label = images[1] if len(images) == 2 else None
    return isinstance(label, Number) or (isinstance(label, np.ndarray | Tensor) and label.ndim == 0)


def _rows(array: Any) -> list[Any] | None:
    """Return the images of a batch, an array or a tensor; None for one image."""
    is_tensor, shape = isinstance(array, Tensor), tuple(array.shape)
    if len(shape) == 4:
        # images[:, None], as tensors have it
        planar = not is_tensor and shape[3] not in COLOURS and shape[1] in COLOURS
        return list(array.transpose(0, 2, 3, 1) if planar else array)
    colours, other = (0, 2) if is_tensor else (2, 0)
    if len(shape) != 3 or shape[colours] in COLOURS:
        return None
    if shape[colours] in WITH_ALPHA or shape[2] in WITH_ALPHA:
        alone = "image[:-1]" if shape[colours] in WITH_ALPHA and is_tensor else "image[..., :-1]"
        raise InputError(
            f"{shape} may be RGBA, or gray with alpha: pass {alone} without the alpha, the "
            "colours RGB; or it is a batch of gray faces: pass images[:, None]"
        )
    if shape[other] in COLOURS:
        turned = "permute(2, 0, 1)" if is_tensor else "transpose(1, 2, 0)"
        raise InputError(
            f"{shape} may be {shape[0]} gray faces: pass images[:, None]; or one image: pass "
            f"image.{turned}"
        )
    return list(array)


def runs_of(images: Iterable[T], most: int) -> Iterator[Iterator[T]]:
    """Yield images in runs: all that have a length; of a camera's as many as come quickly."""
    remaining = iter(images)
    if isinstance(images, Sized):
        yield remaining
        return
    size, waited, over = 1, 0.0, False

    def quick() -> Iterator[T]:
        nonlocal waited, over
        waited, left = 0.0, size
        while left and waited <= SLOW:
            begun = time.monotonic()
            try:
                image = next(remaining)
            except StopIteration:
                over = True
                return
            waited, left = waited + time.monotonic() - begun, left - 1
            yield image

    while not over:
        yield quick()
        size = 1 if waited > SLOW else min(4 * size, most)
