"""What is said of frames and of films, for programs and tables."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fer_zoo._files import replacing
from fer_zoo.errors import needing
from fer_zoo.inference.prediction import Prediction, class_columns

PLACE = ("frame", "time", "track", "left", "top", "right", "bottom", "found")
TOLD = ("label", "probability", "error", "reason")
COLUMNS = (*PLACE, *TOLD)
"""The columns of a table of frames; `p_` and `raw_` of each class follow."""


@dataclass(frozen=True, kw_only=True)
class TrackedFace(Prediction):
    """A face in a frame: what `Prediction` has, smoothed over time, and which face it is.

    Attributes:
        track: the number of the face, the same in all frames of the film.
        raw: the probabilities of this frame alone.
        found: whether the detector found it in this frame; else it was followed from one before.

    Example:
        >>> TrackedFace(track=3, label="happy", probability=0.9, probabilities={"happy": 0.9})
        TrackedFace(3, 'happy', 90.0 %)
    """

    track: int
    raw: dict[str, float] = field(default_factory=dict)
    found: bool = True

    def __repr__(self) -> str:
        return f"TrackedFace({self.track}, {super().__repr__().partition('(')[2]}"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a predictor says of one frame.

    Attributes:
        index: its number in the source, from 0; None where `error` is of the source.
        time: in seconds, as the film's own time stamps have it.
        faces: those in the frame, by their track.
        error: why the frame could not be used, or what became of the source.
        image: RGB uint8 `(H, W, 3)`, upright; None where there is no frame, and in a `Film`.

    Example:
        >>> Frame(index=25, time=1.0)
        Frame(25, 1.00 s, faces={})
    """

    index: int | None
    time: float
    faces: tuple[TrackedFace, ...] = ()
    error: str | None = None
    image: np.ndarray | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, the image left out."""
        faces = [face.to_dict() for face in self.faces]
        return {"index": self.index, "time": self.time, "faces": faces, "error": self.error}

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each face, and one for an error; see `Film.to_dicts`."""
        place: dict[str, Any] = {"frame": self.index, "time": round(self.time, 6)}
        empty: dict[str, Any] = dict.fromkeys(COLUMNS)
        rows = [empty | place | {"error": self.error}] if self.error is not None else []
        for face in self.faces:
            row = empty | place | {"track": face.track, "found": face.found}
            row |= dict(zip(("left", "top", "right", "bottom"), face.box or (), strict=False))
            row |= {name: getattr(face, name) for name in TOLD}
            row |= {f"p_{name}": share for name, share in face.probabilities.items()}
            rows.append(row | {f"raw_{name}": share for name, share in face.raw.items()})
        return rows

    def __repr__(self) -> str:
        said = f"faces={ {face.track: face.label for face in self.faces} }"
        said = f"error={self.error!r}" if self.error else said.replace("{ ", "{").replace(" }", "}")
        return f"Frame({self.index}, {self.time:.2f} s, {said})"


@dataclass(frozen=True, kw_only=True)
class TrackSummary:
    """A face's share in a film.

    Attributes:
        track: its number.
        begin: the time of the first frame that it is in, in seconds.
        end: of the last one.
        frames: how many it is in.
        shares: the share of the time in which it is seen with each label, the longest first; that
            without a label is under None. A frame lasts until the next one of the film.
        changes: how often its label changes.

    Example:
        >>> shares = {"happy": 0.75, "sad": 0.25}
        >>> TrackSummary(track=0, begin=0.0, end=4.0, frames=100, shares=shares, changes=2).frames
        100
    """

    track: int
    begin: float
    end: float
    frames: int
    shares: dict[str | None, float]
    changes: int


