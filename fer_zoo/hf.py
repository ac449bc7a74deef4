"""The networks of the zoo as transformers knows them: importing this registers them.

`AutoConfig` and `AutoModelForImageClassification`, and with them `pipeline` and `Trainer`, then
read what `fer_zoo.save` and `push_to_hub` wrote, without code from a repository. The processor is
one of transformers' own, by `preprocessor_config.json`.
"""

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.config import build_model
from fer_zoo.errors import ArgumentError, needing
from fer_zoo.layout import MODEL_TYPE, FromRGB
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.saving import load, load_address, save_repository
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.transform import for_network
from fer_zoo.weights.address import HUB, parse_address

with needing("fer_zoo.hf needs transformers", "hf"):
    from transformers import (
        AutoConfig,
        AutoModelForImageClassification,
        PretrainedConfig,
        PreTrainedModel,
    )
    from transformers.modeling_outputs import ImageClassifierOutput

__all__ = ["FerZooConfig", "FerZooForImageClassification"]

MOST_VALUES = 2**28
"""Numbers that a network may hold which a config alone describes."""
MEANS_NOTHING = {"adapter_kwargs", "low_cpu_mem_usage", "trust_remote_code", "use_safetensors"}
"""What transformers passes on, and makes no difference to networks of the zoo."""


class FerZooConfig(PretrainedConfig):
    """`config.json` of a repository of ours, as transformers wants it.

    Attributes:
        fer_zoo: what builds the network again, as `fer_zoo.load` reads it.

    Example:
        >>> import fer_zoo
        >>> FerZooForImageClassification.of(fer_zoo.load("resnet18_025.fer2013")).config.id2label[3]
        'happy'
    """

    model_type = MODEL_TYPE

    def __init__(self, fer_zoo: dict[str, Any] | None = None, **others: Any) -> None:
        # What timm and people read beside it, which is written anew with the network.
        own = ("num_features", "architecture", "model_args", "pretrained_cfg")
        others = {name: value for name, value in others.items() if name not in own}
        classes = others.pop("num_classes", None)
        if classes is not None and not {"id2label", "num_labels"} & others.keys():
            others["num_labels"] = classes
        super().__init__(**others)
        self.fer_zoo = fer_zoo

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The class names in order, None where they are transformers' own."""
        names = tuple(self.id2label[i] for i in range(self.num_labels))
        unknown = names == tuple(f"LABEL_{i}" for i in range(self.num_labels))
        return None if unknown else names


