"""Models as plain values and back: what a file says of the network whose tensors it holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fer_zoo.errors import ArgumentError, CheckpointError, FerZooError
from fer_zoo.evidence import Calibration, Evidence, Training
from fer_zoo.fusion import FUSIONS, create_fusion
from fer_zoo.models import MODELS, Classifier, Ensemble, TransformersMember, get_spec
from fer_zoo.models.transformers_member import PREFIX
from fer_zoo.models.zoo import build_network
from fer_zoo.plain import from_plain, to_plain
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import name_of, restore

OTHERS = "transformers"
"""In a config: that of transformers, for a network of theirs."""
DRAWS = ("normal_", "uniform_")
"""How the names end of what fills a fresh parameter with random numbers."""
SLACK = 4 * 2**20
"""Values a network may hold beside those in its file, in buffers that are not saved."""


def model_config(model: Classifier) -> dict[str, Any]:
    """Return what builds the model again, as plain values, if all of it is registered."""
    common = {
        "name": model.name,
        "labels": model.labels,
        "preset": to_plain(PRESETS[model.preset]),
        "evidence": to_plain(model.evidence),
    }
    if isinstance(model, Ensemble):
        name = model.fusion.name
        if name not in FUSIONS or FUSIONS[name] is not type(model.fusion):
            raise ArgumentError(
                f"{type(model.fusion).__name__} is not registered; decorate it with "
                "fer_zoo.register_fusion, so that a file can say what it holds"
            )
        _check_name(model)
        return common | {
            "members": [model_config(m) for m in model.members],
            "fusion": {"name": model.fusion.name, "options": model.fusion.options()},
        }
    if not model.name:
        raise ArgumentError(
            f"{type(model).__name__} has no registry name; fer_zoo.register_model it and build it "
            "with fer_zoo.create, so that a file can say what it holds"
        )
    if isinstance(model, TransformersMember):
        return common | {OTHERS: model.settings}
    get_spec(model.name)
    return common | {"num_classes": model.num_classes, "in_channels": model.in_channels}


def build_model(config: Mapping[str, Any], num_values: int) -> Classifier:
    """Return the model of a file's config, its parameters not set, about `num_values` at most."""
    try:
        with torch.random.fork_rng(devices=[]), _Budget(2 * num_values + SLACK):
            return _build(config)
    except Exception as error:  # builders get what the file says, so anything may come of it
        reason = str(error) if isinstance(error, FerZooError) else repr(error)
        raise CheckpointError(f"its config cannot be built: {reason:.400}") from error


def _check_name(model: Ensemble) -> None:
    """Raise if an ensemble has the name of another model: a name is believed where it is asked."""
    members = tuple(m.name for m in model.members)
    spec = MODELS[model.name] if model.name in MODELS else None
    network = model.name.startswith(("timm/", PREFIX)) and "+" not in model.name
    if members != (model.name,) and (network or (spec is not None and spec.members != members)):
        made = f"made of {spec.members}" if spec and spec.members else "a network"
        raise ArgumentError(f"an ensemble of {members} is not {model.name!r}, which is {made}")


class _Budget(TorchFunctionMode):
    """Stops a network that a file names from growing past `values` numbers while it is built."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.allowed = self.left = values

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        filled = args[0] if args else (kwargs or {}).get("tensor")
        if isinstance(filled, nn.Parameter) and getattr(func, "__name__", "").endswith(DRAWS):
            return filled  # drawing takes longer than all else that loading does
        # What makes a tensor from nothing has its sides as first arguments.
        size = args[0] if args and isinstance(args[0], list | tuple) else args
        size = (kwargs or {}).get("size", size)
        if size and all(isinstance(n, int) for n in size):
            self.left -= torch.Size(size).numel()
            if self.left < 0:
                raise CheckpointError(
                    f"it asks for more than {self.allowed:,} values, twice what the file holds"
                )
        return func(*args, **(kwargs or {}))


def _build(config: Mapping[str, Any], nested: bool = False) -> Classifier:
    if "members" in config:
        if nested:
            raise CheckpointError("an ensemble in an ensemble")
        members = [_build(member, nested=True) for member in config["members"]]
        head = config["fusion"]
        model: Classifier = Ensemble(
            members,
            create_fusion(head["name"], len(members), members[0].num_classes, **head["options"]),
        )
    elif "name" not in config:
        heads = " but holds heads of an ensemble" if "fusions" in config else ""
        raise CheckpointError(f"it names no model{heads}: fer_zoo.load(one of list_weights())")
    elif OTHERS in config:
        model = TransformersMember(config[OTHERS])
        model.labels = config["labels"]
    else:
        model = build_network(
            config["name"], num_classes=config["num_classes"], in_channels=config["in_channels"]
        )
        model.labels = config["labels"]
    if not isinstance(config["name"], str):
        raise CheckpointError(f"its name is {config['name']!r:.80}, not text")
    model.name = config["name"]
    if isinstance(model, Ensemble):
        _check_name(model)
    model.preset = name_of(restore(config["preset"]))
    model._hold(read_evidence(config))
    return model


def read_evidence(config: Mapping[str, Any]) -> Evidence:
    """Return the evidence in a config; in an older one, what a run says of itself."""
    if "evidence" in config:
        return from_plain(Evidence, config["evidence"], "evidence")
    known, temperature = config["provenance"], config.get("temperature", {})
    faces = {key: _old_faces(known.get(key)) for key in ("data", "validation")}
    names = "recipe epoch val_accuracy selection start teacher processes frozen".split()
    origin = str(known.get("weights") or known.get("started_from") or "")
    if not (faces["data"] and faces["validation"] and "epoch" in known):
        return Evidence(started_from=origin)  # nothing vouches for what else it says
    run = {name: known[name] for name in names if name in known}
    run |= {"model": config["name"], "faces": faces["data"], "validation": faces["validation"]}
    calibration = None
    if temperature:
        fitted = {"temperature": temperature, "faces": faces["validation"]}
        calibration = from_plain(Calibration, fitted, "temperature")
    training = from_plain(Training, run, "provenance")
    return Evidence(training=training, calibration=calibration, started_from=origin)


def _old_faces(known: Any) -> dict[str, Any] | None:
    if not isinstance(known, dict) or "n" not in known:
        return None
    names = {"name": known.get("name") or known.get("data", "")}
    return names | {key: known[key] for key in ("n", "split", "fingerprint") if key in known}
