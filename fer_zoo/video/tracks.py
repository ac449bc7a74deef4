"""Faces over time: each detection goes to the track of its face, which is followed in between.

Detections are matched as in SORT (Bewley et al. 2016, arXiv 1602.00763), by the overlap with where
a face should be by now, and by how alike they look; in between a face is followed by the median
motion of points on it (Lucas and Kanade's, Kalal et al. 2010).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_zoo.errors import needing

Box = tuple[float, float, float, float]
Row = tuple[float, float, float, float, float]
"""Left, top, right, bottom, and the roll."""
THUMB = 24  # px of the side of what is compared of two faces
POINTS = 7  # in a row, and in a column, of those that are followed on a face
LEAST_POINTS = 8
NEAR = 1.0  # sides of a face that it may be from where it should be, if it looks alike
ALIKE = 0.5  # correlation of two faces that are taken for one though they do not overlap
STILL = 0.7  # correlation of a face that is followed, or found after a cut, with what was found
CUT = 0.7  # correlation, without the faces, of two frames between which there may be a cut
CHANGED = 6  # gray levels, by which such frames differ in the mean, and vary within themselves
SAME = 0.6  # share of the smaller of two detections that the other covers: one face


@dataclass(eq=False)
class Track:
    """A face that was found, and where it is.

    Attributes:
        number: from 0, in the order in which faces were first shown; -1 before.
        box: left, top, right and bottom in px.
        hits: how often a detector found it.
        misses: how often not, since it did.
        seen: when it was found last, in seconds.
        found: whether the detector found it in the present frame.
        shown: whether it is one of the frame's faces: not while it is lost.
        roll: the degrees by which it was turned clockwise when it was found last.

    Example:
        >>> Track((10, 10, 40, 40), seen=0.0, look=np.zeros(THUMB * THUMB)).number
        -1
    """

    box: Box
    seen: float
    look: np.ndarray = field(repr=False)
    number: int = -1
    hits: int = 1
    misses: int = 0
    found: bool = True
    shown: bool = False
    roll: float = 0.0
    speed: tuple[float, float] = (0.0, 0.0)  # px a second
    at: tuple[float, float] = (0.0, 0.0)  # where it was when it was found last
    moved: float = 0.0  # the time of `box`
    cut: bool = False  # whether the film may have been cut since it was found


class Tracker:
    """Numbers for faces; see the module.

    Args:
        patience: seconds that a face may not be found before its track ends.
        confirm: detections that make a track, of what was not there in the first frame.

    Example:
        >>> tracker, gray = Tracker(), np.zeros((90, 120), np.uint8)
        >>> [track.number for track in tracker.update(gray, 0.0, [(10, 10, 40, 40, 0)])]
        [0]
        >>> [track.box for track in tracker.update(gray, 0.04)]
        [(10.0, 10.0, 40.0, 40.0)]
    """

    def __init__(self, patience: float = 1.0, confirm: int = 2) -> None:
        with needing("tracks need OpenCV", "video"):
            import cv2
        self._cv2: Any = cv2
        self.patience, self.confirm = patience, confirm
        self.tracks: list[Track] = []
        self._before: np.ndarray | None = None
        self._whole = np.zeros((THUMB, THUMB), np.float32)  # the same, small
        self._next, self._begun, self._scale = 0, -math.inf, 1.0

    def update(
        self,
        gray: np.ndarray,
        time: float,
        boxes: Sequence[Row] | None = None,
        *,
        scale: float = 1.0,
    ) -> list[Track]:
        """Return the faces of the next frame by what a detector found, if it was asked.

        Args:
            gray: the frame, uint8 `(H, W)`.
            time: of the frame, in seconds.
            boxes: left, top, right, bottom and roll of each face; None where nobody looked.
            scale: by which `gray` is smaller than that of which all boxes speak.
        """
        self._scale = scale
        self._follow(gray, time)
        if boxes is not None:
            self._match(gray, time, _distinct(boxes))
        # Where nobody looked for longer than that, a face is still waited for.
        self.tracks = [t for t in self.tracks if not t.misses or time - t.seen <= self.patience]
        self._before = gray
        for track in self.tracks:
            enough = track.hits >= self.confirm or track.seen == self._begun
            # A detector misses a face now and then; one that still looks the same is there.
            sure = not track.misses and not track.cut and time - track.seen <= self.patience
            there = sure or float(track.look @ self._look(gray, track.box)) > STILL
            track.shown = (track.shown or (enough and track.found)) and there
            if track.shown and track.number < 0:
                track.number, self._next = self._next, self._next + 1
        return [track for track in self.tracks if track.shown]

    def _follow(self, gray: np.ndarray, time: float) -> None:
        """Move each face to where it is by now."""
        there = [t for t in self.tracks if t.shown or t.misses == 0]
        cut = self._is_cut(gray, there)
        for track in self.tracks:
            track.found = False
            alone = all(other is track or _overlap(track.box, other.box) < 0.1 for other in there)
            # Points on a face that another one covers would go with the other.
            asked = alone and track in there
            moved = self._flow(gray, track.box) if asked else None
            if moved is None:
                track.cut = track.cut or cut
                passed = time - track.moved
                moved = _shift(track.box, track.speed[0] * passed, track.speed[1] * passed)
            track.box, track.moved = moved, time

    def _is_cut(self, gray: np.ndarray, there: Sequence[Track]) -> bool:
        """Say whether what is behind the faces is not what was there in the frame before."""
        same = self._before is not None and self._before.shape == gray.shape
        area, (height, width) = self._cv2.INTER_AREA, gray.shape
        old, new = self._whole, self._cv2.resize(gray, (THUMB, THUMB), interpolation=area)
        self._whole = new = new.astype(np.float32)
        if not same:
            return False
        behind = np.ones((THUMB, THUMB), bool)
        for track in there:
            left, top, right, _ = (v * self._scale * THUMB for v in track.box)
            # With what moves with a face: hair, neck and shoulders.
            more = (right - left) / 2
            columns = slice(
                max(0, int((left - more) / width)), max(0, 1 + int((right + more) / width))
            )
            behind[max(0, int((top - more) / height)) :, columns] = False
        old, new = old[behind], new[behind]
        if old.size < THUMB or np.abs(old - new).mean() < CHANGED:
            return False
        if min(old.std(), new.std()) < CHANGED:  # a wall, or the dark: noise is like no noise
            return False
        old, new = old - old.mean(), new - new.mean()
        return float(old @ new) < CUT * float(np.linalg.norm(old) * np.linalg.norm(new))

    def _flow(self, gray: np.ndarray, box: Box) -> Box | None:
        """Return where the points of a box are in `gray`, or None if too few are found again."""
        before = self._before
        if before is None or before.shape != gray.shape:
            return None
        left, top, right, bottom = (v * self._scale for v in box)
        # Of a face rather than what is behind it: the middle of its box.
        xs = np.linspace(left + 0.2 * (right - left), right - 0.2 * (right - left), POINTS)
        ys = np.linspace(top + 0.2 * (bottom - top), bottom - 0.2 * (bottom - top), POINTS)
        points = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 1, 2).astype(np.float32)
        # Only what is around it: the pyramids of a whole frame cost more than everything else.
        more = 0.5 * max(right - left, bottom - top) + 16
        height, width = gray.shape
        x0, y0 = max(0, int(left - more)), max(0, int(top - more))
        x1, y1 = min(width, int(right + more)), min(height, int(bottom + more))
        if x1 - x0 < 32 or y1 - y0 < 32:
            return None
        one, two = before[y0:y1, x0:x1], gray[y0:y1, x0:x1]
        points -= np.array([x0, y0], np.float32)
        how = {"winSize": (15, 15), "maxLevel": 2}
        there, ok, _ = self._cv2.calcOpticalFlowPyrLK(one, two, points, None, **how)
        back, ok2, _ = self._cv2.calcOpticalFlowPyrLK(two, one, there, None, **how)
        error = np.abs(back - points).max(-1).ravel()
        good = (ok.ravel() == 1) & (ok2.ravel() == 1) & (error < 1.0)
        if good.sum() < LEAST_POINTS:
            return None
        a, b = points[good, 0], there[good, 0]
        dx, dy = np.median(b - a, 0)
        scale = _spread(b) / max(_spread(a), 1e-6)
        scale = float(np.clip(scale, 0.9, 1.1))
        cx, cy = (left + right) / 2 + float(dx), (top + bottom) / 2 + float(dy)
        w, h = (right - left) * scale / 2, (bottom - top) * scale / 2
        s = self._scale
        return (cx - w) / s, (cy - h) / s, (cx + w) / s, (cy + h) / s

    def _match(self, gray: np.ndarray, time: float, rows: list[Row]) -> None:
        """Give each detection to a track, or make a new one of it."""
        from scipy.optimize import linear_sum_assignment

        boxes: list[Box] = [row[:4] for row in rows]
        looks = [self._look(gray, box) for box in boxes]
        left = set(range(len(boxes)))
        if self.tracks and boxes:
            costs = np.array([[_cost(t, b, k) for b, k in zip(boxes, looks, strict=True)]
                              for t in self.tracks])  # fmt: skip
            for i, j in zip(*linear_sum_assignment(costs), strict=True):
                if costs[i, j] < 2:
                    self._found(self.tracks[i], rows[j], looks[j], time)
                    left.discard(int(j))
        for track in self.tracks:
            track.misses += not track.found
        kept = [track for track in self.tracks if track.found or not track.cut]
        if self._begun == -math.inf or len(kept) < len(self.tracks):
            # What is found now was there when the film, or the picture after a cut, began.
            self.tracks = kept
            self._begun = time
        for j in sorted(left):
            centre = _centre(boxes[j])
            new = Track(boxes[j], time, looks[j], at=centre, moved=time, roll=rows[j][4])
            self.tracks.append(new)

    def _found(self, track: Track, row: Row, look: np.ndarray, time: float) -> None:
        box, track.roll = row[:4], row[4]
        passed, centre = time - track.seen, _centre(box)
        if passed > 0:
            speed = [(c - b) / passed for c, b in zip(centre, track.at, strict=True)]
            keep = 0.5 if track.hits > 1 else 0.0
            x, y = (keep * v + (1 - keep) * s for v, s in zip(track.speed, speed, strict=True))
            track.speed = (x, y)
        track.box, track.at, track.seen, track.moved = box, centre, time, time
        track.look = 0.7 * track.look + 0.3 * look if track.hits > 1 else look
        track.hits, track.misses, track.found, track.cut = track.hits + 1, 0, True, False

    def _look(self, gray: np.ndarray, box: Box) -> np.ndarray:
        """Return a face as a small picture of mean 0 and length 1."""
        left, top, right, bottom = (max(0, round(v * self._scale)) for v in box)
        part = gray[top:bottom, left:right]
        if not part.size:
            return np.zeros(THUMB * THUMB, np.float32)
        area = self._cv2.INTER_AREA
        small = self._cv2.resize(part, (THUMB, THUMB), interpolation=area).astype(np.float32)
        small = small.ravel() - small.mean()
        return small / max(float(np.linalg.norm(small)), 1e-6)  # type: ignore[no-any-return]


def _cost(track: Track, box: Box, look: np.ndarray) -> float:
    """Return how little a detection is like a track, from 0; from 2 on it is not its face."""
    overlap, alike = _overlap(track.box, box), float(track.look @ look)
    side = max(track.box[2] - track.box[0], box[2] - box[0])
    (x, y), (u, v) = _centre(track.box), _centre(box)
    away = math.hypot(x - u, y - v) / side
    ratio = (box[2] - box[0]) / (track.box[2] - track.box[0])
    elsewhere = overlap < 0.1
    other = alike < (STILL if track.cut else ALIKE if elsewhere else -1)
    if not 0.5 < ratio < 2 or other or (elsewhere and away > NEAR):
        return 10.0
    return (1 - overlap) + 0.8 * (1 - max(alike, 0.0))


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Return detections without those that another, larger one mostly covers."""
    kept: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -_area(rows[i][:4])):
        box = rows[i][:4]
        if all(_common(box, rows[k][:4]) < SAME * _area(box) for k in kept):
            kept.append(i)
    return [rows[i] for i in sorted(kept)]


def _spread(points: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(points - np.median(points, 0), axis=1)))


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _shift(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _common(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _overlap(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over their union."""
    common = _common(a, b)
    return common / max(_area(a) + _area(b) - common, 1e-9)