class FerZooForImageClassification(PreTrainedModel):
    """A network or an ensemble of the zoo as one of transformers'.

    `pixel_values` `(B, 3, S, S)`, as the repository's `preprocessor_config.json` makes them, go in;
    `logits` `(B, K)` are the calibrated scores of the whole model, its views and its fusion
    included. Once it is trained it is uncalibrated.

    Args:
        config: whose `fer_zoo` builds the network, untrained.
        network: one that is there, instead.

    Example:
        >>> import fer_zoo, tempfile, transformers
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = fer_zoo.save(fer_zoo.load("resnet18_025.fer2013"), folder + "/faces")
        ...     model = transformers.AutoModelForImageClassification.from_pretrained(place)
        >>> model(torch.zeros(2, 3, 40, 40)).logits.shape
        torch.Size([2, 7])
    """

    config_class = FerZooConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"

    def __init__(self, config: FerZooConfig, network: Classifier | None = None) -> None:
        super().__init__(config)
        if network is None:
            if config.fer_zoo is None:
                raise ArgumentError(
                    "this config describes no network; fer_zoo.save(model, folder) writes one "
                    "that does"
                )
            network = build_model(config.fer_zoo, MOST_VALUES)
            network = _with_classes(network, config, reset=True)
        preset = PRESETS[network.preset]
        self.network: Classifier = network
        self.views, self.temperature = FromRGB(preset), network.temperature_for(preset.name)
        self.post_init()

    @classmethod
    def of(cls, network: Classifier) -> Self:
        """Return a network of the zoo, not copied, as transformers' `Trainer` takes it."""
        named = {} if network.labels is None else {"id2label": dict(enumerate(network.labels))}
        described: dict[str, Any] = {"num_classes": network.num_classes, **named}
        config = FerZooConfig(**described)
        config.label2id = {name: i for i, name in config.id2label.items()}
        config.problem_type = "single_label_classification"
        return cls(config, network)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *_: Any,
        config: FerZooConfig | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        dtype: Any = None,
        device_map: Any = None,
        **others: Any,
    ) -> Any:
        """Return the model in a folder or a repository of the Hub, read as `fer_zoo.load` does.

        Args:
            pretrained_model_name_or_path: a folder, or `org/name`.
            config: another config, e.g. with other `id2label`.
            revision: of a repository; `main` if not given.
            token: for a private repository.
            local_files_only: take what the cache has.
            ignore_mismatched_sizes: put a new head on where the config has other classes.
            output_loading_info: return what was missing (nothing), too.
            dtype: what the parameters are kept in; float32 if not given.
            device_map: the one device where the model lives.
            **others: what else transformers passes on.

        Raises:
            ArgumentError: the config has other classes, or `others` what has no meaning here.
            CheckpointError: as `fer_zoo.load`.
        """
        place = pretrained_model_name_or_path
        others = {k: v for k, v in others.items() if k[0] != "_" and k not in MEANS_NOTHING}
        given = token if isinstance(token, str) else None
        if config is None:
            how = {"revision": revision, "token": token, "local_files_only": local_files_only}
            how |= others
            config, others = FerZooConfig.from_pretrained(place, return_unused_kwargs=True, **how)
            others = {k: v for k, v in others.items() if k not in how or k in others}
        if odd := sorted(k for k, v in others.items() if v not in (None, False, "", {})):
            raise ArgumentError(f"{odd} mean nothing for networks of fer_zoo: leave them out")
        if os.path.isdir(place):
            network = load(Path(place))
        else:
            at = f"@{revision}" if revision else ""
            address = parse_address(f"{HUB}{place}{at}")
            network = load_address(address, token=given, cached=local_files_only)
        network = _with_classes(network, config, reset=ignore_mismatched_sizes)
        model = cls(config, network)
        if dtype not in (None, "auto"):
            model = model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        if device_map is not None:
            model = model.to(_device(device_map))
        model.eval()
        lists = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
        return (model, {name: [] for name in lists}) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **_: Any,
    ) -> None:
        """Write what `fer_zoo.load`, `pipeline` and `Trainer` read; `fer_zoo.save` adds the rest.

        Args:
            save_directory: the folder.
            is_main_process: whether this process writes.
            state_dict: other values than the model's.
        """
        if not is_main_process:
            return
        network = _with_classes(self.network, self.config, reset=False)
        if state_dict is not None:
            network = deepcopy(network)
            network.load_state_dict({k.removeprefix("network."): t for k, t in state_dict.items()})
        save_repository(network, Path(save_directory), timm=False)

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take tensors by the names of this model or of its file, as `Trainer` does."""
        named = {f"network.{k.removeprefix('network.')}": t for k, t in state_dict.items()}
        return super().load_state_dict(named, strict=strict, assign=assign)

    def _init_weights(self, module: Any) -> None:
        """Leave the values as they are: networks of the zoo set them when they are built."""

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> Any:
        """Return `logits` `(B, K)`, and the `loss` where `labels` are given.

        Args:
            pixel_values: `(B, 3, S, S)`.
            labels: indices `(B,)`, or probabilities `(B, K)`.
            return_dict: an `ImageClassifierOutput`, else a tuple.
        """
        if self.training:
            self.temperature = 1.0
        network, preset = self.network, PRESETS[self.network.preset]
        like = next(network.parameters())
        x = self.views(pixel_values.to(like.device, like.dtype))
        x = for_network(x, network.in_channels)
        fusion = network.fusion if isinstance(network, Ensemble) else None
        members = network.forward_members(x) if isinstance(network, Ensemble) else network(x)[None]
        scores = [preset.combine(z.unflatten(0, (-1, preset.num_views))) for z in members]
        logits = (fusion(torch.stack(scores)) if fusion else scores[0]) / self.temperature
        loss = None if labels is None else F.cross_entropy(logits, labels.to(logits.device))
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)


def _with_classes(network: Classifier, config: FerZooConfig, *, reset: bool) -> Classifier:
    """Return a network with the classes of a config, with a fresh head for another number."""
    if network.num_classes != config.num_labels:
        if not reset:
            raise ArgumentError(
                f"num_labels is {config.num_labels}, and the weights have {network.num_classes} "
                "classes: ignore_mismatched_sizes=True puts a new, untrained head on"
            )
        network.reset_classifier(config.num_labels)
    if network.labels != config.labels:
        network.labels = config.labels
    return network


def _device(device_map: Any) -> torch.device:
    """Return the one device of a `device_map`."""
    place = device_map
    if isinstance(place, dict):
        [*places] = {*map(str, place.values())}
        place = places[0] if len(places) == 1 else None
    if place == "auto":
        place = "cuda" if torch.cuda.is_available() else "cpu"
    if place is None:
        raise ArgumentError(f"networks of fer_zoo live on one device, got {device_map!r:.80}")
    return torch.device(place)


AutoConfig.register(MODEL_TYPE, FerZooConfig, exist_ok=True)
AutoModelForImageClassification.register(FerZooConfig, FerZooForImageClassification, exist_ok=True)
