"""Everything that is measured of a model, with one view and with ten."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from fer_zoo.data import FaceDataset
from fer_zoo.evaluation.comparison import Comparison, compare, counterpart
from fer_zoo.evaluation.corruptions import Robustness, robustness
from fer_zoo.evaluation.metrics import Evaluation, evaluate
from fer_zoo.factory import resolve
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything measured of one model on one dataset.

    Attributes:
        model: the model.
        data: the faces.
        results: its evaluations, first the one with the preset that counts.
        robustness: on corrupted faces, if that was measured.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> report = measure("resnet18_025", faces)
        >>> [r.preset for r in report.results], report.gain.difference
        (['fer40_center', 'fer40_tencrop'], 0.0)
    """

    model: Classifier
    data: FaceDataset
    results: tuple[Evaluation, ...]
    robustness: Robustness | None = None

    def __repr__(self) -> str:
        return f"Report({', '.join(map(repr, self.results))})"

    @property
    def gain(self) -> Comparison | None:
        """One view against ten, where both were measured."""
        if len(self.results) < 2:
            return None
        one, ten = sorted(self.results, key=lambda r: r.views)
        return compare(one, ten)


def measure(
    model: Classifier | str | os.PathLike[str],
    data: FaceDataset,
    *,
    preset: Preset | str | None = None,
    corruptions: bool = False,
    batch_size: int = 256,
    progress: bool = False,
    source: str = "",
) -> Report:
    """Evaluate a model with the views of its preset and with its counterpart's.

    Args:
        model: a trained model, a name, an address or the folder of a training run.
        data: faces with the same class names, in any order.
        preset: only this transform; the model's own, and the one with ten views instead of one
            (or the reverse), if not given.
        corruptions: measure robustness too, with the preset that counts.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.
        source: what the model was loaded from, where it is given as it is.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> measure("resnet18_025", faces, preset="fer40_center").results[0].n
        7
    """
    network = resolve(model)
    source = source or ("" if isinstance(model, Classifier) else os.fspath(model))
    own = preset if isinstance(preset, Preset) else PRESETS[preset or network.preset]
    other = counterpart(own) if preset is None else None
    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    results = tuple(
        replace(
            evaluate(network, data, preset=chosen, **how),
            source="" if source == network.name else source,
        )
        for chosen in (own, other)
        if chosen is not None
    )
    corrupted = robustness(network, data, preset=own, **how) if corruptions else None
    return Report(model=network, data=data, results=results, robustness=corrupted)


def compare_all(reports: Sequence[Report]) -> list[Comparison]:
    """Return each model's gain by ten views, then each pair of models with equally many views.

    Models that were evaluated on other faces than the first are left out.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> len(compare_all([measure(name, faces) for name in ("resnet18_025", "vgg19_025")]))
        4
    """
    found = [report.gain for report in reports if report.gain is not None]
    faces = reports[0].results[0].faces.fingerprint
    same = [r for r in reports if r.results[0].faces.fingerprint == faces]
    for first, second in combinations(same, 2):
        found.append(compare(first.results[0], second.results[0]))
        others = zip(first.results[1:], second.results[1:], strict=False)
        found += [compare(a, b) for a, b in others if a.views == b.views]
    return found
