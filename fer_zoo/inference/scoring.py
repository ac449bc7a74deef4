"""Scores for many faces at once: batches, views and members in one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fer_zoo.errors import ArgumentError
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import PRESETS, Preset


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode, without gradients, and back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def member_scores(
    model: Classifier,
    images: Tensor,
    *,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Tensor:
    """Return what each member of a model makes of many faces.

    Each member's views are combined before members are fused, here and everywhere else.

    Args:
        model: an ensemble with M members, or a network (M is 1).
        images: uint8 or float in [0, 1], gray, shape `(N, H, W)` or `(N, 1, H, W)`.
        preset: the transform; the model's own if not given.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Returns:
        Scores `(M, N, K)` on the CPU whose softmax is each member's probability.
    """
    if not isinstance(model, Classifier):
        raise ArgumentError(
            f"expected a model of fer_zoo.create or fer_zoo.load, got {type(model).__name__}"
        )
    recipe = preset if isinstance(preset, Preset) else PRESETS[preset or model.preset]
    like = next(model.parameters())
    images = images[:, None] if images.ndim == 3 else images
    parts = images.split(max(1, batch_size // recipe.num_views))
    bar = tqdm(
        total=len(images),
        desc="faces",
        unit="face",
        leave=False,
        disable=None if progress else True,
    )
    found = []
    with evaluating(model), bar:
        for part in parts:
            views = recipe.evaluation_views(part.to(like.device)).flatten(0, 1).to(like.dtype)
            views = views.expand(-1, model.in_channels, -1, -1)
            views = views.contiguous(memory_format=torch.channels_last)
            logits = (
                model.forward_members(views) if isinstance(model, Ensemble) else model(views)[None]
            )
            per_view = logits.float().unflatten(1, (len(part), recipe.num_views))
            found.append(torch.stack([recipe.combine(m) for m in per_view]).cpu())
            bar.update(len(part))
    return torch.cat(found, 1)


def fuse(model: Classifier, member_scores: Tensor) -> Tensor:
    """Return uncalibrated scores `(N, K)` for `member_scores` `(M, N, K)` of `model`."""
    if not isinstance(model, Ensemble):
        return member_scores[0]
    fusion = deepcopy(model.fusion).cpu().float()
    with evaluating(fusion):
        fused: Tensor = fusion(member_scores)
    return fused


def tempered(scores: Tensor, temperature: float) -> Tensor:
    """Return `scores` over `temperature`, in double precision.

    There, float32 scores that differ still differ after the division, so every order among them,
    the winner first, is what it was.

    Example:
        >>> tempered(torch.tensor([3.0, 1.0]), 2.0)
        tensor([1.5000, 0.5000], dtype=torch.float64)
    """
    return scores.double() / temperature


def predict_scores(
    model: Classifier,
    images: Tensor,
    *,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Tensor:
    """Return calibrated scores `(N, K)`, float64, for many faces.

    See `member_scores` for the arguments. Their softmax is the probability of each class; they
    are those of `fuse(model, member_scores(...))`, which is uncalibrated, over the model's
    temperature for the preset.
    """
    recipe = preset if isinstance(preset, Preset) else PRESETS[preset or model.preset]
    found = member_scores(model, images, preset=recipe, batch_size=batch_size, progress=progress)
    return tempered(fuse(model, found), model.temperature_for(recipe.name))
