"""Faces in whole photographs: any detector's boxes, cut as FER2013 was cut."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, InputError, MissingDependencyError
from fer_zoo.inference.prediction import Prediction, Predictions
from fer_zoo.transforms import to_gray

Detector = Callable[[np.ndarray], Any]
"""Takes a photograph as RGB, uint8 `(H, W, 3)`, upright; returns rows of left, top, right and
bottom in px, and as an optional fifth number the roll of the face: by how many degrees it is turned
clockwise."""

DECODERS = 4  # threads that read image files
PHOTOGRAPHS = 8  # decoded at once: large ones take 100 MB and more
CASCADES = threading.local()  # OpenCV's classifiers must not be shared between threads


@dataclass(frozen=True)
class FaceDetector:
    """The frontal-face detector of OpenCV, whose boxes are FER2013's crops.

    FER2013 was cropped by OpenCV's detector. The boxes of its `haarcascade_frontalface_default` on
    FER2013's own images have, in the median, 47 of the 48 px as their side and the centre of the
    image as their centre, so such a box is cut as it is, without margin and without levelling the
    eyes. The cascade ships inside the package opencv-python-headless; nothing is downloaded.

    It finds frontal faces that are upright within about 20 degrees. Of profiles, masks and small or
    dark faces it misses many, and some of what it finds is no face: where that matters, pass
    another detector to the predictor.

    Args:
        longest_side: in px; a larger photograph is scaled to it for the search (the crop is cut
            from the original). Faces of less than 24 px there are not found.
        neighbours: how many overlapping hits make a face; more for fewer false ones.

    Raises:
        MissingDependencyError: OpenCV is not installed: `pip install 'fer-zoo[detect]'`.

    Example:
        >>> detect = FaceDetector()
        >>> detect(np.zeros((90, 120, 3), np.uint8))
        []
    """

    longest_side: int = 1280
    neighbours: int = 5

    def __post_init__(self) -> None:
        if self.longest_side < 24 or self.neighbours < 1:
            raise ArgumentError(f"longest_side must be 24 or more, neighbours 1 or more: {self}")
        _cascade()

    def __call__(self, photograph: np.ndarray) -> list[tuple[int, int, int, int]]:
        """Return left, top, right and bottom of each face in RGB `(H, W, 3)`, largest first."""
        import cv2

        height, width = photograph.shape[:2]
        scale = min(1.0, self.longest_side / max(height, width))
        gray = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        # The border is carried on, so that faces are found which it cuts.
        more = min(gray.shape) // 8
        gray = cv2.copyMakeBorder(gray, more, more, more, more, cv2.BORDER_REPLICATE)
        found = _cascade().detectMultiScale(gray, 1.1, self.neighbours)
        boxes = sorted((tuple(int(v) for v in box) for box in found), key=lambda b: (-b[2], b))
        return [self._box(x - more, y - more, w, scale) for x, y, w, _ in boxes]

    def _box(self, x: int, y: int, side: int, scale: float) -> tuple[int, int, int, int]:
        left, top, side = round(x / scale), round(y / scale), round(side / scale)
        return left, top, left + side, top + side


def _cascade() -> Any:
    if not hasattr(CASCADES, "frontal"):
        try:
            from cv2 import CascadeClassifier
            from cv2.data import haarcascades

            path = Path(haarcascades) / "haarcascade_frontalface_default.xml"
            CASCADES.frontal = CascadeClassifier(str(path))
        except ImportError:  # OpenCV 5 has neither
            raise MissingDependencyError(
                "finding faces needs OpenCV 4 with its cascades: pip install 'fer-zoo[detect]', "
                "or pass any other detector=: a function from an RGB array to boxes"
            ) from None
    return CASCADES.frontal


@dataclass(frozen=True)
class Crop:
    """One face cut out of a photograph.

    Attributes:
        face: gray `(1, S, S)`, uint8 or float in [0, 1].
        box: left, top, right and bottom in px of the photograph, the margin included.
    """

    face: Tensor
    box: tuple[int, int, int, int]


def crop_faces(image: Any, detector: Detector, *, margin: float = 0.0) -> list[Crop]:
    """Return the faces that a detector finds in one photograph, each as a gray square.

    The square has the centre of the box and its longer side, plus the margin. Where a box has a
    roll the square is turned upright first. What lies over the border of the photograph repeats its
    last pixels.

    Args:
        image: as for `fer_zoo.transforms.to_gray`; the EXIF rotation is applied.
        detector: any callable from RGB uint8 `(H, W, 3)` to boxes, see `fer_zoo.Predictor`.
        margin: share of the side that is added all round. FER2013's crops are the boxes of
            `fer_zoo.FaceDetector`, which need none; boxes from the brows to the chin need about
            0.1.

    Raises:
        InputError: the photograph cannot be read.
        ArgumentError: the detector returned something else than boxes.

    Example:
        >>> photograph = torch.zeros(1, 90, 120, dtype=torch.uint8)
        >>> (crop,) = crop_faces(photograph, lambda rgb: [(10, 20, 50, 70)], margin=0.1)
        >>> crop.face.shape, crop.box
        (torch.Size([1, 60, 60]), (0, 15, 60, 75))
    """
    rgb, gray = _read(image)
    found = []
    for left, top, right, bottom, roll in _boxes(detector(rgb)):
        side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
        x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
        box = (x, y, x + side, y + side)
        height, width = gray.shape[-2:]
        if x >= width or y >= height or x + side <= 0 or y + side <= 0:
            raise ArgumentError(
                f"the detector returned a box outside the photograph of {width}x{height} px: {box}"
            )
        found.append(Crop(_upright(gray, box, roll) if roll else _cut(gray, box), box))
    return found


def label_photographs(
    predictor: Any, images: Iterable[Any], detector: Detector, margin: float
) -> Iterator[Predictions]:
    """Yield the predictions of the faces of each photograph, in order, in bounded memory.

    Some photographs are read and searched at a time, in threads; their faces are labelled together.
    One that cannot be read has one prediction, with the error.
    """

    def search(image: Any) -> list[Crop] | str:
        try:
            return crop_faces(image, detector, margin=margin)
        except InputError as error:
            return str(error)

    remaining = iter(images)
    with ThreadPoolExecutor(DECODERS) as threads:
        while chunk := list(islice(remaining, PHOTOGRAPHS)):
            searched = list((threads.map if len(chunk) > 1 else map)(search, chunk))
            crops = [crop for found in searched if isinstance(found, list) for crop in found]
            labelled = iter(predictor.label_squares([c.face for c in crops]))
            for image, found in zip(chunk, searched, strict=True):
                source = os.fspath(image) if isinstance(image, str | os.PathLike) else None
                if isinstance(found, str):
                    yield Predictions([Prediction(source=source, error=found)])
                    continue
                yield Predictions(
                    replace(next(labelled), source=source, box=crop.box) for crop in found
                )


def _read(image: Any) -> tuple[np.ndarray, Tensor]:
    """Return a photograph as RGB uint8 `(H, W, 3)` and as gray `(1, H, W)`."""
    from PIL import Image, ImageOps

    if isinstance(image, str | os.PathLike):
        try:
            with Image.open(image) as opened:
                opened.load()
                image = opened
        except FileNotFoundError:
            raise InputError(f"{os.fspath(image)}: no such file") from None
        except Exception as error:  # decoders raise whatever they like on damaged files
            raise InputError(f"{os.fspath(image)}: cannot be read as an image ({error})") from None
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
    gray = to_gray(image)
    if isinstance(image, Image.Image) and not (image.mode.startswith("I") or image.mode == "F"):
        return np.asarray(image.convert("RGB")), gray
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return np.ascontiguousarray(image), gray
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and len(image) == 3:
        return image.permute(1, 2, 0).contiguous().cpu().numpy(), gray
    levels = gray if gray.dtype == torch.uint8 else gray.mul(255).round().byte()
    return levels[0].cpu()[..., None].expand(-1, -1, 3).contiguous().numpy(), gray


def _boxes(found: Any) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield left, top, right, bottom and roll of what a detector returned, checked."""
    expected = "rows of left, top, right, bottom in px, and perhaps the roll in degrees"
    for row in () if found is None else found:
        try:
            numbers = [float(value) for value in row]
        except (TypeError, ValueError):
            raise ArgumentError(f"the detector returned {row!r:.80}; expected {expected}") from None
        if len(numbers) not in (4, 5) or not all(map(math.isfinite, numbers)):
            raise ArgumentError(f"the detector returned {numbers}; expected {expected}")
        left, top, right, bottom, *roll = numbers
        if right <= left or bottom <= top:
            raise ArgumentError(
                f"the detector returned an empty box {numbers}; expected {expected}"
            )
        yield left, top, right, bottom, roll[0] if roll else 0.0


def _cut(gray: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Return the square `box` of `(1, H, W)`; over the border its last pixels repeat."""
    height, width = gray.shape[-2:]
    left, top, right, bottom = box
    rows = torch.arange(top, bottom).clamp(0, height - 1)
    columns = torch.arange(left, right).clamp(0, width - 1)
    # The part first: indexing must not copy a whole line of a huge photograph.
    part = gray[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part[:, (rows - rows[0])[:, None], columns - columns[0]]


def _upright(gray: Tensor, box: tuple[int, int, int, int], roll: float) -> Tensor:
    """Return the square `box` of a face that is turned clockwise by `roll` degrees, turned back."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import center_crop, rotate

    left, top, right, bottom = box
    side = right - left
    more = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    wide = _cut(gray, (left - more, top - more, right + more, bottom + more))
    turned = rotate(wide.float(), roll, interpolation=InterpolationMode.BILINEAR)
    cut: Tensor = center_crop(turned, [side, side])
    return cut.round().clamp(0, 255).byte() if gray.dtype == torch.uint8 else cut.clamp(0, 1)
