"""Finding faces: what a detector is, which there are by name, and FER2013's own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_zoo.errors import ArgumentError, UnknownNameError, needing
from fer_zoo.inference.blazeface import BlazeFace
from fer_zoo.registry import Registry

Detector = Callable[[np.ndarray], Any]
"""Takes a photograph as RGB, uint8 `(H, W, 3)`, upright, a copy of its own; returns rows of left,
top, right and bottom in px, of which one under 10 px is no face. A row may also be a mapping with
these four as its `box` and with a `roll`: the degrees by which the face is turned clockwise, and
will be turned back. It is called in the thread that asks for the predictions, for one photograph at
a time, in order."""

CASCADES = threading.local()  # OpenCV's classifiers must not be shared by the threads of a server


@dataclass(frozen=True, kw_only=True)
class FaceDetector:
    """The frontal-face detector of OpenCV, whose boxes are FER2013's crops.

    The boxes of `haarcascade_frontalface_default` on FER2013's own images have, in the median, 47
    of the 48 px as their side, so such a box is cut as it is. The cascade ships inside the package
    opencv-python-headless; nothing is downloaded. It finds frontal faces that are upright within
    about 20 degrees. Of profiles, masks and small or dark faces it misses many, and some of what it
    finds is no face: where that matters, pass another detector to the predictor.

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
        squares = [[round(v / scale) for v in (x - more, y - more, w)] for x, y, w, _ in boxes]
        return [(left, top, left + side, top + side) for left, top, side in squares]


def _cascade() -> Any:
    if not hasattr(CASCADES, "frontal"):
        what = "finding faces needs OpenCV 4, or detector=, a function from an RGB array to boxes"
        with needing(what, "detect"):  # OpenCV 5 has no cascades
            from cv2 import CascadeClassifier
            from cv2.data import haarcascades
        path = Path(haarcascades) / "haarcascade_frontalface_default.xml"
        CASCADES.frontal = CascadeClassifier(str(path))
    return CASCADES.frontal


DETECTORS: Registry[Callable[[], Detector]] = Registry(
    "detector", "fer_zoo.inference.list_detectors()"
)
DETECTORS.register("haar", FaceDetector)
DETECTORS.register("blazeface", BlazeFace)


def register_detector(name: str, factory: Callable[[], Detector]) -> Callable[[], Detector]:
    """Make a detector available by name, here, in listings and on the command line.

    Args:
        name: what `detector=` and `--detector` will take.
        factory: makes one when it is asked for; a class will do.

    Raises:
        DuplicateNameError: the name is taken.

    Example:
        >>> _ = register_detector("none_doc", lambda: lambda rgb: [])
        >>> find_detector("none_doc")(np.zeros((90, 120, 3), np.uint8))
        []
    """
    if not callable(factory):
        raise ArgumentError(f"a factory is called for a detector, got {factory!r:.80}")
    return DETECTORS.register(name, factory)


def list_detectors(pattern: str = "*") -> list[str]:
    """Return the names of the detectors that are known by name.

    Example:
        >>> list_detectors("b*")
        ['blazeface']
    """
    return DETECTORS.names(pattern)


def find_detector(detector: Detector | str | None) -> Detector:
    """Return what was passed, or made by its name; the cascade for None.

    Raises:
        ArgumentError: it can be called by nobody, or nothing has this name.
    """
    if isinstance(detector, str):
        try:
            make = DETECTORS[detector]
        except UnknownNameError as error:
            raise ArgumentError(f"detector must be callable, or a name: {error}") from None
        detector = make()
    found = FaceDetector() if detector is None else detector
    if isinstance(found, type) or not callable(found):
        made = f": pass {found.__name__}()" if isinstance(found, type) else ""
        raise ArgumentError(f"detector must be callable, got {found!r:.80}{made}")
    return found
