"""The members of an ensemble, trained one after the other, and their fusion fitted."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fer_zoo._device import resolve_device
from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import FusionFit
from fer_zoo.factory import create_ensemble
from fer_zoo.fusion import FUSIONS
from fer_zoo.inference import calibrate
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.models import Ensemble, get_spec
from fer_zoo.saving import save
from fer_zoo.training.fusing import fit_fusion
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
    data: FaceDataset,
    *,
    output: str | os.PathLike[str],
    validation: FaceDataset,
    recipe: RecipeLike | Mapping[str, RecipeLike] = "thesis_20",
    fusion: str | None = None,
    device: torch.device | str | None = None,
    resume: bool = True,
    progress: bool = True,
    tensorboard: bool = False,
    **changes: Any,
) -> EnsembleResult:
    """Train the members of an ensemble, each in its own folder of `output`, then fit the fusion.

    The fusion is fitted on the validation faces: they chose the members' epochs, but no member was
    trained on them. The fit reports its accuracy on held-out parts of them. A member whose folder
    holds a finished run is not trained again.

    Args:
        model: the name of a registered ensemble.
        data: what the members are trained on.
        output: folder; `ensemble.safetensors` in it is the ensemble.
        validation: as for `train`.
        recipe: as for `train`; or one for each member, by name.
        fusion: another fusion than the ensemble's own.
        device: as for `train`.
        resume: as for `train`.
        progress: as for `train`.
        tensorboard: as for `train`.
        **changes: settings of the recipe to change.

    Example:
        >>> import tempfile, fer_zoo
        >>> def noise(n):
        ...     images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
        ...     return FaceDataset(images, torch.arange(n) % 2, labels=("a", "b"), name="noise")
        >>> spec = fer_zoo.models.ModelSpec(name="pair_doc", description="two", source="me",
        ...                          members=("test_tiny", "test_tiny"), fusion="stacked")
        >>> spec = fer_zoo.register_model(spec)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train_ensemble("pair_doc", noise(16), validation=noise(12), output=folder,
        ...                             epochs=1)
        >>> list(result.members), result.fit.report.fusion
        (['test_tiny', 'test_tiny-2'], 'stacked')
    """
    spec, folder = get_spec(model), as_path(output)
    if not spec.members:
        raise ArgumentError(f"{model!r} is a single network: fer_zoo.train trains it")
    kind = FUSIONS[spec.fusion if fusion is None else fusion]
    recipes = _recipes(spec.members, recipe, changes)
    check_splits(data, validation)
    if len(validation) < FOLDS:
        raise ArgumentError(
            f"the fusion is cross-validated on the validation faces: {FOLDS} or more are needed, "
            f"got {len(validation)}"
        )
    members: dict[str, TrainResult] = {}
    for name, (key, settings) in zip(spec.members, recipes.items(), strict=True):
        log.info("member %d of %d: %s", len(members) + 1, len(recipes), key)
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
        fit = fit_fusion(built, validation, folds=FOLDS, progress=progress)
    elif len(validation) >= LEAST_FACES:
        with may_stay_uncalibrated("the ensemble"):
            calibrate(built, validation)
    save(built, checkpoint)
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
