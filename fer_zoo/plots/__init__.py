"""Pictures of results, as matplotlib figures.

The colours are cividis', which read the same in print and for colour-blind people, and where values
have a sign PuOr's. What differs by colour differs by marker or hatch too. Each function returns a
`matplotlib.figure.Figure`, and raises `MissingDependencyError` where matplotlib is not installed.

Example:
    >>> import torch, fer_zoo
    >>> black = torch.zeros(7, 48, 48).byte()
    >>> faces = fer_zoo.data.FaceDataset(
    ...     black, torch.arange(7), labels=fer_zoo.labels.FER2013, name="black")
    >>> result = fer_zoo.evaluate("resnet18_025", faces)
    >>> figures = [fer_zoo.plots.confusion(result), fer_zoo.plots.reliability(result)]
    >>> figures.append(fer_zoo.plots.recalls([result]))     # or several, to compare them
    >>> figures[2].savefig("recalls.png")                   # doctest: +SKIP
    >>> wrong = fer_zoo.evaluation.find_mistakes(result, faces)
    >>> len(fer_zoo.plots.mistakes(wrong, faces).axes) == len(wrong) == 6
    True
    >>> corrupted = fer_zoo.robustness("resnet18_025", faces, corruptions=["rotate", "blur"])
    >>> [axes.get_title() for axes in fer_zoo.plots.robustness(corrupted).axes]
    ['rotate', 'blur']
    >>> stacked = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
    >>> [axes.get_title() for axes in fer_zoo.plots.fusion(stacked).axes[:2]]
    ['resnet18_025', 'vgg19_025']
"""

from fer_zoo.plots.charts import (
    confusion,
    contact_sheet,
    fusion,
    history,
    mistakes,
    recalls,
    reliability,
    robustness,
)

__all__ = [
    "confusion",
    "contact_sheet",
    "fusion",
    "history",
    "mistakes",
    "recalls",
    "reliability",
    "robustness",
]
