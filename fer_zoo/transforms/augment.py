"""Training augmentation of whole batches of tensors, on whatever device they live.

Random crop and flip are one gather, all else that moves pixels is one `grid_sample`. All randomness
comes from the generator that is passed in, so a run can be repeated exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError

Turn = tuple[Tensor, Tensor, Tensor, Tensor]
"""Zoom (above 1 enlarges), degrees clockwise, and shifts as shares of the side, each `(B,)`."""


@dataclass(frozen=True, kw_only=True)
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
        crop_area: lowest and highest share of the area that a random resized crop keeps
            (arXiv 1409.4842); `(1, 1)` for a random crop without resizing.
        crop_ratio: lowest and highest width over height of a random resized crop.
        mixup: alpha of mixup's Beta distribution (arXiv 1710.09412); 0 for none.
        cutmix: alpha of CutMix's (arXiv 1905.04899); 0 for none. With both, each batch draws one.

    Example:
        >>> settings = Augmentation(rotate=10, erase=0.5)
        >>> augment(torch.rand(8, 1, 48, 48), 40, settings, torch.Generator()).shape
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
    crop_area: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        pairs = {}
        for name in _SPANS:
            span = getattr(self, name)
            pairs[name] = tuple(span) if isinstance(span, Sequence) else (span,)
            object.__setattr__(self, name, pairs[name])
        single = [v for name, v in vars(self).items() if name not in _SPANS]
        if wrong := [v for v in chain(single, *pairs.values()) if not is_number(v)]:
            raise ArgumentError(f"augmentation settings are numbers, got {wrong}")
        if not isinstance(self.padding, int):
            raise ArgumentError(f"padding is a whole number of px, got {self.padding}")
        for name in ("flip", "affine", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} is a probability, got {getattr(self, name)}")
        for name in ("padding", "shift", "rotate", "brightness", "contrast", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)}")
        for name, pair in pairs.items():
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ArgumentError(f"{name} must be (lowest, highest) above 0, got {pair}")
        if self.crop_area[1] > 1:
            raise ArgumentError(f"crop_area is a share of the image, got {self.crop_area}")

    def updated(self, changes: Mapping[str, Any]) -> "Augmentation":
        """Return a copy with some settings changed; an unknown setting raises."""
        if not isinstance(changes, Mapping) or not all(isinstance(k, str) for k in changes):
            raise ArgumentError(f"augment must be settings by name, got {changes!r:.80}")
        if unknown := sorted(changes.keys() - vars(self).keys()):
            raise ArgumentError(f"augmentation has no setting {unknown}; it has {[*vars(self)]}")
        return replace(self, **changes)


_SPANS = ("scale", "crop_area", "crop_ratio")


def is_number(value: object) -> bool:
    """Whether `value` is a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def augment(
    images: Tensor, size: int, settings: Augmentation, generator: torch.Generator
) -> Tensor:
    """Return varied crops `(B, C, size, size)` of `(B, C, H, W)`, float in [0, 1]."""
    # One transfer to the device: on a GPU many small ones would cost more than the arithmetic.
    numbers = iter(torch.rand(17, len(images), generator=generator).to(images))

    def uniform(low: float, high: float) -> Tensor:
        drawn: Tensor = next(numbers) * (high - low) + low
        return drawn

    turn: Turn | None = None
    if settings.scale != (1.0, 1.0) or settings.shift or settings.rotate:
        used = uniform(0, 1) < settings.affine
        zoom = torch.where(used, uniform(*settings.scale), 1.0)
        angle = torch.where(used, uniform(-settings.rotate, settings.rotate), 0.0)
        dx, dy = (torch.where(used, uniform(-settings.shift, settings.shift), 0.0) for _ in "xy")
        turn = zoom, angle, dx, dy
    top, left, flip = uniform(0, 1), uniform(0, 1), uniform(0, 1) < settings.flip
    if settings.crop_area != (1.0, 1.0) or settings.crop_ratio != (1.0, 1.0):
        area = uniform(*settings.crop_area)
        ratio = uniform(*map(math.log, settings.crop_ratio)).exp()
        height, width = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
        window = top * (1 - height), left * (1 - width), height, width
        images = resized_crop(F.pad(images, (settings.padding,) * 4), size, *window, flip, turn)
    elif turn is not None:
        sides = zip((top, left), images.shape[-2:], strict=True)
        starts = [
            (_start(at, n + 2 * settings.padding, size) - settings.padding) / n for at, n in sides
        ]
        height, width = (torch.full_like(top, size / n) for n in images.shape[-2:])
        images = resized_crop(images, size, starts[0], starts[1], height, width, flip, turn)
    else:
        images = crop_and_flip(F.pad(images, (settings.padding,) * 4), size, top, left, flip)
    if settings.brightness:
        factor = uniform(1 - settings.brightness, 1 + settings.brightness)
        images = (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)
    if settings.contrast:
        factor = uniform(1 - settings.contrast, 1 + settings.contrast)
        images = torch.lerp(images.mean((1, 2, 3), True), images, factor.view(-1, 1, 1, 1))
        images = images.clamp_(0, 1)
    if settings.erase:
        used = uniform(0, 1) < settings.erase
        area, aspect = uniform(0.02, 0.2), uniform(-1, 1).mul(math.log(3)).exp()
        height = torch.where(used, (area * aspect).sqrt() * size, 0.0)
        width = (area / aspect).sqrt() * size
        images = erase(images, height, width, uniform(0, 1), uniform(0, 1))
    return images


