"""Evidence: what is known of one state of a network, and which state that is.

A figure belongs to tensors. Each network holds one `Evidence`, bound by a digest to the tensors
that it speaks of; a network that changed since has none but what it started from.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from fer_zoo.errors import ArgumentError
from fer_zoo.plain import LATER


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Which faces something was measured on, fitted on, or trained on.

    Attributes:
        split: the official split, `"train"`, `"public"` or `"private"`; None for one's own.
        fingerprint: of the images and labels, the same for the same faces only; empty if unknown.
        cut_from: the fingerprints of sets that these are a part of, or were put together of.

    Example:
        >>> print(Faces(name="FER2013", split="public", n=3589))
        FER2013, split `public`, n = 3,589
    """

    name: str
    n: int
    split: str | None = None
    fingerprint: str = ""
    cut_from: tuple[str, ...] = field(default=(), metadata=LATER)

    def among(self, fingerprint: str, origins: Set[str]) -> bool:
        """Whether a set holds these faces, or was cut from them: its fingerprint, and its origins'.

        Two parts of one set are taken for different faces.
        """
        return bool(self.fingerprint in origins or fingerprint in self.cut_from)

    def __str__(self) -> str:
        split = f", split `{self.split}`" if self.split else ""
        return f"{self.name}{split}, n = {self.n:,}"


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a network did on some faces under one preset; shares are from 0 to 1.

    `..._uncalibrated` is with temperature 1. `cross_validated_...` is on parts of the faces by what
    was fitted on the others: the fusion, where it was fitted on these faces, and the temperature.

    Attributes:
        selection: how the epoch, the fusion or the seed was chosen.
        interval: 95 % Wilson interval of the accuracy.
        bootstrap_interval: 95 % percentile interval of it over resamples of the faces.
        balanced_accuracy: mean recall over the classes; `macro_f1` mean F1.
        macro_f1_interval: 95 % percentile interval of it over resamples of the faces.
        detection_rate: share of the classes with faces whose most frequent prediction is the class
            itself; the thesis' emotion detection rate.
        nll: mean cross-entropy in nats.
        ece: expected calibration error, 15 bins (Guo et al. 2017).
        temperature: what scores were divided by; 1 for an uncalibrated model.

    Example:
        >>> import fer_zoo
        >>> fer_zoo.create("resnet18_025", weights="default").evidence.scores[0].accuracy
        0.70883
    """

    faces: Faces
    preset: str
    views: int
    fusion: str = ""
    selection: str = ""
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
    temperature: float
    macro_f1_interval: tuple[float, float] | None = None
    cross_validated_accuracy: float | None = None
    cross_validated_nll: float | None = None
    cross_validated_ece: float | None = None

    @property
    def n(self) -> int:
        """How many faces."""
        return self.faces.n

    @property
    def split(self) -> str | None:
        """The official split of the faces."""
        return self.faces.split

    @property
    def view_count(self) -> str:
        """The views in words, `one view` or `ten views`."""
        words = {1: "one view", 2: "two views", 10: "ten views"}
        return words.get(self.views, f"{self.views} views")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network was trained.

    Attributes:
        model: its name then; `selection` says in words how the epoch was chosen.
        recipe: the settings, as `fer_zoo.training.Recipe.to_dict` returns them.
        validation: what the epoch was chosen on.
        epoch: the one that was kept; None for a mean of several runs.
        val_accuracy: on the validation faces then, from 0 to 1.
        start: a hash of what it started from, the head left out.
        teacher: a hash of the teacher's answers, or of the teacher.
        processes: how many trained it together, in runs of before that ended.
        frozen: the names of parameters that the caller had frozen.

    Example:
        >>> import fer_zoo
        >>> print(fer_zoo.create("resnet18_025", weights="default").evidence.training)
        resnet18_025 trained by strong (seed 3) on FER2013
    """

    model: str
    recipe: dict[str, Any]
    faces: Faces
    validation: Faces
    selection: str
    epoch: int | None = None
    val_accuracy: float | None = None
    start: str = ""
    teacher: str | None = None
    processes: int = 1
    frozen: tuple[str, ...] = ()

    def __str__(self) -> str:
        name, seed = self.recipe.get("name"), self.recipe.get("seed")
        return f"{self.model} trained by {name} (seed {seed}) on {self.faces.name}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperatures of a network (Guo et al. 2017, arXiv 1706.04599).

    Attributes:
        temperature: what scores are divided by before they become probabilities, by preset.
        faces: what they were fitted on, where that is known.

    Raises:
        ArgumentError: a temperature is no number from 0.001 to 1000.

    Example:
        >>> Calibration(temperature={"fer40_center": 0.93})
        Calibration(temperature={'fer40_center': 0.93}, faces=None)
    """

    temperature: dict[str, float]
    faces: Faces | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", check_temperature(self.temperature))


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What fitting a fusion on `n` faces did.

    Attributes:
        split: where the logits it was fitted on come from.
        loss_before: mean cross-entropy in nats on them before (plus penalty, if any).
        loss_after: the same after; never higher.
        gradient_norm: largest entry of the gradient at the end; near zero at the optimum.

    Example:
        >>> import torch, fer_zoo
        >>> fusion = fer_zoo.fusion.create_fusion("weighted", 2, 3)
        >>> fusion.fit(torch.eye(3).repeat(2, 1, 1), torch.arange(3), split="own faces").n
        3
    """

    fusion: str
    split: str
    n: int
    loss_before: float
    loss_after: float
    gradient_norm: float


