"""Anything people call an image, as one gray tensor; what is ambiguous is refused."""

import io
import math
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, InputError
from fer_zoo.plain import check_plain
from fer_zoo.transforms.depth import check_depth, check_floats, is_deep, was_deep

Channels = Literal["rgb", "bgr"]
BYTES = (bytes, bytearray, memoryview)

MOST_PIXELS = 25_000_000
"""Of an encoded face, half of it with 16 bits; set it higher to read larger ones.

Photographs have a bound of their own.
"""
MOST_BYTES = 500_000_000
"""Of an encoded image; a fifth of it as WebP or AVIF, which are held twice to tell their size."""
FACE = (
    "of a face, half of it with 16 bits: scale it down, take a fer_zoo.PhotoPredictor for "
    "photographs, or raise fer_zoo.transforms.inputs.MOST_PIXELS"
)
ASPECT = 20  # sides in another proportion are no face's, and no photograph's
MOST_TILE = 2**24  # pixels of a tile of a TIFF
LEAST = 10  # px of a side; what is smaller is no face
BLANK = 1.0
"""Standard deviation in gray levels under which an image shows nothing."""
TRANSPARENT = "shows nothing: it is transparent all over"
FORMATS = tuple("PNG JPEG BMP GIF TIFF WEBP AVIF JPEG2000 PPM DIB TGA".split())
"""What is opened, MPO as JPEG; of what Pillow knows more, some runs programs or decodes at once."""
ON_SIDE = (5, 6, 7, 8)  # orientations of EXIF under which rows are columns
WEAK = ("DIB", "TGA")  # whose files do not begin as no others do
IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .gif .tif .tiff .webp .avif .jp2 .j2k .tga "
    ".pgm .ppm .pbm .pnm".split()
)

_EXPECTED = (
    "a path, an open file, bytes, a PIL image, a numpy array (H, W), (H, W, 1) or (H, W, 3), or a "
    "tensor (H, W) or (C, H, W) with C 1 or 3; uint8, or float between 0 and 1"
)


def to_gray(image: Any, *, channels: Channels = "rgb") -> Tensor:
    """Return one image as gray `(1, H, W)`: uint8, or float32 in [0, 1].

    RGB becomes gray by ITU-R 601 luma, as in Pillow. Palette, alpha and 1-bit images go through
    Pillow's own conversion; 16-bit images keep their depth as float; the EXIF rotation is applied.

    Args:
        image: a path, a file opened with "rb" (it is left where it was), bytes, a PIL image, a
            numpy array `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, or a tensor `(H, W)` or `(C, H, W)`
            with C 1 or 3; arrays are uint8, or float in [0, 1].
        channels: the order of the colours in an array or a tensor, `"bgr"` for OpenCV's.

    Raises:
        InputError: the image cannot be read, or its shape, type or range is ambiguous.

    Example:
        >>> to_gray(np.full((2, 2, 3), 200, np.uint8))
        tensor([[[200, 200],
                 [200, 200]]], dtype=torch.uint8)
    """
    return read_face(image, channels, color=False)


def to_rgb(image: Any, *, channels: Channels = "rgb") -> Tensor:
    """Return one image as RGB `(3, H, W)`, a gray one three times: uint8, or float32 in [0, 1].

    It is for networks that see colours; all else is as for `to_gray`.

    Example:
        >>> to_rgb(np.array([[[1, 2, 3]]], np.uint8), channels="bgr").flatten()
        tensor([3, 2, 1], dtype=torch.uint8)
    """
    return read_face(image, channels, color=True)


