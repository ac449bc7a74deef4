"""Ensembles: members that see the same image, and one fusion of their logits."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.fusion import Fusion, create_fusion
from fer_zoo.labels import check_labels, index_map
from fer_zoo.models.base import Classifier
from fer_zoo.plain import canonical_json, digest_tensors
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import OfFile, arithmetic, check_shared, of_members


class Ensemble(Classifier):
    """Members and one fusion: `(B, in_channels, H, W)` to scores `(B, num_classes)`.

    Members whose presets or channels differ see each their own view of a face (the ensemble's
    preset says so, by its `views`): then `fer_zoo.Predictor` and all that takes faces works, and
    calling the ensemble does not.

    The softmax of the scores is the fused probability. Members whose labels are known must name the
    same classes; those in another order than the first member's are reordered, by name.

    Args:
        members: any number of networks of the zoo, no ensembles.
        fusion: a fusion for as many members and classes.

    Raises:
        ArgumentError: no members, a nested ensemble, or members that differ in classes.
        LabelError: members name different classes, or only some are labelled.

    Example:
        >>> from fer_zoo.models.resnet import ResNet
        >>> members = [ResNet(num_classes=7, width=8) for _ in range(2)]
        >>> model = Ensemble(members, create_fusion("average", 2, 7))
        >>> model.forward_members(torch.zeros(4, 1, 40, 40)).shape
        torch.Size([2, 4, 7])
    """

    members: Sequence[Classifier]

    def __init__(self, members: Sequence[Classifier], fusion: Fusion) -> None:
        super().__init__()
        if not members:
            raise ArgumentError("an ensemble needs at least one member")
        if nested := [i for i, member in enumerate(members) if isinstance(member, Ensemble)]:
            raise ArgumentError(
                f"member {nested[0]} is itself an ensemble: pass its members, [*e.members, ...]"
            )
        if len({id(m) for m in members}) < len(members):
            raise ArgumentError("the same network stands twice among the members; pass a copy")
        found = [m.num_classes for m in members]
        if len(set(found)) > 1:
            raise ArgumentError(f"members differ in num_classes: {found}")
        first = members[0]
        self.num_classes, self.in_channels = first.num_classes, first.in_channels
        self.num_features = sum(m.num_features for m in members)
        if (fusion.num_members, fusion.num_classes) != (len(members), self.num_classes):
            raise ArgumentError(
                f"got a fusion for {fusion.num_members} members and {fusion.num_classes} classes, "
                f"but {len(members)} members and {self.num_classes} classes"
            )
        channels = {m.in_channels for m in members}
        self.preset = own_views(members) if len(channels) > 1 else first.preset
        if len({m.labels is None for m in members}) > 1:
            raise LabelError(
                f"some members are labelled and some are not: {[m.labels for m in members]}; those "
                "given by name are untrained unless weights='default' says otherwise; of your own "
                "networks set .labels"
            )
        label_orders(members)  # raises where they name different classes
        self.members = cast(Any, nn.ModuleList(members))
        self.fusion = fusion

    @property
    def preset(self) -> str:
        """The transform of all members, or what says that each has its own."""
        return self._preset

    @preset.setter
    def preset(self, name: str) -> None:
        known = PRESETS.get(name)
        mixed = known is not None and known.views == "members"
        channels = [m.in_channels for m in getattr(self, "members", ())]
        if not mixed and len({*channels}) > 1:
            raise ArgumentError(
                f"the preset {name!r} cannot be what all members see: they take {channels} channels"
            )
        self._preset, self.mixed = name, mixed

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The first member's labels; setting them renames the classes of all members."""
        return self.members[0].labels

    @labels.setter
    def labels(self, names: Sequence[str] | None) -> None:
        named = None if names is None else check_labels(names, self.num_classes)
        for member, order in zip(self.members, label_orders(self.members), strict=True):
            member.labels = named and tuple(named[order.index(k)] for k in range(len(order)))

    def _state_of(self, tensors: Mapping[str, Tensor]) -> str:
        fusion = {"name": self.fusion.name, "options": self.fusion.options()}
        of_fusion = hashlib.sha256(canonical_json(fusion)).hexdigest()
        return hashlib.sha256((digest_tensors(tensors) + of_fusion).encode()).hexdigest()

    @property
    def form(self) -> tuple[Any, ...]:
        """As of any network; and which output of each member is which class."""
        return *super().form, label_orders(self.members)

    def forward_members(self, x: Tensor) -> Tensor:
        """Return the logits of each member, in the order of `labels`: `(M, B, K)`.

        Raises:
            ArgumentError: the members each see their own view.
        """
        self._check_shared()
        return self._stack([member(x) for member in self.members])

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return each member's last feature map."""
        self._check_shared()
        return [member.forward_features(x) for member in self.members]

    def forward_head(self, x: list[Tensor], pre_logits: bool = False) -> Tensor:
        """Return fused scores, or the members' features side by side `(B, num_features)`."""
        pairs = list(zip(self.members, x, strict=True))
        outputs = [m.forward_head(f, pre_logits=pre_logits) for m, f in pairs]
        return torch.cat(outputs, 1) if pre_logits else self.fusion(self._stack(outputs))

    def get_classifier(self) -> nn.Module:
        """Return the members' last linear layers."""
        return nn.ModuleList([m.get_classifier() for m in self.members])

    def reset_classifier(self, num_classes: int) -> None:
        """Put fresh heads of `num_classes` on all members, and a fresh, unfitted fusion."""
        fusion = self.fusion.fresh(num_classes)  # first: what cannot be built changes nothing
        for member in self.members:
            member.reset_classifier(num_classes)
        self.fusion = fusion.to(next(self.parameters()))
        self._forget_head(num_classes)

    def _outer_layers(self) -> dict[str, Any]:
        """Return those of each member."""
        found = [(f"members.{i}.", m._outer_layers()) for i, m in enumerate(self.members)]
        return {
            key: tuple(start + layers[key] for start, layers in found if layers[key])
            for key in ("first_conv", "classifier")
        }

    @property
    def _colours(self) -> str:
        return " and ".join(dict.fromkeys(member._colours for member in self.members))

    def _facts(self) -> list[str]:
        names = ", ".join(m.name or type(m).__name__ for m in self.members)
        return [f"members=[{names}]", f"fusion={self.fusion.name!r}"]

    def _check_shared(self) -> None:
        if self.mixed:
            check_shared(PRESETS[self.preset])

    def _stack(self, logits: Sequence[Tensor]) -> Tensor:
        pairs = zip(logits, label_orders(self.members), strict=True)
        in_order = list(range(self.num_classes))
        return torch.stack([z if order == in_order else z[:, order] for z, order in pairs])


