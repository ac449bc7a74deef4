"""Faces cut out of photographs, as FER2013's were: any detector's boxes, as gray squares."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, InputError
from fer_zoo.inference.detector import Detector, find_detector
from fer_zoo.transforms.depth import check_depth, is_deep, was_deep
from fer_zoo.transforms.inputs import (
    LEAST,
    ON_SIDE,
    TRANSPARENT,
    Channels,
    check_aspect,
    opacity,
    open_image,
    orientation,
    pixels_in,
    read_face,
    said_of,
    turned,
)

MOST_PIXELS = 110_000_000
"""Of an encoded photograph, half of it with 16 bits; set it higher to read larger ones."""
PHOTOGRAPH = (
    "of a photograph, half of it with 16 bits: scale it down, or raise "
    "fer_zoo.inference.crops.MOST_PIXELS"
)
ROWS = 256  # of a photograph, converted at a time
UPRIGHT = 1024  # px of the side to which a larger face is scaled before it is turned
EXPECTED = "rows of left, top, right, bottom in px, or of {'box': these four, 'roll': degrees}"

Row = tuple[float, float, float, float, float]
"""Left, top, right, bottom in px, and the roll in degrees."""
Pixels = tuple[np.ndarray, Tensor]
"""A photograph as RGB uint8 `(H, W, 3)`, which is the detector's, and as what faces are cut from.

That is gray, `(1, H, W)`, or where a network sees colours RGB, `(3, H, W)`.
"""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A face cut out of a photograph, `(C, S, S)`, and its box in px, the margin included."""

    face: Tensor = field(repr=False)
    box: tuple[int, int, int, int]


def crop_faces(
    image: Any, detector: Detector | str | None = None, *, margin: float = 0.0
) -> list[Crop]:
    """Return the faces that a detector finds in one photograph, each as a gray square.

    The square has the centre of the box and its longer side, plus the margin; a box under 10 px,
    wide or high, is no face. Where the detector gives a roll the square is turned upright first.
    What lies over the border of the photograph repeats its last pixels.

    Args:
        image: as for `fer_zoo.transforms.to_gray`; the EXIF rotation is applied.
        detector: from RGB uint8 `(H, W, 3)` to boxes, see `fer_zoo.inference.Detector`; or its
            name, one of `fer_zoo.inference.list_detectors()`; `fer_zoo.FaceDetector()` for None.
        margin: share of the side that is added all round. The boxes of our detectors need none;
            boxes from the brows to the chin need about 0.1.

    Raises:
        InputError: the photograph cannot be read.
        ArgumentError: a box is none, in shares of the photograph, outside it, or more than twice
            as large; or the detector is a class, or an unknown name.

    Example:
        >>> photograph = torch.zeros(1, 90, 120, dtype=torch.uint8)
        >>> (crop,) = crop_faces(photograph, lambda rgb: [(10, 20, 50, 70)], margin=0.1)
        >>> crop.face.shape, crop.box
        (torch.Size([1, 60, 60]), (0, 15, 60, 75))
    """
    check_margin(margin)
    find = find_detector(detector)
    rgb, gray = read_pixels(open_photograph(image), image)
    return cut_faces(gray, find(rgb), margin)


def check_margin(margin: Any) -> None:
    """Raise unless `margin` is a share that can be added to the side of a box."""
    if not isinstance(margin, Real) or not 0 <= float(margin) <= 2:
        raise ArgumentError(f"margin must be a number from 0 to 2, got {margin!r:.80}")


def open_photograph(image: Any) -> Any:
    """Return the PIL image, its pixels not yet decoded, of what is encoded; else what is given."""
    from PIL.Image import DecompressionBombWarning

    if isinstance(image, np.ndarray | Tensor):
        return image
    with warnings.catch_warnings():
        # Large photographs are welcome, up to the bound below and to where Pillow refuses them.
        warnings.simplefilter("ignore", DecompressionBombWarning)
        return open_image(image, MOST_PIXELS, PHOTOGRAPH)


def read_pixels(
    image: Any, given: Any, channels: Channels = "rgb", *, color: bool = False
) -> Pixels:
    """Return the pixels of what `open_photograph` made of what was given."""
    from PIL.Image import Image

    if not isinstance(image, Image):
        given = given.detach() if isinstance(given, Tensor) else given
        whole = read_face(given, channels, color=color)
        if isinstance(image, Tensor):
            ready = image.ndim == 3 and image.dtype == torch.uint8
            image = image.permute(1, 2, 0).cpu().numpy() if ready else None
        if image is None or image.dtype != np.uint8 or image.shape[2:] != (3,):
            return _rgb(whole), whole
        return np.array(image[..., ::-1] if channels == "bgr" else image, order="C"), whole
    where = said_of(given)
    try:
        return _decode(image, where, keep=image is given, color=color)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise InputError(f"{where}: cannot be read as an image ({error})") from None
    finally:
        if image is not given:
            image.close()


