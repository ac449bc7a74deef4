"""What all plots share: figures that fit their names, and looks that differ without colour."""

import textwrap
from collections.abc import Sequence
from typing import Any

from fer_zoo.errors import MissingDependencyError

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
    """Return an empty `matplotlib.figure.Figure` of so many inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'fer-zoo[train]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def plain(text: str, width: int = 14) -> str:
    r"""Return text that matplotlib draws as it is, in lines of at most `width` characters.

    Example:
        >>> print(plain("costs $5 or $6, at the most"))
        costs \$5 or
        \$6, at the
        most
    """
    lines = "\n".join(textwrap.fill(line, width) for line in text.splitlines())
    return lines.replace("$", r"\$")  # between two bare ones would be mathematics


def room(names: Sequence[str], size: float = 10) -> tuple[float, float]:
    """Return about how wide and high the largest of these texts is in inches, at `size` points."""
    lines = [name.split("\n") for name in names]
    widest = max(len(line) for name in lines for line in name)
    return widest * 0.6 * size / 72, max(map(len, lines)) * 1.4 * size / 72


def add_title(figure: Any, text: str, size: float = 10) -> None:
    """Put a title above everything, and make the figure as much higher."""
    title = plain(text, int(figure.get_figwidth() * 72 / (0.66 * size)))
    figure.suptitle(title, fontsize=size)
    figure.set_figheight(figure.get_figheight() + room([title], size)[1])


def add_legend(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Put a legend below everything, in as many columns as fit, and make the figure as much higher.

    The names are written afterwards: older matplotlib leaves those out that begin with `_`.
    """
    size, width = 8.5, figure.get_figwidth()
    names = [plain(name, int((width - 0.8) * 72 / (0.66 * size))) for name in names]
    wide, high = room(names, size)
    columns = max(1, min(len(names), int(width / (wide + 0.7))))
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    legend = figure.legend(handles, ["name"] * len(names), fontsize=size, **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + rows * (high + 0.06) + 0.15)