def read_face(image: Any, channels: Channels, *, color: bool) -> Tensor:
    """Return one image as `to_rgb` does if `color`, else as `to_gray` does."""
    check_channels(channels)
    if isinstance(image, np.ndarray):
        is_bgr = channels == "bgr" and image.shape[2:] == (3,)
        return _from_numpy(image[..., ::-1] if is_bgr else image, color=color)
    if isinstance(image, Tensor):
        check_plain(image, "the tensor")
        image = image[None] if image.ndim == 2 else image
        if image.ndim != 3:
            raise InputError(f"got a tensor of shape {tuple(image.shape)}; expected {_EXPECTED}")
        if image.is_floating_point():
            check_floats(image.detach().cpu().float().numpy(), "the tensor")
        return as_channels((image.flip(0) if channels == "bgr" else image)[None], color=color)[0]
    opened = open_face(image)
    try:
        return pixels_in(opened, said_of(image), color=color)
    finally:
        if opened is not image:
            opened.close()


def open_face(image: Any) -> Any:
    """Return the PIL image of a face, of anything but an array or a tensor."""
    return open_image(image, MOST_PIXELS, FACE)


def said_of(image: Any) -> str:
    """Return what messages call an image that a user gave."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, np.ndarray | Tensor):
        return "the array" if isinstance(image, np.ndarray) else "the tensor"
    if isinstance(image, BYTES):
        return "the bytes"
    if hasattr(image, "read"):
        return "the file"
    return getattr(image, "filename", "") or "the PIL image"


def open_image(image: Any, most: int, what: str) -> Any:
    """Return the PIL image, not decoded unless it was, of a path, an open file, bytes or itself.

    Args:
        image: what was given.
        most: pixels that it may have.
        what: what messages say of that bound.
    """
    opened, where = _open(image), said_of(image)
    try:
        _check_tiff(opened, where)
        if not is_decoded(opened) and pixels_of(opened) > most:
            width, height = opened.size
            raise InputError(
                f"{where}: {width}x{height} px are more than the {most / 1e6:g} megapixels {what}"
            )
    except InputError:
        if opened is not image:
            opened.close()
        raise
    return opened


def is_decoded(image: Any) -> bool:
    """Whether the pixels of a PIL image are in memory."""
    return vars(image).get("_im", vars(image).get("im")) is not None  # older Pillows: im


def pixels_of(image: Any) -> int:
    """Return how many pixels a PIL image has; one of more than 8 bits counts twice."""
    width, height = image.size
    return int(width * height) * (2 if is_deep(image) or was_deep(image) else 1)


def _open(image: Any) -> Any:
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        return image
    where = said_of(image)
    if hasattr(image, "read"):
        image = _read(image)
    elif not isinstance(image, (str, os.PathLike, *BYTES)):
        pair = " (of an (image, label) pair pass the image)" if isinstance(image, tuple) else ""
        raise InputError(f"got {type(image).__name__}{pair}; expected {_EXPECTED}")
    try:
        if isinstance(image, BYTES):
            size = memoryview(image).nbytes
        else:
            size, mode = (found := os.stat(image)).st_size, found.st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError("not a regular file")
        if _is_too_long(image, size):
            raise InputError(
                f"{size / 1e6:,.0f} MB are more than the {MOST_BYTES / 1e6:g} of an image, a fifth "
                "of it as WebP or AVIF: save it smaller, or raise "
                "fer_zoo.transforms.inputs.MOST_BYTES"
            )
        given = io.BytesIO(image) if isinstance(image, BYTES) else image
        return Image.open(given, formats=_formats())
    except FileNotFoundError:
        raise InputError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise InputError(
            f"{where}: is a folder, not an image; a folder alone is many, predict({where!r}), and "
            f"in a list its files are: [*pathlib.Path({where!r}).iterdir(), ...]"
        ) from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InputError(
            f"{where}: has more than the {most:.0f} megapixels that Pillow opens; scale it down "
            "or, if you trust the file, set PIL.Image.MAX_IMAGE_PIXELS = None"
        ) from None
    except UnidentifiedImageError:  # whose words name where the bytes are in memory
        raise InputError(
            f"{where}: cannot be read as an image (in no format known, or "
            "with pixels of a kind that Pillow does not read)"
        ) from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise InputError(f"{where}: cannot be read as an image ({error})") from None


def _is_too_long(image: Any, size: int) -> bool:
    """Whether the file or bytes of `size` bytes have more than an image may have."""
    if size <= MOST_BYTES // 5 or size > MOST_BYTES:
        return size > MOST_BYTES
    with io.BytesIO(image) if isinstance(image, BYTES) else open(image, "rb") as file:
        begin = file.read(12)
    return begin[8:] == b"WEBP" or begin[4:8] == b"ftyp"  # the latter of AVIF


def _check_tiff(image: Any, where: str) -> None:
    """Raise where a PIL image is a TIFF that is decoded wrongly, or into far more."""
    tags = getattr(image, "tag_v2", None) or {}
    tile = [tags.get(322, 0), tags.get(323, 0)]  # which may be larger than the image
    problem = ""
    if not all(isinstance(side, int) for side in tile) or math.prod(tile) > MOST_TILE:
        problem = f"tiles of {tile} px, more than {MOST_TILE:,} together"
    elif tags.get(262) == 0 and is_deep(image):
        problem = "more than 8 bits with 0 as white, which Pillow takes for black"
    elif 2 in tags.get(339, ()) and max(tags.get(258, (8,))) <= 16:
        problem = "signed pixels, whose zero Pillow does not know"
    elif tags.get(284) == 2 and tags.get(259, 1) == 1 and max(tags.get(258, (8,))) > 8:
        problem = "uncompressed planes of more than 8 bits, which Pillow takes for 8"
    if problem:
        raise InputError(f"{where}: a TIFF with {problem}: save it as PNG, unsigned, 0 as black")


def is_image(path: Path) -> bool:
    """Whether a file is an image by its content, whatever its name says."""
    from PIL import Image

    try:
        if _is_too_long(path, os.path.getsize(path)):
            return False
        with Image.open(path, formats=[name for name in _formats() if name not in WEAK]):
            return True
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True
    except Exception:  # decoders raise whatever they like on damaged files
        return False


@cache
def _formats() -> tuple[str, ...]:
    """Return those of the formats that this Pillow can open."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _read(file: Any) -> bytes:
    """Return what is left of an open file, which is then where it was."""
    try:
        start = file.tell() if hasattr(file, "seekable") and file.seekable() else None
        data = file.read()
        if start is not None:
            file.seek(start)
    except Exception as error:  # whatever has a `read` may come here
        raise InputError(f"the file cannot be read ({error})") from None
    if not isinstance(data, BYTES):
        raise InputError(
            f"read() of the file gave {type(data).__name__}; expected bytes: open it with 'rb', "
            "or pass what `await file.read()` gives"
        )
    return bytes(data)


