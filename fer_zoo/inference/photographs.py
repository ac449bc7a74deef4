"""Faces in whole photographs: any detector's boxes, cut as FER2013 was cut."""

import math
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, InputError, MissingDependencyError
from fer_zoo.transforms import to_gray
from fer_zoo.transforms.inputs import upright

Detector = Callable[[np.ndarray], Any]
"""Takes a photograph as RGB, uint8 `(H, W, 3)`, upright, a copy of its own; returns rows of left,
top, right and bottom in px. A row may also be a mapping with these four as its `box` and with a
`roll`: the degrees by which the face is turned clockwise. It is called in the thread that asks for
the predictions, for one photograph at a time, in order."""

DECODERS = 4  # threads that read image files, and photographs read ahead at most
AHEAD = 50_000_000  # pixels read ahead at most, 8 bytes each while they are decoded
ROWS = 256  # of a photograph, converted at a time
CASCADES = threading.local()  # OpenCV's classifiers must not be shared by the threads of a server
EXPECTED = (
    "rows of left, top, right, bottom in px, or of {'box': (left, top, right, bottom), "
    "'roll': degrees}"
)

Pixels = tuple[np.ndarray, Tensor]
"""A photograph as RGB uint8 `(H, W, 3)`, which is the detector's, and as gray `(1, H, W)`."""


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

    face: Tensor = field(repr=False)
    box: tuple[int, int, int, int]


def crop_faces(image: Any, detector: Detector, *, margin: float = 0.0) -> list[Crop]:
    """Return the faces that a detector finds in one photograph, each as a gray square.

    The square has the centre of the box and its longer side, plus the margin. Where the detector
    gives a roll the square is turned upright first. What lies over the border of the photograph
    repeats its last pixels.

    Args:
        image: as for `fer_zoo.transforms.to_gray`; the EXIF rotation is applied.
        detector: any callable from RGB uint8 `(H, W, 3)` to boxes, see `fer_zoo.Predictor`.
        margin: share of the side that is added all round. FER2013's crops are the boxes of
            `fer_zoo.FaceDetector`, which need none; boxes from the brows to the chin need about
            0.1.

    Raises:
        InputError: the photograph cannot be read.
        ArgumentError: the detector returned what is no box, or one that is outside the photograph
            or more than twice as large.

    Example:
        >>> photograph = torch.zeros(1, 90, 120, dtype=torch.uint8)
        >>> (crop,) = crop_faces(photograph, lambda rgb: [(10, 20, 50, 70)], margin=0.1)
        >>> crop.face.shape, crop.box
        (torch.Size([1, 60, 60]), (0, 15, 60, 75))
    """
    check_margin(margin)
    rgb, gray = _read(_open(image), _source(image))
    return _crops(gray, detector(rgb), margin)


def check_margin(margin: Any) -> None:
    """Raise unless `margin` is a share that can be added to the side of a box."""
    if not isinstance(margin, Real) or not 0 <= float(margin) <= 2:
        raise ArgumentError(f"margin must be a number from 0 to 2, got {margin!r:.80}")


def search_photographs(
    images: Iterable[Any], detector: Detector, margin: float
) -> Iterator[tuple[str | None, list[Crop] | str]]:
    """Yield the path of each photograph and the faces in it, or the error, in bounded memory.

    Files are read ahead in threads. The detector is not called there: it may not bear that, or keep
    a state, as trackers do.
    """
    ahead: deque[tuple[int, str | None, Future[Pixels] | str]] = deque()

    def search() -> tuple[str | None, list[Crop] | str]:
        _, source, reading = ahead.popleft()
        if isinstance(reading, str):
            return source, reading
        try:
            rgb, gray = reading.result()
        except InputError as error:
            return source, str(error)
        found = detector(rgb)
        try:
            return source, _crops(gray, found, margin)
        except ArgumentError as error:
            return source, str(error) if source is None else f"{source}: {error}"

    with ThreadPoolExecutor(DECODERS) as threads:
        for image in images:
            source, size, error = _source(image), 0, ""
            try:
                image = _open(image)
                size = _size(image)
            except InputError as failed:
                error = str(failed)
            while ahead and (len(ahead) == DECODERS or sum(n for n, *_ in ahead) + size > AHEAD):
                yield search()
            ahead.append((size, source, error or threads.submit(_read, image, source)))
        while ahead:
            yield search()


def _source(image: Any) -> str | None:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def _size(image: Any) -> int:
    """Return the number of pixels of a PIL image, not yet loaded, or of values of an array."""
    if isinstance(image, np.ndarray | Tensor):
        return math.prod(image.shape)
    size = getattr(image, "size", ())
    return math.prod(size) if isinstance(size, tuple) else 0


