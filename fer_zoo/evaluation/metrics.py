"""Figures with their evidence: scikit-learn's and torchmetrics' metrics, SciPy's intervals."""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data.faces import TEST_SPLITS, FacesLike, check_faces
from fer_zoo.errors import ArgumentError, needing
from fer_zoo.evaluation.figures import interval, percent
from fer_zoo.evaluation.groups import grouped
from fer_zoo.evaluation.held_out import not_held_out, selections
from fer_zoo.evaluation.matching import match
from fer_zoo.evaluation.selective import (
    GroupScore,
    abstention_table,
    group_scores,
    risk_coverage,
)
from fer_zoo.evidence import Calibration, Score
from fer_zoo.factory import resolve
from fer_zoo.inference import fit_temperature, fuse, member_scores
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.inference.scoring import tempered, views_in
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.plain import to_plain
from fer_zoo.transforms import Preset
from fer_zoo.transforms.presets import choose_preset

TEST_NOTES = {
    split: f"{name}: for reporting only; nothing may be chosen by this figure"
    for split, name in (("private", "PrivateTest"), ("test", "test split"))
}
BINS, FOLDS, RESAMPLES = 15, 5, 10_000
"""Of the calibration error, the cross-validation of the temperature, and the bootstrap."""


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """How a model does on some faces: a `Score`, and all that it was computed from.

    Shares are from 0 to 1. A class without faces has recall NaN.

    Attributes:
        state: a digest of the network that was evaluated, of its tensors and its layers.
        weights: the address of its weights, where they have one.
        calibration: the model's temperatures, and the faces they were fitted on.
        calibrated_for: the preset whose temperature was taken; empty for an uncalibrated model.
        recall: of each class, `recall_interval` with its 95 % Wilson interval.
        confusion: faces of class i (row) labelled j (column), in the order of `labels`.
        note: what to keep in mind, if anything.
        groups: the figures of each group of faces, where groups were given.
        source: what the model was loaded from, where that says more than its name.
        scores: uncalibrated, `(N, K)`; not part of the JSON.
        targets: `(N,)`, indices into `labels`; not part of the JSON.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> sum(fer_zoo.evaluate("resnet18_025", faces).recall.values())    # one of seven
        1.0
    """

    model: str
    state: str = ""
    weights: str = ""
    calibration: Calibration | None = None
    calibrated_for: str = ""
    recall: dict[str, float]
    recall_interval: dict[str, tuple[float, float]]
    confusion: list[list[int]]
    labels: tuple[str, ...]
    note: str = ""
    source: str = ""
    groups: tuple[GroupScore, ...] = ()
    scores: Tensor = field(repr=False, compare=False)
    targets: Tensor = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.title!r} on {self.faces}, {self.preset}: accuracy "
            f"{percent(self.accuracy)} % ({interval(self.interval)}), "
            f"macro-F1 {percent(self.macro_f1)} %, ECE {percent(self.ece)} %"
            f"{self.note and f'; {self.note}'})"
        )

    @property
    def title(self) -> str:
        """What to call the model, with the fusion of an ensemble."""
        name = self.source or self.model
        return f"{name} ({self.fusion})" if self.fusion else name

    @property
    def score(self) -> Score:
        """What evidence keeps of it."""
        return Score(**{f.name: getattr(self, f.name) for f in fields(Score)})

    @property
    def correct(self) -> Tensor:
        """Whether each face was labelled right, bool `(N,)`."""
        return self.scores.argmax(1) == self.targets

    @property
    def detected(self) -> list[str]:
        """The classes that count for the detection rate."""
        return [self.labels[i] for i in detected(self.confusion)]

    def probabilities(self, temperature: float | None = None) -> Tensor:
        """Return the probabilities `(N, K)`, float64, at the model's temperature or another."""
        return tempered(self.scores, temperature or self.temperature).softmax(1)

    def risk_coverage(self) -> tuple[Tensor, Tensor]:
        """Return coverage and risk `(N,)` of abstaining below each probability of the winner."""
        return risk_coverage(self.probabilities().amax(1), self.correct)

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve; the lower, the better abstaining works."""
        return float(self.risk_coverage()[1].mean())

    @property
    def abstention(self) -> list[tuple[float, float, float]]:
        """Thresholds with the share of faces that is labelled, and of wrong labels among those."""
        return abstention_table(self.probabilities().amax(1), self.correct)

    def bins(self, temperature: float | None = None) -> tuple[list[int], list[float], list[float]]:
        """Return faces, mean probability of the winner, and share of right answers of each bin."""
        sure = self.probabilities(temperature).amax(1)
        edges = torch.linspace(0, 1, BINS + 1, dtype=sure.dtype)
        bin_of = (torch.bucketize(sure, edges, right=True) - 1).clamp(0, BINS - 1)
        counts = torch.bincount(bin_of, minlength=BINS)
        sums = (bin_of.bincount(x, BINS) for x in (sure, self.correct.double()))
        confidence, accuracy = ((total / counts.clamp_min(1)).tolist() for total in sums)
        return counts.tolist(), confidence, accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but scores and targets as plain values, NaN as None."""
        names = [f.name for f in fields(self) if f.name not in ("scores", "targets")]
        plain: dict[str, Any] = to_plain({name: getattr(self, name) for name in names})
        for row, confusion in zip(self.labels, self.confusion, strict=True):
            if not any(confusion):
                plain["recall"][row], plain["recall_interval"][row] = None, None
        plain["aurc"] = self.aurc
        columns = ("threshold", "coverage", "risk")
        plain["abstention"] = [dict(zip(columns, row, strict=True)) for row in self.abstention]
        return plain


