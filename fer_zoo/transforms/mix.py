"""Mixup and CutMix: two faces of a batch become one, and so do their targets."""

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from fer_zoo.transforms.augment import Augmentation


def mix(
    images: Tensor, targets: Sequence[Tensor], settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Mix each image with the one before it in the batch, by mixup or CutMix as `settings` says.

    Args:
        images: shape `(B, C, H, W)`.
        targets: any number of class shares `(B, K)`, mixed alike.
        settings: its `mixup` and `cutmix` are used; nothing changes where neither is set.
        generator: source of all randomness, on the CPU.

    Example:
        >>> settings = Augmentation(cutmix=1.0)
        >>> shares = torch.eye(4)
        >>> _, (mixed,) = mix(torch.rand(4, 1, 8, 8), [shares], settings, torch.Generator())
        >>> mixed.sum(1)
        tensor([1., 1., 1., 1.])
    """
    alphas = [(f, a) for f, a in ((mixup, settings.mixup), (cutmix, settings.cutmix)) if a]
    if not alphas:
        return images, list(targets)
    chance = random.Random(int(torch.randint(2**62, (), generator=generator)))
    method, alpha = chance.choice(alphas)
    share = chance.betavariate(alpha, alpha)
    return method(images, targets, share, x=chance.random(), y=chance.random())


def mixup(
    images: Tensor, targets: Sequence[Tensor], share: float, *, x: float = 0, y: float = 0
) -> tuple[Tensor, list[Tensor]]:
    """Blend each image with its neighbour, as torchvision's `v2.MixUp`; `x`, `y` are CutMix's."""
    return torch.lerp(images.roll(1, 0), images, share), _blend(targets, share)


def cutmix(
    images: Tensor, targets: Sequence[Tensor], share: float, *, x: float, y: float
) -> tuple[Tensor, list[Tensor]]:
    """Put a rectangle of its neighbour into each image, as torchvision's `v2.CutMix`."""
    height, width = images.shape[-2:]
    half = 0.5 * math.sqrt(1 - share)
    column, row = int(x * width), int(y * height)
    left, right = max(column - int(half * width), 0), min(column + int(half * width), width)
    top, bottom = max(row - int(half * height), 0), min(row + int(half * height), height)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
    return mixed, _blend(targets, 1 - (right - left) * (bottom - top) / (width * height))


def _blend(targets: Sequence[Tensor], share: float) -> list[Tensor]:
    return [torch.lerp(t.roll(1, 0), t, share) for t in targets]
