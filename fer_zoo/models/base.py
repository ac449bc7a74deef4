"""What every network of the zoo can do: timm's dialect, plus labels and a preset."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Calibration, Evidence, check_temperature
from fer_zoo.fusion import Fusion
from fer_zoo.labels import canonical, check_labels
from fer_zoo.plain import digest_tensors
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import check_shared


class Classifier(nn.Module, ABC):
    """A network from face images `(B, in_channels, H, W)` to logits `(B, num_classes)`.

    The method names are timm's.

    Attributes:
        name: the registry name that builds this network again.
        preset: the name of the transform that makes the images this network was made for.
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
    num_classes: int
    num_features: int
    in_channels: int

    def __init__(self) -> None:
        super().__init__()
        self._labels: tuple[str, ...] | None = None
        self._evidence = Evidence()
        self._known_form: Any = None
        self._seen: Any = None
        self._fresh_state = ""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The class names of the head in order, or None where they are unknown."""
        return self._labels

    @labels.setter
    def labels(self, names: Sequence[str] | None) -> None:
        self._labels = None if names is None else check_labels(names, self.num_classes)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm asks of a network, from the images it is made for to its outer layers.

        `timm.data.resolve_model_data_config(model)` reads it. Of ten views it tells the centre one.

        Example:
            >>> import fer_zoo
            >>> fer_zoo.create("resnet18_025").pretrained_cfg["input_size"]
            (1, 40, 40)
        """
        preset, channels = PRESETS[self.preset], self.in_channels
        check_shared(preset)
        mean, std = (
            v if isinstance(v, tuple) else (v,) * channels for v in (preset.mean, preset.std)
        )
        return {
            "architecture": self.name,
            "input_size": (channels, preset.size, preset.size),
            "mean": mean,
            "std": std,
            "interpolation": preset.interpolation,
            "crop_pct": preset.size / preset.resize,
            "crop_mode": "center",
            "num_classes": self.num_classes,
            "label_names": self.labels,
            **self._outer_layers(),
        }

    default_cfg = pretrained_cfg

    def _outer_layers(self) -> dict[str, Any]:
        """Return the names of the layer that sees the image, and of the last one."""
        head, named = self.get_classifier(), list(self.named_modules())
        first = (name for name, m in named if isinstance(m, nn.Conv2d))
        last = (name for name, m in named if m is head)
        return {"first_conv": next(first, None), "classifier": next(last, None)}

    @property
    def state(self) -> str:
        """A digest of the parameters and buffers, the same for the same values only."""
        return self._state_of(self.state_dict())

    def _state_of(self, tensors: Mapping[str, Tensor]) -> str:
        return digest_tensors(tensors)

    @property
    def form(self) -> tuple[Any, ...]:
        """What decides the answers beside values, the layers with their settings and the labels."""
        layers = [(name, type(m).__name__, _settings(m)) for name, m in self.named_modules()]
        return layers, None if self.labels is None else tuple(map(canonical, self.labels))

    @property
    def evidence(self) -> Evidence:
        """What is known of the network as it is now.

        Setting it binds it to the present state, of which it must speak. Whatever changes a value,
        a layer or a label afterwards, only where the network comes from is left of it. (Hooks, and
        methods that were replaced, are not looked at.)
        """
        held = self._evidence
        if held.claims and (seen := self._glance()) != self._seen:
            if self._known_form != self.form or held.state != self.state:
                return held.of_changed()
            self._seen = seen
        return held

    @evidence.setter
    def evidence(self, evidence: Evidence) -> None:
        if not isinstance(evidence, Evidence):
            raise ArgumentError(f"evidence is a fer_zoo.evidence.Evidence, got {evidence!r:.80}")
        state = self.state if evidence.claims else ""
        if evidence.claims and evidence.state not in ("", state):
            raise ArgumentError(f"{evidence!r} speaks of another state than {self.name!r} has now")
        self._hold(replace(evidence, state=state))

    def _hold(self, evidence: Evidence) -> None:
        """Take evidence whose state is known to be the network's, as from a checked file."""
        self._evidence, self._known_form, self._seen = evidence, self.form, None

    def _glance(self) -> Any:
        """Return what tells cheaply whether anything changed since the last look."""
        tensors = self.state_dict(keep_vars=True).values()
        versions = [0 if t.is_inference() else t._version for t in tensors]
        return self.form, versions, [(t.data_ptr(), _sum_of_bits(t)) for t in tensors]

    @property
    def temperature(self) -> dict[str, float]:
        """What predictors divide scores by, by preset; `forward` returns scores as they are.

        Empty while the network is uncalibrated, also because it changed since it was set.
        """
        calibration = self.evidence.calibration
        return dict(calibration.temperature) if calibration else {}

    @temperature.setter
    def temperature(self, values: Mapping[str, float]) -> None:
        calibration = Calibration(temperature=check_temperature(values)) if values != {} else None
        if calibration or self._evidence.calibration:
            self.evidence = replace(self.evidence, calibration=calibration)

    def temperature_for(self, preset: str) -> float:
        """Return a preset's temperature, else (approximately) the bound preset's, else 1.0."""
        known = self.temperature
        return known.get(preset, known.get(self.preset, 1.0))

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
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on.

        A recipe draws a head that is still as this made it again, by its seed.
        """

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns from the stem to the head, by stage if `coarse`, else by block."""
        return {}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, H, W)`."""
        return self.forward_head(self.forward_features(x))

    def __repr__(self) -> str:
        known = self.evidence
        before = known.started_from if known.origin is None else ""
        parts = [
            repr(self.name or type(self).__name__),
            f"weights={known.origin!r}",
            *([f"started from {before!r}"] if before else []),
            f"{count_parameters(self) / 1e6:.2f} M parameters",
            f"preset={self.preset!r} ({self._colours})",
            f"labels={self.labels}" if self.labels else f"num_classes={self.num_classes}",
            *self._facts(),
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        return super().__repr__()

    @property
    def _colours(self) -> str:
        """What the network is shown, in words."""
        return {1: "gray", 3: "RGB"}.get(self.in_channels, f"{self.in_channels} channels")

    def _facts(self) -> list[str]:
        return []

    def extra_repr(self) -> str:
        """Say what one wants to know first of a network, in the list of its layers."""
        return f"name={self.name!r}, num_classes={self.num_classes}, labels={self.labels}"

    def _fresh_head(self, num_classes: int) -> nn.Linear:
        """Return a new linear head on the device and in the dtype of the old one."""
        self._forget_head(num_classes)
        old = next(self.parameters())
        head = make_linear(self.num_features, num_classes).to(old.device, old.dtype)
        self._note_fresh(head)
        return head

    def _note_fresh(self, head: nn.Module) -> None:
        held = head.state_dict()
        there = not any(tensor.is_meta for tensor in held.values())
        self._fresh_state = digest_tensors(held) if there else ""

    @property
    def has_fresh_head(self) -> bool:
        """Whether the head is as `reset_classifier` made it, its values untouched."""
        return bool(self._fresh_state) and self._fresh_state == digest_tensors(
            self.get_classifier().state_dict()
        )

    def _forget_head(self, num_classes: int) -> None:
        """Take note that the head is new: no labels, and the old head's evidence is void."""
        self.num_classes = check_count("num_classes", num_classes)
        self.labels = None
        self._hold(self.evidence.of_changed())


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _settings(module: nn.Module) -> str:
    """Return the settings of a layer that matter in evaluation."""
    if isinstance(module, Classifier | nn.modules.dropout._DropoutNd):
        return ""
    if isinstance(module, Fusion):
        return Fusion.extra_repr(module)  # its own may show values, as that of `Weighted` does
    return re.sub("momentum=[^,]*,? ?", "", module.extra_repr())


@torch.no_grad()
def _sum_of_bits(tensor: Tensor) -> int:
    bits = tensor.detach().view(_BITS[tensor.element_size()])
    return int(bits.sum(dtype=torch.int64))


def check_count(name: str, value: int) -> int:
    """Return `value` if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        features = name == "num_classes" and value == 0
        hint = ": model.forward_head(x, pre_logits=True) is without a head" if features else ""
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}{hint}")
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
