"""Accuracy under what is hard in real life: occlusion, rotation, light, blur, noise, scale.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions
and perturbations" (arXiv 1903.12261): each corruption in five severities, always the same pixels.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, UnknownNameError
from fer_zoo.evaluation.drawing import COLOURS, add_legend, add_title, line_look, new_figure
from fer_zoo.evaluation.metrics import evaluate
from fer_zoo.evaluation.sheet import contact_sheet
from fer_zoo.inference import predict_scores
from fer_zoo.models import Classifier
from fer_zoo.transforms import Preset

SIDE = 48
"""Lengths below are in px of a face of this side; other sizes are corrupted in proportion."""
EYES = (17, 24, 36)
"""Row and column of the centre, and width, of the eyes in the mean face of FER2013's Training."""
MOUTH = (38, 24, 26)
"""The same of the mouth."""

SEVERITIES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "occlude_eyes": (4, 7, 10, 13, 16),
        "occlude_mouth": (4, 7, 10, 13, 16),
        "occlude_half": (10, 20, 30, 40, 50),
        "rotate": (10, 20, 30, 45, 60),
        "darken": (0.7, 0.5, 0.35, 0.25, 0.15),
        "brighten": (1.3, 1.6, 2.0, 2.5, 3.0),
        "low_contrast": (0.6, 0.4, 0.25, 0.15, 0.08),
        "blur": (0.6, 1.0, 1.5, 2.0, 3.0),
        "noise": (8, 16, 28, 40, 60),
        "jpeg": (50, 30, 20, 10, 5),
        "small": (32, 24, 16, 12, 8),
    }
)
"""What severities 1 to 5 mean, in the order of `CORRUPTIONS`, in the `UNITS` below."""
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "occlude_eyes": "px high, a bar 36 px wide over the eyes",
        "occlude_mouth": "px high, a bar 26 px wide over the mouth",
        "occlude_half": "% of the width covered, from the left",
        "rotate": "degrees counter-clockwise",
        "darken": "times the brightness",
        "brighten": "times the brightness",
        "low_contrast": "times the contrast",
        "blur": "px standard deviation of a Gaussian",
        "noise": "gray levels standard deviation, Gaussian",
        "jpeg": "JPEG quality",
        "small": "px side, scaled back to 48",
    }
)
Corruption = Callable[[Tensor, int], Tensor]


