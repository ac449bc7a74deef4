"""Pictures of results, as matplotlib figures."""

from typing import Any

from fer_zoo.errors import MissingDependencyError
from fer_zoo.evaluation.metrics import Evaluation


def plot_confusion(evaluation: Evaluation) -> Any:
    """Return a `matplotlib.figure.Figure` of the confusion matrix.

    Rows are the true classes and sum to 100 %; the colour scale (cividis) reads the same in print
    and for colour-blind people.

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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'fer-zoo[train]'"
        ) from None
    labels, counts = evaluation.labels, evaluation.confusion
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    side = 2.2 + 0.75 * len(labels)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
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
    low, high = evaluation.interval
    axes.set_title(
        f"{evaluation.model} on {evaluation.data}, {evaluation.split or 'own faces'}, "
        f"{evaluation.preset}\naccuracy {100 * evaluation.accuracy:.2f} % "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}, n = {evaluation.n})",
        fontsize=10,
    )
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    return figure
