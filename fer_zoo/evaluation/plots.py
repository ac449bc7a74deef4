"""Pictures of results, as matplotlib figures.

The colours are cividis', which read the same in print and for colour-blind people, and where values
have a sign PuOr's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, MissingDependencyError
from fer_zoo.evaluation.metrics import BINS, Evaluation
from fer_zoo.fusion import Stacked, Weighted
from fer_zoo.models import Ensemble

DARK, MIDDLE, LIGHT = "#1f3a6d", "#7c7b78", "#e5cf52"


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
    labels, counts = evaluation.labels, evaluation.confusion
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    side = 2.2 + 0.75 * len(labels)
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            colour = "black" if shares[i][j] > 55 else "white"
            text = f"{shares[i][j]:.0f} %\n{n}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    names = [f"{name} ({sum(row)})" for name, row in zip(labels, counts, strict=True)]
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (faces)")
    axes.set_title(_title(evaluation), fontsize=10)
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
    figure.suptitle(_title(evaluation), fontsize=10)
    return figure


def plot_recalls(evaluations: Sequence[Evaluation]) -> Any:
    """Return a `matplotlib.figure.Figure` of the recall of each class, with 95 % intervals.

    Args:
        evaluations: on the same faces, e.g. with one view and with ten.

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
    first = evaluations[0]
    figure = new_figure(6.4, 1.5 + (0.2 + 0.24 * len(evaluations)) * len(first.labels))
    axes = figure.add_subplot()
    height = 0.8 / len(evaluations)
    for k, found in enumerate(evaluations):
        places = [i + height * (k - (len(evaluations) - 1) / 2) for i in range(len(first.labels))]
        values = [100 * found.recall[name] for name in first.labels]
        limits = [found.recall_interval[name] for name in first.labels]
        below = [v - 100 * low for v, (low, _) in zip(values, limits, strict=True)]
        above = [100 * high - v for v, (_, high) in zip(values, limits, strict=True)]
        colour = (DARK, LIGHT, MIDDLE)[k % 3]
        name = f"{found.title}, {found.preset}"
        axes.barh(places, values, 0.92 * height, color=colour, label=name)
        axes.errorbar(
            values, places, xerr=[below, above], fmt="none", ecolor="black", elinewidth=0.9,
            capsize=2,
        )  # fmt: skip
    counts = [sum(row) for row in first.confusion]
    ticks = [f"{name} ({n})" for name, n in zip(first.labels, counts, strict=True)]
    axes.set_yticks(range(len(first.labels)), ticks)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="recall in %, with its 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def plot_fusion(model: Ensemble) -> Any:
    """Return a `matplotlib.figure.Figure` of what a fitted fusion makes of the members' answers.

    For `weighted` the weight of each member, or of each member for each class. For `stacked` how
    much each class's score rises with each member's logits, one panel per member; an averaging head
    has one over the number of members on the diagonal and nought elsewhere. Every weight is
    written, so that nothing hangs on a colour.

    Raises:
        ArgumentError: the fusion has no weights.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
        >>> [axes.get_title() for axes in plot_fusion(model).axes[:2]]
        ['resnet18_025', 'vgg19_025']
    """
    fusion = model.fusion
    names = [member.name or f"member {i}" for i, member in enumerate(model.members, 1)]
    labels = model.labels or tuple(map(str, range(model.num_classes)))
    if isinstance(fusion, Weighted):
        weights = fusion.weights.float().cpu()
        columns = list(labels) if fusion.per_class else ["every class"]
        panels, rows = {"weight of each member": weights}, names
    elif isinstance(fusion, Stacked):
        parts = fusion.linear.weight.detach().float().cpu().chunk(len(names), 1)
        columns, rows = list(labels), list(labels)
        panels = {
            f"{i}: {n}" if names.count(n) > 1 else n: w
            for i, (n, w) in enumerate(zip(names, parts, strict=True), 1)
        }
    else:
        raise ArgumentError(f"{fusion.name!r} has no weights to plot; weighted and stacked have")
    width, height = 1.6 + 0.62 * len(columns), 1.6 + 0.46 * len(rows)
    figure = new_figure(max(width, 3.4) * len(panels) + 0.8, height)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    limit = max(float(w.abs().max()) for w in panels.values())
    for axes, (title, weights) in zip(grid, panels.items(), strict=True):
        image = axes.imshow(weights.tolist(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for i, row in enumerate(weights.tolist()):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.65 * limit else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        axes.set_yticks(range(len(rows)), rows if axes is grid[0] else [])
        if isinstance(fusion, Stacked):
            axes.set_xlabel("logit of the member")
    if isinstance(fusion, Stacked):
        grid[0].set_ylabel("fused score")
    figure.colorbar(image, ax=list(grid), label="weight")
    return figure


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


def new_figure(width: float, height: float) -> Any:
    """Return an empty `matplotlib.figure.Figure` of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'fer-zoo[train]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _title(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    where = f"{evaluation.data}, {evaluation.split or 'own faces'}, {evaluation.preset}"
    return (
        f"{evaluation.title} on {where}\naccuracy {100 * evaluation.accuracy:.2f} % "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}, n = {evaluation.n})"
    )
