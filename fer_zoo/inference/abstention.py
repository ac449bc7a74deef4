"""Abstaining: the probability below which no label is given, and how to choose it.

Selective classification with a threshold on the winner's probability (Geifman and El-Yaniv 2017,
arXiv 1705.08500).
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from fer_zoo.data.faces import FacesLike, check_faces
from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.evidence import Faces
from fer_zoo.factory import resolve
from fer_zoo.inference.calibration import unseen_targets
from fer_zoo.inference.runtime import Optimized
from fer_zoo.inference.scoring import predict_scores
from fer_zoo.labels import canonical
from fer_zoo.models import Classifier
from fer_zoo.plain import from_plain, to_plain
from fer_zoo.transforms import Preset
from fer_zoo.transforms.presets import get_preset

FOLDS = 5
LEAST_LABELLED = 20
"""Faces that must be labelled at a threshold for it to count: of fewer a precision says nothing."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The least probability of a label, and what came of it on the faces that chose it.

    Attributes:
        labels: the classes that it is for.
        value: labels below it are not given; None where no value reached the precision, so that
            these classes are never said.
        n: faces labelled at or above it, `right` those of them that were labelled right.
        of: faces that would be labelled so without it.
        interval: 95 % Wilson interval of the precision.
        held_out_n: faces labelled in cross-validation, each by a threshold that was chosen on the
            other folds; `held_out_right` those of them that were labelled right.

    Example:
        >>> round(Threshold(labels=("sad",), value=0.6, n=80, right=72, of=100,
        ...                 interval=(0.81, 0.95), held_out_n=78, held_out_right=69).precision, 2)
        0.9
    """

    labels: tuple[str, ...]
    value: float | None = None
    n: int
    right: int
    of: int
    interval: tuple[float, float] | None = None
    held_out_n: int
    held_out_right: int

    @property
    def precision(self) -> float:
        """Share of right labels among those given; NaN where none is."""
        return self.right / self.n if self.n else math.nan

    @property
    def held_out_precision(self) -> float:
        """The same by cross-validation."""
        return self.held_out_right / self.held_out_n if self.held_out_n else math.nan


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds for a wanted precision, and where they come from; `choose_thresholds` makes them.

    Nothing saves them: `to_dict` gives what `json.dump` takes and a predictor reads back.

    Attributes:
        thresholds: one for all classes, or one for each.
        precision: the one that was wanted, from 0 to 1.
        faces: what they were chosen on.
        model: the network's name; `state` the digest of its tensors.
        temperature: of the probabilities; 1 for an uncalibrated model.

    Example:
        >>> one = Threshold(labels=("sad", "happy"), value=0.6, n=80, right=72, of=100,
        ...                 held_out_n=78, held_out_right=69)
        >>> Thresholds(thresholds=(one,), precision=0.9, faces=Faces(name="mine", n=100), model="m",
        ...            state="", preset="fer40_center", temperature=1.0).by_label
        {'sad': 0.6, 'happy': 0.6}
    """

    thresholds: tuple[Threshold, ...]
    precision: float
    faces: Faces
    model: str
    state: str
    preset: str
    temperature: float

    @property
    def by_label(self) -> dict[str, float]:
        """The least probability of each class; infinity for one that is never said."""
        return {
            name: math.inf if one.value is None else one.value
            for one in self.thresholds
            for name in one.labels
        }

    @property
    def coverage(self) -> float:
        """Share of the faces that are labelled."""
        return sum(one.n for one in self.thresholds) / self.faces.n

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def choose_thresholds(
    model: Classifier | str | os.PathLike[str],
    data: FacesLike,
    *,
    precision: float,
    per_class: bool = False,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Thresholds:
    """Return the lowest thresholds whose labels are right as often as wanted, on these faces.

    The threshold is on the calibrated probability of the winner. One that 20 faces or more pass
    counts. How often labels are right on other faces is cross-validated over five folds.

    Args:
        model: a trained model, a name, an address or the folder of a training run.
        data: faces it was not trained on; for FER2013 the `"public"` split.
        precision: the share of right labels that is wanted, above 0 and at most 1.
        per_class: one threshold for each class, for the labels that say it.
        preset: another transform than the model's own.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Raises:
        ArgumentError: no threshold reaches the precision; or too few faces.
        SplitError: `data` is the test split, or what the model was trained on.
        LabelError: the model is untrained, or names other classes than the data.

    Example:
        >>> import fer_zoo
        >>> from fer_zoo.data import FaceDataset
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> images = torch.randint(0, 256, (60, 48, 48), dtype=torch.uint8)
        >>> targets = predict_scores(model, images).argmax(1)
        >>> faces = FaceDataset(images, targets, labels=model.labels, name="noise", split="public")
        >>> choose_thresholds(model, faces, precision=0.9).coverage
        1.0
    """
    number = isinstance(precision, float | int) and not isinstance(precision, bool)
    if not number or not 0 < precision <= 1:
        raise ArgumentError(f"precision is a share above 0, 1 at most, got {precision!r:.80}")
    network, data = resolve(model), check_faces(data)
    targets = unseen_targets(network, data)
    if len(targets) < 2 * LEAST_LABELLED:
        raise ArgumentError(
            f"thresholds need at least {2 * LEAST_LABELLED} faces, got {len(targets)}"
        )
    cut, labels = get_preset(network.preset if preset is None else preset), network.labels or ()
    how: Any = {"preset": cut, "batch_size": batch_size, "progress": progress}
    sure, winners = predict_scores(network, data.images, **how).softmax(1).max(1)
    right = winners == targets
    kinds = [(labels, torch.ones_like(right))]
    if per_class:
        kinds = [((name,), winners == k) for k, name in enumerate(labels)]
    found = tuple(_choose(names, sure[own], right[own], precision) for names, own in kinds)
    if all(one.value is None for one in found):
        best = max((share for _, own in kinds for share in _precisions(sure[own], right[own])[1]))
        raise ArgumentError(
            f"no threshold reaches a precision of {precision:g} on {data.faces}: {best:.3f} is the "
            f"highest that {LEAST_LABELLED} faces or more have; pass a lower precision="
        )
    return Thresholds(
        thresholds=found,
        precision=float(precision),
        faces=data.faces,
        model=network.name,
        state=network.state,
        preset=cut.name,
        temperature=network.temperature_for(cut.name),
    )


def _choose(names: tuple[str, ...], sure: Tensor, right: Tensor, precision: float) -> Threshold:
    from scipy.stats import binomtest

    value, held_out_n, held_out_right = _lowest(sure, right, precision), 0, 0
    given = sure >= (math.inf if value is None else value)
    n, hits = int(given.sum()), int((given & right).sum())
    order = torch.randperm(len(sure), generator=torch.Generator().manual_seed(0))
    for part in order.chunk(FOLDS):
        rest = torch.ones(len(sure), dtype=torch.bool)
        rest[part] = False
        other = _lowest(sure[rest], right[rest], precision)
        if other is not None:
            passed = sure[part] >= other
            held_out_n += int(passed.sum())
            held_out_right += int((passed & right[part]).sum())
    wilson = binomtest(hits, n).proportion_ci(0.95, method="wilson") if n else None
    return Threshold(
        labels=names,
        value=value,
        n=n,
        right=hits,
        of=len(sure),
        interval=(float(wilson.low), float(wilson.high)) if wilson else None,
        held_out_n=held_out_n,
        held_out_right=held_out_right,
    )


def _precisions(sure: Tensor, right: Tensor) -> tuple[list[float], list[float]]:
    """Return probabilities, falling, that enough faces reach, and the precision down to each."""
    order = sure.argsort(descending=True)
    found, hits = sure[order], right[order].double().cumsum(0)
    last = torch.ones(len(found), dtype=torch.bool)  # of those that are equally sure
    last[:-1] = found[:-1] > found[1:]
    keep = (last & (torch.arange(len(found)) >= LEAST_LABELLED - 1)).nonzero()[:, 0]
    return found[keep].tolist(), (hits[keep] / (keep + 1)).tolist()


def _lowest(sure: Tensor, right: Tensor, precision: float) -> float | None:
    """Return the lowest threshold with the precision: half-way to the next face below; or None."""
    levels, shares = _precisions(sure, right)
    reached = [level for level, share in zip(levels, shares, strict=True) if share >= precision]
    if not reached:
        return None
    below = sure[sure < reached[-1]]
    return (reached[-1] + float(below.max())) / 2 if len(below) else 0.0


AbstainLike = float | Mapping[str, float] | Thresholds | str | os.PathLike[str]


def read_thresholds(
    abstain: AbstainLike | None, labels: tuple[str, ...], preset: str, model: Optimized
) -> dict[str, float]:
    """Return the least probability of each label, empty where none is asked for."""
    if abstain is None:
        return {}
    if isinstance(abstain, str | os.PathLike):
        abstain = _read_file(abstain)
    if isinstance(abstain, Thresholds):
        _check_made_for(abstain, labels, preset, model)
        return abstain.by_label
    if isinstance(abstain, Mapping):
        names = {canonical(str(name)): name for name in abstain}
        if len(names) < len(abstain):
            raise LabelError(f"abstain names a class twice: {[*abstain]}")
        if strange := [name for key, name in names.items() if key not in map(canonical, labels)]:
            raise LabelError(f"abstain names {strange}, the model {labels}")
        values = {name: abstain.get(names.get(canonical(name), ""), 0.0) for name in labels}
    else:
        values = dict.fromkeys(labels, abstain)
    for value in values.values():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not (0 <= value <= 1 or value == math.inf):  # of a class never said
            raise ArgumentError(
                "abstain is a probability from 0 to 1, one for each class by name, or what "
                "fer_zoo.inference.choose_thresholds returned, or the file of it; got "
                f"{value!r:.80}"
            )
    return {name: float(value) for name, value in values.items()}


def why_not(label: str, probability: float, least: Mapping[str, float]) -> str | None:
    """Return why a label is not given, or None where it is."""
    bound = least.get(label, 0.0)
    if probability >= bound:
        return None
    if bound == math.inf:
        return f"{label} is never said: no threshold reached the wanted precision"
    return f"{label} at {probability:.4f} is under {bound:.4g}"


def _read_file(path: str | os.PathLike[str]) -> Thresholds:
    try:
        with open(path, encoding="utf-8") as file:
            return from_plain(Thresholds, json.load(file), os.fspath(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"abstain={os.fspath(path)!r}: no file of thresholds ({error}): `fer-zoo thresholds "
            "MODEL --data FACES --precision 0.9 --output FILE.json` writes one"
        ) from None


def _check_made_for(
    found: Thresholds, labels: tuple[str, ...], preset: str, model: Optimized
) -> None:
    """Raise unless thresholds were chosen for these probabilities."""
    here: dict[str, Any] = {"preset": preset, "labels": sorted(labels)}
    there: dict[str, Any] = {"preset": found.preset, "labels": sorted(found.by_label)}
    if model.state:
        here["state"], there["state"] = model.state, found.state
        here["temperature"], there["temperature"] = (
            model.temperature_for(preset),
            found.temperature,
        )
    else:  # a file of before its state was in it
        here["model"], there["model"] = model.name, found.model
    if wrong := [key for key in here if here[key] != there[key]]:
        was, now = (str(values[wrong[0]])[:60] for values in (there, here))
        raise ArgumentError(
            f"the thresholds were chosen for another {wrong[0]} than that of {model.name!r}, for "
            f"{was} ({found.model}), not {now}: choose them again, with "
            "fer_zoo.inference.choose_thresholds(model, faces, precision=...)"
        )
