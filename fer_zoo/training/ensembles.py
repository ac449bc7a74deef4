"""Ensembles: their members trained one after the other, and their fusion fitted."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo._device import resolve_device
from fer_zoo._files import as_path
from fer_zoo._progress import tell
from fer_zoo.data.faces import FaceDataset, FacesLike, check_faces
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Calibration, FusionFit
from fer_zoo.factory import create_ensemble
from fer_zoo.fusion import FUSIONS, Average, Fusion
from fer_zoo.inference import calibrate, fit_temperature, member_scores
from fer_zoo.inference.calibration import LEAST_FACES, unseen_targets
from fer_zoo.models import Classifier, Ensemble, get_spec
from fer_zoo.saving import save_file
from fer_zoo.training.loop import train
from fer_zoo.training.recipe import Recipe, RecipeLike, get_recipe
from fer_zoo.training.run import TrainResult
from fer_zoo.training.state import check_splits, may_stay_uncalibrated

log = logging.getLogger("fer_zoo.training")
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """What `train_ensemble` leaves.

    Attributes:
        model: the fitted ensemble, in evaluation mode.
        members: each member's own run, by the name of its folder.
        fit: how the fusion was fitted, with its accuracy on faces it was not fitted on; None for a
            fusion that has nothing to fit.
        checkpoint: file of the ensemble, for `fer_zoo.load`.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025")
        >>> EnsembleResult(model=model, members={}, checkpoint=Path("pair/ensemble.safetensors"))
        EnsembleResult({}, checkpoint='pair/ensemble.safetensors')
    """

    model: Ensemble
    members: dict[str, TrainResult]
    fit: FusionFit | None = None
    checkpoint: Path

    def __repr__(self) -> str:
        shares = {
            name: f"{100 * run.best.val_accuracy:.2f} %" for name, run in self.members.items()
        }
        fused = "" if self.fit is None else f", {self.fit!r}"
        return f"EnsembleResult({shares}{fused}, checkpoint={str(self.checkpoint)!r})"


def train_ensemble(
    model: str,
    data: FacesLike,
    *,
    output: str | os.PathLike[str],
    validation: FacesLike,
    recipe: RecipeLike | Mapping[str, RecipeLike] = "strong",
    fusion: str | None = None,
    device: torch.device | str | None = None,
    resume: bool = True,
    progress: bool = True,
    tensorboard: bool = False,
    **changes: Any,
) -> EnsembleResult:
    """Train the members of an ensemble, each in its own folder of `output`, then fit the fusion.

    The fusion is fitted on the validation faces, which no member was trained on, and the fit
    reports its accuracy on held-out parts of them. A finished member is not trained again.

    Args:
        model: the name of a registered ensemble.
        data: what the members are trained on.
        output: folder; `ensemble.safetensors` in it is the ensemble.
        validation: as for `train`.
        recipe: as for `train`; or one for each member, by name.
        fusion: another fusion than the ensemble's own. Where it is fitted and loses to averaging,
            averaging is kept, see `fer_zoo.fit_fusion`; the ensemble's own is kept in any case.
        device: as for `train`.
        resume: as for `train`.
        progress: as for `train`.
        tensorboard: as for `train`.
        **changes: settings of the recipe to change.

    Example:
        >>> import tempfile
        >>> def noise(n):
        ...     images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
        ...     return FaceDataset(images, torch.arange(n) % 2, labels=("a", "b"), name="noise")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train_ensemble("ensemble_r18_vgg19_025", noise(16), validation=noise(12),
        ...                             output=folder, fusion="stacked", epochs=1)
        >>> list(result.members)
        ['resnet18_025', 'vgg19_025']
    """
    spec, folder = get_spec(model), as_path(output)
    if not spec.members:
        raise ArgumentError(f"{model!r} is a single network: fer_zoo.train trains it")
    kind = FUSIONS[spec.fusion if fusion is None else fusion]
    recipes = _recipes(spec.members, recipe, changes)
    data, validation = check_faces(data), check_faces(validation)
    check_splits(data, validation)
    if len(validation) < FOLDS:
        raise ArgumentError(
            f"the fusion is cross-validated on the validation faces: {FOLDS} or more are needed, "
            f"got {len(validation)}"
        )
    members: dict[str, TrainResult] = {}
    for name, (key, settings) in zip(spec.members, recipes.items(), strict=True):
        tell(log, f"member {len(members) + 1} of {len(recipes)}: {key}", show=progress)
        members[key] = train(
            name,
            data,
            output=folder / key,
            validation=validation,
            recipe=settings,
            device=device,
            resume=resume,
            progress=progress,
            tensorboard=tensorboard,
        )
    checkpoint, fit = folder / "ensemble.safetensors", None
    built = create_ensemble(
        [run.model for run in members.values()], fusion=kind.name, device=resolve_device(device)
    )
    built.name = spec.name
    if any(True for _ in built.fusion.parameters()):
        how: Any = {"folds": FOLDS, "progress": progress}
        fit = fit_fusion(built, validation, even_if_worse=fusion is None, **how)
    elif len(validation) >= LEAST_FACES:
        with may_stay_uncalibrated("the ensemble"):
            calibrate(built, validation)
    save_file(built, checkpoint)
    return EnsembleResult(model=built.eval(), members=members, fit=fit, checkpoint=checkpoint)


def _recipes(
    members: Sequence[str],
    recipe: RecipeLike | Mapping[str, RecipeLike],
    changes: Mapping[str, Any],
) -> dict[str, Recipe]:
    """Return each member's recipe by the name of its folder."""
    if isinstance(recipe, Mapping) and {*recipe} != {*members}:
        raise ArgumentError(
            f"recipe= says one for each member, {sorted({*members})}, or one for all; got "
            f"{sorted(map(str, recipe))}"
        )
    found = {}
    for i, name in enumerate(members):
        settings = get_recipe(recipe[name] if isinstance(recipe, Mapping) else recipe, changes)
        again = members[:i].count(name)
        if again:  # the same network twice is another one only from another seed
            settings = settings.updated({"seed": settings.seed + again})
        found[f"{name}-{again + 1}" if again else name] = settings
    return found


