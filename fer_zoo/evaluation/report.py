"""Everything that is measured of a model, its errors, and one model against another."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product
from typing import Any

from fer_zoo._files import as_text
from fer_zoo.data import FaceDataset
from fer_zoo.data.faces import FacesLike, check_faces
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.corruptions import Robustness, robustness
from fer_zoo.evaluation.figures import figure_rows, points
from fer_zoo.evaluation.groups import read_groups
from fer_zoo.evaluation.matching import match
from fer_zoo.evaluation.metrics import Evaluation, check_evaluation, evaluate, libraries
from fer_zoo.factory import resolve
from fer_zoo.labels import made_of, names_to_ignore
from fer_zoo.models import Classifier
from fer_zoo.transforms import Preset, counterparts
from fer_zoo.transforms.presets import get_preset


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations on the same faces, and McNemar's exact test of their accuracies.

    Attributes:
        first: model and preset of one; `second` those of the other.
        difference: accuracy of the second minus that of the first, from -1 to 1.
        only_first: faces that only the first labels right; `only_second` only the second.
        p_value: two-sided; how often chance alone would split the faces on which exactly one is
            right as unevenly, if both were equally good (McNemar 1947, exact binomial).

    Example:
        >>> Comparison(first="one view", second="ten views", n=100, difference=0.02, only_first=3,
        ...            only_second=5, p_value=0.727)
        Comparison('ten views' against 'one view': +2.00 points, McNemar's p = 0.727, n = 100)
    """

    first: str
    second: str
    n: int
    difference: float
    only_first: int
    only_second: int
    p_value: float

    def __repr__(self) -> str:
        return (
            f"Comparison({self.second!r} against {self.first!r}: {points(self.difference)} "
            f"points, McNemar's p = {self.p_value:.3g}, n = {self.n})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two evaluations face by face.

    Raises:
        ArgumentError: they are no evaluations, or not of the same faces in the same order.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> a, b = (fer_zoo.evaluate(name, faces) for name in ("resnet18_025", "vgg19_025"))
        >>> compare(a, b).first
        'resnet18_025, fer40_center'
    """
    _, stats, _ = libraries()
    first, second = check_evaluation(first), check_evaluation(second)
    if first.faces.fingerprint != second.faces.fingerprint:
        raise ArgumentError(
            f"{first.faces} and {second.faces} are not the same faces: evaluate {first.title} and "
            f"{second.title} on one dataset"
        )
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    differ = only_first + only_second
    return Comparison(
        first=f"{first.title}, {first.preset}",
        second=f"{second.title}, {second.preset}",
        n=first.n,
        difference=(only_second - only_first) / first.n,
        only_first=only_first,
        only_second=only_second,
        p_value=float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0,
    )


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything measured of one model on one dataset.

    Attributes:
        results: its evaluations, first the one with the preset that counts.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> measure("resnet18_025", faces).gain.second
        'resnet18_025, fer40_tencrop'
    """

    model: Classifier
    data: FaceDataset
    results: tuple[Evaluation, ...]
    robustness: Robustness | None = None

    def __repr__(self) -> str:
        return f"Report({', '.join(map(repr, self.results))})"

    @property
    def gain(self) -> Comparison | None:
        """The fewest views against the most, where several were measured."""
        if len(self.results) < 2:
            return None
        fewest, *_, most = sorted(self.results, key=lambda r: r.views)
        return compare(fewest, most)


def measure(
    model: Classifier | str | os.PathLike[str],
    data: FacesLike,
    *,
    preset: Preset | str | None = None,
    corruptions: bool = False,
    batch_size: int = 256,
    progress: bool = False,
    source: str = "",
    labels: Mapping[str, Sequence[str]] | None = None,
    ignore: Iterable[str] = (),
    groups: str | os.PathLike[str] | Sequence[Any] | None = None,
) -> Report:
    """Evaluate a model with the views of its preset and with its counterparts'.

    Args:
        model: a trained model, a name, an address or the folder of a training run.
        data: faces whose classes the model knows, in any order.
        preset: only this transform; the model's own and its `counterparts` if not given.
        corruptions: measure robustness too, with the preset that counts.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.
        source: what the model was loaded from, where it is given as it is.
        labels: as for `fer_zoo.evaluate`.
        ignore: as for `fer_zoo.evaluate`.
        groups: as for `fer_zoo.evaluate`.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> measure("resnet18_025", faces, preset="fer40_center").results[0].n
        7
    """
    network = resolve(model)
    classes: dict[str, Any] = {"labels": made_of(labels), "ignore": names_to_ignore(ignore)}
    groups = None if groups is None else read_groups(groups, check_faces(data))
    source = source or ("" if isinstance(model, Classifier) else os.fspath(model))
    source = "" if source == network.name else source
    own = get_preset(network.preset if preset is None else preset)
    presets = [own, *(counterparts(own) if preset is None else ())]
    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress, **classes}
    found = [evaluate(network, data, preset=p, groups=groups, **how) for p in presets]
    results = tuple(replace(result, source=source) for result in found)
    corrupted = robustness(network, data, preset=own, **how) if corruptions else None
    faces = match(network, data, **classes).faces
    return Report(model=network, data=faces, results=results, robustness=corrupted)