def evaluate(
    model: Classifier | str | os.PathLike[str],
    data: FacesLike,
    *,
    preset: Preset | str | None = None,
    views: int | None = None,
    batch_size: int = 256,
    progress: bool = False,
    labels: Mapping[str, Sequence[str]] | None = None,
    ignore: Iterable[str] = (),
    groups: str | os.PathLike[str] | Sequence[Any] | None = None,
) -> Evaluation:
    """Score a model on a dataset whose classes it knows by name.

    The data may lack classes. The model may then answer them all the same, as it does when it is
    used, and means over the classes are over those with faces; with `ignore` it may not.

    Args:
        model: a trained model, a name, an address or the folder of a training run.
        data: faces whose classes the model knows, in any order.
        preset: another transform than the model's own.
        views: instead of `preset`, how many views of a face to average, as for `Predictor`.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.
        labels: coarser classes, each with those it is made of; their probabilities are summed. The
            others stay as they are.
        ignore: classes to leave out: their faces, and as answers.
        groups: one for each face, such as an age group, or the path of a csv with a column `group`,
            and `file` (the end of its path) or, of FER2013, `row` unless it is in the order of the
            faces. The figures of each are in `Evaluation.groups`.

    Raises:
        LabelError: the model is untrained, or does not know classes of the data.
        ArgumentError: no faces, or answers that are no numbers (NaN); groups that are not one for
            each face (`DataError` in a csv).
        MissingDependencyError: scikit-learn or torchmetrics is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> round(evaluate("resnet18_025", faces).accuracy, 4)     # one of seven classes is right
        0.1429
    """
    network = resolve(model)
    libraries()  # so that a missing package is told before the forward passes, not after
    faces = check_faces(data) if groups is None else grouped(check_faces(data), groups)
    task = match(network, faces, labels=labels, ignore=ignore)
    faces, targets = task.faces, task.targets
    arithmetic = choose_preset(network.preset, preset, views)
    how: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    members = member_scores(network, faces.images, preset=arithmetic, **how)
    scores, known = fuse(network, members), network.evidence
    if wrong := int(scores.softmax(1).isnan().any(1).sum()):
        raise ArgumentError(
            f"{network.name!r} answers {wrong:,} of {len(scores):,} faces with what is no number "
            "(NaN): its weights are no good, load others or train again"
        )
    fitted = known.calibration.temperature if known.calibration else {}
    calibrated_for = next((p for p in (arithmetic.name, network.preset) if p in fitted), "")
    temperature = fitted.get(calibrated_for, 1.0)
    seen = not_held_out(network, check_faces(data))
    plain, scores = scores, task.answers(scores, temperature)
    figures = score_metrics(scores, targets, task.labels, temperature=temperature)
    if task.merges:
        figures |= uncalibrated(task.answers(plain, 1.0), targets)
    by_group = faces.groups if groups is not None else None
    return Evaluation(
        model=network.name,
        state=_state_of(network),
        weights=known.weights,
        fusion=network.fusion.name if isinstance(network, Ensemble) else "",
        faces=faces.faces,
        preset=arithmetic.name,
        views=views_in(network, arithmetic),
        selection="; ".join(selections(known)),
        labels=task.labels,
        note="; ".join(filter(None, (task.note, TEST_NOTES.get(faces.official_split or ""), seen))),
        groups=group_scores(tempered(scores, temperature), targets, by_group) if by_group else (),
        calibration=known.calibration,
        calibrated_for=calibrated_for,
        cross_validated_ece=None
        if task.merges  # a temperature would have to come before the sums
        else cross_validated_ece(scores, targets, faces.official_split),
        scores=scores,
        targets=targets,
        **figures,
    )


def check_results(model: Classifier, results: Iterable[Evaluation]) -> None:
    """Raise `ArgumentError` unless the evaluations were made of this network as it is now."""
    for result in results if isinstance(results, Iterable) else [results]:
        check_evaluation(result)
        if (result.model, result.state) != (model.name, _state_of(model)):
            raise ArgumentError(
                f"{result!r} was made of another network, or of {model.name!r} before it changed "
                "or was stored in another type: evaluate again, with fer_zoo.evaluate(model, data)"
            )


def check_evaluation(result: Evaluation) -> Evaluation:
    """Return `result`, or say that it is no evaluation."""
    if not isinstance(result, Evaluation):
        raise ArgumentError(f"needs what fer_zoo.evaluate(model, data) returns, got {result!r:.80}")
    return result


