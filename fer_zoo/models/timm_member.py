"""Any timm image model as a member of the zoo, through timm's public functions only."""

import difflib
import re
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fer_zoo.errors import UnknownNameError
from fer_zoo.models.base import Classifier
from fer_zoo.models.spec import ModelSpec

PREFIX = "timm/"


class TimmMember(Classifier):
    """A timm network with a gray stem: `(B, in_channels, H, W)` to `(B, num_classes)`.

    Those that take one input size only get the image enlarged to it (bilinear).

    Args:
        architecture: timm's name, without `timm/`.
        num_classes: width of the head.
        in_channels: 1 for gray, 3 for RGB.

    Example:
        >>> import torch
        >>> member = TimmMember("resnet10t", num_classes=7)
        >>> member(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 7])
    """

    model: Any

    def __init__(self, architecture: str, *, num_classes: int, in_channels: int = 1) -> None:
        import timm

        super().__init__()
        self.model = timm.create_model(
            architecture, pretrained=False, num_classes=num_classes, in_chans=in_channels
        )
        self.num_classes, self.in_channels = num_classes, in_channels
        config = self.model.pretrained_cfg
        self.fixed_size = (
            tuple(config["input_size"][1:]) if config.get("fixed_input_size") else None
        )

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """Width of the vector in front of the head."""
        return int(getattr(self.model, "head_hidden_size", self.model.num_features))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the timm network's patterns, for the names that its parameters have here."""

        def here(pattern: str) -> str:
            # Patterns are matched from the start, and `^` also begins sets like [^.].
            free = re.sub(r"(?<!\[)\^", "", pattern)
            return rf"model\.(?:{free})"

        return {
            group: here(found)
            if isinstance(found, str)
            else found and [(here(pattern), place) for pattern, place in found]
            for group, found in self.model.group_matcher(coarse=coarse).items()
        }

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the network's body makes of `x`."""
        if self.fixed_size and tuple(x.shape[-2:]) != self.fixed_size:
            x = F.interpolate(x, self.fixed_size, mode="bilinear", align_corners=False)
        features: Tensor = self.model.forward_features(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits, or the features before them."""
        out: Tensor = self.model.forward_head(x, pre_logits=pre_logits)
        return out

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        layer: nn.Module = self.model.get_classifier()
        return layer

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on."""
        self._forget_head(num_classes)
        self.model.reset_classifier(num_classes)
        self._note_fresh(self.get_classifier())


def timm_spec(name: str) -> ModelSpec:
    """Return a spec for `timm/<architecture>`."""
    import timm

    architecture = name.removeprefix(PREFIX)
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(repr(PREFIX + n) for n in near)}?" if near else ""
        raise UnknownNameError(
            f"timm has no model {architecture!r}.{hint} timm.list_models() lists all."
        )

    base, tagged, tag = architecture.partition(".")
    if tagged and architecture not in (tags := timm.list_pretrained(f"{base}.*")):
        raise UnknownNameError(f"timm has no {base!r} tagged {tag!r}, only {sorted(tags)}")
    known = timm.get_pretrained_cfg(architecture)

    def key(name: str) -> str:
        value = getattr(known, name, None)
        return f"model.{value}" if isinstance(value, str) else ""

    return ModelSpec(
        name=name,
        first_conv=f"{stem}.weight" if (stem := key("first_conv")) else "",
        classifier=key("classifier"),
        build=partial(TimmMember, architecture),
        description=f"timm's {architecture} with a gray stem",
        source="https://github.com/huggingface/pytorch-image-models",
    )
