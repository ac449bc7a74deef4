"""Scores for many faces at once: batches, views and members in one place."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from fer_zoo._progress import progress_bar
from fer_zoo.errors import ArgumentError
from fer_zoo.factory import resolve
from fer_zoo.fusion import Fusion
from fer_zoo.labels import align
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.models.base import check_count
from fer_zoo.transforms import PRESETS, Preset
from fer_zoo.transforms.inputs import as_channels, check_values
from fer_zoo.transforms.presets import check_shared, get_preset
from fer_zoo.transforms.transform import for_network

M = TypeVar("M", bound=nn.Module)


def in_evaluation(model: M) -> M:
    """Return a model in evaluation mode with the tensors of `model`, which others may train on."""
    if not any(module.training for module in model.modules()):
        return model
    twins = {module: copy(module) for module in model.modules()}
    for module, twin in twins.items():
        children = module._modules.items()
        twin._modules = {name: child and twins[child] for name, child in children}
        twin._compiled_call_impl = None  # calls the original
        twin.training = False
    return cast(M, twins[model])


def member_scores(
    model: Classifier | str | os.PathLike[str],
    images: Tensor,
    *,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Tensor:
    """Return what each member of a model makes of many faces.

    Each member's views are combined before members are fused, here and everywhere else.

    Args:
        model: an ensemble with M members, or a network (M is 1); or its name or address.
        images: uint8 or float in [0, 1], gray, shape `(N, H, W)` or `(N, 1, H, W)`; for networks
            that see colours `(N, 3, H, W)`, too.
        preset: the transform; the model's own if not given.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Returns:
        Scores `(M, N, K)` on the CPU whose softmax is each member's probability.

    Raises:
        ArgumentError: no model, images that are no gray tensor, or `batch_size` is no count.

    Example:
        >>> faces = torch.zeros(5, 48, 48, dtype=torch.uint8)
        >>> member_scores("ensemble_r18_vgg19_025", faces).shape
        torch.Size([2, 5, 7])
    """
    batch_size = check_count("batch_size", batch_size)
    own = in_evaluation(resolve(model))
    preset = get_preset(own.preset if preset is None else preset)
    if isinstance(own, Ensemble) and is_mixed(own, preset):
        how: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        each = [(m, faces_for(PRESETS[m.preset], images)) for m in own.members]
        return own._stack([member_scores(m, faces, **how)[0] for m, faces in each])
    like = next(own.parameters())

    faces = as_faces(images, color=preset.color)
    bar = progress_bar(total=len(faces), desc="faces", unit="face", leave=False, show=progress)

    def run(part: Tensor) -> Tensor:
        views = preset.evaluation_views(part.to(like.device)).flatten(0, 1)
        x = for_network(views, own.in_channels).to(like.dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        logits = own.forward_members(x) if isinstance(own, Ensemble) else own(x)[None]
        per_view = logits.float().unflatten(1, (len(part), preset.num_views))
        return torch.stack([preset.combine(member) for member in per_view]).cpu()

    with torch.inference_mode(), bar:
        parts = in_parts(faces, run, batch_size=batch_size, views=preset.num_views, done=bar.update)
        return torch.cat(parts, 1)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ended, on a GPU or a CPU, in torch or in onnxruntime."""
    said = re.search("out of memory|allocate memory|failed to allocate", str(error), re.I)
    return said is not None or isinstance(error, torch.OutOfMemoryError | MemoryError)


