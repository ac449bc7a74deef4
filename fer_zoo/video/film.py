"""Films with what was seen in them: boxes, names and bars, the sound kept."""

import io
import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fer_zoo._files import replacing, same_file
from fer_zoo.errors import ArgumentError, InputError, needing, printable
from fer_zoo.plots.looks import COLOURS
from fer_zoo.video.results import Film, Frame, TrackedFace, without_images
from fer_zoo.video.sources import BACK, local, open_film

log = logging.getLogger("fer_zoo.video")
BASE = Fraction(1, 90_000)  # seconds: the unit of time stamps
BARS = 3  # classes that are drawn of a face
QUALITY = "20"  # x264's crf: lower is better and larger


def annotate(
    frames: Iterable[Frame],
    output: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
) -> Film:
    """Write frames as an MP4 film with each face's box, number, label and most probable classes.

    The frames have the times that they had, so that a film of a varying rate is one again. The file
    is there once it is complete.

    Args:
        frames: as `VideoPredictor.stream` yields them.
        output: a path that ends with `.mp4`.
        audio: the film whose sound is put under it, as it is.

    Returns:
        The frames without their images.

    Raises:
        ArgumentError: the path does not end with `.mp4`.
        InputError: there is no frame; or `audio` is no film.

    Example:
        >>> import tempfile
        >>> still = np.zeros((90, 120, 3), np.uint8)
        >>> frames = [Frame(index=i, time=i / 25, image=still) for i in range(3)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(annotate(frames, f"{folder}/out.mp4"))
        3
    """
    with FilmWriter(output, audio=audio) as writer:
        return Film(without_images(writer.written(frames)))