def compare_all(reports: Sequence[Report]) -> list[Comparison]:
    """Return each model's gain by more views, then each pair with as many views of equal faces.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> len(compare_all([measure(name, faces) for name in ("resnet18_025", "vgg19_025")]))
        5
    """
    found = [report.gain for report in reports if report.gain is not None]
    for first, second in combinations(reports, 2):
        for a, b in product(first.results, second.results):
            if a.views == b.views and a.faces.fingerprint == b.faces.fingerprint:
                found.append(compare(a, b))
    return found


def cross_table(results: Iterable[Evaluation]) -> list[list[str]]:
    """Return several models on several data sets as a table of cells, the head first.

    Each row is a model on some faces: accuracy with its Wilson interval, macro-F1 with its
    bootstrap interval, 95 %.

    Example:
        >>> import torch, fer_zoo
        >>> def gray(level):
        ...     return FaceDataset(torch.full((7, 48, 48), level).byte(), torch.arange(7),
        ...                        labels=fer_zoo.labels.FER2013, name=f"gray {level}")
        >>> table = cross_table(fer_zoo.evaluate("resnet18_025", gray(n)) for n in (0, 99))
        >>> [row[:2] for row in table]
        [['data', 'model'], ['gray 0', 'resnet18_025'], ['gray 99', 'resnet18_025']]
    """
    found = [check_evaluation(result) for result in results]
    names = ("preset", "n", "accuracy", "interval", "macro_f1", "macro_f1_interval")
    columns = figure_rows(found, names)
    columns[-1][0] = columns[-3][0] = "95 % interval"
    where = [r.faces.name + (f", {r.split}" if r.split else "") for r in found]
    titles = [r.title for r in found]
    return [[*row] for row in zip(["data", *where], ["model", *titles], *columns, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One face that was labelled wrong.

    Attributes:
        source: its file, or its place among all rows of FER2013 (0 is the one below the header).
        true: the class in the data; `true_probability` is what the model gives to it.
        predicted: the class the model says, with `probability`.

    Example:
        >>> Mistake(index=7, source="row 7", true="fear", predicted="happy", probability=0.9,
        ...         true_probability=0.05).predicted
        'happy'
    """

    index: int
    source: str
    true: str
    predicted: str
    probability: float
    true_probability: float


def find_mistakes(evaluation: Evaluation, data: FacesLike) -> list[Mistake]:
    """Return all faces that were labelled wrong, the most confident first.

    Raises:
        ArgumentError: `data` is not what was evaluated.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> len(find_mistakes(fer_zoo.evaluate("resnet18_025", faces), faces))
        6
    """
    data = check_faces(data)
    if data.fingerprint != check_evaluation(evaluation).faces.fingerprint:
        raise ArgumentError(f"{data.faces} is not what was evaluated: {evaluation.faces}")
    probabilities, guesses = evaluation.probabilities(), evaluation.scores.argmax(1)
    found = []
    for i in (~evaluation.correct).nonzero()[:, 0].tolist():
        true, guess = evaluation.targets[i], guesses[i]
        mistake = Mistake(
            index=i,
            source=_source(data, i),
            true=evaluation.labels[true],
            predicted=evaluation.labels[guess],
            probability=float(probabilities[i, guess]),
            true_probability=float(probabilities[i, true]),
        )
        found.append(mistake)
    return sorted(found, key=lambda mistake: -mistake.probability)


def _source(data: FaceDataset, index: int) -> str:
    files, rows = getattr(data, "files", None), getattr(data, "rows", None)
    if files is not None:
        return as_text(files[index])
    return f"row {int(rows[index])}" if rows is not None else ""
