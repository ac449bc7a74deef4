"""Films and cameras: faces are found, followed and labelled, frame by frame."""

import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from fer_zoo._progress import progress_bar
from fer_zoo._words import answering
from fer_zoo.errors import ArgumentError
from fer_zoo.fusion import Fusion
from fer_zoo.inference import BlazeFace, FaceDetector, PhotoPredictor, Prediction
from fer_zoo.inference.abstention import AbstainLike, why_not
from fer_zoo.inference.crops import boxes_of, cut_faces
from fer_zoo.inference.detector import Detector
from fer_zoo.inference.predictor import Box, Squares
from fer_zoo.inference.runtime import Engine, Optimized
from fer_zoo.models import Classifier
from fer_zoo.transforms import Preset
from fer_zoo.transforms.augment import is_number
from fer_zoo.transforms.inputs import Channels
from fer_zoo.video.ahead import TOGETHER, Ready, read_ahead
from fer_zoo.video.results import Film, Frame, TrackedFace, without_images
from fer_zoo.video.smoothing import Smoother
from fer_zoo.video.sources import Source, open_source
from fer_zoo.video.tracks import Tracker

log = logging.getLogger("fer_zoo.video")
SEARCHED: dict[str, tuple[Any, int]] = {"haar": (FaceDetector, 640), "blazeface": (BlazeFace, 256)}
"""By name: the px of the longer side in which a detector looks, fewer than in a photograph."""

Face = tuple[int, bool, Box, Squares]
"""Track, whether it was found here, the square that was cut, and what the network gets of it."""


