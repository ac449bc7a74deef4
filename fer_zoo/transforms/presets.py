"""Presets: the exact arithmetic between an image and a network, for training and evaluation."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, InputError, UnknownNameError
from fer_zoo.plain import LATER, from_plain
from fer_zoo.registry import Registry
from fer_zoo.transforms.augment import Augmentation, augment, is_number

Views = Literal["plain", "center", "mirror", "tencrop", "members"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
Average = Literal["logits", "probabilities"]
LARGEST, MOST_PIXELS = 512, 10 * 256**2
"""Side in px that a preset may scale a face to, and pixels of all its views of one face.

A file brings its preset, and what a face costs grows with them.
"""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named transform pair: evaluation views, and the training augmentation that suits them.

    Evaluation: the centre square is scaled to `resize` px (antialiased), `views` are cut from it,
    divided by 255, and `(x - mean) / std`. Training: the same square, then `training` and one
    random crop.

    Attributes:
        name: registry name.
        resize: side of the square in px.
        size: side in px of what the network sees.
        views: `plain` (the square itself), `center` (one crop), `mirror` (that crop and its mirror
            image), or `tencrop` (four corners, the centre, and the five mirrored; Krizhevsky et al.
            2012). `members` is of an ensemble: each member sees the views of its own preset.
        average: what is averaged over views, `logits` or `probabilities`.
        mean: subtracted from pixels in [0, 1]: a number, or with `color` one for each of R, G, B.
        std: pixels are divided by it, or by these three, after that.
        training: the random part of the training counterpart.
        description: one line for listings.
        interpolation: how squares are scaled: `bilinear`, `bicubic`, or `nearest`.
        color: the network sees the colours of an image, a gray one three times; else gray.

    Example:
        >>> preset = Preset(name="px32_tencrop", resize=40, size=32, views="tencrop")
        >>> preset.evaluation_views(torch.zeros(2, 1, 48, 48)).shape
        torch.Size([2, 10, 1, 32, 32])
    """

    name: str
    resize: int
    size: int
    views: Views
    average: Average = "probabilities"
    mean: float | tuple[float, float, float] = 0.0
    std: float | tuple[float, float, float] = 1.0
    training: Augmentation = field(default_factory=Augmentation)
    description: str = ""
    interpolation: Interpolation = field(default="bilinear", metadata=LATER)
    color: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        choices = {"views": Views, "average": Average, "interpolation": Interpolation}
        for name, known in choices.items():
            if (value := getattr(self, name)) not in get_args(known):
                raise ArgumentError(f"{name} is one of {get_args(known)}, got {value!r}")
        if not isinstance(self.color, bool):
            raise ArgumentError(f"color is True or False, got {self.color!r:.80}")
        if not all(type(side) is int and 0 < side <= LARGEST for side in (self.resize, self.size)):
            raise ArgumentError(
                f"resize and size are whole numbers of px up to {LARGEST}, got {self.resize!r} "
                f"and {self.size!r}"
            )
        whole = self.views in ("plain", "members")
        if self.size > self.resize or (whole and self.size != self.resize):
            raise ArgumentError(f"no {self.views} views of {self.size} px in {self.resize} px")
        if self.num_views * self.size**2 > MOST_PIXELS:
            raise ArgumentError(
                f"{self.num_views} views of {self.size} px are more than {MOST_PIXELS:,} pixels: "
                'take fewer px, or views="center"'
            )
        means, stds = _each(self.mean), _each(self.std)
        if not (all(map(is_number, means + stds)) and all(std > 0 for std in stds)):
            raise ArgumentError(f"mean is a number, std above 0: {self.mean!r}, {self.std!r}")
        if any(len(values) not in (1, 3 if self.color else 1) for values in (means, stds)):
            raise ArgumentError(
                f"mean and std are one number, or with color=True three: {self.mean!r}, "
                f"{self.std!r}"
            )
        if not isinstance(self.training, Augmentation):
            raise ArgumentError(f"training is an Augmentation, got {self.training!r:.80}")

    @property
    def num_views(self) -> int:
        """How many views of one image the network sees."""
        return {"mirror": 2, "tencrop": 10}.get(self.views, 1)

    def square(self, images: Tensor) -> Tensor:
        """Return squares `(B, C, resize, resize)`, float, of `(B, C, H, W)`, uint8 or in [0, 1].

        Raises:
            ArgumentError: the members of an ensemble each have their own.
        """
        check_shared(self)
        x = _center(images, min(images.shape[-2:]))
        x = x.float().div(255) if x.dtype == torch.uint8 else x.float()
        if x.shape[-1] != self.resize:
            x = self._scaled(x)
        return x.clamp(0, 1)

    def _scaled(self, x: Tensor) -> Tensor:
        size = [self.resize] * 2
        if self.interpolation == "nearest":
            return F.interpolate(x, size, mode="nearest-exact")
        how: dict[str, Any] = {"mode": self.interpolation, "align_corners": False}
        if self.interpolation == "bilinear":
            return F.interpolate(x, size, antialias=True, **how)
        # Overshoot is cut off after each direction, as by whoever computes in 8 bits.
        x = F.interpolate(x, [x.shape[-2], self.resize], antialias=True, **how).clamp(0, 1)
        return F.interpolate(x, size, antialias=True, **how)

    def normalized(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / std` of `(..., C, H, W)`."""
        mean, std = (
            v if isinstance(v, float | int) else x.new_tensor(v)[:, None, None]
            for v in (self.mean, self.std)
        )
        return (x - mean) / std

    def evaluation_views(self, images: Tensor) -> Tensor:
        """Return the views `(B, num_views, C, size, size)` of `images` `(B, C, H, W)`."""
        return self.cut(self.normalized(self.square(images)))

    def cut(self, squares: Tensor) -> Tensor:
        """Return the views `(B, num_views, C, size, size)` of squares, whatever their values."""
        if self.views == "tencrop":
            mirrored = squares.flip(-1)
            return torch.stack([*_five(squares, self.size), *_five(mirrored, self.size)], 1)
        # Others round a margin down, and networks that see colours are theirs.
        first = (self.resize - self.size) // 2 if self.color else None
        x = _center(squares, self.size, first)
        return torch.stack([x, x.flip(-1)] if self.views == "mirror" else [x], 1)

    def training_batch(
        self, images: Tensor, generator: torch.Generator, augmentation: Augmentation | None = None
    ) -> Tensor:
        """Return one random view `(B, C, size, size)` of each of `images` `(B, C, H, W)`."""
        x = augment(self.square(images), self.size, augmentation or self.training, generator)
        return self.normalized(x)

    def combine(self, logits: Tensor) -> Tensor:
        """Average logits `(B, num_views, K)` to scores `(B, K)`; their softmax is probability."""
        if self.average == "logits":
            return logits.mean(1)
        return logits.log_softmax(-1).logsumexp(1) - math.log(logits.shape[1])


def _five(x: Tensor, s: int) -> list[Tensor]:
    """Return the four corners and the centre, in torchvision's order."""
    return [x[..., :s, :s], x[..., :s, -s:], x[..., -s:, :s], x[..., -s:, -s:], _center(x, s)]


def check_shared(preset: Preset) -> None:
    """Raise where there is no view for a whole ensemble, as each member has its own."""
    if preset.views == "members":
        raise ArgumentError(
            "the members of this ensemble each see their own view of a face, and there is none for "
            "all: pass faces to fer_zoo.Predictor or fer_zoo.inference.predict_scores, take "
            "model.members one by one, or make an ensemble whose members all see the same by "
            "fer_zoo.create_ensemble([*model.members], preset=...)"
        )


def of_members(presets: Iterable[Preset]) -> Preset:
    """Return the preset of an ensemble whose members see the views of these, each its own."""
    side = max(preset.resize for preset in presets)
    text = "each member sees the views of its own preset"
    return Preset(name="members", resize=side, size=side, views="members", description=text)


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def _center(x: Tensor, size: int, first: int | None = None) -> Tensor:
    height, width = x.shape[-2:]
    if size > min(height, width):
        raise InputError(f"cannot cut {size} px from {height}x{width} px")
    top, left = round((height - size) / 2), round((width - size) / 2)
    top, left = (top, left) if first is None else (first, first)
    return x[..., top : top + size, left : left + size]


class OfFile(str):
    """The name of the preset that came with a model's file; whoever registers it, it is that one's.

    Example:
        >>> PRESETS[OfFile(Preset(name="mine", resize=48, size=40, views="center"))].resize
        48
    """

    preset: Preset

    def __new__(cls, preset: Preset | str) -> "OfFile":
        """Return the name of a preset with it; a copy gets the preset afterwards."""
        made = super().__new__(cls, getattr(preset, "name", preset))
        if isinstance(preset, Preset):
            made.preset = preset
        return made


class _Presets(Registry[Preset]):
    """Presets by name; names that only files gave are lent, and yield to whoever registers one."""

    def __init__(self) -> None:
        super().__init__("preset", "fer_zoo.list_presets()")
        self.lent, self.disputed = set[str](), set[str]()

    def __getitem__(self, name: str) -> Preset:
        if isinstance(name, OfFile):
            return name.preset
        if isinstance(name, str) and name not in self and name in self.disputed:
            raise UnknownNameError(
                f"two files bring different presets named {name!r}: fer_zoo.register_preset yours"
            )
        return super().__getitem__(name)

    def register(self, name: str, entry: Preset) -> Preset:
        """Add a preset under its name, in place of one of a file."""
        self._take_back(name)
        return super().register(name, entry)

    def lend(self, preset: Preset) -> None:
        """Give a name to the preset of a file, if it is free; of two that differ neither has it."""
        name = preset.name
        if self.get(name) == preset or name in self.disputed:
            return
        if name in self.lent:
            self._take_back(name)
            self.disputed.add(name)
        else:
            super().register(name, preset)
            self.lent.add(name)

    def _take_back(self, name: str) -> None:
        if name in self.lent:
            self.lent.remove(name)
            del self._entries[name]


PRESETS = _Presets()

for _preset in (
    Preset(
        name="thesis40",
        resize=40,
        size=40,
        views="plain",
        training=Augmentation(padding=4),
        description="the thesis': scaled to 40 px; training pads by 4 px, crops 40 px and flips",
    ),
    Preset(
        name="fer40_center",
        resize=48,
        size=40,
        views="center",
        description="centre 40 px of 48; training crops 40 px at random and flips",
    ),
    Preset(
        name="fer40_tencrop",
        resize=48,
        size=40,
        views="tencrop",
        description="ten 40 px crops of 48; training crops 40 px at random and flips",
    ),
    Preset(
        name="fer44_mirror",
        resize=48,
        size=44,
        views="mirror",
        description="centre 44 px of 48 and its mirror image; training crops 44 px and flips",
    ),
    Preset(
        name="fer44_tencrop",
        resize=48,
        size=44,
        views="tencrop",
        description="ten 44 px crops of 48; training crops 44 px at random and flips",
    ),
    Preset(
        name="fer48_plain",
        resize=48,
        size=48,
        views="plain",
        training=Augmentation(padding=4),
        description="the whole 48 px; training pads by 4 px, crops 48 px and flips",
    ),
):
    PRESETS.register(_preset.name, _preset)


def get_preset(preset: Preset | str) -> Preset:
    """Return a preset as it is, or the registered one of a name."""
    return preset if isinstance(preset, Preset) else PRESETS[preset]


def counterparts(preset: Preset | str) -> list[Preset]:
    """Return registered presets that differ in their number of views, the fewest first.

    They scale and normalise alike, and see a side that is at most a tenth larger or smaller; of
    several with equally many views the nearest one.

    Example:
        >>> [other.name for other in counterparts("fer40_center")], counterparts("thesis40")
        (['fer44_mirror', 'fer40_tencrop'], [])
    """
    own, found = get_preset(preset), dict[int, Preset]()
    alike = attrgetter("resize", "mean", "std", "interpolation", "color")
    others = [p for p in PRESETS.values() if alike(p) == alike(own)]
    others = [] if own.views == "members" else [p for p in others if p.views != "members"]
    for other in sorted(others, key=lambda p: abs(p.size - own.size)):
        if abs(other.size - own.size) * 10 <= own.size and other.num_views != own.num_views:
            found.setdefault(other.num_views, other)
    return [found[count] for count in sorted(found)]


def choose_preset(
    own: Preset | str, preset: Preset | str | None = None, views: int | None = None
) -> Preset:
    """Return the preset that is asked for, by itself or by its number of views, or else `own`.

    Raises:
        ArgumentError: both are given, or no counterpart of `own` has so many views.

    Example:
        >>> choose_preset("fer40_center", views=2).name
        'fer44_mirror'
    """
    if views is None:
        return get_preset(own if preset is None else preset)
    if preset is not None:
        raise ArgumentError("a preset has its number of views: give preset or views, not both")
    known = {p.num_views: p for p in (get_preset(own), *counterparts(own))}
    if isinstance(views, bool) or views not in known:
        raise ArgumentError(
            f"views={views!r}: presets like {get_preset(own).name!r} have {sorted(known)} views; "
            "fer_zoo.register_preset adds others"
        )
    return known[views]


def arithmetic(preset: Preset) -> Preset:
    """Return a preset without what makes no difference to a face that is evaluated."""
    return replace(preset, training=Augmentation(), description="")


def name_of(preset: Preset) -> str:
    """Return what a model has as its `preset`: its name, with itself if it is not registered."""
    registered = preset.name not in PRESETS.lent and PRESETS.get(preset.name) is preset
    return preset.name if registered else OfFile(preset)


def restore(fields: Any) -> Preset:
    """Return the preset that a file describes or names, unless another is registered here.

    Where its name is free, it has it until somebody registers one.
    """
    if isinstance(fields, str):
        return PRESETS[fields]
    preset = from_plain(Preset, fields, "preset")
    if preset.views == "members":  # says nothing that a name could be lent for
        return preset
    known = PRESETS.get(preset.name)
    if known is None or preset.name in PRESETS.lent:
        PRESETS.lend(preset)
        return preset
    there, here = vars(arithmetic(preset)), vars(arithmetic(known))
    if other := [name for name in here if here[name] != there[name]]:
        found = [{name: values[name] for name in other} for values in (here, there)]
        raise ArgumentError(
            f"the preset {preset.name!r} is {found[0]} here, and {found[1]} in the file"
        )
    return known