def orientation(image: Any) -> int:
    """Decode a PIL image and return how its EXIF says that it lies; broken EXIF says nothing."""
    from PIL.ExifTags import Base

    image.load()
    try:
        found = image.getexif().get(Base.Orientation)
    except Exception:  # its parsers raise whatever they like
        return 1
    return found if found in range(1, 9) else 1


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return a view of the pixels `(H, W, ...)` of a file, turned as its EXIF says."""
    rows, columns = turn in (3, 4, 6, 7), turn in (2, 3, 7, 8)
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return pixels.swapaxes(0, 1) if turn in ON_SIDE else pixels


def opacity(image: Any) -> int:
    """Return the highest alpha of a PIL image, 255 where it has none."""
    return int(image.getchannel("A").getextrema()[1]) if "A" in image.getbands() else 255


def check_channels(channels: Any) -> None:
    """Raise unless it is an order of colours."""
    if channels not in ("rgb", "bgr"):
        raise ArgumentError(f"channels is 'rgb', or 'bgr' for OpenCV's arrays, got {channels!r}")


def check_aspect(width: int, height: int, where: str) -> None:
    """Raise where one side is many times the other."""
    if max(width, height) > ASPECT * min(width, height):
        raise InputError(
            f"{where}: {width}x{height} px; one side may be {ASPECT} times the other at most: cut "
            "out what shows a face"
        )


def pixels_in(image: Any, where: str, *, color: bool = False) -> Tensor:
    """Return a PIL image, which messages call `where`, as `to_gray` or `to_rgb` returns it."""
    cut = was_deep(image) and not is_deep(image)
    try:
        turn = orientation(image)
        if image.mode in ("P", "YCbCr"):  # the latter's Y is not quite the luma of its RGB
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        shows = opacity(image)
        kept = image if is_deep(image) else image.convert("RGB" if color else "L")
        array = turned(np.array(kept), turn)
        colours = np.asarray(image.convert("RGB")) if cut else array
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise InputError(f"{where}: cannot be read as an image ({error})") from None
    if not shows:
        raise InputError(f"{where}: {TRANSPARENT}")
    if image.mode == "F" or not is_deep(image):
        if cut:
            check_depth(colours, where)
        return _from_numpy(array, where, color=color)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 65535)
    if low < 0 or high > 65535:
        raise InputError(
            f"{where}: pixels from {low} to {high}, as Pillow reads them; scale them to 0 to 65535"
        )
    if array.size:
        check_depth(array, where)
    return _from_numpy(array.astype(np.float32) / 65535, where, color=color)


def _from_numpy(array: np.ndarray, where: str = "the array", *, color: bool = False) -> Tensor:
    if np.ma.is_masked(array):
        raise InputError(f"{where} has masked pixels: fill them, image.filled(0)")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        alpha = " (of RGBA pass image[..., :3])" if array.shape[2:] == (4,) else ""
        raise InputError(f"{where} has shape {array.shape}{alpha}; expected {_EXPECTED}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{where} is {array.dtype}; expected uint8, or float between 0 and 1")
    if array.dtype.byteorder == ">" or array.dtype.itemsize > 8:
        array = array.astype(np.float32)
    check_floats(array, where)
    found = torch.from_numpy(array.transpose(2, 0, 1).copy())[None]
    return as_channels(found, where, color=color)[0]


def as_channels(images: Tensor, where: str = "the tensor", *, color: bool = False) -> Tensor:
    """Return gray `(B, 1, H, W)`, or RGB `(B, 3, H, W)`, for `(B, C, H, W)`, checked."""
    if images.shape[1] not in (1, 3):
        alpha = ": of RGBA pass image[:3]" if images.shape[1] == 4 else ""
        raise InputError(
            f"{where} has {images.shape[1]} channels (of shape (C, H, W)); expected 1 or 3{alpha}"
        )
    check_plain(images, where)
    images = check_values(images, where)
    check_aspect(images.shape[-1], images.shape[-2], where)
    if color or images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1) if color else images
    if images.dtype == torch.uint8:
        r, g, b = images.int().unbind(1)
        return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).byte()[:, None]
    r, g, b = images.unbind(1)
    return (0.299 * r + 0.587 * g + 0.114 * b)[:, None].clamp(0, 1)


def check_values(images: Tensor, where: str) -> Tensor:
    """Return images as they are in uint8, else as float32 in [0, 1], or raise `InputError`."""
    if images.numel() == 0:
        raise InputError(f"{where} is empty: shape {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(f"{where} is {images.dtype}; expected uint8, or float between 0 and 1")
    images = images.float()
    if not bool(torch.isfinite(images).all()):
        raise InputError(f"{where} holds NaN or infinity; expected float between 0 and 1")
    low, high = (float(x) for x in images.detach().aminmax())
    if low < 0 or high > 1:
        raise InputError(
            f"{where} holds float values from {low:g} to {high:g}; expected 0 to 1 "
            "(divide by 255, or pass uint8)"
        )
    return images
