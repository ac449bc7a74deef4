"""Fitting the fusion of an ensemble on faces that its members were not trained on."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.fusion import Average, FitReport, Fusion, create_fusion
from fer_zoo.fusion.base import check_fit_split
from fer_zoo.inference import fit_temperature, member_scores
from fer_zoo.inference.calibration import LEAST_FACES, set_temperature, unseen_targets
from fer_zoo.models import Ensemble


@dataclass(frozen=True)
class FusionFit:
    """What fitting did, and what it is worth on faces it was not fitted on.

    Attributes:
        report: losses before and after, on the faces of the fit.
        folds: parts of the cross-validation.
        average_accuracy: of plain averaging of probabilities on these faces.
        average_nll: its mean cross-entropy in nats.
        held_out_accuracy: of the fusion on each part when fitted on the other parts.
        held_out_nll: its mean cross-entropy in nats.
        temperature: fitted on those held-out scores; None for under 200 faces, or
            for the training split.

    Example:
        >>> report = FitReport("stacked", "public", 3589, 0.9, 0.8, 1e-7)
        >>> FusionFit(report, 5, 0.69, 0.9, 0.70, 0.81, temperature=1.1)
        FusionFit('stacked' on 'public', n = 3589: held out 70.00 %, averaging 69.00 %)
    """

    report: FitReport
    folds: int
    average_accuracy: float
    average_nll: float
    held_out_accuracy: float
    held_out_nll: float
    temperature: float | None

    def __repr__(self) -> str:
        report = self.report
        return (
            f"FusionFit({report.fusion!r} on {report.split!r}, n = {report.n}: held out "
            f"{100 * self.held_out_accuracy:.2f} %, averaging {100 * self.average_accuracy:.2f} %)"
        )


def fit_fusion(
    model: Ensemble,
    data: FaceDataset,
    *,
    folds: int = 5,
    allow_training_split: bool = False,
    progress: bool = False,
) -> FusionFit:
    """Fit the fusion of `model` in place, cross-validate it, and calibrate the ensemble.

    The temperature is fitted on the cross-validated scores: on the faces that the fusion was
    fitted on, it is surer than it will be on others.

    Args:
        model: an ensemble whose fusion has parameters (`weighted`, `stacked`).
        data: faces that no member was trained on; for FER2013 the `"public"` split.
        folds: parts of the cross-validation that says whether fitting pays.
        allow_training_split: fit on `split="train"` all the same.
        progress: show a bar on a terminal.

    Raises:
        SplitError: `data` is the test split, or the training split without the override.
        LabelError: the ensemble and the data name different classes.

    Example:
        >>> import fer_zoo
        >>> faces = FaceDataset(torch.randint(0, 256, (40, 48, 48), dtype=torch.uint8),
        ...                     torch.arange(40) % 7, labels=fer_zoo.labels.FER2013,
        ...                     name="noise", split="public")
        >>> members = [fer_zoo.create(n, weights="default") for n in ("resnet18_025", "vgg19_025")]
        >>> model = fer_zoo.create_ensemble(members, fusion="weighted")
        >>> fit = fit_fusion(model, faces)
        >>> fit.report.loss_after <= fit.report.loss_before
        True
    """
    if not isinstance(model, Ensemble):
        name = getattr(model, "name", model)
        raise ArgumentError(f"expected an ensemble, got {name!r}: a single network has no fusion")
    split = data.split or "own faces"
    check_fit_split(split, allow_training_split)
    targets = unseen_targets(model, data, allow_training_split=allow_training_split)
    scores = member_scores(model, data.images, progress=progress)
    held_out = cross_validate(
        model.fusion, scores, targets, split=split, folds=folds, allow=allow_training_split
    )
    temperature = None
    if len(data) >= LEAST_FACES and data.split != "train":
        temperature = fit_temperature(held_out, targets, split=split)
    report = model.fusion.fit(
        scores, targets, split=split, allow_training_split=allow_training_split
    )
    average = Average(len(scores), model.num_classes)(scores)
    fit = FusionFit(
        report=report,
        folds=folds,
        average_accuracy=_accuracy(average, targets),
        average_nll=float(F.cross_entropy(average, targets)),
        held_out_accuracy=_accuracy(held_out, targets),
        held_out_nll=float(F.cross_entropy(held_out, targets)),
        temperature=temperature,
    )
    model.provenance = {
        "members": [m.provenance.get("weights", m.name) for m in model.members],
        "fusion_fit": asdict(fit) | {"data": data.name},
    }
    set_temperature(model, {model.preset: temperature} if temperature else {}, data)
    return fit


def cross_validate(
    fusion: Fusion,
    scores: Tensor,
    targets: Tensor,
    *,
    split: str,
    folds: int = 5,
    allow: bool = False,
    apply_to: Tensor | None = None,
) -> Tensor:
    """Return fused scores `(N, K)`, each face's by a fusion fitted on the other folds.

    Args:
        fusion: what kind to fit; it is left as it is.
        scores: member scores `(M, N, K)`.
        targets: `(N,)`.
        split: where the faces come from.
        folds: number of parts, drawn at random with a fixed seed.
        allow: fit on the training split all the same.
        apply_to: other member scores `(M, N, K)` of the same faces, e.g. of more views, to fuse by
            what was fitted on `scores`.
    """
    if not 2 <= folds <= len(targets):
        raise ArgumentError(f"folds must be from 2 to the number of faces, got {folds}")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    found = torch.empty(scores.shape[1:], dtype=torch.float32)
    for part in order.chunk(folds):
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[part] = False
        fresh = create_fusion(
            fusion.name, fusion.num_members, fusion.num_classes, **fusion.options()
        )
        fresh.fit(scores[:, rest], targets[rest], split=split, allow_training_split=allow)
        with torch.no_grad():
            found[part] = fresh((scores if apply_to is None else apply_to)[:, part])
    return found


def _accuracy(scores: Tensor, targets: Tensor) -> float:
    return float((scores.argmax(1) == targets).float().mean())
