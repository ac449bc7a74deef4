"""Fitting the fusion of an ensemble on faces that its members were not trained on."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data.faces import FaceDataset, check_faces
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Calibration, FusionFit
from fer_zoo.fusion import Average, Fusion
from fer_zoo.inference import fit_temperature, member_scores
from fer_zoo.inference.calibration import LEAST_FACES, unseen_targets
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.training.state import may_stay_uncalibrated


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
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="weighted")
        >>> fit = fit_fusion(model, faces)
        >>> fit.report.loss_after <= fit.report.loss_before
        True
    """
    if not isinstance(model, Ensemble):
        if not isinstance(model, Classifier):
            raise ArgumentError(
                f"expected an ensemble, which is fitted in place, got {model!r:.80}: load it first "
                "(fer_zoo.load), fit it, and fer_zoo.save it"
            )
        raise ArgumentError(f"{model.name!r} is a single network and has no fusion to fit")
    targets = unseen_targets(model, check_faces(data), allow_training_split=allow_training_split)
    split = data.split or "own faces"
    scores = member_scores(model, data.images, progress=progress)
    held_out = cross_validate(
        model.fusion, scores, targets, split=split, folds=folds, allow=allow_training_split
    )
    temperature = None
    if len(data) >= LEAST_FACES and data.split != "train":
        with may_stay_uncalibrated("the ensemble"):
            temperature = fit_temperature(held_out, targets, split=split)
    report = model.fusion.fit(
        scores, targets, split=split, allow_training_split=allow_training_split
    )
    average = Average(len(scores), model.num_classes)(scores)
    fit = FusionFit(
        report=report,
        faces=data.faces,
        folds=folds,
        average_accuracy=_accuracy(average, targets),
        average_nll=float(F.cross_entropy(average, targets)),
        held_out_accuracy=_accuracy(held_out, targets),
        held_out_nll=float(F.cross_entropy(held_out, targets)),
        temperature=temperature,
    )
    calibration = None
    if temperature is not None:
        calibration = Calibration(temperature={model.preset: temperature}, faces=data.faces)
    before = model.evidence.of_changed()
    model.evidence = replace(before, fusion_fit=fit, calibration=calibration)
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

    `scores` are the members', `(M, N, K)`; `apply_to` may hold others of the same faces to fuse.
    """
    if type(folds) is not int or not 2 <= folds <= len(targets):
        raise ArgumentError(f"folds must be from 2 to the number of faces, got {folds!r:.80}")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    fused = torch.empty(scores.shape[1:], dtype=torch.float32)
    for part in order.chunk(folds):
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[part] = False
        fresh = fusion.fresh()
        fresh.fit(scores[:, rest], targets[rest], split=split, allow_training_split=allow)
        with torch.no_grad():
            fused[part] = fresh((scores if apply_to is None else apply_to)[:, part])
    return fused


def _accuracy(scores: Tensor, targets: Tensor) -> float:
    return float((scores.argmax(1) == targets).float().mean())
