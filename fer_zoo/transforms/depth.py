"""How many bits the pixels of an image have: 12 that are taken for 16 are nearly black."""

import re
from typing import Any

import numpy as np

from fer_zoo.errors import InputError

STRIP = 256  # rows whose depth is looked at together
NEAR_LEVEL = 0.02  # of a gray level: as far as float16 moves the darkest
DARK = 0.07  # floats that go no higher may have 12 bits of 16, and be scaled since
SHALLOW = (8, 10, 12, 14)  # bits that 16 may hold


def is_deep(image: Any) -> bool:
    """Whether the pixels of a PIL image have more than 8 bits."""
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def was_deep(image: Any) -> bool:
    """Whether a PIL image that is not yet decoded has 16 bits, which Pillow may cut to 8."""
    told = [str(args) for *_, args in getattr(image, "tile", ())]
    if told and image.format == "JPEG2000":
        return _bits_of_jpeg2000(image.fp) > 14  # of up to 14 it says itself, and is scaled by them
    highest = [int(found[1]) for args in told if (found := re.search(r", (\d+)\)$", args))]
    return any(";16" in args for args in told) or max(highest, default=0) > 2**14  # those of PPM


def _bits_of_jpeg2000(file: Any) -> int:
    """Return the most bits of a component, by the SIZ marker; 16 where there is none."""
    try:
        at = file.tell()
        try:
            file.seek(0)
            head = file.read(2**20)
        finally:
            file.seek(at)
    except (AttributeError, OSError, ValueError):  # gone, or closed: what decodes it says so
        return 16
    start = head.find(b"\xff\x4f\xff\x51")  # SOC, and SIZ right after it
    if start < 0 or len(head) < start + 45:
        return 16
    count = int.from_bytes(head[start + 40 : start + 42], "big")
    sizes: bytes = head[start + 42 : start + 42 + 3 * count : 3]
    return 1 + max((size & 127 for size in sizes), default=15)


def check_depth(pixels: np.ndarray, where: str) -> None:
    """Raise where pixels `(H, W, ...)` of 16 bits, or 8 cut from them, may be of fewer bits.

    Counted is what 3x3 px reach together in some colour: bright parts of dark images do, however
    small in a large one; pixels and lines that a sensor or a link has wrong do not.
    """
    high, single = 0, 0
    for top in range(0, max(1, len(pixels) - 2), STRIP):
        strip = pixels[top : top + STRIP + 2]
        strip = strip.max(2) if strip.ndim == 3 else strip
        single = max(single, int(strip.max()))
        for _ in range(2):
            if len(strip) > 2:
                strip = np.minimum(np.minimum(strip[:-2], strip[1:-1]), strip[2:])
            strip = strip.T
        high = max(high, int(strip.max()))
    if pixels.dtype == np.uint8:
        high, single = (max(257 * value - 128, 0) for value in (high, single))  # cut, or rounded
    most = next((2**bits - 1 for bits in SHALLOW if high < 2**bits), None)
    if most is not None:
        told, whole = f"{single}", ""
        if single > most:
            told, whole = f"{high}, but for single pixels,", ", or / 65535 if they are 16"
        raise InputError(
            f"{where}: 16 bits that go up to {told} may be 8, 10, 12 or 14 bits: pass "
            f"floats, of {most.bit_length()} the pixels / {most}{whole}, or 8 bits"
        )


def check_floats(pixels: np.ndarray, where: str) -> None:
    """Raise where floats are nearly black, and no 8 bits that are as dark."""
    if pixels.dtype == np.uint8 or not pixels.size or not 0 < (high := float(pixels.max())) <= DARK:
        return
    levels = 255 * pixels.astype(np.float64)
    if not np.abs(levels - levels.round()).max() < NEAR_LEVEL:
        raise InputError(
            f"{where} holds floats of at most {high:g}, nearly black: those of 12 bits are divided "
            "by 4095, not by 65535; if it is as dark, pass uint8"
        )