@dataclass(frozen=True, kw_only=True)
class FusionFit:
    """What fitting a fusion did, and what it is worth on faces it was not fitted on.

    Accuracies are from 0 to 1, `..._nll` is mean cross-entropy in nats.

    Attributes:
        faces: what it was fitted on.
        folds: parts of the cross-validation.
        average_accuracy: of plain averaging of probabilities on these faces.
        held_out_accuracy: of the fusion on each part when fitted on the other parts.
        temperature: fitted on those held-out scores; None where it could not be.
        instead: the fusion that was kept where the fitted one lost held out, `average`.

    Example:
        >>> losses = {"loss_before": 0.95, "loss_after": 0.93, "gradient_norm": 1e-9}
        >>> report = FitReport(fusion="stacked", split="public", n=3589, **losses)
        >>> FusionFit(report=report, faces=Faces(name="mine", n=3589), folds=5,
        ...           average_accuracy=0.6949, average_nll=0.86,
        ...           held_out_accuracy=0.6943, held_out_nll=0.85)
        FusionFit('stacked' on mine, n = 3,589: held out 69.43 %, averaging 69.49 %)
    """

    report: FitReport
    faces: Faces
    folds: int
    average_accuracy: float
    average_nll: float
    held_out_accuracy: float
    held_out_nll: float
    temperature: float | None = None
    instead: str = ""

    @property
    def loses(self) -> bool:
        """Whether averaging is right more often than the fusion held out; if equal, by NLL."""
        fused = (self.held_out_accuracy, -self.held_out_nll)
        return fused < (self.average_accuracy, -self.average_nll)

    def __repr__(self) -> str:
        return (
            f"FusionFit({self.report.fusion!r} on {self.faces}: held out "
            f"{100 * self.held_out_accuracy:.2f} %, averaging {100 * self.average_accuracy:.2f} %"
            f"{self.instead and f'; {self.instead!r} kept'})"
        )


@dataclass(frozen=True, kw_only=True)
class StorageCost:
    """What storing the tensors in fewer bits costs, on some faces under one preset.

    Attributes:
        against: the type of numbers that `dtype` is compared with.
        size: of the file, in bytes.
        accuracy: with the stored tensors, from 0 to 1.
        gain: that minus the accuracy of `against`.

    Example:
        >>> import fer_zoo
        >>> fer_zoo.create("resnet18_025", weights="default").evidence.storage.costs[-1].dtype
        'int8'
    """

    dtype: str
    against: str
    size: int
    faces: Faces
    preset: str
    accuracy: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What the tensors are stored in (`dtype`), and what each kind of storage costs.

    Example:
        >>> import fer_zoo
        >>> fer_zoo.create("resnet18_025", weights="default").evidence.storage.dtype
        'float16'
    """

    dtype: str
    costs: tuple[StorageCost, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one state of a network.

    Attributes:
        state: the digest of the tensors it speaks of, `Classifier.state`.
        weights: the address of these very tensors: a record's, or a commit of the Hub.
        storage: what the tensors are, or were, stored in.
        scores: what was measured; `training`, `calibration`, `fusion_fit`: how it came about.
        licence: of the weights.
        started_from: where the network comes from, in words.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> model.fc.bias.data += 1
        >>> model.evidence
        Evidence(started_from='resnet18_025.fer2013')
    """

    state: str = ""
    weights: str = ""
    scores: tuple[Score, ...] = ()
    training: Training | None = None
    calibration: Calibration | None = None
    fusion_fit: FusionFit | None = None
    storage: Storage | None = None
    licence: str = ""
    started_from: str = ""

    def __repr__(self) -> str:
        named = "started_from" if self.origin is None else "origin"
        value = getattr(self, named)
        known = ("scores", "training", "calibration", "fusion_fit", "licence")
        parts = [name for name in known if getattr(self, name)]
        return f"Evidence({', '.join([f'{named}={value!r}'] * bool(value) + parts)})"

    @property
    def claims(self) -> bool:
        """Whether anything in it is true of one state only."""
        return self != Evidence(state=self.state, started_from=self.started_from)

    @property
    def origin(self) -> str | None:
        """The address of these tensors, or the run that made them in words; None if unknown."""
        if self.weights or self.training is None:
            return self.weights or None
        text = f"{self.training}, started from {self.started_from}"
        text = text.removesuffix(", started from ")
        return f"{text}, stored as {self.storage.dtype}" if self.storage else text

    def of_changed(self) -> "Evidence":
        """Return what is left of it for a network that changed since."""
        return Evidence(started_from=self.origin or self.started_from)

    def of_rounded(self, state: str, dtype: str) -> "Evidence":
        """Return what stays true where tensors were rounded to be stored: all but the scores."""
        costs = self.storage.costs if self.storage else ()
        kept = Storage(dtype=dtype, costs=tuple(c for c in costs if c.dtype == dtype))
        before = self.started_from if self.training else self.weights or self.started_from
        rounded = replace(self, state=state, weights="", scores=(), fusion_fit=None, storage=kept)
        return replace(rounded, started_from=before)


def check_temperature(values: Mapping[str, float]) -> dict[str, float]:
    """Return `values` (preset name to temperature) if each is a number from 0.001 to 1000."""
    if not isinstance(values, Mapping):
        raise ArgumentError(f"temperature maps preset names to numbers, got {values!r:.80}")
    for name, value in values.items():
        number = isinstance(value, float | int) and not isinstance(value, bool)
        # Beyond these bounds double precision might merge or overflow scores.
        if not isinstance(name, str) or not number or not 1e-3 <= value <= 1e3:
            raise ArgumentError(
                f"a temperature is a number from 0.001 to 1000, got {value!r} for {name!r}"
            )
    return {name: float(value) for name, value in values.items()}
