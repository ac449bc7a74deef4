"""Training augmentation of whole batches of tensors, on whatever device they live.

No image is touched by Python on its own: random crop and flip are one gather, and scaling,
shifting and rotating are one `grid_sample` for the whole batch. All randomness comes from the
generator that is passed in, so a run can be repeated exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError


@dataclass(frozen=True)
class Augmentation:
    """How a training batch is varied. Every step draws anew for every image.

    Attributes:
        padding: black pixels added on each side before the random crop.
        flip: probability of a horizontal flip.
        scale: lowest and highest zoom; above 1 enlarges the face.
        shift: largest horizontal and vertical shift, as a share of the side.
        rotate: largest rotation in degrees, either way.
        affine: probability that an image is scaled, shifted and rotated at all.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        erase: probability that a rectangle (2 to 20 % of the area) is blackened.

    Example:
        >>> images = torch.rand(8, 1, 48, 48)
        >>> how = Augmentation(rotate=10, erase=0.5)
        >>> augment(images, 40, how, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 1, 40, 40])
    """

    padding: int = 0
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    rotate: float = 0.0
    affine: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        scale = tuple(self.scale) if isinstance(self.scale, Sequence) else (self.scale,)
        object.__setattr__(self, "scale", scale)
        if wrong := [v for v in (*scale, *vars(self).values()) if not _is_setting(v)]:
            raise ArgumentError(f"augmentation settings are numbers, got {wrong}")
        for name in ("flip", "affine", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} is a probability, got {getattr(self, name)}")
        for name in ("padding", "shift", "rotate", "brightness", "contrast"):
            if getattr(self, name) < 0:
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ArgumentError(f"scale must be (lowest, highest) above 0, got {self.scale}")

    def updated(self, changes: Mapping[str, Any]) -> "Augmentation":
        """Return a copy with some settings changed; an unknown setting raises."""
        if not isinstance(changes, Mapping):
            raise ArgumentError(f"augment must be settings by name, got {changes!r}")
        known = {f.name for f in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise ArgumentError(f"augmentation has no setting {unknown}; it has {sorted(known)}")
        return replace(self, **changes)


def _is_setting(value: Any) -> bool:
    return isinstance(value, int | float | tuple) and not isinstance(value, bool)


def augment(images: Tensor, size: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return randomly varied `size` x `size` crops of `images`.

    Args:
        images: float in [0, 1], shape `(B, C, H, W)`.
        size: side of the crops in px, at most H + 2 * padding.
        how: the settings.
        generator: source of all randomness, on the CPU.

    Returns:
        Float in [0, 1], shape `(B, C, size, size)`.
    """
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(n, generator=generator) * (high - low) + low
        return drawn.to(images.device, images.dtype)

    if how.scale != (1.0, 1.0) or how.shift or how.rotate:
        used = uniform(0, 1) < how.affine
        zoom = torch.where(used, uniform(*how.scale), 1.0)
        angle = torch.where(used, uniform(-how.rotate, how.rotate), 0.0)
        dx, dy = (torch.where(used, uniform(-how.shift, how.shift), 0.0) for _ in "xy")
        images = affine(images, zoom, angle, dx, dy)
    images = crop_and_flip(
        F.pad(images, (how.padding,) * 4),
        size,
        top=uniform(0, 1),
        left=uniform(0, 1),
        flip=uniform(0, 1) < how.flip,
    )
    if how.brightness:
        factor = uniform(1 - how.brightness, 1 + how.brightness)
        images = (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)
    if how.contrast:
        factor = uniform(1 - how.contrast, 1 + how.contrast)
        images = torch.lerp(images.mean((1, 2, 3), True), images, factor.view(-1, 1, 1, 1))
        images = images.clamp_(0, 1)
    if how.erase:
        used = uniform(0, 1) < how.erase
        area, aspect = uniform(0.02, 0.2), uniform(-1, 1).mul(math.log(3)).exp()
        height = torch.where(used, (area * aspect).sqrt() * size, 0.0)
        width = (area / aspect).sqrt() * size
        images = erase(images, height, width, uniform(0, 1), uniform(0, 1))
    return images


def affine(images: Tensor, zoom: Tensor, angle: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Zoom, rotate and shift each image about its centre, black outside; one `grid_sample`.

    The arithmetic is torchvision's `functional.affine` with bilinear interpolation.

    Args:
        images: float, shape `(B, C, H, W)`.
        zoom: factor per image, above 1 enlarges; shape `(B,)`.
        angle: degrees per image, positive turns clockwise; shape `(B,)`.
        dx: shift to the right per image, as a share of the width; shape `(B,)`.
        dy: shift down per image, as a share of the height; shape `(B,)`.
    """
    height, width = images.shape[-2:]
    turn = torch.deg2rad(angle)
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    x, y = -2 * dx, -2 * dy
    ratio = height / width
    rows = torch.stack(
        [
            torch.stack([cos, sin * ratio, cos * x + sin * ratio * y], 1),
            torch.stack([-sin / ratio, cos, -sin / ratio * x + cos * y], 1),
        ],
        1,
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def crop_and_flip(images: Tensor, size: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Cut one `size` x `size` window from each image and mirror some, in one gather.

    Args:
        images: shape `(B, C, H, W)`.
        size: side of the window in px.
        top: where the window starts, 0 (top) up to, not including, 1 (bottom); shape `(B,)`.
        left: the same from left to right; shape `(B,)`.
        flip: whether to mirror; bool, shape `(B,)`.
    """
    n, _, height, width = images.shape
    if size > min(height, width):
        raise ArgumentError(f"cannot cut {size} px from {height}x{width} px images")
    steps = torch.arange(size, device=images.device)
    rows = (top * (height - size + 1)).long().clamp_(max=height - size)[:, None] + steps
    columns = (left * (width - size + 1)).long().clamp_(max=width - size)[:, None] + steps
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    batch = torch.arange(n, device=images.device)[:, None, None]
    picked = images.transpose(0, 1)[:, batch, rows[:, :, None], columns[:, None, :]]
    return picked.transpose(0, 1)


def erase(images: Tensor, height: Tensor, width: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Blacken one rectangle per image.

    Args:
        images: shape `(B, C, H, W)`.
        height: px per image, 0 leaves the image as it is; shape `(B,)`.
        width: px per image; shape `(B,)`.
        top: where the rectangle starts, as a share of the room left for it; shape `(B,)`.
        left: the same from left to right; shape `(B,)`.
    """

    def inside(side: int, length: Tensor, start: Tensor) -> Tensor:
        length = length.round().clamp(0, side)
        first = (start * (side - length + 1)).floor()[:, None]
        at = torch.arange(side, device=images.device)
        return (at >= first) & (at < first + length[:, None])

    rows = inside(images.shape[-2], height, top)
    columns = inside(images.shape[-1], width, left)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
