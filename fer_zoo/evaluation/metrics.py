"""Figures that carry their evidence.

The metrics are scikit-learn's and torchmetrics', the intervals SciPy's.
"""

import warnings
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, MissingDependencyError
from fer_zoo.inference import fit_temperature, fuse, member_scores
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.inference.scoring import tempered
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import PRESETS, Preset

PRIVATE_NOTE = "PrivateTest: for reporting only; nothing may be chosen by this figure"
BINS = 15
"""Of equal width, for the calibration error and its plot."""

RESAMPLES = 10_000
"""Draws of the bootstrap interval."""

FOLDS = 5
"""Parts of the cross-validation of the temperature."""


@dataclass(frozen=True)
class Evaluation:
    """How a model does on one split.

    Shares are from 0 to 1. A class without faces has recall NaN.

    Attributes:
        model: its name.
        weights: the address of its weights, where it has them from the zoo.
        fusion: the name of its fusion, for an ensemble.
        data: the dataset's name.
        split: `"public"`, `"private"`, ..., or None for one's own faces.
        fingerprint: of the faces, the same for the same faces only.
        preset: the transform.
        views: views per face.
        n: faces.
        accuracy: share labelled right.
        interval: 95 % Wilson interval of it.
        bootstrap_interval: 95 % percentile interval of it over 10,000 resamples of the faces.
        balanced_accuracy: mean recall over the classes.
        macro_f1: mean F1 over the classes.
        detection_rate: share of the classes with faces whose most frequent prediction is the class
            itself, more frequent than any other; the thesis' emotion detection rate.
        nll: mean cross-entropy in nats.
        nll_uncalibrated: the same with temperature 1.
        ece: expected calibration error, 15 bins, mean absolute gap (Guo et al. 2017).
        ece_uncalibrated: the same with temperature 1.
        cross_validated_ece: the same where each fifth of these faces has the temperature fitted on
            the others; None where none may be fitted on them, or fewer than 250 are there.
        temperature: what scores were divided by; 1 for an uncalibrated model.
        calibration: the preset and the faces that the temperature was fitted for and on.
        recall: of each class.
        recall_interval: 95 % Wilson interval of each.
        confusion: faces of class i (row) labelled j (column), in the order of `labels`.
        labels: the class names.
        note: what to keep in mind, if anything.
        source: what the model was loaded from, where that says more than its name.
        scores: uncalibrated, `(N, K)`; not part of the JSON.
        targets: `(N,)`, indices into `labels`; not part of the JSON.

    Example:
        >>> import torch
        >>> scores, targets = torch.eye(2)[[0, 1, 1, 0]] * 9, torch.tensor([0, 1, 1, 1])
        >>> found = score_metrics(scores, targets, ("calm", "tense"))
        >>> found["accuracy"], found["recall"]["calm"], found["detection_rate"]
        (0.75, 1.0, 1.0)
    """

    model: str
    weights: str
    fusion: str
    data: str
    split: str | None
    fingerprint: str
    preset: str
    views: int
    n: int
    accuracy: float
    interval: tuple[float, float]
    bootstrap_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    detection_rate: float
    nll: float
    nll_uncalibrated: float
    ece: float
    ece_uncalibrated: float
    cross_validated_ece: float | None
    temperature: float
    calibration: dict[str, Any]
    recall: dict[str, float]
    recall_interval: dict[str, tuple[float, float]]
    confusion: list[list[int]]
    labels: tuple[str, ...]
    note: str = ""
    source: str = ""
    scores: Tensor = field(repr=False, compare=False, kw_only=True)
    targets: Tensor = field(repr=False, compare=False, kw_only=True)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"Evaluation({self.title!r} on {self.data} {self.split or ''}, {self.preset}: "
            f"accuracy {100 * self.accuracy:.2f} % ({100 * low:.2f} to {100 * high:.2f}), "
            f"macro-F1 {100 * self.macro_f1:.2f} %, ECE {100 * self.ece:.2f} %, n = {self.n})"
        ).replace(" , ", ", ")

    @property
    def title(self) -> str:
        """What to call the model, with the fusion of an ensemble."""
        name = self.source or self.model
        return f"{name} ({self.fusion})" if self.fusion else name

    @property
    def view_count(self) -> str:
        """The views in words, `one view` or `ten views`."""
        return {1: "one view", 10: "ten views"}.get(self.views, f"{self.views} views")

    @property
    def fitted_here(self) -> bool:
        """Whether the temperature was fitted on these very faces."""
        return self.calibration.get("fingerprint") == self.fingerprint

    @property
    def correct(self) -> Tensor:
        """Whether each face was labelled right, bool `(N,)`."""
        return self.scores.argmax(1) == self.targets

    @property
    def detected(self) -> list[str]:
        """The classes that count for the detection rate."""
        pairs = zip(self.labels, detected(self.confusion), strict=True)
        return [name for name, found in pairs if found]

    def probabilities(self, temperature: float | None = None) -> Tensor:
        """Return the probabilities `(N, K)`, float64, at the model's temperature or another."""
        return tempered(self.scores, temperature or self.temperature).softmax(1)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but scores and targets as plain values, ready for JSON.

        NaN becomes None.
        """
        names = [f.name for f in fields(self) if f.name not in ("scores", "targets")]
        plain: dict[str, Any] = {name: _plain(getattr(self, name)) for name in names}
        return plain


def evaluate(
    model: Classifier,
    data: FaceDataset,
    *,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Evaluation:
    """Score a model on a dataset whose classes it knows by name.

    Args:
        model: a trained model.
        data: faces with the same class names, in any order.
        preset: another transform than the model's own.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Raises:
        LabelError: the model is untrained, or names other classes than the data.
        MissingDependencyError: scikit-learn or torchmetrics is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> result = evaluate(fer_zoo.create("resnet18_025", weights="default"), faces)
        >>> result.n, round(result.accuracy, 4)     # one of seven classes is right
        (7, 0.1429)
    """
    if not isinstance(model, Classifier):
        raise ArgumentError(
            f"expected a model, got {model!r:.80}; fer_zoo.create builds one by name"
        )
    if model.labels is None:
        raise LabelError(f"{model.name!r} has no labels: train it or load weights first")
    _libraries()  # so that a missing package is told before the forward passes, not after
    targets = data.targets_for(model.labels)
    if not len(targets):
        raise ArgumentError(f"{data.name} holds no faces to evaluate on")
    arithmetic = preset if isinstance(preset, Preset) else PRESETS[preset or model.preset]
    members = member_scores(
        model, data.images, preset=arithmetic, batch_size=batch_size, progress=progress
    )
    scores, temperature = fuse(model, members), model.temperature_for(arithmetic.name)
    return Evaluation(
        model=model.name,
        weights=str(model.provenance.get("weights", "")),
        fusion=model.fusion.name if isinstance(model, Ensemble) else "",
        data=data.name,
        split=data.split,
        fingerprint=data.fingerprint,
        preset=arithmetic.name,
        views=arithmetic.num_views,
        labels=model.labels,
        note=PRIVATE_NOTE if data.split == "private" else "",
        calibration=_calibration(model, arithmetic.name),
        cross_validated_ece=cross_validated_ece(scores, targets, data.split),
        scores=scores,
        targets=targets,
        **score_metrics(scores, targets, model.labels, temperature=temperature),
    )


def score_metrics(
    scores: Tensor, targets: Tensor, labels: tuple[str, ...], *, temperature: float = 1.0
) -> dict[str, Any]:
    """Return the metrics of `Evaluation` for scores `(N, K)` and targets `(N,)`.

    Example:
        >>> scores, targets = torch.eye(2)[[0, 1, 1, 0]] * 9, torch.tensor([0, 1, 1, 1])
        >>> score_metrics(scores, targets, ("calm", "tense"))["accuracy"]
        0.75
    """
    metrics, stats, _ = _libraries()
    guesses, truth, indices = scores.argmax(1).numpy(), targets.numpy(), range(len(labels))
    right, n = guesses == truth, len(truth)
    recall = metrics.recall_score(
        truth, guesses, labels=indices, average=None, zero_division=float("nan")
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = float(metrics.balanced_accuracy_score(truth, guesses))
    present = sorted(set(truth.tolist()))
    f1 = metrics.f1_score(truth, guesses, labels=present, average="macro", zero_division=0.0)
    confusion = metrics.confusion_matrix(truth, guesses, labels=indices).tolist()
    calibrated, exact = tempered(scores, temperature), scores.double()
    return {
        "n": n,
        "accuracy": int(right.sum()) / n,
        "interval": _wilson(stats, int(right.sum()), n),
        "bootstrap_interval": _bootstrap(stats, right),
        "balanced_accuracy": balanced,
        "macro_f1": float(f1),
        "detection_rate": sum(detected(confusion)) / len(present),
        "nll": float(F.cross_entropy(calibrated, targets)),
        "nll_uncalibrated": float(F.cross_entropy(exact, targets)),
        "ece": expected_calibration_error(calibrated, targets),
        "ece_uncalibrated": expected_calibration_error(exact, targets),
        "temperature": temperature,
        "recall": dict(zip(labels, map(float, recall), strict=True)),
        "recall_interval": {
            name: _wilson(stats, row[i], sum(row))
            for i, (name, row) in enumerate(zip(labels, confusion, strict=True))
        },
        "confusion": confusion,
    }


def detected(confusion: list[list[int]]) -> list[bool]:
    """Return, for each class (row), whether its most frequent prediction is the class itself.

    In a tie with another class it is not; nor is it where a class has no faces.

    Example:
        >>> detected([[3, 1], [2, 2]])
        [True, False]
    """
    return [
        all(row[i] > other for j, other in enumerate(row) if j != i) and row[i] > 0
        for i, row in enumerate(confusion)
    ]


def expected_calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Return the mean gap between probability and share of right answers, over 15 equal bins.

    Example:
        >>> sure_but_half_wrong = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
        >>> round(expected_calibration_error(sure_but_half_wrong, torch.tensor([0, 1])), 2)
        0.5
    """
    _, _, error = _libraries()
    classes = scores.shape[1]
    found = error(scores.softmax(1), targets, num_classes=classes, n_bins=BINS, norm="l1")
    return float(found)