class Film(list[Frame]):
    """The frames of a film without their images.

    Example:
        >>> face = TrackedFace(track=0, label="sad", probability=0.8, probabilities={"sad": 0.8})
        >>> film = Film([Frame(index=0, time=0.0, faces=(face,)), Frame(index=1, time=0.04)])
        >>> film.tracks()[0].shares
        {'sad': 1.0}
    """

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each face of each frame, for `pandas.DataFrame(film.to_dicts())`.

        The columns are frame, time (s), track, left, top, right, bottom (px), found (by the
        detector, not followed), label, probability, error, reason, and for each class `p_` and its
        name, smoothed, and `raw_` and its name, of the frame alone. A frame with an error has a row
        of its own; one without faces has none.
        """
        return [row for frame in self for row in frame.to_dicts()]

    def tracks(self) -> list[TrackSummary]:
        """Return what becomes of each face, in the order in which they appear."""
        summary = Summary()
        for frame in self:
            summary.add(frame)
        return summary.tracks()

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows of `to_dicts` as a Parquet file.

        Raises:
            MissingDependencyError: pandas or pyarrow is not installed.
        """
        check_parquet()
        import pandas

        rows = self.to_dicts()
        columns = list(dict.fromkeys(name for row in rows for name in row)) or list(COLUMNS)
        with replacing(path) as temporary:
            pandas.DataFrame(rows, columns=columns).to_parquet(temporary)


class Summary:
    """What becomes of each face, kept up frame by frame, whatever their number.

    Example:
        >>> face = TrackedFace(track=0, label="sad", probability=0.8, probabilities={"sad": 0.8})
        >>> summary = Summary()
        >>> for i in range(3):
        ...     summary.add(Frame(index=i, time=i / 25, faces=(face,)))
        >>> summary.frames, summary.tracks()[0].frames
        (3, 3)
    """

    def __init__(self) -> None:
        self.frames, self.begin, self.end = 0, 0.0, 0.0
        self._known: dict[int, _Known] = {}
        self._last: Frame | None = None
        self._lasts = 1.0  # seconds that the last frame is shown: those of the one before

    def add(self, frame: Frame) -> None:
        """Count the next frame; what is told of a source is none."""
        if frame.index is None:
            return
        self.begin = self.begin if self.frames else frame.time
        self.frames, self.end = self.frames + 1, frame.time
        if self._last is not None:
            self._lasts = max(frame.time - self._last.time, 0.0)
            self._count(self._known, self._last, self._lasts)
        for face in frame.faces:
            known = self._known.setdefault(face.track, _Known(frame.time, label=face.label))
            known.end, known.frames = frame.time, known.frames + 1
            known.changes, known.label = known.changes + (known.label != face.label), face.label
        bare = (replace(face, face=None, probabilities={}, raw={}) for face in frame.faces)
        self._last = replace(frame, faces=tuple(bare), image=None)

    @staticmethod
    def _count(known: "dict[int, _Known]", frame: Frame, seconds: float) -> None:
        for face in frame.faces:
            n, time = known[face.track].times.get(face.label, (0, 0.0))
            known[face.track].times[face.label] = (n + 1, time + seconds)

    def tracks(self) -> list[TrackSummary]:
        """Return what becomes of each face, in the order in which they appear."""
        known = {k: replace(one, times=dict(one.times)) for k, one in self._known.items()}
        if self._last is not None:
            self._count(known, self._last, self._lasts)
        return [one.summary(track) for track, one in sorted(known.items())]


@dataclass
class _Known:
    begin: float
    label: str | None
    end: float = 0.0
    frames: int = 0
    changes: int = 0
    times: dict[str | None, tuple[int, float]] = field(default_factory=dict)
    """By label: the number of frames and their seconds."""

    def summary(self, track: int) -> TrackSummary:
        whole = sum(seconds for _, seconds in self.times.values())
        shares = {
            label: seconds / whole if whole else n / self.frames  # where time stands still
            for label, (n, seconds) in self.times.items()
        }
        return TrackSummary(
            track=track,
            begin=self.begin,
            end=self.end,
            frames=self.frames,
            shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
            changes=self.changes,
        )


def check_parquet() -> None:
    """Raise unless Parquet files can be written."""
    with needing("Parquet needs pandas and pyarrow", "video"):
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401


def columns_of(labels: Iterable[str]) -> list[str]:
    """Return the columns of the rows of a predictor with these classes."""
    names = list(labels)
    return [*COLUMNS, *class_columns(names), *(f"raw_{name}" for name in names)]


def without_images(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield frames without what makes them large: the images, and the faces' crops."""
    for frame in frames:
        faces = tuple(replace(face, face=None) for face in frame.faces)
        yield replace(frame, image=None, faces=faces)
