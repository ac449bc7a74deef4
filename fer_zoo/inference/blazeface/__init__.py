"""BlazeFace, MediaPipe's face detector: faces that are turned, and their eyes, by OpenCV's dnn."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_zoo.errors import ArgumentError, needing

FILE = Path(__file__).with_name("face_detection_back.tflite")  # SOURCE.md says where it is from
SIDE = 256  # px of the square that the network sees
APART = 176  # px from one square to the next at most: faces of 80 px are whole in one of them
OVERLAP = 0.3  # intersection over union from which hits are one face, as MediaPipe has it
LOWER, WIDER = -0.1, 1.2
"""The square that FER2013's crops show, as multiples of the side of the network's box: how far its
centre lies below that of the box, and its side. By the boxes of OpenCV's cascade on the same faces,
see docs/photographs.md."""

NETS = threading.local()  # OpenCV's networks must not be shared by the threads of a server


@dataclass(frozen=True, kw_only=True)
class BlazeFace:
    """MediaPipe's BlazeFace: finds turned and tilted faces too, and turns them upright.

    The network (256x256 px, 0.3 MB, in this package) also says where the eyes are, which gives the
    roll. The boxes are moved and widened, to show what FER2013's crops show, and need no margin.
    The whole photograph is searched at 256 px, where a face needs about a tenth of its longer side,
    then, at 512 px, in overlapping squares, where half of that will do.

    Args:
        longest_side: in px; a larger photograph is scaled to it for the search (the crop is cut
            from the original). From 512 on it is searched there in squares, too, and from 1024 on
            again: 10 searches at most, 46 with 1024, instead of the one of 256.
        score: what the network must give a face at least, from 0 to 1; more for fewer false ones.

    Raises:
        MissingDependencyError: OpenCV is not installed: `pip install 'fer-zoo[blazeface]'`.

    Example:
        >>> detect = BlazeFace()
        >>> detect(np.zeros((90, 120, 3), np.uint8))
        []
    """

    longest_side: int = 2 * SIDE
    score: float = 0.65

    def __post_init__(self) -> None:
        if self.longest_side < SIDE or not 0 < self.score < 1:
            raise ArgumentError(
                f"longest_side must be {SIDE} or more, score within 0 and 1: {self}"
            )
        _net()

    def __call__(self, photograph: np.ndarray) -> list[dict[str, Any]]:
        """Return `box` and `roll` of each face in RGB `(H, W, 3)`, largest first."""
        hits = [self._hits(*view) for view in self._views(photograph)]
        points, scores = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        rows = [_row(face) for face in _merged(points, scores)]
        return sorted(rows, key=lambda row: row["box"][0] - row["box"][2])

    def _views(self, photograph: np.ndarray) -> Iterator[tuple[np.ndarray, Any, Any, Any]]:
        """Yield what is searched: pixels, their left and top, the scale, the borders inside."""
        import cv2

        height, width = photograph.shape[:2]
        side = SIDE
        while side == SIDE or side <= min(self.longest_side, max(height, width)):
            scale = side / max(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = cv2.resize(photograph, size, interpolation=how)
            for top in _places(size[1]):
                for left in _places(size[0]):
                    place = np.array((left, top))
                    inner = np.array((place > 0, place + SIDE < size))
                    pixels = small[top : top + SIDE, left : left + SIDE]
                    yield pixels, place, np.divide((width, height), size), inner
            side *= 2

    def _hits(
        self, pixels: np.ndarray, place: np.ndarray, scale: np.ndarray, inner: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return points `(n, 8, 2)` in px of the photograph, and scores `(n,)`.

        The points are the box's corners, the eyes, the nose, the mouth, the ears.
        """
        import cv2

        more = [SIDE - n for n in pixels.shape[:2]]
        edge: Any = {"borderType": cv2.BORDER_CONSTANT, "value": (127, 127, 127)}
        square = cv2.copyMakeBorder(pixels, 0, more[0], 0, more[1], **edge)
        net, names = _net()
        net.setInput(cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5, 127.5, 127.5)))
        scores, points = (out[0] for out in net.forward(names))
        scores = 1 / (1 + np.exp(-scores[:, 0].clip(-80, 80)))
        good = scores >= self.score
        points = points[good].reshape(-1, 8, 2).astype(float)
        points[:, 2:] += ANCHORS[good, None]
        centre, half = points[:, 0] + ANCHORS[good], points[:, 1] / 2
        points[:, 0], points[:, 1] = centre - half, centre + half
        # What the edge of a square cuts is whole in another, or was found in the whole photograph.
        cut = (inner[0] & (points[:, 0] < 0)) | (inner[1] & (points[:, 1] > SIDE))
        whole = (half > 0).all(1) & ~cut.any(1)
        return (points[whole] + place) * scale, scores[good][whole]


def _places(length: int) -> list[int]:
    """Return where squares begin that cover a length."""
    steps = math.ceil(max(0, length - SIDE) / APART)
    return [round(i * (length - SIDE) / steps) for i in range(steps + 1)] if steps else [0]


def _anchors() -> np.ndarray:
    """Return the points, in px of the square, from which the network counts: two grids."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        at = (np.arange(cells) + 0.5) * SIDE / cells
        grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        grids.append(grid.repeat(repeats, 0))
    return np.concatenate(grids)


ANCHORS = _anchors()


def _merged(points: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Return one `(8, 2)` for each face: the mean of the hits that overlap, by their scores."""
    order = np.argsort(-scores, kind="stable")
    points, scores = points[order], scores[order]
    faces: list[np.ndarray] = []
    while len(points):
        same = _shared(points, points[0])[0] > OVERLAP
        same[0] = True
        face = np.average(points[same], axis=0, weights=scores[same])
        # A part of a face that was found already is none.
        if not faces or _shared(np.stack(faces), face)[1].max() < 0.5:
            faces.append(face)
        points, scores = points[~same], scores[~same]
    return faces


def _shared(faces: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what boxes share with one: of both together, and of the smaller one."""
    low, high = np.maximum(faces[:, 0], face[0]), np.minimum(faces[:, 1], face[1])
    common = (high - low).clip(0).prod(1)
    areas, area = (faces[:, 1] - faces[:, 0]).prod(1), (face[1] - face[0]).prod()
    return common / (areas + area - common), common / np.minimum(areas, area)


def _row(face: np.ndarray) -> dict[str, Any]:
    """Return the square that FER2013's crops show, and the roll by the eyes."""
    eyes, side = face[3] - face[2], (face[1] - face[0]).mean()
    roll = math.atan2(eyes[1], eyes[0])
    down = np.array((-math.sin(roll), math.cos(roll)))
    centre, half = face[:2].mean(0) + LOWER * side * down, WIDER * side / 2
    box = (*(centre - half).tolist(), *(centre + half).tolist())
    return {"box": box, "roll": math.degrees(roll)}


def _net() -> Any:
    if not hasattr(NETS, "back"):
        with needing("BlazeFace needs OpenCV 4", "blazeface"):
            from cv2.dnn import readNetFromTFLite
        net = readNetFromTFLite(np.fromfile(FILE, np.uint8))
        NETS.back = net, ("classificators", "regressors")
    return NETS.back
