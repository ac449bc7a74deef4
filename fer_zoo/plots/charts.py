"""Figures of evaluations, of fusions and of training, and sheets of faces with captions."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, uint8

from fer_zoo.data.faces import FacesLike, check_faces
from fer_zoo.errors import ArgumentError
from fer_zoo.fusion import Stacked, Weighted
from fer_zoo.labels import index_map
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.plots import looks

if TYPE_CHECKING:
    from fer_zoo.evaluation import Evaluation, Mistake, Robustness
    from fer_zoo.training import Epoch

KINDS = (("validation", "val", "-"), ("training", "train", ":"))
CELL, CAPTION = 1.3, 24
"""Width of a face on the page, in inches, and the characters in a line under it."""


def confusion(evaluation: "Evaluation") -> Any:
    """Return a figure of the confusion matrix; rows, the true classes, sum to 100 %."""
    counts = evaluation.confusion
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    side = max(2.2, 0.75 * len(counts))
    figure = looks.new_figure(side, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            colour = "black" if shares[i][j] > 55 else "white"
            text = f"{shares[i][j]:.0f} %\n{n}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
    looks.name_columns(axes, evaluation.labels)
    rows = zip(evaluation.labels, counts, strict=True)
    looks.name_rows(axes, [f"{name} ({sum(row)})" for name, row in rows])
    figure.set_size_inches([max(figure.get_size_inches())] * 2)  # where names made it larger
    axes.set(xlabel="predicted", ylabel="true (faces)")
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    return looks.finish(figure, title=_title(evaluation))


def reliability(evaluation: "Evaluation") -> Any:
    """Return a figure of how often a model is right when it is how sure.

    A bar is the share of right answers in one of 15 bins by the probability of the winner; below
    are the faces in each bin. Uncalibrated and calibrated stand side by side.
    """
    sides = [("uncalibrated", 1.0, evaluation.ece_uncalibrated)]
    if evaluation.temperature != 1:
        name = f"temperature {evaluation.temperature:.3f}"
        sides.append((name, evaluation.temperature, evaluation.ece))
    figure = looks.new_figure(3.5 * len(sides), 4.4)
    grid = figure.subplots(
        2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for (top, bottom), (name, temperature, ece) in zip(grid.T, sides, strict=True):
        counts, confidence, accuracy = map(np.array, evaluation.bins(temperature))
        edges, width = np.linspace(0, 1, len(counts) + 1)[:-1], 1 / len(counts)
        bar = {"width": width, "align": "edge"}
        top.bar(edges, accuracy, color=looks.DARK, edgecolor="white", label="right", **bar)
        gap = {"facecolor": "none", "edgecolor": "#b38f00", "hatch": "////", "linewidth": 0.8}
        gap |= {"bottom": accuracy, "label": "gap to the mean probability"}
        top.bar(edges, confidence - accuracy, **gap, **bar)
        top.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        top.set_title(f"{name}: ECE {100 * ece:.2f} %", fontsize=10)
        bars = bottom.bar(edges, counts, color=looks.MIDDLE, edgecolor="white", **bar)
        bottom.bar_label(bars, [str(n) if n else "" for n in counts], fontsize=6.5, padding=1)
        bottom.margins(y=0.18)
        bottom.set_xlabel("probability of the predicted class")
    grid[0][0].set_ylabel("share of right answers")
    grid[1][0].set_ylabel("faces")
    grid[0][0].legend(loc="upper left", fontsize=8, frameon=False)
    return looks.finish(figure, title=_title(evaluation))


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
        raise ArgumentError("nothing to plot: pass one or more of what fer_zoo.evaluate returns")
    first, height = several[0], 0.8 / len(several)
    figure = looks.new_figure(5, (0.3 + 0.14 * len(several)) * len(first.labels))
    from matplotlib.patheffects import withStroke

    axes, bars = figure.add_subplot(), []
    for k, result in enumerate(several):
        names = [result.labels[i] for i in index_map(result.labels, first.labels)]
        places = np.arange(len(names)) + height * (k - (len(several) - 1) / 2)
        values = np.array([result.recall[name] for name in names])
        low, high = np.array([result.recall_interval[name] for name in names]).T
        error = 100 * np.stack([values - low, high - values])
        how = {"xerr": error, "error_kw": {"elinewidth": 0.9}, "capsize": 2}
        bars.append(axes.barh(places, 100 * values, 0.92 * height, **how, **looks.bar_look(k)))
        _, caps, whiskers = bars[-1].errorbar
        for part in (*caps, *whiskers):  # seen on dark bars too
            part.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
    rows = zip(first.labels, first.confusion, strict=True)
    looks.name_rows(axes, [f"{name} ({sum(row)})" for name, row in rows])
    axes.set(xlim=(0, 100), ylim=(len(first.labels) - 0.5, -0.5))
    axes.set_xlabel("recall in %, with its 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    return looks.finish(figure, handles=bars, names=[f"{r.title}, {r.preset}" for r in several])


def risk_coverage(evaluations: "Evaluation | Sequence[Evaluation]") -> Any:
    """Return a figure of the share of wrong labels against the share of faces that are labelled.

    From the right to the left a predictor abstains from more and more faces, the least sure first.

    Args:
        evaluations: one, or up to eight.
    """
    several = list(evaluations) if isinstance(evaluations, Sequence) else [evaluations]
    if not 0 < len(several) <= len(looks.COLOURS):
        raise ArgumentError("plot one to eight of what fer_zoo.evaluate returns")
    figure = looks.new_figure(4.5, 3)
    axes, lines = figure.add_subplot(), []
    for i, result in enumerate(several):
        coverage, risk = result.risk_coverage()
        marks = {"markevery": (i / 80, 0.1), "ms": 4}
        lines += axes.plot(100 * coverage, 100 * risk, **marks, **looks.line_look(i))
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.set(xlabel="faces that are labelled, in %", ylabel="wrong labels among them, in %")
    axes.grid(alpha=0.3)
    names = [f"{r.title}, {r.preset}: AURC {100 * r.aurc:.2f} %" for r in several]
    return looks.finish(figure, title=str(several[0].faces), handles=lines, names=names)


def robustness(results: "Robustness | Sequence[Robustness]") -> Any:
    """Return a figure: accuracy against severity, one panel per corruption; dashed on clean faces.

    Args:
        results: one, or up to eight of the same corruptions to compare.
    """
    several = list(results) if isinstance(results, Sequence) else [results]
    if not 0 < len(several) <= len(looks.COLOURS) or len({tuple(r.accuracy) for r in several}) > 1:
        raise ArgumentError("plot one to eight results with the same corruptions")
    names = list(several[0].accuracy)
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = looks.new_figure(max(2.1 * columns, 3), 1.4 * rows)
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
            shares, look = [100 * share for share in result.accuracy[name]], looks.line_look(i)
            clean = [100 * result.clean.accuracy] * 2
            axes.plot([0, 5], clean, linestyle="--", linewidth=1, markevery=[0], ms=4, **look)
            lines += axes.plot(result.severities, shares, ms=4, **look)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    title = f"{several[0].clean.faces}; dashed: clean faces"
    means = [f"{r.clean.title}, mean {100 * r.overall:.1f} %" for r in several]
    return looks.finish(figure, title=title, handles=lines[: len(several)], names=means)


def fusion(model: Classifier) -> Any:
    """Return a figure of what a fitted fusion makes of the members' answers.

    For `weighted` the weight of each member, or of each member for each class. For `stacked` how
    much each class's score rises with each member's logits, one panel per member.

    Raises:
        ArgumentError: the model is no ensemble, or its fusion has no weights.
    """
    if not isinstance(model, Ensemble):
        raise ArgumentError(f"{type(model).__name__} has no fusion to plot; pass an ensemble")
    head, names = model.fusion, [member.name or "member" for member in model.members]
    members = [f"{i}: {n}" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]
    labels = list(model.labels or map(str, range(model.num_classes)))
    if isinstance(head, Weighted):
        columns, rows = labels if head.per_class else ["every class"], members
        panels = [("weight of each member", head.weights.float().cpu())]
    elif isinstance(head, Stacked):
        columns = rows = labels
        parts = head.linear.weight.detach().float().cpu().chunk(len(members), 1)
        panels = list(zip(members, parts, strict=True))
    else:
        raise ArgumentError(f"{head.name!r} has no weights to plot; weighted and stacked have")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = looks.new_figure(max(2, 0.5 * len(columns)) * across, 0.46 * len(rows) * down)
    grid = figure.subplots(down, across, squeeze=False).flatten()
    limit = max(float(weights.abs().max()) for _, weights in panels)
    for at, (axes, (name, weights)) in enumerate(zip(grid, panels, strict=False)):
        image = axes.imshow(weights.tolist(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for i, row in enumerate(weights.tolist()):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.65 * limit else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_title(looks.told(name), fontsize=10, parse_math=False)
        lowest, leftmost = at + across >= len(panels), at % across == 0
        axes.set(xticks=[], yticks=[])
        if lowest:
            looks.name_columns(axes, columns)
        if leftmost:
            looks.name_rows(axes, rows)
        if isinstance(head, Stacked):
            axes.set_xlabel("logit of the member" if lowest else "")
            axes.set_ylabel("fused score" if leftmost else "")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=list(grid), label="weight", aspect=30)
    return looks.finish(figure)


def history(
    runs: "Sequence[Epoch] | Mapping[str, Sequence[Epoch]]", *, fused: float | None = None
) -> Any:
    """Return a figure of loss and accuracy by epoch; a large marker is the best on validation.

    Args:
        runs: the history of a run (`TrainResult.history`, or what `fer_zoo.training.read_history`
            returns), or several by name.
        fused: accuracy of the ensemble of these runs, drawn as a line across.

    Raises:
        ArgumentError: there is no run, a run has no epoch, or is something else.
    """
    named = {str(k): run for k, run in (runs if isinstance(runs, Mapping) else {"": runs}).items()}
    if not named or not all(map(_is_history, named.values())):
        raise ArgumentError(
            "each run needs an epoch or more: pass result.history, or "
            "fer_zoo.training.read_history('runs/mine/history.csv'), or several in a dict by name"
        )
    figure = looks.new_figure(9, 3)
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    parts = (("accuracy", 100, "accuracy %"), ("loss", 1, "loss (nats)"))
    for axes, (what, scale, title) in zip(figure.subplots(1, 2), parts, strict=True):
        for i, run in enumerate(named.values()):
            look = looks.line_look(i)
            best = max(run, key=lambda epoch: epoch.val_accuracy)
            axes.plot(best.epoch, scale * getattr(best, f"val_{what}"), ms=9, **look)
            for _, part, style in KINDS:
                values = [scale * getattr(epoch, f"{part}_{what}") for epoch in run]
                fill = "full" if part == "val" else "none"
                # Where lines lie on each other, each run's markers are at other epochs.
                step = math.ceil(len(run) / 10)
                marked = {"markevery": (i % step, step), "ms": 5, "fillstyle": fill}
                axes.plot([epoch.epoch for epoch in run], values, style, **marked, **look)
        if fused is not None and what == "accuracy":
            axes.axhline(100 * fused, color="black", linewidth=1, linestyle="--")
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    entries = [(name, looks.line_look(i)) for i, name in enumerate(named) if name]
    entries += [(word, {"color": "black", "linestyle": style}) for word, _, style in KINDS]
    entries.append(("best epoch", {"color": "black", "linestyle": "", "marker": "o", "ms": 9}))
    if fused is not None:
        entries.append(("ensemble", {"color": "black", "linestyle": "--"}))
    handles = [Line2D([], [], **look) for _, look in entries]
    return looks.finish(figure, handles=handles, names=[name for name, _ in entries])


def contact_sheet(
    images: Tensor, captions: Sequence[str], *, title: str = "", columns: int = 8
) -> Any:
    r"""Return a figure that shows gray faces with a caption under each.

    Args:
        images: uint8, shape `(N, H, W)`; gray as stored, black is 0 and white 255.
        captions: one for each image, of one or several lines, shown as they are.
        title: a line above the faces.
        columns: faces in a row; fewer where there are fewer faces.

    Raises:
        ArgumentError: images of another type or shape, or not one caption for each.

    Example:
        >>> import torch
        >>> faces = torch.randint(0, 256, (2, 48, 48), dtype=torch.uint8)
        >>> len(contact_sheet(faces, ["row 7\nhappy", "row 9\nsad"], title="odd ones").axes)
        2
    """
    if images.dtype != uint8 or images.ndim != 3 or not len(images) == len(captions) > 0:
        raise ArgumentError(
            f"a sheet needs images, uint8 (N, H, W), and a caption for each; got {images.dtype} "
            f"{tuple(images.shape)} and {len(captions)} captions"
        )
    if columns < 1:
        raise ArgumentError(f"columns must be 1 or more, got {columns}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = looks.new_figure(CELL * columns, CELL * images.shape[1] / images.shape[2] * rows)
    for i, (image, caption) in enumerate(zip(images.cpu().numpy(), captions, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_anchor("S")  # above its caption, where the layout measures it
        axes.set(xticks=[], yticks=[])
        lines = [textwrap.fill(looks.told(line), CAPTION) for line in caption.splitlines()]
        axes.set_xlabel("\n".join(lines), fontsize=6, labelpad=1, parse_math=False)
    return looks.finish(figure, title=title)


def mistakes(mistakes: "Sequence[Mistake]", data: FacesLike, *, count: int = 40) -> Any:
    """Return a figure of the first `count` mistakes, with the class in the data and the model's.

    Raises:
        ArgumentError: there are none.
    """
    shown, data = list(mistakes)[:count], check_faces(data)
    if not shown:
        raise ArgumentError("no mistakes to plot: pass some of what find_mistakes returns")
    captions = [
        f"{Path(m.source).name or f'face {m.index}'}\n{m.true} in the data\n"
        f"{m.predicted} {100 * m.probability:.0f} %"
        for m in shown
    ]
    count, images = len(shown), data.images[[m.index for m in shown]]
    title = f"the {count} most confident of {len(mistakes)} errors on {data.name}, n = {len(data)}"
    return contact_sheet(images, captions, title=title)


def _title(evaluation: "Evaluation") -> str:
    accuracy, low, high = (100 * share for share in (evaluation.accuracy, *evaluation.interval))
    share = f"{accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})"
    return f"{evaluation.title} on {evaluation.faces}, {evaluation.preset}\naccuracy {share}"


def _is_history(run: object) -> bool:
    return isinstance(run, Sequence) and bool(run) and all(hasattr(e, "val_accuracy") for e in run)
