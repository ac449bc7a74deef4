"""What every network of the zoo can do: timm's dialect, plus labels and a preset."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fer_zoo.errors import ArgumentError
from fer_zoo.labels import check_labels


class Classifier(nn.Module, ABC):
    """A network from face images `(B, in_channels, H, W)` to logits `(B, num_classes)`.

    The method names are timm's, so fine-tuning code written for timm works unchanged.

    Attributes:
        name: the registry name that builds this network again.
        preset: the name of the transform that makes the images this network was made for.
        provenance: how the weights came to be (recipe, data, metrics); JSON-able, saved with them.
        temperature: what scores are divided by before they become probabilities, by preset; empty
            while uncalibrated. `forward` returns scores as they are, predictors apply it.
        num_classes: width of the head.
        num_features: width of the vector in front of the head.
        in_channels: 1 for gray, 3 for RGB.

    Example:
        >>> import torch, fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> features = model.forward_features(torch.zeros(2, 1, 40, 40))
        >>> model.forward_head(features, pre_logits=True).shape, model.num_features
        (torch.Size([2, 128]), 128)
    """

    name: str = ""
    preset: str = "fer40_center"
    provenance: dict[str, Any]
    temperature: dict[str, float]
    num_classes: int
    num_features: int
    in_channels: int

    def __init__(self) -> None:
        super().__init__()
        self.provenance = {}
        self.temperature = {}
        self._labels: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The class names of the head in order, or None where they are unknown."""
        return self._labels

    @labels.setter
    def labels(self, names: Sequence[str] | None) -> None:
        self._labels = None if names is None else check_labels(names, self.num_classes)

    @property
    def origin(self) -> str | None:
        """The address of these weights, or the run that they come from."""
        known = self.provenance
        if known.get("weights") or "recipe" not in known:
            return known.get("weights") or known.get("started_from")
        recipe, data = known["recipe"], known.get("data", {})
        text = f"{known.get('model')} trained by {recipe.get('name')} (seed {recipe.get('seed')})"
        text += f" on {data.get('name')}" if isinstance(data, dict) else ""
        before = known.get("started_from")
        return f"{text}, started from {before}" if before else text

    def temperature_for(self, preset: str) -> float:
        """Return what scores under the preset of that name are divided by.

        Under a preset without one of its own that is the bound preset's, which is only
        approximate (averaged views are less sure than one); 1.0 for an uncalibrated model.
        """
        return self.temperature.get(preset, self.temperature.get(self.preset, 1.0))

    @abstractmethod
    def forward_features(self, x: Tensor) -> Any:
        """Return what the body makes of `x`, before pooling."""

    @abstractmethod
    def forward_head(self, x: Any, pre_logits: bool = False) -> Tensor:
        """Return logits `(B, num_classes)`, or the features `(B, num_features)` before them."""

    @abstractmethod
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""

    @abstractmethod
    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that sort the parameters from the stem to the head, as timm's do.

        What no pattern matches, the head at least, comes last.

        Args:
            coarse: one group for each stage instead of each block.
        """
        return {}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, H, W)`."""
        return self.forward_head(self.forward_features(x))

    def __repr__(self) -> str:
        """Say what one wants to know of a model; `print(model)` lists its layers or members."""
        run = self.origin if "recipe" in self.provenance else None
        weights = self.provenance.get("weights") or run or (self.labels and "own") or None
        channels = {1: "gray", 3: "RGB"}.get(self.in_channels, f"{self.in_channels} channels")
        parts = [
            repr(self.name or type(self).__name__),
            f"weights={weights!r}",
            f"{count_parameters(self) / 1e6:.2f} M parameters",
            f"preset={self.preset!r} ({channels})",
            f"labels={self.labels}" if self.labels else f"num_classes={self.num_classes}",
            *self._facts(),
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        return super().__repr__()

    def _facts(self) -> list[str]:
        """Return what else the repr says."""
        return []

    def extra_repr(self) -> str:
        """Say what one wants to know first of a network, in the list of its layers."""
        return f"name={self.name!r}, num_classes={self.num_classes}, labels={self.labels}"

    def _fresh_head(self, num_classes: int) -> nn.Linear:
        """Return a new linear head on the device and in the dtype of the old one."""
        self._forget_head(num_classes)
        old = next(self.parameters())
        return make_linear(self.num_features, num_classes).to(old.device, old.dtype)

    def _forget_head(self, num_classes: int) -> None:
        """Take note that the head is new: no labels, and the old head's evidence is void."""
        self.num_classes = check_count("num_classes", num_classes)
        self.labels = None
        self.temperature = {}
        before = self.origin
        self.provenance = {"started_from": before} if before else {}


def check_temperature(values: Mapping[str, float]) -> dict[str, float]:
    """Return `values` (preset name to temperature) if each is a number from 0.001 to 1000.

    Example:
        >>> check_temperature({"fer40_center": 1.2})
        {'fer40_center': 1.2}
    """
    if not isinstance(values, Mapping):
        raise ArgumentError(f"temperature maps preset names to numbers, got {values!r:.80}")
    for name, value in values.items():
        number = isinstance(value, float | int) and not isinstance(value, bool)
        # Beyond these bounds double precision might merge or overflow scores.
        if not isinstance(name, str) or not number or not 1e-3 <= value <= 1e3:
            raise ArgumentError(
                f"a temperature is a number from 0.001 to 1000, got {value!r} for {name!r}"
            )
    return {name: float(value) for name, value in values.items()}


def check_count(name: str, value: int) -> int:
    """Return `value` if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def make_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer initialised as torchvision does for VGG: N(0, 0.01), bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def init_convolutions(module: nn.Module) -> None:
    """He initialisation (arXiv 1502.01852) of every convolution in `module`, mode fan-out."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def count_parameters(module: nn.Module) -> int:
    """Return the number of learned values.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in module.parameters())
