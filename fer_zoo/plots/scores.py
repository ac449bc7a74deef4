"""Figures of evaluations: who is taken for whom, how sure, and under what conditions."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_zoo.errors import ArgumentError
from fer_zoo.labels import index_map
from fer_zoo.plots.looks import (
    COLOURS,
    DARK,
    MIDDLE,
    bar_look,
    finish,
    line_look,
    name_columns,
    name_rows,
    new_figure,
)

if TYPE_CHECKING:
    from fer_zoo.evaluation import Evaluation, Robustness


def confusion(evaluation: "Evaluation") -> Any:
    """Return a figure of the confusion matrix.

    Rows are the true classes and sum to 100 %.
    """
    counts = evaluation.confusion
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    side = max(2.2, 0.75 * len(counts))
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            colour = "black" if shares[i][j] > 55 else "white"
            text = f"{shares[i][j]:.0f} %\n{n}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
    name_columns(axes, evaluation.labels)
    rows = zip(evaluation.labels, counts, strict=True)
    name_rows(axes, [f"{name} ({sum(row)})" for name, row in rows])
    figure.set_size_inches([max(figure.get_size_inches())] * 2)  # where names made it larger
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (faces)")
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    return finish(figure, title=_title(evaluation))


def reliability(evaluation: "Evaluation") -> Any:
    """Return a figure of how often a model is right when it is how sure.

    Faces are put in 15 bins by the probability of the winner. A bar is the share of right answers
    in its bin; on the diagonal a model is exactly as sure as it is right. Below are the faces in
    each bin. Uncalibrated and calibrated stand side by side.
    """
    sides = [("uncalibrated", 1.0, evaluation.ece_uncalibrated)]
    if evaluation.temperature != 1:
        name = f"temperature {evaluation.temperature:.3f}"
        sides.append((name, evaluation.temperature, evaluation.ece))
    figure = new_figure(3.5 * len(sides), 4.4)
    grid = figure.subplots(
        2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for (top, bottom), (name, temperature, ece) in zip(grid.T, sides, strict=True):
        counts, confidence, accuracy = map(np.array, evaluation.bins(temperature))
        edges, width = np.linspace(0, 1, len(counts) + 1)[:-1], 1 / len(counts)
        bar = {"width": width, "align": "edge"}
        top.bar(edges, accuracy, color=DARK, edgecolor="white", label="right", **bar)
        gap = {"facecolor": "none", "edgecolor": "#b38f00", "hatch": "////", "linewidth": 0.8}
        gap |= {"bottom": accuracy, "label": "gap to the mean probability"}
        top.bar(edges, confidence - accuracy, **gap, **bar)
        top.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        top.set_title(f"{name}: ECE {100 * ece:.2f} %", fontsize=10)
        bars = bottom.bar(edges, counts, color=MIDDLE, edgecolor="white", **bar)
        bottom.bar_label(bars, [str(n) if n else "" for n in counts], fontsize=6.5, padding=1)
        bottom.margins(y=0.18)
        bottom.set_xlabel("probability of the predicted class")
    grid[0][0].set_ylabel("share of right answers")
    grid[1][0].set_ylabel("faces")
    grid[0][0].legend(loc="upper left", fontsize=8, frameon=False)
    return finish(figure, title=_title(evaluation))


def recalls(evaluations: "Evaluation | Sequence[Evaluation]") -> Any:
    """Return a figure of the recall of each class, with 95 % intervals.

    Args:
        evaluations: one, or several on the same faces, e.g. with one view and with ten.

    Raises:
        ArgumentError: there is none.
        LabelError: they name different classes.
    """
    several = list(evaluations) if isinstance(evaluations, Sequence) else [evaluations]
    if not several:
        raise ArgumentError(
            "no evaluations to plot: pass one or more of what fer_zoo.evaluate returns"
        )
    first, height = several[0], 0.8 / len(several)
    figure = new_figure(5, (0.3 + 0.14 * len(several)) * len(first.labels))
    from matplotlib.patheffects import withStroke

    axes, bars = figure.add_subplot(), []
    for k, result in enumerate(several):
        names = [result.labels[i] for i in index_map(result.labels, first.labels)]
        places = np.arange(len(names)) + height * (k - (len(several) - 1) / 2)
        values = np.array([result.recall[name] for name in names])
        low, high = np.array([result.recall_interval[name] for name in names]).T
        error = 100 * np.stack([values - low, high - values])
        how = {"xerr": error, "error_kw": {"elinewidth": 0.9}, "capsize": 2}
        bars.append(axes.barh(places, 100 * values, 0.92 * height, **how, **bar_look(k)))
        _, caps, whiskers = bars[-1].errorbar
        for part in (*caps, *whiskers):  # seen on dark bars too
            part.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
    rows = zip(first.labels, first.confusion, strict=True)
    name_rows(axes, [f"{name} ({sum(row)})" for name, row in rows])
    axes.set(xlim=(0, 100), ylim=(len(first.labels) - 0.5, -0.5))
    axes.set_xlabel("recall in %, with its 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    return finish(figure, handles=bars, names=[f"{r.title}, {r.preset}" for r in several])


def robustness(results: "Robustness | Sequence[Robustness]") -> Any:
    """Return a figure: accuracy against severity, one panel per corruption.

    A dashed line, with its marker at severity 0, is the accuracy on clean faces.

    Args:
        results: one, or up to eight of the same corruptions to compare.
    """
    several = list(results) if isinstance(results, Sequence) else [results]
    if not 0 < len(several) <= len(COLOURS) or len({tuple(r.accuracy) for r in several}) > 1:
        raise ArgumentError("plot one to eight results with the same corruptions")
    names = list(several[0].accuracy)
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(2.1 * columns, 3), 1.4 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    lines = []
    for at, (axes, name) in enumerate(zip(panels, names, strict=False)):
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
        axes.set_xticks(range(6))
        if at + columns >= len(names):  # nothing is below it
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("severity", fontsize=9)
        if at % columns == 0:
            axes.set_ylabel("accuracy in %", fontsize=9)
        for i, result in enumerate(several):
            shares, look = [100 * share for share in result.accuracy[name]], line_look(i)
            clean = [100 * result.clean.accuracy] * 2
            axes.plot([0, 5], clean, linestyle="--", linewidth=1, markevery=[0], ms=4, **look)
            lines += axes.plot(result.severities, shares, ms=4, **look)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    title = f"{several[0].clean.faces}; dashed: clean faces"
    means = [f"{r.clean.title}, mean {100 * r.overall:.1f} %" for r in several]
    return finish(figure, title=title, handles=lines[: len(several)], names=means)


def _title(evaluation: "Evaluation") -> str:
    low, high = (100 * bound for bound in evaluation.interval)
    share = f"{100 * evaluation.accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})"
    return f"{evaluation.title} on {evaluation.faces}, {evaluation.preset}\naccuracy {share}"
