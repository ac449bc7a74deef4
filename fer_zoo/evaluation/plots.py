"""Pictures of results, as matplotlib figures.

The colours are cividis', which read the same in print and for colour-blind people, and where values
have a sign PuOr's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.evaluation.drawing import (
    DARK,
    MIDDLE,
    add_legend,
    add_title,
    bar_look,
    new_figure,
    plain,
    room,
)
from fer_zoo.evaluation.metrics import BINS, Evaluation
from fer_zoo.fusion import Stacked, Weighted
from fer_zoo.labels import index_map
from fer_zoo.models import Classifier, Ensemble


def plot_confusion(evaluation: Evaluation) -> Any:
    """Return a `matplotlib.figure.Figure` of the confusion matrix.

    Rows are the true classes and sum to 100 %.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> figure = plot_confusion(fer_zoo.evaluate(model, faces))
        >>> figure.axes[0].get_xlabel()
        'predicted'
    """
    counts = evaluation.confusion
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    columns = [plain(name) for name in evaluation.labels]
    rows = [f"{name} ({sum(row)})" for name, row in zip(evaluation.labels, counts, strict=True)]
    rows = [plain(name, 18) for name in rows]
    (below, tall), (left, taller) = room(columns), room(rows)
    side = max(3.8, max(0.75, tall, taller) * len(rows))
    figure = new_figure(1.08 * side + left + 1.3, side + below + 0.3)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            colour = "black" if shares[i][j] > 55 else "white"
            text = f"{shares[i][j]:.0f} %\n{n}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
    _slanted(axes, columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (faces)")
    add_title(figure, _title(evaluation))
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    return figure


def plot_reliability(evaluation: Evaluation) -> Any:
    """Return a `matplotlib.figure.Figure` of how often a model is right when it is how sure.

    Faces are put in 15 bins by the probability of the winner. A bar is the share of right answers
    in its bin; on the diagonal a model is exactly as sure as it is right. Below are the faces in
    each bin. Uncalibrated and calibrated stand side by side.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> figure = plot_reliability(fer_zoo.evaluate(model, faces))
        >>> figure.axes[0].get_ylabel()
        'share of right answers'
    """
    sides = [("uncalibrated", 1.0, evaluation.ece_uncalibrated)]
    if evaluation.temperature != 1:
        name = f"temperature {evaluation.temperature:.3f}"
        sides.append((name, evaluation.temperature, evaluation.ece))
    figure = new_figure(0.6 + 3.9 * len(sides), 5.4)
    grid = figure.subplots(
        2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    edges = torch.linspace(0, 1, BINS + 1).tolist()
    for (top, bottom), (name, temperature, ece) in zip(grid.T, sides, strict=True):
        counts, confidence, accuracy = bins(evaluation, temperature)
        filled = [i for i, n in enumerate(counts) if n]
        left, width = [edges[i] for i in filled], 1 / BINS
        heights = [accuracy[i] for i in filled]
        gaps = [confidence[i] - accuracy[i] for i in filled]
        top.bar(left, heights, width, align="edge", color=DARK, edgecolor="white", label="right")
        top.bar(
            left,
            gaps,
            width,
            bottom=heights,
            align="edge",
            facecolor="none",
            edgecolor="#b38f00",
            hatch="////",
            linewidth=0.8,
            label="gap to the mean probability",
        )
        top.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        top.set_title(f"{name}: ECE {100 * ece:.2f} %", fontsize=10)
        bottom.bar(edges[:-1], counts, width, align="edge", color=MIDDLE, edgecolor="white")
        for i in filled:
            middle = edges[i] + width / 2
            bottom.annotate(
                str(counts[i]),
                (middle, counts[i]),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
            )
        bottom.margins(y=0.18)
        bottom.set_xlabel("probability of the predicted class")
    grid[0][0].set_ylabel("share of right answers")
    grid[1][0].set_ylabel("faces")
    grid[0][0].legend(loc="upper left", fontsize=8, frameon=False)
    add_title(figure, _title(evaluation))
    return figure


def plot_recalls(evaluations: Evaluation | Sequence[Evaluation]) -> Any:
    """Return a `matplotlib.figure.Figure` of the recall of each class, with 95 % intervals.

    Args:
        evaluations: one, or several on the same faces, e.g. with one view and with ten.

    Raises:
        ArgumentError: there is none.
        LabelError: they name different classes.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> figure = plot_recalls([fer_zoo.evaluate(model, faces)])
        >>> figure.axes[0].get_xlabel()
        'recall in %, with its 95 % interval'
    """
    several = [evaluations] if isinstance(evaluations, Evaluation) else list(evaluations)
    if not several:
        raise ArgumentError(
            "no evaluations to plot: pass one or more of what fer_zoo.evaluate returns"
        )
    first = several[0]
    counts = [sum(row) for row in first.confusion]
    ticks = [plain(f"{n} ({k})", 18) for n, k in zip(first.labels, counts, strict=True)]
    wide, tall = room(ticks)
    row = max(0.3 + 0.14 * len(several), tall + 0.1)
    figure = new_figure(5 + wide, 0.9 + row * len(ticks))
    from matplotlib.patheffects import withStroke

    axes = figure.add_subplot()
    height = 0.8 / len(several)
    bars = []
    for k, found in enumerate(several):
        try:
            order = index_map(found.labels, first.labels)
        except LabelError as error:
            raise LabelError(f"pass evaluations with the same classes: {error}") from None
        places = [i + height * (k - (len(several) - 1) / 2) for i in range(len(ticks))]
        names = [found.labels[i] for i in order]
        values = [100 * found.recall[name] for name in names]
        limits = [found.recall_interval[name] for name in names]
        below = [v - 100 * low for v, (low, _) in zip(values, limits, strict=True)]
        above = [100 * high - v for v, (_, high) in zip(values, limits, strict=True)]
        bars.append(axes.barh(places, values, 0.92 * height, **bar_look(k)))
        _, caps, whiskers = axes.errorbar(
            values, places, xerr=[below, above], fmt="none", ecolor="black", elinewidth=0.9,
            capsize=2,
        )  # fmt: skip
        for part in (*caps, *whiskers):  # seen on dark bars too
            part.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
    axes.set_yticks(range(len(ticks)), ticks)
    axes.set(
        xlim=(0, 100), ylim=(len(ticks) - 0.5, -0.5), xlabel="recall in %, with its 95 % interval"
    )
    axes.spines[["top", "right"]].set_visible(False)
    add_legend(figure, bars, [f"{found.title}, {found.preset}" for found in several])
    return figure


def plot_fusion(model: Classifier) -> Any:
    """Return a `matplotlib.figure.Figure` of what a fitted fusion makes of the members' answers.

    For `weighted` the weight of each member, or of each member for each class. For `stacked` how
    much each class's score rises with each member's logits, one panel per member; an averaging head
    has one over the number of members on the diagonal and nought elsewhere. Every weight is
    written, so that nothing hangs on a colour.

    Raises:
        ArgumentError: the model is no ensemble, or its fusion has no weights.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
        >>> [axes.get_title() for axes in plot_fusion(model).axes[:2]]
        ['resnet18_025', 'vgg19_025']
    """
    if not isinstance(model, Ensemble):
        raise ArgumentError(
            f"{type(model).__name__} has no fusion to plot; pass an ensemble, as "
            "fer_zoo.create_ensemble and fer_zoo.fit_fusion make them"
        )
    fusion = model.fusion
    names = [member.name or "member" for member in model.members]
    members = [
        plain(f"{i}: {name}" if names.count(name) > 1 else name, 18)
        for i, name in enumerate(names, 1)
    ]
    labels = [plain(name) for name in model.labels or map(str, range(model.num_classes))]
    if isinstance(fusion, Weighted):
        columns, rows = labels if fusion.per_class else ["every class"], members
        panels = [("weight of each member", fusion.weights.float().cpu())]
    elif isinstance(fusion, Stacked):
        columns = rows = labels
        parts = fusion.linear.weight.detach().float().cpu().chunk(len(members), 1)
        panels = list(zip(members, parts, strict=True))
    else:
        raise ArgumentError(f"{fusion.name!r} has no weights to plot; weighted and stacked have")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    (below, tall), (left, taller), (_, title) = (
        room(columns),
        room(rows),
        room([name for name, _ in panels]),
    )
    width = max(1.9, max(0.5, tall) * len(columns), (left + 1.5) / across)
    height = max(0.46, taller) * len(rows) + title + 0.25
    lower = 2 if down > 1 and len(panels) % across else 1  # rows of panels with names below
    tall = height * down + lower * (below + 0.3)
    figure = new_figure(width * across + left + 1.3, tall)
    grid = figure.subplots(down, across, squeeze=False).flatten()
    limit = max(float(w.abs().max()) for _, w in panels)
    for place, (axes, (name, weights)) in enumerate(zip(grid, panels, strict=False)):
        image = axes.imshow(weights.tolist(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for i, row in enumerate(weights.tolist()):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.65 * limit else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_title(name, fontsize=10)
        lowest, leftmost = place + across >= len(panels), place % across == 0
        _slanted(axes, columns if lowest else [])
        axes.set_yticks(range(len(rows)) if leftmost else [], rows if leftmost else [])
        if isinstance(fusion, Stacked):
            axes.set_xlabel("logit of the member" if lowest else "")
            axes.set_ylabel("fused score" if leftmost else "")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    wide = 0.25 / (width * across)
    figure.colorbar(image, ax=list(grid), label="weight", fraction=wide, aspect=4 * tall)
    return figure


def _slanted(axes: Any, names: Sequence[str]) -> None:
    """Write names under the columns, upright where one has several lines: they would collide."""
    upright = any("\n" in name for name in names)
    turn = {"rotation": 90} if upright else {"rotation": 45, "ha": "right"}
    axes.set_xticks(range(len(names)), names, **turn)


def bins(evaluation: Evaluation, temperature: float) -> tuple[list[int], list[float], list[float]]:
    """Return faces, mean probability of the winner, and share of right answers of each bin.

    The bins are those of the calibration error: right-open, of equal width. Empty ones hold 0.
    """
    sure = evaluation.probabilities(temperature).amax(1)
    edges = torch.linspace(0, 1, BINS + 1, dtype=sure.dtype)
    place = (torch.bucketize(sure, edges, right=True) - 1).clamp(0, BINS - 1)

    def total(values: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=torch.float64).index_add(0, place, values.double())

    counts = total(torch.ones_like(sure))
    share = counts.clamp_min(1)
    means = total(sure) / share, total(evaluation.correct) / share
    return [int(n) for n in counts], means[0].tolist(), means[1].tolist()


def _title(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    where = f"{evaluation.data}, {evaluation.split or 'own faces'}, {evaluation.preset}"
    return (
        f"{evaluation.title} on {where}\naccuracy {100 * evaluation.accuracy:.2f} % "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}, n = {evaluation.n})"
    )
