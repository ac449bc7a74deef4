"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): probabilities that mean what they say.

One number per model and preset divides all scores: it changes how sure a model is, not its answer.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data.faces import FaceDataset, FacesLike, check_faces
from fer_zoo.errors import ArgumentError, LabelError, SplitError
from fer_zoo.evidence import Calibration
from fer_zoo.fusion.base import check_fit_split, check_targets
from fer_zoo.inference.scoring import fuse, member_scores
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.plain import check_plain
from fer_zoo.transforms import PRESETS

LOWEST, HIGHEST = 0.01, 10.0  # a new head's scores are small at first
SMALL = 0.05  # of scores that a temperature of 0.01 makes large
LEAST_FACES = 200
"""With fewer faces the fitted temperature is mostly noise."""


def fit_temperature(scores: Tensor, targets: Tensor, *, split: str) -> float:
    """Return the temperature between 0.01 and 10 with the lowest cross-entropy.

    The loss is convex in the inverse of the temperature, so the minimum is the only one.

    Args:
        scores: uncalibrated scores `(N, K)` of at least 200 faces that were not trained on.
        targets: `(N,)`, int64.
        split: where these faces come from: `"public"`, or your own word (one that starts with
            "test" or "private" names the test split, with "train" the training split).

    Raises:
        SplitError: `split` is the test split or the training split.
        ArgumentError: too few faces, no scores and targets, or no best temperature in between.

    Example:
        >>> import torch
        >>> rng = torch.Generator().manual_seed(0)
        >>> honest = torch.randn(2000, 3, generator=rng)
        >>> targets = honest.softmax(1).multinomial(1, generator=rng)[:, 0]
        >>> round(fit_temperature(3 * honest, targets, split="public"))
        3
    """
    from scipy.optimize import minimize_scalar

    check_fit_split(split)
    if not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
        raise ArgumentError(f"scores and targets are tensors, got {scores!r:.80}, {targets!r:.80}")
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ArgumentError(
            f"a temperature is fitted on scores (N, K) and targets (N,), got "
            f"{tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if len(targets) < LEAST_FACES:
        raise ArgumentError(
            f"a temperature needs at least {LEAST_FACES} faces, got {len(targets)}: use more, or "
            "leave the model uncalibrated"
        )
    check_plain(scores, "the scores", ArgumentError)
    exact, truth = scores.detach().double().cpu(), check_targets(targets, scores.shape[1])
    if not bool(exact.isfinite().all()):
        raise ArgumentError("the scores hold NaN or infinity")

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(exact / math.exp(log_temperature), truth))

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    cold, hot = map(loss, bounds)
    if min(cold, hot) <= best.fun:  # it falls towards a bound, or is 0 all the way
        what = "nearly all are right" if cold <= hot else "they are no better than chance"
        if float((exact - exact.mean(1, keepdim=True)).abs().max()) < SMALL:
            what = "the scores hardly differ, of a head that was hardly trained"
        raise ArgumentError(
            f"no temperature from {LOWEST:g} to {HIGHEST:g} is the best for these {len(truth):,} "
            f"faces, as where {what}: fit on more or harder faces that were not "
            "trained on, or leave the model uncalibrated"
        )
    return math.exp(float(best.x))


def calibrate(
    model: Classifier,
    data: FacesLike,
    *,
    presets: str | Iterable[str] | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> dict[str, float]:
    """Fit a model's temperatures in place, so that its probabilities can be taken at their word.

    They are saved with the model. Calibrate again after anything that changes its scores
    (training, another fusion). What a model was trained on is known by the fingerprint of the whole
    set: it, and what `select` and `split` cut from it, is refused.

    Args:
        model: a trained model.
        data: faces it was not trained on, at least 200; for FER2013 the `"public"` split.
        presets: the transform, or several, to fit one for, and for no other; the model's own if not
            given.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Returns:
        The temperature of each preset, as `model.temperature` now holds them.

    Raises:
        SplitError: `data` is the test split, or what the model was trained on.
        LabelError: the model is untrained, or names other classes than the data.
        ArgumentError: fewer than 200 faces, no preset, or no temperature from 0.01 to 10 is best.

    Example:
        >>> import torch, fer_zoo
        >>> from fer_zoo.inference import predict_scores
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> images = torch.randint(0, 256, (210, 48, 48), dtype=torch.uint8)
        >>> targets = predict_scores(model, images).argmax(1)
        >>> targets[::3] = torch.arange(70) % 7  # it is right about two thirds
        >>> faces = FaceDataset(images, targets, labels=model.labels, name="noise", split="public")
        >>> set(calibrate(model, faces)) == {"fer40_center"}
        True
    """
    data = check_faces(data)
    targets = unseen_targets(model, data)
    names = model.preset if presets is None else presets
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Iterable) or not (names := list(names)):
        raise ArgumentError(
            f"presets is one of fer_zoo.list_presets() or several, got {presets!r:.80}; "
            "model.temperature = {} removes temperatures"
        )
    how: Any = {"batch_size": batch_size, "progress": progress}
    found = {}
    for name in names:
        scores = fuse(model, member_scores(model, data.images, preset=PRESETS[name], **how))
        found[name] = fit_temperature(scores, targets, split=data.official_split or "own faces")
    calibration = Calibration(temperature=found, faces=data.faces)
    model.evidence = replace(model.evidence, calibration=calibration)
    return found


def unseen_targets(
    model: Classifier, data: FaceDataset, *, allow_training_split: bool = False
) -> Tensor:
    """Return `data`'s targets in the model's order, if the model may be fitted on it."""
    if not isinstance(model, Classifier):
        raise ArgumentError(
            f"expected a model, got {model!r:.80}; fer_zoo.create builds one by name"
        )
    if model.labels is None:
        raise LabelError(f"{model.name!r} is not trained: it has no labels; load weights first")
    check_fit_split(data.official_split or "own faces", allow_training_split)
    for network in model.members if isinstance(model, Ensemble) else [model]:
        training = network.evidence.training
        if training and training.faces.among(data.fingerprint, data.fingerprints):
            raise SplitError(f"{network.name!r} was trained on these very faces; fit on others")
    return data.targets_for(model.labels)