class VideoPredictor:
    """A detector, a model and a memory: films and cameras in, one `Frame` each out.

    Faces are found `detect_every` seconds, followed in between, and keep their number; their
    probabilities are smoothed over time. Decoding and detection go on in threads of their own while
    the network labels.

    Args:
        model: as for `fer_zoo.PhotoPredictor`; so are all arguments that are not named here.
        detector: as there; `fer_zoo.FaceDetector(longest_side=640)` if not given, or by name;
            `"blazeface"` is `fer_zoo.inference.BlazeFace(longest_side=256)`.
        margin: as there.
        detect_every: seconds between two searches; 0 to search in each frame.
        smooth: the time constant of the probabilities in seconds; 0 for those of each frame alone.
        hold: how much more probable than the present label another one must be, to be shown.
        patience: seconds for which a face may not be found, and is the same when it is.

    Raises:
        ArgumentError: a number of seconds is none.
        MissingDependencyError: OpenCV or PyAV is not installed: `fer-zoo[video]`.

    Example:
        >>> import numpy as np
        >>> predict = VideoPredictor("resnet18_025", detector=lambda rgb: [(40, 20, 80, 60)])
        >>> film = predict([np.zeros((90, 120, 3), np.uint8)] * 2)
        >>> [face.track for face in film[1].faces]
        [0]
    """

    @answering
    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier | Optimized,
        *,
        detector: Detector | str | None = None,
        margin: float = 0.0,
        detect_every: float = 0.2,
        smooth: float = 0.4,
        hold: float = 0.1,
        patience: float = 1.0,
        weights: str | None = None,
        fusion: str | Fusion | None = None,
        preset: str | Preset | None = None,
        views: int | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 256,
        engine: Engine = "torch",
        allow_code: bool = False,
        labels: Mapping[str, Sequence[str]] | None = None,
        ignore: Iterable[str] = (),
        abstain: AbstainLike | None = None,
    ) -> None:
        for name, value in (("detect_every", detect_every), ("patience", patience)):
            if not is_number(value) or value < 0:
                raise ArgumentError(f"{name} is a number of seconds from 0, got {value!r:.80}")
        self.detect_every, self.patience = float(detect_every), float(patience)
        self.smooth, self.hold = smooth, hold
        Smoother(smooth, hold), Tracker()  # what is wrong with them is said here
        detector = "haar" if detector is None else detector
        if isinstance(detector, str) and detector in SEARCHED:
            make, side = SEARCHED[detector]
            detector = make(longest_side=side)
        self._photos = PhotoPredictor(
            model,
            detector=detector,
            margin=margin,
            weights=weights,
            fusion=fusion,
            preset=preset,
            views=views,
            device=device,
            batch_size=batch_size,
            engine=engine,
            allow_code=allow_code,
            labels=labels,
            ignore=ignore,
            abstain=abstain,
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._photos.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self._photos.labels

    @property
    def preset(self) -> Preset:
        """The transform of the faces."""
        return self._photos.preset

    def __call__(
        self,
        source: Any,
        *,
        channels: Channels = "rgb",
        every: int = 1,
        fps: float | None = None,
        rate: float = 25.0,
        progress: bool = True,
    ) -> Film:
        """Label all frames of a source that ends.

        Args:
            source: as for `stream`; so are all arguments that are not named here.
            channels: as there.
            every: as there.
            fps: as there.
            rate: as there.
            progress: show a bar on a terminal.

        Raises:
            InputError: there is no such source, or no frame in it.
        """
        frames = Film()
        opened = open_source(source, channels=channels, every=every, fps=fps, rate=rate)
        bar = progress_bar(total=opened.total, desc="frames", unit="frame", show=progress)
        with bar, closing(self._frames(opened)) as told:
            for frame in without_images(told):
                frames.append(frame)
                bar.update((frame.index or 0) + 1 - bar.n if frame.index is not None else 0)
        return frames

    def stream(
        self,
        source: Any,
        *,
        channels: Channels = "rgb",
        every: int = 1,
        fps: float | None = None,
        rate: float = 25.0,
    ) -> Generator[Frame]:
        """Yield a `Frame` for each frame of a source, in order, in bounded memory.

        Faces of a film's frames are labelled together; those of a camera, a URL or an iterator one
        frame after the other, and of a camera frames are dropped which nobody had the time for.

        Args:
            source: a film's path; a camera's number, 0 for the first, or a stream's URL; a folder
                of images, in the order of the numbers in their names; or frames, RGB uint8 arrays
                `(H, W, 3)` or what else `fer_zoo.PhotoPredictor` takes, one by one.
            channels: the order of the colours in arrays, `"bgr"` for OpenCV's.
            every: label each so many-th frame only.
            fps: label so many frames at most of each second.
            rate: frames a second of a source that has no times: a folder, an iterator.

        Raises:
            InputError: there is no such source, or no frame in it. What is wrong with a frame, and
                a film that ends early, or a camera that is gone, is a frame's `error`.

        Example:
            >>> import numpy as np
            >>> predict = VideoPredictor("resnet18_025", detector=lambda rgb: [])
            >>> frames = (np.zeros((90, 120, 3), np.uint8) for _ in range(3))
            >>> [frame.time for frame in predict.stream(frames, rate=10)]
            [0.0, 0.1, 0.2]
        """
        opened = open_source(source, channels=channels, every=every, fps=fps, rate=rate)
        return self._frames(opened)

    def _frames(self, source: Source) -> Generator[Frame]:
        tracker, smoother = Tracker(self.patience), Smoother(self.smooth, self.hold)
        waiting: list[tuple[Ready, list[Face], str | None]] = []
        finder, color = self._photos.detector, self._photos._color
        with closing(read_ahead(source, finder, self.detect_every, color=color)) as ready:
            for one in ready:
                waiting.append((one, *self._place(one, tracker)))
                faces = sum(len(found) for _, found, _ in waiting)
                if source.live or max(faces, 2 * len(waiting)) >= TOGETHER:
                    yield from self._told(waiting, smoother)
                    smoother.forget({track.number for track in tracker.tracks})
                    waiting = []
        yield from self._told(waiting, smoother)

    def _place(self, one: Ready, tracker: Tracker) -> tuple[list[Face], str | None]:
        """Return the faces in a frame, and what was wrong with it or with the detector."""
        if one.pixels is None or one.small is None:
            return [], one.picture.error
        height, width = one.pixels.shape[-2:]
        rows, error = None, None
        try:
            if one.boxes is not None:
                rows = boxes_of(one.boxes.result(), width, height)
        except ArgumentError as wrong:
            error = str(wrong)
        except Exception as wrong:  # a detector is anybody's code
            log.info("the detector raised", exc_info=True)
            error = f"the detector raised {type(wrong).__name__}: {wrong!s:.500}"
        faces: list[Face] = []
        for track in tracker.update(one.small, one.picture.time, rows, scale=one.scale):
            left, top, right, bottom = track.box
            if not (0 < left + right < 2 * width and 0 < top + bottom < 2 * height):
                continue  # it has left
            row = {"box": track.box, "roll": track.roll}
            for crop in cut_faces(one.pixels, [row], self._photos.margin):
                squares = self._photos._squares(crop.face)
                faces.append((track.number, track.found, crop.box, squares))
        return faces, error

    def _told(
        self, waiting: list[tuple[Ready, list[Face], str | None]], smoother: Smoother
    ) -> Iterator[Frame]:
        """Yield the frames that waited, labelled."""
        faces = [(None, box, seen) for _, found, _ in waiting for _, _, box, seen in found]
        labelled = self._photos._label(faces)
        for one, found, error in waiting:
            picture = one.picture
            told = tuple(
                self._smoothed(next(labelled), number, seen, picture.time, smoother)
                for number, seen, *_ in found
            )
            index, time = picture.index, picture.time
            yield Frame(index=index, time=time, faces=told, error=error, image=picture.rgb)

    def _smoothed(
        self, told: Prediction, number: int, found: bool, time: float, smoother: Smoother
    ) -> TrackedFace:
        face = TrackedFace(
            track=number, found=found, box=told.box, face=told.face, error=told.error
        )
        if told.error is not None:
            return face
        label, shares = smoother(number, time, told.probabilities)
        reason = why_not(label, shares[label], self._photos._least)
        return replace(
            face,
            label=None if reason else label,
            reason=reason,
            probability=shares[label],
            probabilities=shares,
            raw=dict(told.probabilities),
        )

    def __repr__(self) -> str:
        every = f"detect_every={self.detect_every:g} s, smooth={self.smooth:g} s"
        return f"VideoPredictor({repr(self._photos).partition('(')[2][:-1]}, {every})"
