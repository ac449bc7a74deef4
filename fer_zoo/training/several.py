"""Several runs as one: the members of an ensemble, or one network from several seeds."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from fer_zoo._files import as_path, replacing
from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Evidence, FusionFit
from fer_zoo.factory import create_ensemble
from fer_zoo.fusion import FUSIONS
from fer_zoo.inference import calibrate, predict_scores
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.models import Classifier, Ensemble, get_spec
from fer_zoo.saving import save
from fer_zoo.training.distributed import joined
from fer_zoo.training.fusing import fit_fusion
from fer_zoo.training.loop import train
from fer_zoo.training.recipe import Recipe, RecipeLike, get_recipe
from fer_zoo.training.run import TrainResult
from fer_zoo.training.state import check_splits, generator, may_stay_uncalibrated
from fer_zoo.transforms import PRESETS

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


@dataclass(frozen=True, kw_only=True)
class SeedsResult:
    """What `train_seeds` leaves; accuracies from 0 to 1, on the validation faces.

    Attributes:
        runs: each seed's own run.
        mean: of the runs' best accuracies.
        std: their sample standard deviation.
        soup_accuracy: of the network whose weights are the mean of the runs' best weights.
        soup: its file.

    Example:
        >>> SeedsResult(runs={}, mean=0.694, std=0.003, soup_accuracy=0.701,
        ...             soup=Path("soup.safetensors"))
        SeedsResult(0 seeds: 69.40 % +- 0.30, soup 70.10 %, soup='soup.safetensors')
    """

    runs: dict[int, TrainResult]
    mean: float
    std: float
    soup_accuracy: float
    soup: Path

    def __repr__(self) -> str:
        return (
            f"SeedsResult({len(self.runs)} seeds: {100 * self.mean:.2f} % +- {100 * self.std:.2f}, "
            f"soup {100 * self.soup_accuracy:.2f} %, soup={str(self.soup)!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "seeds": {str(seed): asdict(run.best) for seed, run in self.runs.items()},
            "mean": self.mean,
            "std": self.std,
            "soup_accuracy": self.soup_accuracy,
        }


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
    with joined(device) as (workers, own):
        for name, (key, settings) in zip(spec.members, recipes.items(), strict=True):
            if workers.chief:
                log.info("member %d of %d: %s", len(members) + 1, len(recipes), key)
            members[key] = train(
                name,
                data,
                output=folder / key,
                validation=validation,
                recipe=settings,
                device=own,
                resume=resume,
                progress=progress,
                tensorboard=tensorboard,
            )
        checkpoint, fit = folder / "ensemble.safetensors", None
        built = create_ensemble(
            [run.model for run in members.values()], fusion=kind.name, device=own
        )
        built.name = spec.name
        if any(True for _ in built.fusion.parameters()):
            fit = fit_fusion(built, validation, folds=FOLDS, progress=progress and workers.chief)
        elif len(validation) >= LEAST_FACES:
            with may_stay_uncalibrated("the ensemble"):
                calibrate(built, validation)
        if workers.chief:
            save(built, checkpoint)
        workers.wait()
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


def train_seeds(
    model: str | Classifier,
    data: FaceDataset,
    *,
    seeds: Sequence[int],
    output: str | os.PathLike[str],
    validation: FaceDataset,
    recipe: RecipeLike = "thesis_20",
    device: torch.device | str | None = None,
    **options: Any,
) -> SeedsResult:
    """Train one network from several seeds; report mean, standard deviation and a soup.

    The soup (arXiv 2203.05482) averages the runs' best weights and measures batch norm's statistics
    anew on the training faces. It is worth something where the runs start from the same trained
    weights (`model` is a network); runs from different random weights average to noise.

    Args:
        model: a name, drawn anew for each seed; or a network that every run starts from.
        data: as for `train`.
        seeds: two or more whole numbers; each runs in its own folder `seed0`, ... of `output`.
        output: folder; `soup.safetensors` and `seeds.json` in it are the outcome.
        validation: as for `train`.
        recipe: as for `train`.
        device: as for `train`.
        **options: as for `train`.

    Example:
        >>> import tempfile
        >>> def noise(n):
        ...     images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
        ...     return FaceDataset(images, torch.arange(n) % 2, labels=("a", "b"), name="noise")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train_seeds("test_tiny", noise(16), validation=noise(8), output=folder,
        ...                          seeds=[0, 1], epochs=1)
        >>> sorted(result.to_dict())
        ['mean', 'seeds', 'soup_accuracy', 'std']
    """
    whole = isinstance(seeds, Sequence) and all(type(seed) is int for seed in seeds)
    if not whole or len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ArgumentError(f"seeds are two or more different whole numbers, got {seeds!r:.80}")
    if "seed" in options:
        raise ArgumentError("seeds= says which seeds; leave seed= out")
    folder, settings = as_path(output), get_recipe(recipe)
    recipes = {seed: settings.updated({"seed": seed}) for seed in seeds}
    with joined(device) as (workers, own):
        runs = {}
        for seed in seeds:
            start = model if isinstance(model, str) else deepcopy(model)
            if workers.chief:
                log.info("seed %d", seed)
            runs[seed] = train(
                start,
                data,
                output=folder / f"seed{seed}",
                validation=validation,
                recipe=recipes[seed],
                device=own,
                **options,
            )
        soup = _soup(
            [run.model for run in runs.values()],
            data,
            own,
            selection=f"mean of the weights of seeds {list(seeds)}",
        )
        scores = predict_scores(soup, validation.images)
        targets = validation.targets_for(soup.labels or ())
        accuracies = [run.best.val_accuracy for run in runs.values()]
        result = SeedsResult(
            runs=runs,
            mean=fmean(accuracies),
            std=stdev(accuracies),
            soup_accuracy=float((scores.argmax(1) == targets).float().mean()),
            soup=folder / "soup.safetensors",
        )
        if workers.chief:
            if len(validation) >= LEAST_FACES:
                with may_stay_uncalibrated("the soup"):
                    calibrate(soup, validation)
            save(soup, result.soup)
            with replacing(folder / "seeds.json") as temporary:
                temporary.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        workers.wait()
    return result


def _soup(
    models: Sequence[Classifier], data: FaceDataset, device: torch.device, *, selection: str
) -> Classifier:
    soup, known = deepcopy(models[0]), models[0].evidence
    assert known.training is not None
    preset = PRESETS[soup.preset]
    augmentation = preset.training.updated(known.training.recipe["augment"])
    with torch.no_grad():
        for key, value in soup.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.stack([m.state_dict()[key] for m in models]).mean(0))
    soup.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def views() -> Iterator[Tensor]:
        rng = generator(0, 0, 0)
        for rows in torch.randperm(len(data), generator=rng).split(256):
            if len(rows) > 1:
                faces = data.images[rows][:, None].to(device)
                x = preset.training_batch(faces, rng, augmentation)
                yield x.expand(-1, soup.in_channels, -1, -1)

    update_bn(views(), soup, device=device)
    training = replace(known.training, epoch=None, val_accuracy=None, selection=selection)
    soup.evidence = Evidence(training=training, started_from=known.started_from)
    return soup.eval()
