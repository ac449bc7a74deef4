"""Where frames come from: films, cameras, folders and iterators, in RGB and with their times."""

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from fer_zoo.data import image_files
from fer_zoo.errors import ArgumentError, InputError, needing
from fer_zoo.inference.crops import open_photograph, read_pixels
from fer_zoo.transforms.inputs import Channels, check_aspect, check_channels

log = logging.getLogger("fer_zoo.video")
SHORT = 0.95  # share of what a film says it has, below which it was cut short
BACK = 1.0  # seconds by which times go back where another film begins, and no frame is out of order
WIDEST = 4  # times as wide as high, or as high as wide, that the pixels of a film may be
COVER = 0x400  # FFmpeg's mark of a picture that is no film, as the cover of a song
ADDRESSED = (10.0, 30.0)  # seconds in which what lies elsewhere is opened, and goes on
INDEXED = (".mp4", ".mov", ".m4v", ".3gp")
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
    if isinstance(every, bool) or not isinstance(every, Integral) or every < 1:
        raise ArgumentError(f"every is a whole number of frames of at least 1, got {every!r:.80}")
    for name, value in (("fps", fps), ("rate", rate)):
        good = isinstance(value, Real) and not isinstance(value, bool) and 0 < value < 1e5
        if not good and (name, value) != ("fps", None):
            raise ArgumentError(f"{name} is a number of frames a second, got {value!r:.80}")
    check_channels(channels)
    wanted = _Sampling(int(every), fps)
    if isinstance(source, int) and not isinstance(source, bool):
        return _camera(source, wanted, f"camera {source}")
    if isinstance(source, str | os.PathLike):
        source = local(source)
        if isinstance(source, str) and re.match(r"[a-z]+://", source, re.I):
            return _of_url(source, wanted)
        if not os.path.exists(source):
            raise InputError(f"{source}: there is no such film; a camera is a number, 0 the first")
        if os.path.isdir(source):
            paths = sorted(image_files(source), key=_numbered)
            return _still(paths, wanted, channels, rate, os.fspath(source), live=False)
        return _film(open_film(source), wanted, os.fspath(source))
    if isinstance(source, np.ndarray) and source.ndim == 4:
        source = list(source)
    if hasattr(source, "read"):
        raise InputError(f"an open file of a film is not read: pass its path, got {source!r:.80}")
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
        index = -1
        for index, image in enumerate(images):
            time = index / rate
            if wanted(index, time):
                try:
                    yield Picture(index=index, time=time, rgb=_rgb_of(image, channels))
                except InputError as error:
                    yield Picture(index=index, time=time, error=str(error))
        if index < 0:
            raise InputError(f"{name}: no frame")

    total = len(images) if isinstance(images, Sized) else None
    if total == 0:
        raise InputError(f"{name}: no frame")
    return Source(pictures=pictures(), name=name, total=total, rate=rate, live=live)


def _rgb_of(image: Any, channels: Channels) -> np.ndarray:
    whole = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size
    if whole and image.shape[2:] == (3,):
        check_aspect(image.shape[1], image.shape[0], "the frame")
        # A copy: cameras write the next frame over the one before.
        return np.array(image[..., ::-1] if channels == "bgr" else image, order="C")
    return read_pixels(open_photograph(image), image, channels)[0]


def _of_url(url: str, wanted: _Sampling) -> Source:
    """Return a film that lies somewhere else, or else what is sent as from a camera."""
    if url.lower().startswith(("http:", "https:")):
        try:
            container = open_film(url)
        except InputError as error:
            log.info("no film: %s", error)
        else:
            if container.duration:
                return _film(container, wanted, url)
            container.close()
    return _camera(url, wanted, url)


def _camera(place: int | str, wanted: _Sampling, name: str) -> Source:
    with needing("cameras need OpenCV", "video"):
        import cv2
    camera = cv2.VideoCapture(place)
    if not camera.isOpened():
        camera.release()
        why = "0 is the first camera, and another program may be using it"
        if isinstance(place, str):
            why = "is the address right, and does it answer?"
        raise InputError(f"{name}: cannot be opened; {why}")
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


def local(place: str | os.PathLike[str]) -> str:
    """Return the path that a `file:` address is of, and what else it is as it is."""
    text = os.fspath(place)
    return url2pathname(urlsplit(text).path) if text.lower().startswith("file://") else text