def in_parts(
    images: Tensor,
    run: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    views: int,
    done: Callable[[int], object] = lambda count: None,
) -> list[Tensor]:
    """Return what `run` makes of each part of `(N, ...)`; of smaller ones once memory ends."""
    results: list[Tensor] = []
    at = 0
    while at < len(images) or not results:
        part = images[at : at + max(1, batch_size // views)]
        try:
            results.append(run(part))
        except Exception as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
            batch_size = len(part) * views // 2
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            continue
        at += len(part)
        done(len(part))
    return results


def is_mixed(model: Classifier, preset: Preset) -> bool:
    """Whether the members of a model each see their own views, and may do so under this preset."""
    if not isinstance(model, Ensemble) or not model.mixed:
        return False
    if preset.views != "members":
        check_shared(PRESETS[model.preset])
    return True


def views_in(model: Classifier, preset: Preset) -> int:
    """Return how many views of a face a network sees, of an ensemble the one that sees the most."""
    if not isinstance(model, Ensemble) or not is_mixed(model, preset):
        return preset.num_views
    return max(PRESETS[member.preset].num_views for member in model.members)


def faces_for(preset: Preset, images: Tensor) -> Tensor:
    """Return faces, in colour or not, as a member with this preset takes them."""
    in_color = isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 3
    return as_channels(images) if in_color and not preset.color else images


def as_faces(images: Tensor, *, color: bool = False) -> Tensor:
    """Return images, uint8 or in [0, 1], as `(N, 1, H, W)`, with `color` as `(N, 3, H, W)`."""
    is_tensor = isinstance(images, Tensor)
    faces = images[:, None] if is_tensor and images.ndim == 3 else images
    if not is_tensor or faces.ndim != 4 or faces.shape[1] not in ((1, 3) if color else (1,)):
        got = tuple(images.shape) if is_tensor else f"{images!r:.80}"
        raise ArgumentError(
            "faces are gray, a tensor (N, H, W) or (N, 1, H, W)"
            f"{', or RGB, (N, 3, H, W)' if color else ''}, got {got}; "
            "fer_zoo.Predictor takes anything else"
        )
    faces = check_values(faces, "the tensor") if len(faces) else faces
    return faces.expand(-1, 3, -1, -1) if color else faces


def fuse(model: Classifier, member_scores: Tensor) -> Tensor:
    """Return uncalibrated scores `(N, K)` for `member_scores` `(M, N, K)` of `model`.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
        >>> fuse(model, torch.randn(2, 5, 7)).shape
        torch.Size([5, 7])
    """
    if not isinstance(model, Ensemble):
        return member_scores[0]
    fusion: Fusion = deepcopy(model.fusion).cpu().float().eval()
    with torch.inference_mode():
        return fusion(member_scores)  # type: ignore[no-any-return]


def tempered(scores: Tensor, temperature: float) -> Tensor:
    """Return `scores` over `temperature`, float64: so float32 scores that differ still differ."""
    return scores.double() / temperature


def merged(
    scores: Tensor, source: Sequence[str], made: Mapping[str, Sequence[str]], temperature: float = 1
) -> Tensor:
    """Return scores of classes that are each made of some of `source`; the same where all are.

    Args:
        scores: `(N, K)`, uncalibrated unless the temperature is 1.
        source: their names.
        made: each class with its names in `source`, as `fer_zoo.labels.regroup` returns it.
        temperature: what divides the scores before probabilities are summed.
    """
    calibrated = tempered(scores, temperature)
    if [[name] for name in source] == [[*names] for names in made.values()]:
        return calibrated
    return align(calibrated.log_softmax(-1), source, made)


def predict_scores(
    model: Classifier | str | os.PathLike[str],
    images: Tensor,
    *,
    preset: Preset | str | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Tensor:
    """Return calibrated scores `(N, K)`, float64, for many faces.

    See `member_scores` for the arguments. Their softmax is the probability of each class; they are
    those of `fuse(model, member_scores(...))` over the model's temperature for the preset.

    Example:
        >>> faces = torch.zeros(3, 48, 48, dtype=torch.uint8)
        >>> predict_scores("resnet18_025", faces).softmax(1).shape
        torch.Size([3, 7])
    """
    own = resolve(model)
    preset = get_preset(own.preset if preset is None else preset)
    members = member_scores(own, images, preset=preset, batch_size=batch_size, progress=progress)
    return tempered(fuse(own, members), own.temperature_for(preset.name))