def fit_fusion(
    model: Ensemble,
    data: FacesLike,
    *,
    folds: int = 5,
    allow_training_split: bool = False,
    even_if_worse: bool = False,
    progress: bool = False,
) -> FusionFit:
    """Fit the fusion of `model` in place, cross-validate it, and calibrate the ensemble.

    Where the fitted fusion loses to averaging on faces it was not fitted on (`FusionFit.loses`),
    the model's fusion is `average` from then on, and a warning says so.

    The temperature is fitted on the cross-validated scores: on the faces that the fusion was
    fitted on, it is surer than it will be on others.

    Args:
        model: an ensemble whose fusion has parameters (`weighted`, `stacked`).
        data: faces that no member was trained on; for FER2013 the `"public"` split.
        folds: parts of the cross-validation that says whether fitting pays.
        allow_training_split: fit on `split="train"` all the same.
        even_if_worse: keep the fitted fusion also where it loses to averaging.
        progress: show a bar on a terminal.

    Raises:
        SplitError: `data` is the test split, or the training split without the override.
        LabelError: the ensemble and the data name different classes.

    Example:
        >>> import fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="weighted")
        >>> fit_fusion(model, faces).folds
        5
    """
    if not isinstance(model, Ensemble):
        if not isinstance(model, Classifier):
            raise ArgumentError(
                f"expected an ensemble, which is fitted in place, got {model!r:.80}: load it first "
                "(fer_zoo.load), fit it, and fer_zoo.save it"
            )
        raise ArgumentError(f"{model.name!r} is a single network and has no fusion to fit")
    data = check_faces(data)
    targets = unseen_targets(model, data, allow_training_split=allow_training_split)
    split = data.official_split or "own faces"
    scores = member_scores(model, data.images, progress=progress)
    held_out = cross_validate(
        model.fusion, scores, targets, split=split, folds=folds, allow=allow_training_split
    )
    temperature = _temperature(held_out, targets, data)
    report = model.fusion.fit(
        scores, targets, split=split, allow_training_split=allow_training_split
    )
    averaging = Average(len(scores), model.num_classes)
    average = averaging(scores)
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
    if fit.loses and not even_if_worse:
        log.warning(
            "%s loses to averaging on faces it was not fitted on, %.2f %% to %.2f %% right (NLL "
            "%.4f to %.4f): averaging is kept; even_if_worse=True, --even-if-worse, keeps %s",
            *(report.fusion, 100 * fit.held_out_accuracy, 100 * fit.average_accuracy),
            *(fit.held_out_nll, fit.average_nll, report.fusion),
        )
        fit, model.fusion = replace(fit, instead=averaging.name), averaging
        temperature = _temperature(average, targets, data)
    calibration = None
    if temperature is not None:
        calibration = Calibration(temperature={model.preset: temperature}, faces=data.faces)
    before = model.evidence.of_changed()
    model.evidence = replace(before, fusion_fit=fit, calibration=calibration)
    return fit


def _temperature(scores: Tensor, targets: Tensor, data: FaceDataset) -> float | None:
    if len(data) >= LEAST_FACES and data.official_split != "train":
        with may_stay_uncalibrated("the ensemble"):
            return fit_temperature(scores, targets, split=data.official_split or "own faces")
    return None


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