def cross_validated_ece(scores: Tensor, targets: Tensor, split: str | None) -> float | None:
    """Return the calibration error where each face has a temperature fitted on other faces.

    None where nothing may be fitted on the split, or too few faces are left to fit on.
    """
    n = len(targets)
    if split in ("private", "train") or n - -(-n // FOLDS) < LEAST_FACES:
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


def _calibration(model: Classifier, preset: str) -> dict[str, Any]:
    if not model.temperature:
        return {}
    own = preset if preset in model.temperature else model.preset
    # A run keeps what it validated on; its temperature was fitted there too.
    faces = model.provenance.get("calibration") or model.provenance.get("validation") or {}
    known = {k: faces[k] for k in ("data", "name", "split", "n", "fingerprint") if k in faces}
    if "name" in known:
        known["data"] = known.pop("name")
    return {"preset": own} | known if own in model.temperature else {}


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
        confidence_level=0.95,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _libraries() -> Any:
    try:
        from scipy import stats
        from sklearn import metrics
        from torchmetrics.functional.classification import multiclass_calibration_error
    except ImportError as error:
        raise MissingDependencyError(
            f"evaluation needs scikit-learn and torchmetrics ({error}): "
            "pip install 'fer-zoo[train]'"
        ) from None
    return metrics, stats, multiclass_calibration_error
