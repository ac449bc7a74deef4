"""What a predictor was given: one image, or many, and how fast they come."""

import os
import time
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeAlias, TypeVar, Union

import numpy as np
from torch import Tensor

from fer_zoo.data import FaceDataset, image_files
from fer_zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Image: TypeAlias = Union["PILImage", str, os.PathLike[str], bytes, BinaryIO, np.ndarray, Tensor]
"""One image; `fer_zoo.transforms.to_gray` says in which forms."""

T = TypeVar("T")
SLOW = 0.02  # seconds for which images may be waited for before those that came are answered
COLOURS = (1, 3)


def many_of(images: Any) -> Iterable[Any] | None:
    """Return the images one by one, or None if it is one image.

    A string or path is one image, or the folder of many.

    Raises:
        InputError: a folder without images, or an array that may be one image or a batch.

    Example:
        >>> many_of(np.zeros((48, 48))), len(many_of(np.zeros((5, 48, 48))))
        (None, 5)
    """
    if isinstance(images, str | os.PathLike):
        if not os.path.isdir(images):
            return None
        files = image_files(Path(images))
        if not files:
            raise InputError(f"no image in {os.fspath(images)}")
        return files
    if isinstance(images, FaceDataset):
        return images.images.unbind()
    if isinstance(images, np.ndarray):
        return _rows(images)
    if isinstance(images, Tensor):
        return images.unbind() if images.ndim == 4 or _is_gray_batch(images) else None
    if isinstance(images, bytes) or hasattr(images, "read"):
        return None
    return images if isinstance(images, Iterable) else None


def _rows(array: np.ndarray) -> list[np.ndarray] | None:
    if array.ndim == 4 and array.shape[3] not in COLOURS and array.shape[1] in COLOURS:
        return list(array.transpose(0, 2, 3, 1))  # images[:, None], as tensors have it
    if array.ndim == 3 and array.shape[0] in COLOURS and array.shape[2] not in COLOURS:
        raise _ambiguous(array, "(C, H, W): pass image.transpose(1, 2, 0)")
    is_gray = array.ndim == 3 and array.shape[2] not in COLOURS
    return list(array) if array.ndim == 4 or is_gray else None


def _is_gray_batch(tensor: Tensor) -> bool:
    if tensor.ndim != 3 or tensor.shape[0] in COLOURS:
        return False
    if tensor.shape[2] in COLOURS:
        raise _ambiguous(tensor, "(H, W, C): pass image.permute(2, 0, 1)")
    return True


def _ambiguous(array: np.ndarray | Tensor, otherwise: str) -> InputError:
    shape = tuple(array.shape)
    return InputError(
        f"{shape} may be {shape[0]} gray faces: pass images[:, None]; or one image {otherwise}"
    )


def runs_of(images: Iterable[T], most: int) -> Iterator[Iterator[T]]:
    """Yield images in runs of at most `most`, each to be used up before the next.

    What has a length is there, so its runs are full. Of what has none (a camera, a queue) the
    first run is one image; the next are longer as long as the images come fast, and a run ends
    once they have been waited for `SLOW` seconds in all.

    Example:
        >>> [len(list(run)) for run in runs_of(range(10), 8)]
        [8, 2]
        >>> [len(list(run)) for run in runs_of(iter(range(10)), 8)]
        [1, 4, 5]
    """
    remaining = iter(images)
    if isinstance(images, Sized):
        while run := list(islice(remaining, most)):
            yield iter(run)
        return
    size, over = 1, False
    while not over:
        quick = _Quick(remaining, size)
        yield quick
        size, over = 1 if quick.waited > SLOW else min(4 * size, most), quick.over


class _Quick(Iterator[T], Generic[T]):
    def __init__(self, images: Iterator[T], most: int) -> None:
        self.images, self.left, self.waited, self.over = images, most, 0.0, False

    def __next__(self) -> T:
        if not self.left or self.waited > SLOW:
            raise StopIteration
        begun = time.monotonic()
        try:
            image = next(self.images)
        except StopIteration:
            self.over = True
            raise
        self.waited += time.monotonic() - begun
        self.left -= 1
        return image