def resized_crop(
    images: Tensor,
    size: int,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    flip: Tensor,
    turn: Turn | None = None,
) -> Tensor:
    """Cut windows (shares of the sides, `(B,)`) from turned `(B, C, H, W)`, scale, mirror some."""
    span = torch.stack([torch.where(flip, -width, width), height], 1)
    centre = torch.stack([2 * left + width - 1, 2 * top + height - 1], 1)
    if turn is None:
        rows = torch.cat([torch.diag_embed(span), centre[:, :, None]], 2)
    else:
        outer = _turn_matrix(*turn, images.shape[-2] / images.shape[-1])
        linear, offset = outer[..., :2], outer[..., 2:]
        rows = torch.cat([linear * span[:, None], linear @ centre[:, :, None] + offset], 2)
    grid = _grid(rows, size)
    # A resized crop repeats the border where it samples half a pixel outside; a turn shows black.
    edge = "border" if turn is None else "zeros"
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=edge, align_corners=False)


def _grid(rows: Tensor, size: int) -> Tensor:
    """Return what `F.affine_grid` does, `(B, size, size, 2)`, several times as fast on a CPU."""
    at = (2 * torch.arange(size, device=rows.device, dtype=rows.dtype) + 1)[:, None] / size - 1
    x, y, offset = (rows[:, None, None, :, i] for i in range(3))
    return x * at + ((y * at).transpose(1, 2) + offset)


def _start(at: Tensor, side: int, size: int) -> Tensor:
    """Return where windows of `size` px start that lie at `at` (0 to 1) within `side` px."""
    if size > side:
        raise ArgumentError(f"cannot cut {size} px from {side} px images")
    return (at * (side - size + 1)).floor().clamp_(max=side - size)


def _turn_matrix(zoom: Tensor, angle: Tensor, dx: Tensor, dy: Tensor, ratio: float) -> Tensor:
    """Return `(B, 2, 3)`: where in the input, from -1 to 1, each output position comes from."""
    turn = torch.deg2rad(angle)
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    x, y = -2 * dx, -2 * dy
    across = torch.stack([cos, sin * ratio, cos * x + sin * ratio * y], 1)
    down = torch.stack([-sin / ratio, cos, -sin / ratio * x + cos * y], 1)
    return torch.stack([across, down], 1)


def crop_and_flip(images: Tensor, size: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Cut one window from each of `(B, C, H, W)`, `top` and `left` from 0 to 1, and mirror some."""
    n, _, height, width = images.shape
    steps = torch.arange(size, device=images.device)
    rows = _start(top, height, size).long()[:, None] + steps
    columns = _start(left, width, size).long()[:, None] + steps
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    batch = torch.arange(n, device=images.device)[:, None, None]
    picked = images.transpose(0, 1)[:, batch, rows[:, :, None], columns[:, None, :]]
    return picked.transpose(0, 1)


def erase(images: Tensor, height: Tensor, width: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Blacken `height` x `width` px in each of `(B, C, H, W)`, at shares of the room left."""

    def inside(side: int, length: Tensor, start: Tensor) -> Tensor:
        length = length.round().clamp(0, side)
        first = (start * (side - length + 1)).floor()[:, None]
        at = torch.arange(side, device=images.device)
        return (at >= first) & (at < first + length[:, None])

    rows = inside(images.shape[-2], height, top)
    columns = inside(images.shape[-1], width, left)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
