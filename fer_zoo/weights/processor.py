"""The processor of an image classifier of transformers, as a preset.

It is taken at what it does, not at what it says: it is shown images, and the preset must make the
same of them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.transforms import Preset
from fer_zoo.transforms.presets import Interpolation

LEVELS = 2.0
"""Of 255, how far a pixel may be from the preset's where images are scaled: others round to 8 bits.

Another interpolation, or a crop that lies elsewhere, is ten times as far on noise.
"""
EXACT = 0.1  # the same where nothing is scaled
SIDES = (48, 331)  # px of images that are scaled, up and down


def preset_of(folder: Path, kind: str, channels: int) -> Preset:
    """Return the preset that does what the processor in a folder does.

    Args:
        folder: with `preprocessor_config.json`.
        kind: the type of the network, for the name.
        channels: that the network takes.

    Raises:
        CheckpointError: there is no processor that transformers can build.
        ArgumentError: it does what no preset does.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers' own checks raise whatever they like
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            "it has no image processor that transformers can build, so nothing says what its "
            f"network sees ({reason:.200}). That of the network it was trained from may be the "
            "right one: AutoImageProcessor.from_pretrained(...).save_pretrained(folder)"
        ) from None
    if channels not in (1, 3):
        raise ArgumentError(f"its network takes {channels} channels, and faces have 1 or 3")
    name = type(processor).__name__
    try:
        ends = [_shown(processor, torch.full((channels, 96, 96), v).byte()) for v in (0, 255)]
        black, white = (x.double().flatten(1) for x in ends)
        scale, size = (white - black)[:, 0], ends[0].shape[-1]
        if float((white.amax(1) - white.amin(1)).max()) > 1e-4 or not bool((scale > 0).all()):
            raise ArgumentError("white is not the same everywhere, or not above black")
        mean, std = _values(-black[:, 0] / scale), _values(1 / scale)
        presets = [
            Preset(
                name=f"{kind}_{size}",
                resize=resize,
                size=size,
                views="plain" if resize == size else "center",
                mean=mean,
                std=std,
                interpolation=interpolation,
                color=channels == 3,
                description=f"as the processor of a {kind} of transformers does",
            )
            for resize in _sides(processor, size)
            for interpolation in get_args(Interpolation)
        ]
        errors = [_error(preset, lambda x: _shown(processor, x)) for preset in presets]
    except ArgumentError as error:
        raise ArgumentError(f"what its {name} does is no preset's: {error}") from None
    if (least := min(errors)) > 1:
        hint = (
            '; it scales by Lanczos, and presets do not: with "resample": 3 in its '
            "preprocessor_config.json it is scaled bicubically, which is the nearest"
            if getattr(processor, "resample", None) == 1
            else ""
        )
        raise ArgumentError(
            f"what its {name} does is no preset's, which scales the centre square, cuts its centre "
            f"and normalises it: a pixel is {least:.1f} times as far off as rounding may be{hint}"
        )
    return presets[errors.index(least)]


def _shown(processor: Any, image: Tensor) -> Tensor:
    """Return what a processor makes of an image, uint8 `(C, H, W)`, as a PIL image."""
    from PIL.Image import fromarray

    pixels = image.permute(1, 2, 0).numpy() if len(image) > 1 else image[0].numpy()
    try:
        made = dict(processor(images=fromarray(pixels), return_tensors="pt"))
    except Exception as error:  # processors raise whatever they like
        reason = str(error).split("\n")[0]
        raise ArgumentError(f"it does not take an image alone: {reason:.200}") from None
    x = made.pop("pixel_values", None)
    if made or not isinstance(x, Tensor) or x.ndim != 4 or x.shape[2] != x.shape[3]:
        shape = tuple(x.shape) if isinstance(x, Tensor) else None
        raise ArgumentError(f"it makes pixel_values of shape {shape}, and {sorted(made)}")
    if x.shape[:2] != (1, len(image)):
        raise ArgumentError(f"it makes {x.shape[1]} channels, the network takes {len(image)}")
    return x[0]


def _values(found: Tensor) -> Any:
    """Return a number for each channel, or the one that all have, without float32's last digits."""
    values = tuple(float(f"{v:.6g}") for v in found.tolist())
    return values[0] if len({*values}) == 1 else values


def _sides(processor: Any, size: int) -> Iterator[int]:
    """Yield the sides to which squares may be scaled before `size` px are cut, each once."""
    said = getattr(processor, "size", None) or {}
    said = said if isinstance(said, dict) else vars(said)
    edges = [said.get(name) for name in ("shortest_edge", "height")]
    shares = [getattr(processor, "crop_pct", None)]
    shares.append((getattr(processor, "data_config", None) or {}).get("crop_pct"))
    sides = [size, *edges, *(int(size / p) for p in shares if p), size * 256 // 224]  # LeViT's
    yield from sorted({n for n in sides if isinstance(n, int) and n >= size})


def _error(preset: Preset, shown: Callable[[Tensor], Tensor]) -> float:
    """Return how far the preset's pixels are off, in shares of what rounding may be."""
    rng, std, worst = torch.Generator().manual_seed(0), preset.std, 0.0
    scale = 255 * torch.tensor(std if isinstance(std, tuple) else [std])[:, None, None]
    for side in (preset.resize, *SIDES):
        channels = 3 if preset.color else 1
        image = torch.randint(0, 256, (channels, side, side), generator=rng).byte()
        ours = preset.evaluation_views(image[None])[0, 0]
        allowed, theirs = EXACT if side == preset.resize else LEVELS, shown(image)
        if theirs.shape != ours.shape:
            raise ArgumentError(f"of {side} px it makes {theirs.shape[-1]}, others of other images")
        worst = max(worst, float(((ours - theirs) * scale).abs().max()) / allowed)
    return worst
