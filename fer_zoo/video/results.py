"""What is said of frames and of films, for programs and tables."""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_zoo._files import replacing
from fer_zoo.errors import needing
from fer_zoo.inference.prediction import Prediction, class_columns

PLACE = ("frame", "time", "track", "left", "top", "right", "bottom", "found")
TOLD = ("label", "probability", "error", "reason")
COLUMNS = (*PLACE, *TOLD)
"""The columns of a table of frames; `p_` and `raw_` of each class follow."""
Seen = tuple[float, float, str | None]
"""Of a face in a frame: the frame's time, how long it is shown, and the label."""


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
        seen: dict[int, list[Seen]] = {}
        frames = [frame for frame in self if frame.index is not None]
        lasts = [max(b.time - a.time, 0.0) for a, b in itertools.pairwise(frames)]
        # Nothing says how long the last one is shown.
        for frame, seconds in zip(frames, [*lasts, *(lasts[-1:] or [1.0])], strict=False):
            for face in frame.faces:
                seen.setdefault(face.track, []).append((frame.time, seconds, face.label))
        return [_summary(track, told) for track, told in sorted(seen.items())]

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows of `to_dicts` as a Parquet file.

        Raises:
            MissingDependencyError: pandas or pyarrow is not installed.
        """
        with needing("Parquet needs pandas and pyarrow", "video"):
            import pandas
            import pyarrow  # noqa: F401
        rows = self.to_dicts()
        columns = list(dict.fromkeys(name for row in rows for name in row)) or list(COLUMNS)
        with replacing(path) as temporary:
            pandas.DataFrame(rows, columns=columns).to_parquet(temporary)


def _summary(track: int, told: list[Seen]) -> TrackSummary:
    labels = [label for *_, label in told]
    times: dict[str | None, float] = dict.fromkeys(labels, 0.0)
    whole = sum(seconds for _, seconds, _ in told)
    for _, seconds, label in told:  # where time stands still frames count
        times[label] += seconds / whole if whole else 1 / len(told)
    return TrackSummary(
        track=track,
        begin=told[0][0],
        end=told[-1][0],
        frames=len(told),
        shares=dict(sorted(times.items(), key=lambda item: -item[1])),
        changes=sum(a != b for a, b in itertools.pairwise(labels)),
    )


def columns_of(labels: Iterable[str]) -> list[str]:
    """Return the columns of the rows of a predictor with these classes."""
    names = list(labels)
    return [*COLUMNS, *class_columns(names), *(f"raw_{name}" for name in names)]


def without_images(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield frames without what makes them large: the images, and the faces' crops."""
    from dataclasses import replace

    for frame in frames:
        faces = tuple(replace(face, face=None) for face in frame.faces)
        yield replace(frame, image=None, faces=faces)
