"""The registry of models: one frozen block per name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fer_zoo.errors import ArgumentError
from fer_zoo.models.base import Classifier
from fer_zoo.registry import Registry


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What the zoo knows of a model by name.

    Attributes:
        name: registry name.
        description: one line for listings.
        source: the paper or page the network comes from.
        build: called as `build(num_classes=..., in_channels=...)`, returns the untrained network;
            None for an ensemble.
        preset: name of the transform it is made for; size, mean and std are stated there.
        num_classes: width of the head where nothing else is asked for.
        in_channels: channels where nothing else is asked for: 1 for gray.
        first_conv: key of the weight that sees the image, adapted when RGB weights are loaded.
        classifier: prefix of the keys of the head, left out when ImageNet weights are loaded.
        members: the names of an ensemble's members.
        fusion: the name of an ensemble's fusion where nothing else is asked for.

    Example:
        >>> from fer_zoo.models import ResNet
        >>> spec = ModelSpec(name="mine", build=ResNet, description="a ResNet18", source="me")
        >>> spec.build(num_classes=3, in_channels=1).num_classes
        3
    """

    name: str
    description: str
    source: str
    build: Callable[..., Classifier] | None = None
    preset: str = "fer40_center"
    num_classes: int = 7
    in_channels: int = 1
    first_conv: str = ""
    classifier: str = ""
    members: tuple[str, ...] = ()
    fusion: str = "average"

    def __post_init__(self) -> None:
        if not isinstance(self.members, tuple):
            raise ArgumentError(f"members must be a tuple of names, got {self.members!r:.80}")
        if (self.build is None) == (not self.members):
            raise ArgumentError(f"{self.name!r} needs either a build or members, not both")

    def __repr__(self) -> str:
        made_of = f", members={list(self.members)}" if self.members else ""
        return f"ModelSpec({self.name!r}, preset={self.preset!r}{made_of}: {self.description})"

    def describe(self) -> dict[str, Any]:
        """Return what a listing shows, as plain values."""
        names = ("name", "description", "source", "preset", "num_classes", "in_channels")
        made_of = {"members": list(self.members), "fusion": self.fusion} if self.members else {}
        return {name: getattr(self, name) for name in names} | made_of


MODELS: Registry[ModelSpec] = Registry("model", "fer_zoo.list_models()")
