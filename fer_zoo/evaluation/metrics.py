"""Figures that carry their evidence. The metrics are scikit-learn's, the interval SciPy's."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, MissingDependencyError
from fer_zoo.inference import predict_scores
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import PRESETS, Preset

PRIVATE_NOTE = "PrivateTest: for reporting only; nothing may be chosen by this figure"


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
        preset: the transform.
        views: views per face.
        n: faces.
        accuracy: share labelled right.
        interval: 95 % Wilson interval of it.
        balanced_accuracy: mean recall over the classes.
        macro_f1: mean F1 over the classes.
        nll: mean cross-entropy in nats.
        recall: of each class.
        confusion: faces of class i (row) labelled j (column), in the order of `labels`.
        labels: the class names.
        note: what to keep in mind, if anything.

    Example:
        >>> import torch
        >>> scores, targets = torch.eye(2)[[0, 1, 1, 0]] * 9, torch.tensor([0, 1, 1, 1])
        >>> found = score_metrics(scores, targets, ("calm", "tense"))
        >>> found["accuracy"], found["recall"]["calm"]
        (0.75, 1.0)
    """

    model: str
    weights: str
    fusion: str
    data: str
    split: str | None
    preset: str
    views: int
    n: int
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    nll: float
    recall: dict[str, float]
    confusion: list[list[int]]
    labels: tuple[str, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON (NaN becomes None)."""
        plain = asdict(self)
        plain["recall"] = {k: v if v == v else None for k, v in self.recall.items()}
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
        MissingDependencyError: scikit-learn is not installed.

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
    targets = data.targets_for(model.labels)
    if not len(targets):
        raise ArgumentError(f"{data.name} holds no faces to evaluate on")
    arithmetic = preset if isinstance(preset, Preset) else PRESETS[preset or model.preset]
    scores = predict_scores(
        model, data.images, preset=arithmetic, batch_size=batch_size, progress=progress
    )
    return Evaluation(
        model=model.name,
        weights=str(model.provenance.get("weights", "")),
        fusion=model.fusion.name if isinstance(model, Ensemble) else "",
        data=data.name,
        split=data.split,
        preset=arithmetic.name,
        views=arithmetic.num_views,
        labels=model.labels,
        note=PRIVATE_NOTE if data.split == "private" else "",
        **score_metrics(scores, targets, model.labels),
    )


def score_metrics(scores: Tensor, targets: Tensor, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics of `Evaluation` for scores `(N, K)` and targets `(N,)`."""
    metrics, binomtest = _libraries()
    guesses, truth, indices = scores.argmax(1).numpy(), targets.numpy(), range(len(labels))
    right, n = int((guesses == truth).sum()), len(truth)
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    recall = metrics.recall_score(
        truth, guesses, labels=indices, average=None, zero_division=float("nan")
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = float(metrics.balanced_accuracy_score(truth, guesses))
    present = sorted(set(truth.tolist()))
    f1 = metrics.f1_score(truth, guesses, labels=present, average="macro", zero_division=0.0)
    return {
        "n": n,
        "accuracy": right / n,
        "interval": (float(interval.low), float(interval.high)),
        "balanced_accuracy": balanced,
        "macro_f1": float(f1),
        "nll": float(F.cross_entropy(scores, targets)),
        "recall": dict(zip(labels, map(float, recall), strict=True)),
        "confusion": metrics.confusion_matrix(truth, guesses, labels=indices).tolist(),
    }


def _libraries() -> Any:
    try:
        from scipy.stats import binomtest
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependencyError(
            f"evaluation needs scikit-learn ({error}): pip install 'fer-zoo[train]'"
        ) from None
    return metrics, binomtest