def label_orders(members: Sequence[Classifier]) -> list[list[int]]:
    """Return, for each member, which of its outputs is the first member's class 0, 1, ..."""
    wanted = members[0].labels
    if wanted is None:
        return [list(range(members[0].num_classes))] * len(members)
    return [index_map(m.labels or wanted, wanted) for m in members]


def own_views(members: Sequence[Classifier]) -> str:
    """Return what an ensemble has as its preset where each member sees its own views."""
    return OfFile(of_members(PRESETS[m.preset] for m in members))


def differ(members: Sequence[Classifier]) -> bool:
    """Whether the members were made for different views of a face."""
    return len({(arithmetic(PRESETS[m.preset]), m.in_channels) for m in members}) > 1


def assemble(members: Sequence[Classifier], fusion: str | Fusion) -> Ensemble:
    """Return an ensemble under a fusion, or under a new one by name."""
    if isinstance(fusion, str):
        classes = members[0].num_classes if members else 1
        fusion = create_fusion(fusion, max(len(members), 1), classes)
    if not isinstance(fusion, Fusion):
        raise ArgumentError(f"fusion must be a name or a fer_zoo.fusion.Fusion, got {fusion!r:.80}")
    return Ensemble(members, fusion)


def with_fusion(model: Classifier, fusion: str | Fusion) -> Ensemble:
    """Return an uncalibrated ensemble of the same members, not copied, under another fusion."""
    if not isinstance(model, Ensemble):
        raise ArgumentError(f"{model.name!r} is a single network and has no fusion")
    if fusion == model.fusion.name:
        return model
    other = assemble(model.members, fusion)
    if isinstance(fusion, str) and any(True for _ in other.fusion.parameters()):
        raise ArgumentError(
            f"{fusion!r} has to be fitted for these members: make an ensemble of them with "
            f"fer_zoo.create_ensemble(model.members, fusion={fusion!r}) and fer_zoo.fit_fusion it"
        )
    other.name, other.preset = model.name, model.preset
    other.evidence = model.evidence.of_changed()
    return other.train(model.training)
