"""A preset as a callable, and what it makes as a network takes it."""

from typing import Any

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError
from fer_zoo.transforms.inputs import as_channels, read_face
from fer_zoo.transforms.presets import Preset


class Transform:
    """A preset as a callable, in its training or its evaluation form.

    One image gives `(channels, size, size)`, with ten-crop `(10, channels, size, size)`; a tensor
    batch `(B, C, H, W)` gives the same with a leading B.

    Args:
        preset: the arithmetic.
        training: random augmentation instead of the evaluation views.
        channels: what the network takes: 1, or 3 for the gray image three times.

    Example:
        >>> from fer_zoo.transforms import PRESETS
        >>> transform = Transform(PRESETS["fer40_tencrop"], training=False)
        >>> transform(torch.zeros(1, 48, 48, dtype=torch.uint8)).shape
        torch.Size([10, 1, 40, 40])
    """

    def __init__(self, preset: Preset, training: bool, channels: int = 1) -> None:
        self.preset, self.training, self.channels = preset, training, channels

    def __call__(self, image: Any) -> Tensor:
        """Return the view or views of one image (anything `to_gray` takes) or of a tensor batch."""
        batched, color = isinstance(image, Tensor) and image.ndim == 4, self.preset.color
        if batched:
            batch = as_channels(image, color=color)
        else:
            batch = read_face(image, "rgb", color=color)[None]
        if self.training:
            seed = int(torch.randint(2**63 - 1, ()))
            out = self.preset.training_batch(batch, torch.Generator().manual_seed(seed))
        else:
            out = self.preset.evaluation_views(batch)
            out = out if self.preset.num_views > 1 else out.squeeze(1)
        out = for_network(out, self.channels)
        return out if batched else out[0]

    def __repr__(self) -> str:
        return f"Transform({self.preset.name!r}, training={self.training})"


def for_network(views: Tensor, channels: int) -> Tensor:
    """Return views `(..., C, S, S)` with as many channels as a network takes, gray ones repeated.

    Raises:
        ArgumentError: they are in colour, and the network takes one channel.
    """
    if views.shape[-3] > channels:
        raise ArgumentError(
            "the preset shows colours (color=True), and the network takes one channel: choose a "
            "preset without, or a network with in_channels=3"
        )
    return views.expand(*views.shape[:-3], channels, -1, -1)