def _decode(image: Any, where: str, *, keep: bool, color: bool) -> Pixels:
    """Return the pixels of a PIL image, upright; one that is not the caller's is closed early."""
    from PIL.Image import fromarray

    deep, turn = was_deep(image), orientation(image)
    width, height = image.size
    check_aspect(width, height, where)
    if is_deep(image) or not width * height:
        whole = pixels_in(image, where, color=color)
        return _rgb(whole), whole
    shape = (width, height) if turn in ON_SIDE else (height, width)
    rgb, levels = np.empty((*shape, 3), np.uint8), np.empty((0, 0) if color else shape, np.uint8)
    # Turned as they are written: a turned copy of the image would be as large as both together.
    lying, shows = turned(rgb, {6: 8, 8: 6}.get(turn, turn)), 0
    for top in range(0, height, ROWS):  # Pillow's own conversions would need three times the room
        rows = image.crop((0, top, width, min(top + ROWS, height)))
        if rows.mode == "P":
            rows = rows.convert("RGBA" if "transparency" in rows.info else "RGB")
        shows = max(shows, opacity(rows))
        lying[top : top + ROWS] = np.asarray(rows.convert("RGB"))
    if not keep:
        image.close()
    if not shows:
        raise InputError(f"{where}: {TRANSPARENT}")
    for top in range(0, len(levels), ROWS):
        levels[top : top + ROWS] = np.asarray(fromarray(rgb[top : top + ROWS]).convert("L"))
    if deep:
        check_depth(rgb, where)
    if color:  # a copy: the detector may write on its own
        return rgb, torch.from_numpy(rgb).permute(2, 0, 1).clone()
    return rgb, torch.from_numpy(levels)[None]


def _rgb(pixels: Tensor) -> np.ndarray:
    levels = pixels if pixels.dtype == torch.uint8 else pixels.mul(255).round().byte()
    return np.array(levels.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy(), order="C")


def cut_faces(pixels: Tensor, found: Any, margin: float) -> list[Crop]:
    """Return the squares of `(C, H, W)` around what a detector returned."""
    height, width = pixels.shape[-2:]
    crops = []
    for left, top, right, bottom, roll in boxes_of(found, width, height):
        side = max(right - left, bottom - top)
        side = max(1, round(side * (1 + 2 * margin)))
        x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
        box = (x, y, x + side, y + side)
        face = _upright(pixels, box, roll) if roll else _cut(pixels, box)
        crops.append(Crop(face=face, box=box))
    return crops


def boxes_of(found: Any, width: int, height: int) -> list[Row]:
    """Return left, top, right, bottom and roll of each face that a detector returned, checked."""
    rows = []
    for left, top, right, bottom, roll in _boxes(found):
        side = max(right - left, bottom - top)
        if side < 2 and min(left, top) >= -1 and max(right, bottom) <= 2:
            raise ArgumentError(
                f"the detector returned {(left, top, right, bottom)}, shares of the photograph: "
                "multiply left and right by its width, top and bottom by its height"
            )
        if min(right - left, bottom - top) < LEAST:
            continue
        if side > 2 * max(width, height):
            raise ArgumentError(
                f"the detector returned a box of {side:g} px, more than twice as large as the "
                f"photograph of {width}x{height} px"
            )
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            raise ArgumentError(
                f"the detector returned a box outside the photograph of {width}x{height} px: "
                f"{(left, top, right, bottom)}"
            )
        rows.append((left, top, right, bottom, roll))
    return rows


def _boxes(found: Any) -> Iterator[Row]:
    """Yield left, top, right, bottom and roll of what a detector returned, checked."""
    try:
        rows = iter(() if found is None else found)
    except TypeError:
        rows = iter([found])
    for row in rows:
        named = isinstance(row, Mapping) and set(row) in ({"box"}, {"box", "roll"})
        box, turn = (row["box"], row.get("roll", 0)) if named else (row, 0)
        try:
            if isinstance(box, str | bytes | set | frozenset):
                raise TypeError
            box = [*box]
            if any(isinstance(edge, complex | np.complexfloating) for edge in box):
                raise TypeError
            roll, left, top, right, bottom, *more = map(float, (turn, *box))
            good = all(map(math.isfinite, (roll, left, top, right, bottom)))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            good, more = False, []
        if more or not good or right <= left or bottom <= top:
            keep = ": keep the first four, box[:4]" if more else ""
            raise ArgumentError(f"the detector returned {row!r:.80}{keep}; expected {EXPECTED}")
        yield left, top, right, bottom, roll


def _cut(pixels: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Return the square `box` of `(C, H, W)`; over the border its last pixels repeat."""
    height, width = pixels.shape[-2:]
    left, top, right, bottom = box
    rows = torch.arange(top, bottom).clamp(0, height - 1)
    columns = torch.arange(left, right).clamp(0, width - 1)
    # The part first: indexing must not copy a whole line of a huge photograph.
    part = pixels[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part[:, (rows - rows[0])[:, None], columns - columns[0]]


def _upright(pixels: Tensor, box: tuple[int, int, int, int], roll: float) -> Tensor:
    """Return the square `box` of a face that is turned clockwise by `roll` degrees, turned back."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import center_crop, rotate

    left, top, right, bottom = box
    side = right - left
    more = math.ceil(side * (math.sqrt(2) - 1) / 2) + 1
    wide = _cut(pixels, (left - more, top - more, right + more, bottom + more))
    if side > UPRIGHT:  # turning needs 13 bytes a pixel, and no network sees as many
        scale, side = UPRIGHT / side, UPRIGHT
        size = [round(scale * n) for n in wide.shape[-2:]]
        wide = F.interpolate(wide[None], size, mode="bilinear", antialias=True)[0]
    turned = rotate(wide.float(), roll, interpolation=InterpolationMode.BILINEAR)
    cut: Tensor = center_crop(turned, [side, side])
    return cut.round().clamp(0, 255).byte() if pixels.dtype == torch.uint8 else cut.clamp(0, 1)
