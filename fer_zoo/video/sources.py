"""Where frames come from: films, cameras, folders and iterators, in RGB and with their times."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from fer_zoo.data import image_files
from fer_zoo.errors import ArgumentError, InputError, needing
from fer_zoo.inference.crops import open_photograph, read_pixels
from fer_zoo.transforms.inputs import Channels, check_aspect

SHORT = 0.95  # share of what a film says it has, below which it was cut short
GONE = "the camera gives no more frames: was it unplugged, or is it used by another program?"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A frame as it came: its place and its time in seconds, and RGB uint8 `(H, W, 3)` or why not.

    One without an index is no frame, but what is wrong with the source.
    """

    index: int | None = None
    time: float = 0.0
    rgb: np.ndarray | None = field(default=None, repr=False)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames, and what is known of them before they are read.

    Attributes:
        pictures: the frames, those that are left out not converted.
        name: for messages.
        total: how many there are, left-out ones included, where that is known.
        rate: frames a second.
        live: whether they come when they come, so that each is answered at once.
        dropping: whether those that nobody had the time for are left out.
    """

    pictures: Iterator[Picture] = field(repr=False)
    name: str
    total: int | None = None
    rate: float = 25.0
    live: bool = False
    dropping: bool = False


def open_source(
    source: Any,
    *,
    channels: Channels = "rgb",
    every: int = 1,
    fps: float | None = None,
    rate: float = 25.0,
) -> Source:
    """Return the frames of a film, a camera, a folder or an iterator; see `VideoPredictor.stream`.

    Raises:
        ArgumentError: the sampling is none.
        InputError: there is no such source, or no frame in it.
    """
    if isinstance(source, Source):
        return source
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ArgumentError(f"every is a whole number of frames of at least 1, got {every!r:.80}")
    for name, value in (("fps", fps), ("rate", rate)):
        good = isinstance(value, Real) and not isinstance(value, bool) and 0 < value < 1e5
        if not good and (name, value) != ("fps", None):
            raise ArgumentError(f"{name} is a number of frames a second, got {value!r:.80}")
    wanted = _Sampling(every, fps)
    if isinstance(source, int) and not isinstance(source, bool):
        return _camera(source, wanted, f"camera {source}")
    if isinstance(source, str | os.PathLike):
        if isinstance(source, str) and re.match(r"[a-z]+://", source, re.I):
            return _camera(source, wanted, source)
        if not os.path.exists(source):
            raise InputError(f"{source}: there is no such film; a camera is a number, 0 the first")
        if os.path.isdir(source):
            paths = sorted(image_files(source), key=_numbered)
            return _still(paths, wanted, channels, rate, os.fspath(source), live=False)
        return _film(Path(source), wanted)
    if isinstance(source, np.ndarray) and source.ndim == 4:
        source = list(source)
    if isinstance(source, Iterable) and not isinstance(source, bytes | np.ndarray):
        live = not isinstance(source, Sized)
        return _still(source, wanted, channels, rate, "the frames", live=live)
    raise InputError(
        f"a film's path, a camera's number or URL, a folder of frames or an iterator of them, got "
        f"{type(source).__name__}; fer_zoo.PhotoPredictor labels one photograph"
    )


class _Sampling:
    """Says of each frame whether it is wanted: each n-th one, and so many a second at most."""

    def __init__(self, every: int, fps: float | None) -> None:
        self.every, self.step, self.due = every, 0.0 if fps is None else 1 / fps, -np.inf

    def __call__(self, index: int, time: float) -> bool:
        if index % self.every or (self.step and time < self.due - 1e-6):
            return False
        # What one frame is late the next is not; after a gap it begins anew.
        self.due = (self.due if self.due > time - self.step else time) + self.step
        return True


def _numbered(path: Path) -> list[Any]:
    """Return a key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", os.fspath(path))
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _still(
    images: Iterable[Any],
    wanted: _Sampling,
    channels: Channels,
    rate: float,
    name: str,
    *,
    live: bool,
) -> Source:
    """Return frames that have no times of their own."""

    def pictures() -> Iterator[Picture]:
        for index, image in enumerate(images):
            time = index / rate
            if wanted(index, time):
                try:
                    yield Picture(index=index, time=time, rgb=_rgb_of(image, channels))
                except InputError as error:
                    yield Picture(index=index, time=time, error=str(error))

    total = len(images) if isinstance(images, Sized) else None
    if total == 0:
        raise InputError(f"{name}: no frame")
    return Source(pictures=pictures(), name=name, total=total, rate=rate, live=live)