def _open(image: Any) -> Any:
    """Return a path's PIL image, without its pixels, and anything else as it is."""
    from PIL import Image

    if not isinstance(image, str | os.PathLike):
        return image
    try:
        with warnings.catch_warnings():
            # Large photographs are welcome, up to where Pillow refuses them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(image)
    except FileNotFoundError:
        raise InputError(f"{os.fspath(image)}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{os.fspath(image)}: is a folder, not an image") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InputError(
            f"{os.fspath(image)}: has more than the {most:.0f} megapixels that Pillow opens; scale "
            "it down or, if you trust the file, set PIL.Image.MAX_IMAGE_PIXELS = None"
        ) from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise InputError(f"{os.fspath(image)}: cannot be read as an image ({error})") from None


def _read(image: Any, source: str | None) -> Pixels:
    """Return the pixels of what `_open` returned for the image at `source`, if it has a path."""
    from PIL import Image

    where = source or "the PIL image"
    if isinstance(image, Image.Image):
        try:
            return _decode(image, opened=source is not None)
        except InputError as error:
            raise InputError(str(error).replace("the PIL image", where, 1)) from None
        except Exception as error:  # decoders raise whatever they like on damaged files
            raise InputError(f"{where}: cannot be read as an image ({error})") from None
        finally:
            if source is not None:
                image.close()
    gray = to_gray(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return np.array(image, order="C"), gray
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and len(image) == 3:
        return np.array(image.permute(1, 2, 0).cpu().numpy(), order="C"), gray
    return _rgb(gray), gray


def _decode(image: Any, *, opened: bool) -> Pixels:
    """Return the pixels of a PIL image, upright; one that was opened here may be closed."""
    turned = upright(image)
    if opened and turned is not image:
        image.close()
    image = turned
    width, height = image.size
    if image.mode in ("F", "I") or image.mode.startswith("I;16") or not width * height:
        gray = to_gray(image)
        return _rgb(gray), gray
    rgb, levels = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
    for top in range(0, height, ROWS):  # Pillow's own conversions would need three times the room
        rows = image.crop((0, top, width, min(top + ROWS, height)))
        if rows.mode == "P":
            rows = rows.convert("RGBA" if "transparency" in rows.info else "RGB")
        rgb[top : top + ROWS] = np.asarray(rows.convert("RGB"))
        levels[top : top + ROWS] = np.asarray(rows.convert("L"))
    return rgb, torch.from_numpy(levels)[None]


def _rgb(gray: Tensor) -> np.ndarray:
    levels = gray if gray.dtype == torch.uint8 else gray.mul(255).round().byte()
    return np.repeat(levels[0].cpu().numpy()[..., None], 3, 2)


def _crops(gray: Tensor, found: Any, margin: float) -> list[Crop]:
    """Return the squares of `(1, H, W)` around what a detector returned."""
    height, width = gray.shape[-2:]
    crops = []
    for left, top, right, bottom, roll in _boxes(found):
        side = max(right - left, bottom - top)
        if side > 2 * max(width, height):
            raise ArgumentError(
                f"the detector returned a box of {side:g} px, more than twice as large as the "
                f"photograph of {width}x{height} px"
            )
        side = max(1, round(side * (1 + 2 * margin)))
        x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
        box = (x, y, x + side, y + side)
        if x >= width or y >= height or x + side <= 0 or y + side <= 0:
            raise ArgumentError(
                f"the detector returned a box outside the photograph of {width}x{height} px: {box}"
            )
        crops.append(Crop(_upright(gray, box, roll) if roll else _cut(gray, box), box))
    return crops


def _boxes(found: Any) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield left, top, right, bottom and roll of what a detector returned, checked."""
    try:
        rows = iter(() if found is None else found)
    except TypeError:
        raise ArgumentError(f"the detector returned {found!r:.80}; expected {EXPECTED}") from None
    for row in rows:
        named = isinstance(row, Mapping) and set(row) in ({"box"}, {"box", "roll"})
        box, turn = (row["box"], row.get("roll", 0)) if named else (row, 0)
        try:
            roll, *numbers = map(float, (turn, *box))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            raise ArgumentError(f"the detector returned {row!r:.80}; expected {EXPECTED}") from None
        if len(numbers) > 4:
            raise ArgumentError(
                f"the detector returned {len(numbers)} numbers for a face: keep the first four, "
                f"box[:4]; expected {EXPECTED}"
            )
        if len(numbers) < 4 or not all(map(math.isfinite, (roll, *numbers))):
            raise ArgumentError(f"the detector returned {row!r:.80}; expected {EXPECTED}")
        left, top, right, bottom = numbers
        if right <= left or bottom <= top:
            raise ArgumentError(
                f"the detector returned an empty box {numbers}; expected {EXPECTED}"
            )
        yield left, top, right, bottom, roll


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
