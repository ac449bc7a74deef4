"""Where a network looked: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), through captum."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, needing
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import PRESETS

COARSEST = 8  # pixels of the view a side, of which a map has one at most


def heat_map(model: Classifier, face: Tensor, label: str) -> np.ndarray:
    """Return which parts of a face speak for a class, of an ensemble the mean over its members.

    The maps are those of the last layer that has maps of at least an eighth of the view's side;
    each member's are scaled to 1 at their highest. A map is no proof: it follows the gradient of
    one layer (docs/app.md says how much it tells).

    Args:
        model: the network, of which every member has convolutions.
        face: gray uint8 `(S, S)`, as `Prediction.face`.
        label: one of `model.labels`.

    Returns:
        Heat from 0 to 1, float `(S, S)`; 0 where the network does not see the face.

    Raises:
        ArgumentError: the network has no such class, or no such layer.
        MissingDependencyError: captum is not installed: `fer-zoo[app]`.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> face = torch.eye(48).mul(255).byte()
        >>> heat_map(model, face, "happy").shape
        (48, 48)
    """
    with needing("where a network looked needs captum", "app"):
        from captum.attr import LayerGradCam
    if label not in (model.labels or ()):
        raise ArgumentError(f"{model.name!r} has no class {label!r}, but {model.labels}")
    preset = PRESETS[model.preset]
    square = preset.square(face[None, None])
    size, around = preset.size, (preset.resize - preset.size) // 2
    view = square[:, :, around : around + size, around : around + size]
    view = preset.normalized(view).expand(-1, model.in_channels, -1, -1)
    view = view.to(next(model.parameters()).device)
    total = torch.zeros(1, 1, size, size)
    for member in model.members if isinstance(model, Ensemble) else [model]:
        layer = _last_maps(member, view)
        target = list(member.labels or ()).index(label)
        maps = LayerGradCam(member, layer).attribute(view, target=target, relu_attributions=True)
        maps = F.interpolate(maps.detach().float().cpu(), (size, size), mode="bilinear")
        total += maps / maps.max().clamp(min=1e-9)
    total = F.pad(total / total.max().clamp(min=1e-9), [around, preset.resize - size - around] * 2)
    heat: np.ndarray = F.interpolate(total, face.shape[-2:], mode="bilinear")[0, 0].numpy()
    return heat


def _last_maps(network: nn.Module, view: Tensor) -> nn.Module:
    """Return the last layer whose maps are at least an eighth as wide as the view."""
    found: list[nn.Module] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        maps = isinstance(output, Tensor) and output.ndim == 4
        if maps and min(output.shape[-2:]) * COARSEST >= view.shape[-1]:
            found.append(module)

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    try:
        with torch.no_grad():
            network(view)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ArgumentError(f"{type(network).__name__} has no maps that could be shown")
    return found[-1]