def open_film(path: str | os.PathLike[str]) -> Any:
    """Return an open PyAV container that has pictures.

    Raises:
        InputError: it is no film, is cut short at its beginning, or has sound only.
    """
    with needing("films need PyAV", "video"):
        import av
    try:
        place = local(path)
        container = av.open(place, timeout=ADDRESSED if "://" in place else None)
    except (av.error.FFmpegError, OSError) as error:
        told = f"{getattr(error, 'strerror', '') or error}".rstrip(".")
        if Path(path).suffix.lower() in INDEXED:
            told += "); one that was not closed when it was written has no index (its program may "
            told += "restore it"
        raise InputError(f"{path}: cannot be read as a film ({told})") from None
    if _pictures_of(container) is None:
        container.close()
        raise InputError(f"{path}: no pictures in it, only sound")
    return container


def _pictures_of(container: Any) -> Any:
    """Return the stream that a player would show, or None."""
    # Older PyAV has no such marks, or gives them as an enumeration.
    marks = {s: getattr(s, "disposition", 0) for s in container.streams.video}
    streams = [s for s, mark in marks.items() if not getattr(mark, "value", mark) & COVER]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def _film(container: Any, wanted: _Sampling, name: str) -> Source:
    import av

    stream = _pictures_of(container)
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    own = stream.duration * stream.time_base if stream.duration else None
    length = own or (container.duration / av.time_base if container.duration else None)
    total = stream.frames or (round(float(length) * rate) if length else None)
    reached = 0.0  # by the packets of any stream

    def decoded() -> Iterator[Any]:
        """Yield frames, and what was wrong where there is none."""
        nonlocal reached
        packets = container.demux()
        while True:
            try:
                packet = next(packets)
                if packet.pts is not None and packet.time_base:
                    end = packet.pts + (packet.duration or 0)
                    reached = max(reached, float(end * packet.time_base))
                frames = packet.decode() if packet.stream is stream else []
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
        index, first, last, more = 0, 0.0, 0.0, 0.0
        try:
            for frame in decoded():
                if isinstance(frame, Exception):
                    told = f"{name}: a frame after {last:.2f} s cannot be decoded ({frame})"
                    yield Picture(time=last, error=told)
                    continue
                time = more + (float(frame.time) if frame.time is not None else index / rate)
                if index and time < last - BACK:
                    told = (
                        "%s: its times go back by %.1f s at %.1f s, and are counted on from there"
                    )
                    log.warning(told, name, last - time, last)
                    more += last + 1 / rate - time
                    time = last + 1 / rate
                time = max(time, last) if index else time
                if wanted(index, time):
                    yield Picture(index=index, time=time, rgb=_upright(frame, stream))
                first = time if not index else first
                index, last = index + 1, time
        finally:
            container.close()
        if not index:
            yield Picture(error=f"{name}: none of its frames can be decoded")
        elif length:
            # The container's length is that of its longest stream, and may count from 0.
            seen = last - first + 2 / rate if own else max(reached, last) + 2 / rate
            if seen < SHORT * float(length):
                told = f"{name}: ends at {last:.1f} s of {float(length):.1f} s: it was cut short"
                yield Picture(time=last, error=told)

    return Source(pictures=pictures(), name=name, total=total, rate=rate)


def _upright(frame: Any, stream: Any) -> np.ndarray:
    """Return a frame in RGB as the film says that it is to be shown: its pixels square, turned."""
    from av.sidedata.sidedata import Type

    matrix, wide = frame.side_data.get(Type.DISPLAYMATRIX), stream.sample_aspect_ratio or 1
    if wide != 1 and 1 / WIDEST <= wide <= WIDEST:
        # The longer way, so that nothing of the picture is lost.
        width, height = round(frame.width * max(wide, 1)), round(frame.height / min(wide, 1))
        frame = frame.reformat(width=width, height=height, format="rgb24")
    rgb: np.ndarray = frame.to_ndarray(format="rgb24")
    if matrix is None:
        return rgb
    # A point (x, y) is shown at (a x + c y, b x + d y), up to where the picture begins.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    lying = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if lying else (a, d)
    rgb = rgb.transpose(1, 0, 2) if lying else rgb
    return np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