def _apply(operation: str, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return torchvision's operation on gray images."""
    from torchvision.transforms.v2 import functional

    result: Tensor = getattr(functional, operation)(images[:, None], *args, **kwargs)[:, 0]
    return result


def _bar(images: Tensor, height: float, place: tuple[int, int, int]) -> Tensor:
    """Cover a bar with each image's mean gray, which adds no brightness of its own."""
    row, column, width = place
    tall, wide = (side / SIDE for side in images.shape[1:])
    top, left = round((row - height / 2) * tall), round((column - width / 2) * wide)
    bottom, right = round((row + height / 2) * tall), round((column + width / 2) * wide)
    return _cover(images, slice(max(top, 0), bottom), slice(max(left, 0), right))


def _half(images: Tensor, share: float) -> Tensor:
    return _cover(images, slice(None), slice(0, round(images.shape[2] * share / 100)))


def _cover(images: Tensor, rows: slice, columns: slice) -> Tensor:
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
    kernel = 2 * math.ceil(3 * sigma) + 1
    kernel = min(kernel, 2 * min(images.shape[1:]) - 1)
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

    found = []
    for image in images.cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        found.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(found).to(images.device)


def _small(images: Tensor, side: float) -> Tensor:
    size = list(images.shape[1:])
    less = [max(1, round(length * side / SIDE)) for length in size]
    return _apply("resize", _apply("resize", images, less), size)


_ARITHMETIC: dict[str, Callable[[Tensor, float], Tensor]] = {
    "occlude_eyes": partial(_bar, place=EYES),
    "occlude_mouth": partial(_bar, place=MOUTH),
    "occlude_half": _half,
    "rotate": _rotate,
    "darken": partial(_apply, "adjust_brightness"),
    "brighten": partial(_apply, "adjust_brightness"),
    "low_contrast": partial(_apply, "adjust_contrast"),
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "small": _small,
}


def _corrupt(name: str, images: Tensor, severity: int) -> Tensor:
    if severity not in (1, 2, 3, 4, 5):
        raise ArgumentError(f"severity must be 1 to 5, got {severity!r}")
    if images.dtype != torch.uint8 or images.ndim != 3:
        raise ArgumentError(
            f"images must be uint8 (N, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    if not len(images):
        return images.clone()
    return _ARITHMETIC[name](images, SEVERITIES[name][severity - 1])


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {name: partial(_corrupt, name) for name in SEVERITIES}
)
"""Each takes uint8 images `(N, H, W)` and a severity from 1 to 5, and returns new ones alike."""


@dataclass(frozen=True)
class Robustness:
    """Accuracy of a model on corrupted faces. Shares are from 0 to 1.

    Attributes:
        model: its name.
        weights: the address of its weights, where it has them from the zoo.
        fusion: the name of its fusion, for an ensemble.
        data: the dataset's name.
        split: `"public"`, ..., or None for one's own faces.
        preset: the transform.
        views: views per face.
        n: faces.
        clean: accuracy on the faces as they are.
        interval: 95 % Wilson interval of it.
        severities: those measured.
        accuracy: of each corruption at each of `severities`.
        mean: of each corruption over them.
        overall: the mean over all corruptions and severities.
        note: what to keep in mind, if anything.

    Example:
        >>> import fer_zoo
        >>> faces = FaceDataset(torch.randint(0, 256, (7, 48, 48), dtype=torch.uint8),
        ...                     torch.arange(7), labels=fer_zoo.labels.FER2013, name="noise")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> result = robustness(model, faces, corruptions=["blur"], severities=[1, 5])
        >>> print(result.to_markdown().splitlines()[2])
        | corruption | unit | 1 | 5 | mean |
    """

    model: str
    weights: str
    fusion: str
    data: str
    split: str | None
    preset: str
    views: int
    n: int
    clean: float
    interval: tuple[float, float]
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    mean: dict[str, float]
    overall: float
    note: str = ""

    def __repr__(self) -> str:
        return (
            f"Robustness({self.model!r} on {self.data}, n = {self.n}: clean {100 * self.clean:.2f} "
            f"%, mean over {len(self.accuracy)} corruptions {100 * self.overall:.2f} %)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return a table in per cent, under a line that says of what."""
        low, high = (100 * bound for bound in self.interval)
        head = ["corruption", "unit", *map(str, self.severities), "mean"]
        rows = [head, ["---"] * len(head)]
        for name, found in self.accuracy.items():
            shares = [f"{100 * share:.1f}" for share in (*found, self.mean[name])]
            steps = ", ".join(f"{SEVERITIES[name][s - 1]:g}" for s in self.severities)
            rows.append([name, f"{steps} {UNITS[name]}", *shares])
        rows.append(["all", "", *[""] * len(self.severities), f"{100 * self.overall:.1f}"])
        where = f"{self.data} {self.split or ''}".strip()
        title = (
            f"{self.model}{f' ({self.fusion})' if self.fusion else ''} on {where}, {self.preset}, "
            f"n = {self.n}: accuracy {100 * self.clean:.1f} % (95 % interval {low:.1f} to "
            f"{high:.1f}) on clean faces; in % under each severity:"
        )
        return title + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def robustness(
    model: Classifier,
    data: FaceDataset,
    *,
    preset: Preset | str | None = None,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    batch_size: int = 256,
    progress: bool = False,
) -> Robustness:
    """Score a model on faces that are covered, turned, dimmed, blurred or shrunk.

    The corrupted faces are the same on every call. All faces of one corruption are held at once,
    so 28,709 take 66 MB, and noise four times that.

    Args:
        model: a trained model.
        data: faces with the same class names, in any order.
        preset: another transform than the model's own.
        corruptions: names in `CORRUPTIONS`; all if not given.
        severities: some of 1 to 5.
        batch_size: largest number of views in one forward pass.
        progress: show a bar on a terminal.

    Raises:
        LabelError: the model is untrained, or names other classes than the data.
        UnknownNameError: a corruption that does not exist.

    Example:
        >>> import fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> result = robustness(model, faces, corruptions=["rotate"], severities=[3])
        >>> result.clean == result.overall      # black turned is black
        True
    """
    names = _known(corruptions)
    if not names or not severities or not set(severities) <= {1, 2, 3, 4, 5}:
        raise ArgumentError(
            f"give one corruption or more, and severities from 1 to 5; got {names} and "
            f"{list(severities)}"
        )
    clean = evaluate(model, data, preset=preset, batch_size=batch_size)
    targets = data.targets_for(clean.labels)
    accuracy: dict[str, tuple[float, ...]] = {}
    total = len(names) * len(severities)
    with tqdm(total=total, desc="corruptions", disable=None if progress else True) as bar:
        for name in names:
            found = []
            for severity in severities:
                images = CORRUPTIONS[name](data.images, severity)
                scores = predict_scores(model, images, preset=preset, batch_size=batch_size)
                found.append(float((scores.argmax(1) == targets).double().mean()))
                bar.update()
            accuracy[name] = tuple(found)
    mean = {name: sum(found) / len(found) for name, found in accuracy.items()}
    return Robustness(
        model=clean.model,
        weights=clean.weights,
        fusion=clean.fusion,
        data=clean.data,
        split=clean.split,
        preset=clean.preset,
        views=clean.views,
        n=clean.n,
        clean=clean.accuracy,
        interval=clean.interval,
        severities=tuple(severities),
        accuracy=accuracy,
        mean=mean,
        overall=sum(mean.values()) / len(mean),
        note=clean.note,
    )


def _known(names: Sequence[str] | None) -> list[str]:
    chosen = list(CORRUPTIONS) if names is None else list(names)
    unknown = [name for name in chosen if name not in CORRUPTIONS]
    if unknown:
        raise UnknownNameError(f"unknown corruptions {unknown}; there are {list(CORRUPTIONS)}")
    return chosen


def plot_robustness(results: Robustness | Sequence[Robustness]) -> Any:
    """Return a `matplotlib.figure.Figure`: accuracy against severity, one panel per corruption.

    A dashed line, with its marker at severity 0, is the accuracy on clean faces.

    Args:
        results: one, or up to eight of the same corruptions to compare.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> result = robustness(model, faces, corruptions=["rotate", "blur"], severities=[1, 5])
        >>> [axes.get_title() for axes in plot_robustness(result).axes[:2]]
        ['rotate', 'blur']
    """
    several = [results] if isinstance(results, Robustness) else list(results)
    if not 0 < len(several) <= len(COLOURS) or len({tuple(r.accuracy) for r in several}) > 1:
        raise ArgumentError("plot one to eight results with the same corruptions")
    names = list(several[0].accuracy)
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(2.4 * columns, 4) + 0.4, 1.9 * rows + 0.3)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    lines = []
    for place, (axes, name) in enumerate(zip(panels, names, strict=False)):
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
        axes.set_xticks(range(6))
        if place + columns >= len(names):  # nothing is below it
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("severity", fontsize=9)
        if place % columns == 0:
            axes.set_ylabel("accuracy in %", fontsize=9)
        for i, result in enumerate(several):
            shares, look = [100 * share for share in result.accuracy[name]], line_look(i)
            clean = [100 * result.clean] * 2
            axes.plot([0, 5], clean, linestyle="--", linewidth=1, markevery=[0], ms=4, **look)
            lines += axes.plot(result.severities, shares, ms=4, **look)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    first = several[0]
    where = f"{first.data}, {first.split or 'own faces'}, n = {first.n}"
    add_title(figure, f"{where}; dashed: clean faces")
    titles = [f"{r.model} ({r.fusion})" if r.fusion else r.model for r in several]
    found = [f"{t}, mean {100 * r.overall:.1f} %" for t, r in zip(titles, several, strict=True)]
    add_legend(figure, lines[: len(several)], found)
    return figure


def corrupted_examples(image: Tensor, *, corruptions: Sequence[str] | None = None) -> Any:
    """Return a figure of one gray face, uint8 `(H, W)`, under every corruption and severity.

    Example:
        >>> face = torch.randint(0, 256, (48, 48), dtype=torch.uint8)
        >>> len(corrupted_examples(face, corruptions=["blur", "noise"]).axes)
        12
    """
    images, captions = [], []
    for name in _known(corruptions):
        images += [image, *(CORRUPTIONS[name](image[None], s)[0] for s in range(1, 6))]
        captions += [name, *(f"{value:g}" for value in SEVERITIES[name])]
    return contact_sheet(torch.stack(images), captions, columns=6)