class FilmWriter:
    """An annotated film while it is written, frame by frame; as a context it is closed at its end.

    What was written is a whole film also where the block is left by an error or by Ctrl-C, with the
    sound up to there.

    Args:
        output: a path that ends with `.mp4`.
        audio: the film whose sound is put under it, as it is.

    Raises:
        ArgumentError: the path does not end with `.mp4`, or is that of `audio`.
        InputError: `audio` is no film, or its sound has no place in an `.mp4`.

    Example:
        >>> import tempfile
        >>> frame = Frame(index=0, time=0.0, image=np.zeros((90, 120, 3), np.uint8))
        >>> with tempfile.TemporaryDirectory() as folder, FilmWriter(f"{folder}/a.mp4") as film:
        ...     film.write(frame)
    """

    def __init__(
        self, output: str | os.PathLike[str], *, audio: str | os.PathLike[str] | None = None
    ) -> None:
        with needing("films need PyAV", "video"):
            import av  # noqa: F401
        self.output = Path(output)
        if self.output.suffix.lower() != ".mp4":
            raise ArgumentError(f"{output}: a film is written as .mp4")
        if audio is not None and same_file(local(audio), output):
            raise ArgumentError(f"{output}: the film would replace the one that it is made of")
        self._stack, self._sound = ExitStack(), _Sound(audio)
        self._stack.callback(self._sound.close)
        self._container: Any = None
        self._stream: Any = None
        self._last, self._lasts = -1, round(1 / 25 / BASE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def written(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield frames once they are written."""
        for frame in frames:
            self.write(frame)
            yield frame
        if self._container is None:
            raise InputError(f"{self.output}: there was no frame to write")
        self.end()

    def write(self, frame: Frame) -> None:
        """Write one frame; one without an image is left out."""
        if frame.image is None:
            return
        import av

        image = _even(drawn(frame))
        if self._container is None:
            self._open(*image.shape[:2])
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        width, height = self._stream.width, self._stream.height
        if image.shape[:2] != (height, width):
            picture = picture.reformat(width, height)
        # Times must grow: where a source repeats one, the frame is a moment later.
        picture.pts = max(round(frame.time / BASE), self._last + 1)
        picture.time_base = BASE
        self._lasts = picture.pts - self._last if self._last >= 0 else self._lasts
        self._last = picture.pts
        self._sound.mux(self._container, float(picture.pts * BASE))
        self._container.mux(self._stream.encode(picture))

    def end(self) -> None:
        """Say that there are no more frames: all of the sound that is left is written, too."""
        if self._container is not None:
            self._sound.mux(self._container, math.inf)

    def close(self) -> None:
        """Write what is left, and put the film in its place."""
        with self._stack:
            if self._container is not None:
                self._container.mux(self._stream.encode(None))
                self._sound.mux(self._container, float((self._last + self._lasts) * BASE))
                self._container = None

    def _open(self, height: int, width: int) -> None:
        import av

        with ExitStack() as stack:  # a film that cannot be begun replaces none
            temporary = stack.enter_context(replacing(self.output))
            container = stack.enter_context(av.open(str(temporary), "w", format="mp4"))
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            options = {"crf": QUALITY, "preset": "veryfast"} if codec == "libx264" else {}
            self._stream = container.add_stream(codec, rate=25, options=options)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt, self._stream.codec_context.time_base = "yuv420p", BASE
            self._sound.join(container)
            self._stack.enter_context(stack.pop_all())
        self._container = container


class _Sound:
    """The packets of a film's sound, which go into another one as they are."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._film = None if path is None else open_film(path)
        self._own = self._film.streams.best("audio") if self._film is not None else None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        self._to: Any = None
        self._more, self._end = 0, -(1 << 62)  # in the units of its packets
        if self._own is None:
            return
        import av

        try:
            with av.open(io.BytesIO(), "w", format="mp4") as trial:
                trial.add_stream_from_template(self._own)
                trial.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            name = self._own.codec_context.name
            self.close()
            raise InputError(
                f"{path}: its sound ({name}) has no place in an .mp4: write the film without it "
                f"({error})"
            ) from None

    def join(self, container: Any) -> None:
        """Make room for the sound in a film that begins."""
        if self._own is not None and self._film is not None:
            self._to = container.add_stream_from_template(self._own)
            self._packets = self._film.demux(self._own)
            self._next = next(self._packets, None)

    def mux(self, container: Any, time: float) -> None:
        """Put into the film what is heard up to a time, in seconds."""
        import av

        while (packet := self._next) is not None:
            if packet.dts is not None:
                unit = float(packet.time_base)
                dts = packet.dts + self._more
                if dts < self._end - BACK / unit:  # as the pictures of joined recordings
                    self._more += self._end - dts
                    dts = self._end
                pts = dts if packet.pts is None else packet.pts + dts - packet.dts
                if pts * unit > time:
                    return
                if dts >= self._end:
                    packet.dts, packet.pts, packet.stream = dts, pts, self._to
                    self._end = dts + (packet.duration or 0)
                    try:
                        container.mux(packet)
                    except av.error.FFmpegError as error:
                        log.warning("the sound ends at %.2f s: %s", pts * unit, error)
                        self._next = None
                        return
            self._next = next(self._packets, None)

    def close(self) -> None:
        if self._film is not None:
            self._film.close()


def drawn(frame: Frame) -> np.ndarray:
    """Return the image of a frame, RGB uint8 `(H, W, 3)`, with what is said of its faces.

    Example:
        >>> drawn(Frame(index=0, time=0.0, image=np.zeros((90, 120, 3), np.uint8))).shape
        (90, 120, 3)
    """
    from PIL import Image, ImageDraw

    if frame.image is None:
        raise ArgumentError("a frame without an image: draw those that `stream` yields")
    picture = Image.fromarray(frame.image)
    pen = ImageDraw.Draw(picture)
    for face in frame.faces:
        _draw(pen, face, max(12, frame.image.shape[0] // 40))
    return np.array(picture)


def _draw(pen: Any, face: TrackedFace, size: int) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    left, top, right, bottom = face.box or (0, 0, 0, 0)
    colour = COLOURS[face.track % len(COLOURS)]
    line = max(2, size // 6)
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    said = face.label or ("?" if face.error is None else "-")
    share = "" if face.probability is None else f" {face.probability:.0%}"
    title = printable(f"{face.track}: {said}{share}")
    best = sorted(face.probabilities.items(), key=lambda item: -item[1])[:BARS]
    width, high = max(6 * size, right - left), size + 4
    # What is told of a face that the border cuts, or that fills the image, stays in the image.
    across, down = pen.im.size
    left = max(0, min(left, across - max(width, round(pen.textlength(title, font=font)) + 3)))
    under = min(bottom + line, down - 1 - len(best) * high)
    at = (left, max(0, min(top - size - 2 * line, under - high)))
    _write(pen, at, title, font, "white", colour)
    if best:
        pen.rectangle((left, under, left + width, under + len(best) * high), fill="#222222")
    for row, (name, p) in enumerate(best):
        y = under + row * high
        pen.rectangle((left, y + 1, left + round(width * p), y + high - 1), fill=colour)
        shadow = {"stroke_width": 1, "stroke_fill": "black"}
        pen.text((left + 3, y), printable(name), fill="white", font=font, **shadow)


def _write(pen: Any, at: tuple[int, int], text: str, font: Any, ink: str, ground: str) -> None:
    pen.rectangle(pen.textbbox(at, text, font=font), fill=ground, outline=ground, width=3)
    pen.text(at, text, fill=ink, font=font, stroke_width=1, stroke_fill="black")


def _even(image: np.ndarray) -> np.ndarray:
    """Return an image with an even width and height, as films have."""
    more = [(0, side % 2) for side in image.shape[:2]]
    return np.pad(image, [*more, (0, 0)], mode="edge") if any(map(any, more)) else image
