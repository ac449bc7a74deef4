"""One model against another, and one view against ten, face by face."""

from dataclasses import asdict, dataclass
from typing import Any

from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.figures import points
from fer_zoo.evaluation.metrics import Evaluation, libraries
from fer_zoo.transforms import PRESETS, Preset


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations on the same faces, and McNemar's exact test of their accuracies.

    Attributes:
        first: model and preset of one.
        second: model and preset of the other.
        n: faces.
        difference: accuracy of the second minus that of the first, from -1 to 1.
        only_first: faces that only the first labels right.
        only_second: faces that only the second labels right.
        p_value: two-sided; how often chance alone would split the faces on which exactly one is
            right as unevenly, if both were equally good (McNemar 1947, exact binomial).

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> one, ten = fer_zoo.evaluation.measure("resnet18_025", faces).results
        >>> compare(one, ten).to_dict()["second"]
        'resnet18_025, fer40_tencrop'
    """

    first: str
    second: str
    n: int
    difference: float
    only_first: int
    only_second: int
    p_value: float

    def __repr__(self) -> str:
        return (
            f"Comparison({self.second!r} against {self.first!r}: {points(self.difference)} "
            f"points, McNemar's p = {self.p_value:.3g}, n = {self.n})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two evaluations face by face.

    Raises:
        ArgumentError: they are not of the same faces in the same order.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> a, b = (fer_zoo.evaluate(name, faces) for name in ("resnet18_025", "vgg19_025"))
        >>> comparison = compare(a, b)
        >>> comparison.first, comparison.p_value
        ('resnet18_025, fer40_center', 1.0)
    """
    _, stats, _ = libraries()
    if first.faces.fingerprint != second.faces.fingerprint:
        raise ArgumentError(
            f"{first.title} was evaluated on {first.faces} and {second.title} on {second.faces}, "
            "which are not the same faces: evaluate both on one dataset"
        )
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    differ = only_first + only_second
    return Comparison(
        first=f"{first.title}, {first.preset}",
        second=f"{second.title}, {second.preset}",
        n=first.n,
        difference=(only_second - only_first) / first.n,
        only_first=only_first,
        only_second=only_second,
        p_value=float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0,
    )


def counterpart(preset: Preset | str) -> Preset | None:
    """Return the registered preset with ten crops where `preset` has one view, or the reverse.

    Both scale alike, cut the same size and normalise alike; None where no such preset is
    registered.

    Example:
        >>> counterpart("fer40_center").name, counterpart("thesis40")
        ('fer40_tencrop', None)
    """
    own = preset if isinstance(preset, Preset) else PRESETS[preset]
    arithmetic = (own.resize, own.size, own.mean, own.std)
    for other in PRESETS.values():
        alike = (other.resize, other.size, other.mean, other.std) == arithmetic
        if alike and (other.num_views > 1) != (own.num_views > 1):
            return other
    return None