def _state_of(model: Classifier) -> str:
    return hashlib.sha256(repr((model.state, model.form)).encode()).hexdigest()


def score_metrics(
    scores: Tensor, targets: Tensor, labels: tuple[str, ...], *, temperature: float = 1.0
) -> dict[str, Any]:
    """Return the metrics of `Evaluation` for scores `(N, K)` and targets `(N,)`.

    Example:
        >>> scores, targets = torch.eye(2)[[0, 1, 1, 0]] * 9, torch.tensor([0, 1, 1, 1])
        >>> score_metrics(scores, targets, ("calm", "tense"))["accuracy"]
        0.75
    """
    metrics, stats, _ = libraries()
    guesses, truth, indices = scores.argmax(1).numpy(), targets.numpy(), range(len(labels))
    right, present = guesses == truth, np.unique(truth)
    f1 = metrics.f1_score(truth, guesses, labels=present, average="macro", zero_division=0.0)
    confusion = metrics.confusion_matrix(truth, guesses, labels=indices).tolist()
    recall = [row[i] / sum(row) if any(row) else math.nan for i, row in enumerate(confusion)]
    calibrated, exact = tempered(scores, temperature), scores.double()
    return {
        "accuracy": float(right.mean()),
        "interval": _wilson(stats, int(right.sum()), len(right)),
        "bootstrap_interval": _bootstrap(stats, right),
        "balanced_accuracy": float(np.nanmean(recall)),
        "macro_f1": float(f1),
        "macro_f1_interval": macro_f1_interval(confusion),
        "detection_rate": len(detected(confusion)) / len(present),
        "nll": float(F.cross_entropy(calibrated, targets)),
        "ece": expected_calibration_error(calibrated, targets),
        **uncalibrated(exact, targets),
        "temperature": temperature,
        "recall": dict(zip(labels, recall, strict=True)),
        "recall_interval": {
            name: _wilson(stats, confusion[i][i], sum(confusion[i]))
            for i, name in enumerate(labels)
        },
        "confusion": confusion,
    }


def detected(confusion: list[list[int]]) -> list[int]:
    """Return the classes (rows) that are predicted more often than any other."""
    return [i for i, row in enumerate(confusion) if row[i] > max([0, *row[:i], *row[i + 1 :]])]


def macro_f1_interval(confusion: list[list[int]]) -> tuple[float, float]:
    """Return the 95 % percentile interval of macro-F1 over 10,000 resamples of the faces.

    To draw faces is to draw entries of the confusion matrix. A class that a resample lacks is not
    part of its mean.
    """
    table = np.array(confusion)
    rng, n = np.random.default_rng(0), int(table.sum())
    drawn = rng.multinomial(n, table.ravel() / n, RESAMPLES).reshape(-1, *table.shape)
    faces, hits = drawn.sum(2), drawn.diagonal(axis1=1, axis2=2)
    f1 = 2 * hits / (faces + drawn.sum(1)).clip(1)
    found = np.where(faces > 0, f1, 0).sum(1) / (faces > 0).sum(1)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def uncalibrated(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the figures of scores, float64, without a temperature."""
    return {
        "nll_uncalibrated": float(F.cross_entropy(scores, targets)),
        "ece_uncalibrated": expected_calibration_error(scores, targets),
    }


def expected_calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Return the mean gap between probability and share of right answers, over 15 equal bins."""
    _, _, error = libraries()
    classes = scores.shape[1]
    return float(error(scores.softmax(1), targets, num_classes=classes, n_bins=BINS, norm="l1"))


def cross_validated_ece(scores: Tensor, targets: Tensor, split: str | None) -> float | None:
    """Return the ECE with temperatures fitted on other faces; None where none can be fitted."""
    n = len(targets)
    if split in (*TEST_SPLITS, "train") or n - -(-n // FOLDS) < LEAST_FACES:
        return None
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    found = scores.double()
    for part in order.chunk(FOLDS):
        rest = torch.ones(n, dtype=torch.bool)
        rest[part] = False
        try:
            fitted = fit_temperature(scores[rest], targets[rest], split=split or "own faces")
        except ArgumentError:  # none is the best
            return None
        found[part] = tempered(scores[part], fitted)
    return expected_calibration_error(found, targets)


def _wilson(stats: Any, right: int, n: int) -> tuple[float, float]:
    if not n:
        return float("nan"), float("nan")
    interval = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _bootstrap(stats: Any, right: np.ndarray) -> tuple[float, float]:
    if len(right) < 2:
        return float(right[0]), float(right[0])
    found = stats.bootstrap(
        (right.astype(np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 1_000_000 // len(right)),  # 8 MB at a time
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def libraries() -> Any:
    """Return scikit-learn's metrics, SciPy's stats and torchmetrics' calibration error."""
    with needing("evaluation needs scikit-learn and torchmetrics", "train"):
        from scipy import stats
        from sklearn import metrics
        from torchmetrics.functional.classification import multiclass_calibration_error
    return metrics, stats, multiclass_calibration_error
