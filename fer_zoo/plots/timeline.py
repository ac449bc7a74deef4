"""Expressions over time: the figure of a film."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fer_zoo.errors import ArgumentError
from fer_zoo.plots import looks

if TYPE_CHECKING:
    from fer_zoo.video import Film, TrackedFace

MOST = 8  # faces that are drawn: those that are in most frames
HATCHED = ("", "", "//", "", "..", "", "\\\\", "", "xx")


def timeline(film: "Film", *, raw: bool = False) -> Any:
    """Return a figure of the probabilities of each face over time, stacked to 100 %.

    A face has a panel, white where it is not in the film; of more than eight those that are in most
    frames are drawn. Neighbouring classes differ in lightness, and every second one is hatched.

    Args:
        film: what `fer_zoo.VideoPredictor` returned.
        raw: the probabilities of each frame alone instead of the smoothed ones.

    Raises:
        ArgumentError: no face in it was labelled.

    Example:
        >>> from fer_zoo.video import Film, Frame, TrackedFace
        >>> face = TrackedFace(track=0, label="sad", probabilities={"sad": 0.8, "happy": 0.2})
        >>> film = Film([Frame(index=i, time=i / 25, faces=(face,)) for i in range(9)])
        >>> [axes.get_title() for axes in timeline(film).axes]
        ['face 0']
    """
    frames = sorted((f for f in film if f.index is not None), key=lambda frame: frame.time)
    seen: dict[int, list[tuple[int, TrackedFace]]] = {}
    for place, frame in enumerate(frames):
        for face in frame.faces:
            if face.probabilities:
                seen.setdefault(face.track, []).append((place, face))
    if not seen:
        raise ArgumentError("no face of this film was labelled: there is nothing to draw")
    tracks = sorted(sorted(seen, key=lambda k: -len(seen[k]))[:MOST])
    names = list(dict.fromkeys(k for t in tracks for _, f in seen[t] for k in f.probabilities))
    figure = looks.new_figure(8, 1.5 * len(tracks) + 0.3)
    panels = figure.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
    times = [frame.time for frame in frames]
    steps = sorted(b - a for a, b in itertools.pairwise(times))
    step = max(steps[len(steps) // 2], 1e-3) if steps else 0.04
    times.append(times[-1] + step)  # nothing says how long the last frame is shown
    areas: list[Any] = []
    for axes, track in zip(panels, tracks, strict=True):
        for run in _runs(seen[track]):
            # One frame is as wide as it lasts: until the next one.
            moments = [times[place] for place, _ in run] + [times[run[-1][0] + 1]]
            faces = [f for _, f in run] + [run[-1][1]]
            rows = [[(f.raw if raw else f.probabilities).get(n, 0.0) for f in faces] for n in names]
            areas = axes.stackplot(moments, [[100 * p for p in row] for row in rows])
            for i, area in enumerate(areas):
                area.set(**_look(i))
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
        axes.set_title(f"face {track}", fontsize=10)
    panels[-1].set_xlim(times[0], times[-1])
    panels[-1].set_xlabel("time in the film, s")
    left_out = len(seen) - len(tracks)
    title = f"{left_out} more faces, in fewer frames, are not shown" if left_out else ""
    return looks.finish(figure, title=title, handles=areas, names=names)


def _look(i: int) -> dict[str, Any]:
    hatch = HATCHED[i % len(HATCHED)]
    return {"facecolor": looks.COLOURS[i % 7], "hatch": hatch, "edgecolor": "white", "linewidth": 0}


def _runs(seen: Sequence[tuple[int, "TrackedFace"]]) -> list[list[tuple[int, "TrackedFace"]]]:
    """Return the parts in which a face is in each frame."""
    runs = [[seen[0]]]
    for one, other in itertools.pairwise(seen):
        if other[0] != one[0] + 1:
            runs.append([])
        runs[-1].append(other)
    return runs
