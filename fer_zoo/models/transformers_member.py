"""Any image classifier of transformers as a member of the zoo."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError, needing
from fer_zoo.models.base import Classifier, make_linear

PREFIX = "transformers/"
NOT_KEPT = (
    *("_name_or_path", "transformers_version", "dtype", "torch_dtype"),
    *("attn_implementation", "_attn_implementation", "experts_implementation"),
)
"""Of a config: where it was, and how it is computed, which may name code to download."""
REFUSED = ("auto_map", "quantization_config", "use_pretrained_backbone")
"""Of a config: code of a repository, other arithmetic, other weights."""
TIMM_ARGUMENTS = {"in_chans", "img_size", "global_pool"}
"""Of a network of timm's inside transformers; others name files to read."""


class TransformersMember(Classifier):
    """An image classifier of transformers: `(B, in_channels, S, S)` to logits `(B, num_classes)`.

    `forward_features` returns what goes into its last linear layer, `(B, num_features)`.

    Args:
        config: what transformers' `config.json` says of it; it is built untrained.

    Raises:
        ArgumentError: transformers knows no image classifier like that, or it is of another kind.
        MissingDependencyError: transformers is not installed.

    Example:
        >>> settings = {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2}
        >>> member = TransformersMember({"model_type": "convnext", "num_labels": 7, **settings})
        >>> member(torch.zeros(2, 3, 32, 32)).shape, member.num_features
        (torch.Size([2, 7]), 8)
    """

    model: Any

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        made = read_config(config)
        with needing("transformers/... needs transformers", "hf"):
            from transformers import AutoModelForImageClassification as Auto
        self.take(Auto.from_config(made, dtype=torch.float32))

    def take(self, model: Any) -> None:
        """Hold a network of transformers, whose config is that of this one."""
        self.model, config = model, model.config
        vision = getattr(config, "vision_config", config)
        self.num_classes, self.in_channels = config.num_labels, getattr(vision, "num_channels", 3)
        self._head = _head_of(model, self.num_classes)

    @property
    def settings(self) -> dict[str, Any]:
        """What builds the network again, as plain values."""
        return _kept(json.loads(self.model.config.to_json_string(use_diff=False)))

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """Width of the vector in front of the head."""
        return int(self.get_classifier().in_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, S, S)`.

        Raises:
            ArgumentError: they are of a size that the network does not take.
        """
        try:
            logits: Tensor = self.model(pixel_values=x).logits
        except ValueError as error:
            raise ArgumentError(f"{self.name!r} does not take these images: {error}") from None
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the last linear layer gets, `(B, num_features)`."""
        seen: list[Tensor] = []
        head = self.get_classifier()
        handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(x)
        finally:
            handle.remove()
        if len(seen) != 1 or not torch.allclose(head(seen[0]), logits, atol=1e-5):
            raise ArgumentError(
                f"{self.name!r} has more than one linear layer behind its features: call it as a "
                "whole, model(x)"
            )
        return seen[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits, or the features as they are."""
        out: Tensor = x if pre_logits else self.get_classifier()(x)
        return out

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        if not self._head:
            raise ArgumentError(
                f"the head of {self.name!r} is no single linear layer: call it as a whole, model(x)"
            )
        layer: nn.Module = self.model.get_submodule(self._head)
        return layer

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on."""
        old: Any = self.get_classifier()
        self._forget_head(num_classes)
        head = make_linear(old.in_features, num_classes).to(old.weight)
        self.model.set_submodule(self._head, head)
        self.model.config.num_labels = num_classes
        if hasattr(self.model, "num_labels"):
            self.model.num_labels = num_classes
        self._note_fresh(head)


def read_config(config: Mapping[str, Any]) -> Any:
    """Return the config of an image classifier as transformers has it, or say what is wrong."""
    with needing("transformers/... needs transformers", "hf"):
        from transformers import AutoConfig, AutoModelForImageClassification as Auto
    plain, kind = _kept(config), config.get("model_type")
    if odd := sorted(name for name in REFUSED if _holds(config, name)):
        raise ArgumentError(
            f"its config has {odd}, which asks for code, weights or arithmetic from elsewhere: "
            "save a plain copy by model.save_pretrained"
        )
    if kind == "timm_wrapper":
        _check_timm(plain)
    plain.pop("model_type", None)
    try:
        made = AutoConfig.for_model(kind, **plain)
        known = type(made) in Auto._model_mapping
    except Exception as error:  # transformers' own checks raise whatever they like
        reason = str(error).split("\n")[0]
        raise ArgumentError(f"transformers cannot read its config: {reason:.300}") from None
    if not known:
        raise ArgumentError(
            f"transformers has no image classifier of the type {kind!r}, by "
            "AutoModelForImageClassification: name one that is"
        )
    if made.problem_type not in (None, "single_label_classification") or made.num_labels < 2:
        raise ArgumentError(
            f"it has {made.num_labels} outputs and the problem_type {made.problem_type!r}: what "
            "fer_zoo compares is one of several classes for each face"
        )
    return made


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what says where it was and how it is computed."""
    pairs = ((k, v) for k, v in config.items() if k not in NOT_KEPT)
    return {k: _kept(v) if isinstance(v, Mapping) else v for k, v in pairs}


def _holds(config: Mapping[str, Any], name: str) -> bool:
    parts = (v for v in config.values() if isinstance(v, Mapping))
    return bool(config.get(name)) or any(_holds(part, name) for part in parts)


def _check_timm(config: Mapping[str, Any]) -> None:
    import timm

    architecture, given = config.get("architecture"), config.get("model_args") or {}
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise ArgumentError(f"timm has no model {architecture!r:.80}")
    if odd := sorted({*given} - TIMM_ARGUMENTS):
        raise ArgumentError(f"its config has model_args {odd}: only {sorted(TIMM_ARGUMENTS)} are")


def _head_of(model: nn.Module, classes: int) -> str:
    """Return the name of the one linear layer that gives the logits, nothing if there are more."""
    found = [
        name
        for name, m in model.named_modules()
        if isinstance(m, nn.Linear) and m.out_features == classes
    ]
    body = f"{getattr(model, 'base_model_prefix', '')}."
    outside = [name for name in found if not name.startswith(body)] or found[-1:]
    return outside[0] if len(outside) == 1 else ""
