"""Accuracy under what is hard in real life: occlusion, rotation, light, blur, noise, scale.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions
and perturbations" (arXiv 1903.12261): each corruption in five severities, always the same pixels.
"""

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo._progress import progress_bar
from fer_zoo._tables import markdown, safe
from fer_zoo.data.faces import FacesLike
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.figures import interval, percent
from fer_zoo.evaluation.matching import match
from fer_zoo.evaluation.metrics import Evaluation, evaluate
from fer_zoo.factory import resolve
from fer_zoo.inference import fuse, member_scores
from fer_zoo.labels import made_of, names_to_ignore
from fer_zoo.models import Classifier
from fer_zoo.registry import Registry
from fer_zoo.transforms import Preset

SIDE = 48
"""Lengths below are in px of a face of this side; other sizes are corrupted in proportion."""
EYES, MOUTH = (17, 24, 36), (38, 24, 26)
"""Row and column of the centre, and width, in the mean face of FER2013's Training."""


def _apply(operation: str, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Apply an operation of torchvision to images `(N, H, W)`."""
    from torchvision.transforms.v2 import functional

    result: Tensor = getattr(functional, operation)(images[:, None], *args, **kwargs)[:, 0]
    return result


def _bar(images: Tensor, height: float, centre: tuple[int, int, int]) -> Tensor:
    row, column, width = centre
    tall, wide = (side / SIDE for side in images.shape[1:])
    high, long = round(height * tall), round(width * wide)
    top, left = int(row * tall - high / 2), int(column * wide - long / 2)
    return _cover(images, slice(top, top + high), slice(left, left + long))


def _half(images: Tensor, share: float) -> Tensor:
    return _cover(images, slice(None), slice(0, round(images.shape[2] * share / 100)))


def _cover(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """Cover a part with each image's mean gray, which adds no brightness of its own."""
    covered = images.clone()
    covered[:, rows, columns] = images.float().mean((1, 2)).round().byte()[:, None, None]
    return covered


def _rotate(images: Tensor, degrees: float) -> Tensor:
    """Turn about the centre; what comes in from outside repeats the edge."""
    from torchvision.transforms import InterpolationMode

    margin = math.ceil(max(images.shape[1:]) * (math.sqrt(2) - 1) / 2) + 1
    wide = _apply("pad", images, [margin] * 4, padding_mode="edge")
    turned = _apply("rotate", wide, degrees, interpolation=InterpolationMode.BILINEAR)
    return _apply("center_crop", turned, list(images.shape[1:]))


def _blur(images: Tensor, sigma: float) -> Tensor:
    sigma *= images.shape[2] / SIDE
    kernel = min(2 * math.ceil(3 * sigma) + 1, 2 * min(images.shape[1:]) - 1)
    return _apply("gaussian_blur", images, [kernel, kernel], [sigma, sigma])


def _noise(images: Tensor, deviation: float) -> Tensor:
    """Add noise that is another for each image, and the same on every device and call."""
    rng = torch.Generator().manual_seed(2013)
    noise = torch.empty(images.shape)
    for row in noise:
        row.normal_(0, deviation, generator=rng)
    return (images + noise.to(images.device)).round().clamp(0, 255).byte()


def _jpeg(images: Tensor, quality: float) -> Tensor:
    """Compress and read again with Pillow: torchvision's own codec is deprecated since 0.29."""
    from PIL import Image

    again = []
    for image in images.cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        again.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(again).to(images.device)


def _small(images: Tensor, side: float) -> Tensor:
    size = list(images.shape[1:])
    less = [max(1, round(length * side / SIDE)) for length in size]
    return _apply("resize", _apply("resize", images, less), size)


@dataclass(frozen=True)
class Corruption:
    """Takes uint8 images `(N, H, W)` and a severity from 1 to 5, and returns new ones alike.

    Attributes:
        severities: what 1 to 5 mean, in `unit`.
        change: from images and one of `severities` to images.

    Example:
        >>> CORRUPTIONS["blur"](torch.zeros(2, 48, 48).byte(), 3).shape
        torch.Size([2, 48, 48])
    """

    severities: tuple[float, float, float, float, float]
    unit: str
    change: Callable[[Tensor, float], Tensor]

    def __call__(self, images: Tensor, severity: int) -> Tensor:
        """Return the images under a severity."""
        if type(severity) is not int or severity not in (1, 2, 3, 4, 5):
            raise ArgumentError(f"severity must be 1 to 5, got {severity!r}")
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 3:
            raise ArgumentError(f"images must be a tensor, uint8 (N, H, W), got {images!r:.80}")
        if not len(images):
            return images.clone()
        return self.change(images, self.severities[severity - 1])


_BRIGHTNESS = "times the brightness", partial(_apply, "adjust_brightness")
_EYES = f"px high, a bar {EYES[2]} px wide over the eyes", partial(_bar, centre=EYES)
_MOUTH = f"px high, a bar {MOUTH[2]} px wide over the mouth", partial(_bar, centre=MOUTH)
CORRUPTIONS: Registry[Corruption] = Registry("corruption", "fer_zoo.evaluation.CORRUPTIONS")
for _name, _corruption in {
    "occlude_eyes": Corruption((4, 7, 10, 13, 16), *_EYES),
    "occlude_mouth": Corruption((4, 7, 10, 13, 16), *_MOUTH),
    "occlude_half": Corruption((10, 20, 30, 40, 50), "% of the width, from the left", _half),
    "rotate": Corruption((10, 20, 30, 45, 60), "degrees counter-clockwise", _rotate),
    "darken": Corruption((0.7, 0.5, 0.35, 0.25, 0.15), *_BRIGHTNESS),
    "brighten": Corruption((1.3, 1.6, 2.0, 2.5, 3.0), *_BRIGHTNESS),
    "low_contrast": Corruption(
        (0.6, 0.4, 0.25, 0.15, 0.08), "times the contrast", partial(_apply, "adjust_contrast")
    ),
    "blur": Corruption((0.6, 1.0, 1.5, 2.0, 3.0), "px standard deviation of a Gaussian", _blur),
    "noise": Corruption((8, 16, 28, 40, 60), "gray levels standard deviation, Gaussian", _noise),
    "jpeg": Corruption((50, 30, 20, 10, 5), "JPEG quality", _jpeg),
    "small": Corruption((32, 24, 16, 12, 8), "px side, scaled back to 48", _small),
}.items():
    CORRUPTIONS.register(_name, _corruption)


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Accuracy of a model on corrupted faces. Shares are from 0 to 1.

    Attributes:
        clean: how it does on the faces as they are.
        accuracy: of each corruption at each of `severities`.

    Example:
        >>> Robustness(clean=None, severities=(1, 5), accuracy={"blur": (0.7, 0.3)}).mean
        {'blur': 0.5}
    """

    clean: Evaluation
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each corruption over its severities."""
        return {name: sum(shares) / len(shares) for name, shares in self.accuracy.items()}

    @property
    def overall(self) -> float:
        """The mean over all corruptions and severities."""
        return sum(self.mean.values()) / len(self.accuracy)

    def __repr__(self) -> str:
        return (
            f"Robustness({self.clean.title!r} on {self.clean.faces}: clean "
            f"{percent(self.clean.accuracy)} %, mean over {len(self.accuracy)} corruptions "
            f"{percent(self.overall)} %)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the means as plain values, ready for JSON."""
        plain = {"clean": self.clean.to_dict(), "severities": list(self.severities)}
        shares = {name: list(shares) for name, shares in self.accuracy.items()}
        return plain | {"accuracy": shares, "mean": self.mean, "overall": self.overall}

    def rows(self) -> list[list[str]]:
        """Return the table in per cent, a row for each corruption."""
        rows = [["corruption", "unit", *map(str, self.severities), "mean"]]
        for name, mean in self.mean.items():
            shares = [f"{100 * share:.1f}" for share in (*self.accuracy[name], mean)]
            kind = CORRUPTIONS[name]
            steps = ", ".join(f"{kind.severities[s - 1]:g}" for s in self.severities)
            rows.append([name, f"{steps} {kind.unit}", *shares])
        blank = [""] * len(self.severities)
        return [*rows, ["all", "", *blank, f"{100 * self.overall:.1f}"]]

    def to_markdown(self) -> str:
        """Return the table under a line that says of what."""
        clean = self.clean
        said = safe(
            f"{clean.title} on {clean.faces}, {clean.preset}: accuracy {percent(clean.accuracy)} % "
            f"(95 % interval {interval(clean.interval)}) on clean faces; in % under each severity:"
        )
        return f"{said}\n\n{markdown(self.rows())}\n"


def robustness(
    model: Classifier | str | os.PathLike[str],
    data: FacesLike,
    *,
    preset: Preset | str | None = None,
    corruptions: str | Sequence[str] | None = None,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    batch_size: int = 256,
    progress: bool = False,
    labels: Mapping[str, Sequence[str]] | None = None,
    ignore: Iterable[str] = (),
) -> Robustness:
    """Score a model on faces that are covered, turned, dimmed, blurred or shrunk.

    The corrupted faces are the same on every call, and all of one corruption are held at once.

    Args:
        model: a trained model, a name, an address or the folder of a training run.
        data: faces whose classes the model knows, in any order.
        preset: another transform than the model's own.
        corruptions: a name in `CORRUPTIONS` or several; all if not given.
        severities: some of 1 to 5.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.
        labels: as for `fer_zoo.evaluate`.
        ignore: as for `fer_zoo.evaluate`.

    Raises:
        LabelError: the model is untrained, or names other classes than the data.
        UnknownNameError: a corruption that does not exist.
        ArgumentError: no corruption, or severities that are not some of 1 to 5.

    Example:
        >>> import fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> result = robustness("resnet18_025", faces, corruptions=["rotate"], severities=[3])
        >>> result.clean.accuracy == result.overall      # black turned is black
        True
    """
    chosen = _chosen(corruptions)
    listed = isinstance(severities, Iterable) and list(severities)
    if not listed or not all(type(s) is int and 1 <= s <= 5 for s in listed):
        raise ArgumentError(f"severities are some of 1 to 5, got {severities!r:.80}")
    network = resolve(model)
    classes: dict[str, Any] = {"labels": made_of(labels), "ignore": names_to_ignore(ignore)}
    task = match(network, data, **classes)
    clean = evaluate(network, data, preset=preset, batch_size=batch_size, **classes)
    accuracy: dict[str, tuple[float, ...]] = dict.fromkeys(chosen, ())
    pairs = list(product(chosen, listed))
    for name, severity in progress_bar(pairs, desc="corruptions", show=progress):
        images = _corrupted(chosen[name], name, task.faces.images, severity)
        members = member_scores(network, images, preset=preset, batch_size=batch_size)
        answers = task.answers(fuse(network, members), clean.temperature)
        right = answers.argmax(1) == clean.targets
        accuracy[name] += (float(right.double().mean()),)
    return Robustness(clean=clean, severities=tuple(listed), accuracy=accuracy)


def _corrupted(corruption: Corruption, name: str, images: Tensor, severity: int) -> Tensor:
    """Return corrupted images of the same shape; whoever works in place has a copy."""
    found = corruption(images.clone(), severity)
    if not isinstance(found, Tensor) or (found.shape, found.dtype) != (images.shape, images.dtype):
        got = (
            f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else f"{found!r:.80}"
        )
        raise ArgumentError(
            f"the corruption {name!r} must return uint8 {tuple(images.shape)}, as it got, not {got}"
        )
    return found


def _chosen(names: str | Sequence[str] | None) -> dict[str, Corruption]:
    """Return the corruptions of these names; all of them for None."""
    names = list(CORRUPTIONS) if names is None else [names] if isinstance(names, str) else names
    if not isinstance(names, Iterable) or not (found := {n: CORRUPTIONS[n] for n in names}):
        raise ArgumentError(f"corruptions is a name in CORRUPTIONS or several, got {names!r:.80}")
    return found