def _rgb_of(image: Any, channels: Channels) -> np.ndarray:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        check_aspect(image.shape[1], image.shape[0], "the frame")
        # A copy: cameras write the next frame over the one before.
        return np.array(image[..., ::-1] if channels == "bgr" else image, order="C")
    return read_pixels(open_photograph(image), image, channels)[0]


def _camera(place: int | str, wanted: _Sampling, name: str) -> Source:
    with needing("cameras need OpenCV", "video"):
        import cv2
    camera = cv2.VideoCapture(place)
    if not camera.isOpened():
        camera.release()
        raise InputError(
            f"{name}: cannot be opened; 0 is the first camera, and another program may be using it"
        )
    rate = float(camera.get(cv2.CAP_PROP_FPS) or 0)

    def pictures() -> Iterator[Picture]:
        from time import monotonic

        begun, time = monotonic(), 0.0
        try:
            for index in itertools.count():
                good, image = camera.read()
                time = monotonic() - begun
                if not good:
                    yield Picture(time=time, error=f"{name}: {GONE}")
                    return
                if wanted(index, time):
                    yield Picture(index=index, time=time, rgb=image[..., ::-1].copy())
        finally:
            camera.release()

    rate = rate if 0 < rate <= 1000 else 25.0
    return Source(pictures=pictures(), name=name, rate=rate, live=True, dropping=True)


def open_film(path: str | os.PathLike[str]) -> Any:
    """Return an open PyAV container that has pictures.

    Raises:
        InputError: it is no film, is cut short at its beginning, or has sound only.
    """
    with needing("films need PyAV", "video"):
        import av
    try:
        container = av.open(os.fspath(path))
    except (av.error.FFmpegError, OSError) as error:
        told = f"{getattr(error, 'strerror', '') or error}".rstrip(".")
        raise InputError(
            f"{path}: cannot be read as a film ({told}); one that was not closed when it was "
            "written has no index, and its program may restore it"
        ) from None
    if not container.streams.video:
        container.close()
        raise InputError(f"{path}: no pictures in it, only sound")
    return container


def _film(path: Path, wanted: _Sampling) -> Source:
    container = open_film(path)
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    length = stream.duration * stream.time_base if stream.duration else None
    if length is None and container.duration:
        length = container.duration / av.time_base
    total = stream.frames or (round(float(length) * rate) if length else None)

    def decoded() -> Iterator[Any]:
        """Yield frames, and what was wrong where there is none."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError) as error:
                yield error
                if isinstance(error, av.error.InvalidDataError):
                    continue
                return
            yield from frames

    def pictures() -> Iterator[Picture]:
        index, first, last = 0, 0.0, 0.0
        try:
            for frame in decoded():
                if isinstance(frame, Exception):
                    told = f"{path}: a frame after {last:.2f} s cannot be decoded ({frame})"
                    yield Picture(time=last, error=told)
                    continue
                time = float(frame.time) if frame.time is not None else index / rate
                if wanted(index, time):
                    yield Picture(index=index, time=time, rgb=_upright(frame))
                first = time if not index else first
                index, last = index + 1, time
        finally:
            container.close()
        if not index:
            yield Picture(error=f"{path}: none of its frames can be decoded")
        elif length and last - first + 2 / rate < SHORT * float(length):
            told = f"{path}: ends at {last:.1f} s of {float(length):.1f} s: it was cut short"
            yield Picture(time=last, error=told)

    return Source(pictures=pictures(), name=os.fspath(path), total=total, rate=rate)


def _upright(frame: Any) -> np.ndarray:
    """Return a frame in RGB, turned as the film says that it is to be shown."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    rgb = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
