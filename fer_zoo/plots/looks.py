"""What plots share: figures as large as what is on them, and looks that differ without colour."""

import textwrap
from collections.abc import Sequence
from typing import Any

from fer_zoo.errors import needing, printable

COLOURS = (
    "#0072B2", "#E69F00", "#552255", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
"""Of lines: Okabe and Ito's (2008) for colour-blind readers, with a purple for their yellow."""
MARKERS = "osD^vP*X"
DARK, MIDDLE, LIGHT = "#1f3a6d", "#7c7b78", "#e5cf52"
"""Of bars: cividis' ends and middle, which stay apart in gray."""
HATCHES = ("", "////", "....", "xxxx")


def line_look(i: int) -> dict[str, Any]:
    """Return colour and marker of the line number `i`; 64 differ, any eight in a row in both."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
    }


def bar_look(i: int) -> dict[str, Any]:
    """Return fill and hatch of the bar number `i`; 12 differ."""
    fill, hatch = i % 3, HATCHES[i // 3 % len(HATCHES)]
    edge = ("white", "black", "white")[fill]
    return {"facecolor": (DARK, LIGHT, MIDDLE)[fill], "edgecolor": edge, "hatch": hatch}


def new_figure(width: float, height: float) -> Any:
    """Return a matplotlib figure whose axes take so many inches; `finish` adds the rest."""
    with needing("plots need matplotlib", "train"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def told(text: str, most: int = 90) -> str:
    """Return text that others wrote as it can be drawn: neither endless nor beyond any font."""
    return printable(text if len(text) <= most else f"{text[: most - 3]}...", "\n")


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Write names beside the rows 0, 1, ..., and make the figure so high that they fit."""
    lines = [textwrap.fill(told(name), 18) for name in names]
    axes.set_yticks(range(len(names)), lines, parse_math=False)
    _spread(axes, axes.get_yticklabels(), 1)


def name_columns(axes: Any, names: Sequence[str]) -> None:
    """Write names below the columns 0, 1, ..., aslant, or upright where one has several lines."""
    lines = [textwrap.fill(told(name), 18) for name in names]
    upright = any("\n" in line for line in lines)
    turn: dict[str, Any] = {"rotation": 90} if upright else {"rotation": 45, "ha": "right"}
    axes.set_xticks(range(len(names)), lines, parse_math=False, **turn)
    if upright:
        _spread(axes, axes.get_xticklabels(), 0)


def _spread(axes: Any, labels: Sequence[Any], way: int) -> None:
    """Make a figure so large, across (0) or down (1), that no two labels in a line touch."""
    size, panels = axes.figure.get_size_inches(), axes.get_gridspec().get_geometry()[1 - way]
    largest = max(label.get_window_extent().size[way] for label in labels) / axes.figure.dpi
    size[way] = max(size[way], 1.1 * largest * len(labels) * panels)
    axes.figure.set_size_inches(size)


def finish(
    figure: Any, *, title: str = "", handles: Sequence[Any] = (), names: Sequence[str] = ()
) -> Any:
    """Put a title above and a legend below, make room for all that stands around, and return it."""
    around: tuple[dict[Any, float], dict[Any, float]] = ({}, {})
    for axes in figure.axes:
        outer, inner, cell = axes.get_tightbbox(), axes.get_window_extent(), axes.get_subplotspec()
        if outer is None:
            continue
        extra = outer.size - inner.size if cell else outer.size * [1, 0]  # a colour bar is extra
        at = (cell.colspan.start, cell.rowspan.start) if cell else ("bar", "bar")
        for sizes, place, value in zip(around, at, extra, strict=True):
            sizes[place] = max(sizes.get(place, 0), value / figure.dpi)
    width, height = figure.get_size_inches() + [sum(s.values()) + 0.1 * len(s) for s in around]
    figure.set_size_inches(width, height)
    artists = _legend(figure, handles, names)
    if title:
        # What is wrapped is measured as mathematics all the same.
        plain = told(title, 300).replace("$", r"\$")
        artists.append(figure.suptitle(plain, fontsize=10, wrap=True))
    for artist in artists:
        size = artist.get_window_extent().size / figure.dpi
        figure.set_figwidth(max(figure.get_figwidth(), size[0] + 0.1))
        figure.set_figheight(figure.get_figheight() + size[1] + 0.1)
    return figure


def _legend(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Put a legend below everything, in as many columns as fit."""
    width, how = figure.bbox.width, {"loc": "outside lower center", "frameon": False}
    for columns in range(len(names), 0, -1):
        # Names are written afterwards: older matplotlib leaves those out that begin with `_`.
        legend = figure.legend(handles, ["name"] * len(names), ncols=columns, fontsize=8.5, **how)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set(text=told(name), parse_math=False)
        if columns == 1 or legend.get_window_extent().width <= width:
            return [legend]
        legend.remove()
    return []
