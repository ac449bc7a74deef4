"""Frames read ahead: decoding and detection go on while the network labels."""

import math
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo.inference.detector import Detector
from fer_zoo.video.sources import Picture, Source

SEARCHED = 640  # px of the longer side in which faces are followed
TOGETHER = 32  # frames that wait at most
ROOM = 40_000_000  # their pixels
LEAVE = 2.0  # seconds to wait for the source's thread, which a camera or a pipe may keep


@dataclass
class Ready:
    """A frame, and what was made of it before its turn.

    Attributes:
        picture: the frame.
        pixels: what faces are cut from: gray `(1, H, W)`, or RGB `(3, H, W)`.
        small: its luma with at most `SEARCHED` px, for the tracker.
        scale: of the latter.
        boxes: what the detector returned, or raised, where it was asked.
    """

    picture: Picture
    pixels: Tensor | None = None
    small: np.ndarray | None = None
    scale: float = 1.0
    boxes: "Future[Any] | None" = None


class _Waiting:
    """What was read and not yet taken; where frames are dropped, the latest only."""

    def __init__(self, dropping: bool) -> None:
        self.dropping, self.closed = dropping, False
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()

    def put(self, item: Any, size: int) -> bool:
        """Wait until there is room; return False if nobody takes anything any more."""
        with self._changed:
            if self.dropping:
                # An error is taken, whatever comes after it.
                self._items = deque(i for i in self._items if _is_told(i))
            most = min(TOGETHER, max(2, ROOM // max(size, 1)))
            self._changed.wait_for(lambda: self.closed or len(self._items) < most)
            self._items.append(item)
            self._changed.notify_all()
            return not self.closed

    def take(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._items)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def _is_told(item: Any) -> bool:
    return not isinstance(item, Ready) or item.picture.rgb is None


def read_ahead(
    source: Source, detector: Detector, every: float, *, color: bool = False
) -> Generator[Ready]:
    """Yield frames in order, each `every` seconds of them with what the detector returned.

    With `color` faces are cut in RGB. The detector is called in one thread, in order. Of a film it
    is asked ahead; of a camera once a frame is taken, as others are dropped.
    """
    waiting, due = _Waiting(source.dropping), -math.inf

    def ask(ready: Ready) -> Ready:
        nonlocal due
        time = ready.picture.time
        if ready.picture.rgb is not None and time >= due - 1e-6:
            due = (due if due > time - every else time) + every
            # A copy: a detector may draw on what it gets.
            ready.boxes = finder.submit(detector, ready.picture.rgb.copy())
        return ready

    def work() -> None:
        try:
            for picture in source.pictures:
                size = 0 if picture.rgb is None else picture.rgb.size // 3
                ready = _prepared(picture, color)
                if not waiting.put(ready if source.dropping else ask(ready), size):
                    return
            waiting.put(None, 0)
        except BaseException as error:  # raised where frames are taken
            waiting.put(error, 0)
        finally:
            if close := getattr(source.pictures, "close", None):
                close()

    finder = ThreadPoolExecutor(1, thread_name_prefix="fer_zoo-detector")
    reader = threading.Thread(target=work, name="fer_zoo-frames", daemon=True)
    reader.start()
    try:
        while (item := waiting.take()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield ask(item) if source.dropping else item
    finally:
        waiting.close()
        reader.join(LEAVE)
        finder.shutdown(wait=True, cancel_futures=True)


def _prepared(picture: Picture, color: bool = False) -> Ready:
    """Return a frame with its pixels, as those of a photograph are made."""
    if picture.rgb is None:
        return Ready(picture)
    import cv2
    from PIL.Image import fromarray

    levels = np.array(fromarray(picture.rgb).convert("L"))
    scale = min(1.0, SEARCHED / max(levels.shape))
    size = [max(1, round(side * scale)) for side in levels.shape[::-1]]
    small = cv2.resize(levels, size, interpolation=cv2.INTER_AREA) if scale < 1 else levels
    gray = torch.from_numpy(levels)[None]
    # A view: what is cut from it is a copy.
    whole = torch.from_numpy(picture.rgb).permute(2, 0, 1) if color else gray
    return Ready(picture, whole, small, scale)
