"""Where specs, weights and presets meet: `create`, `create_ensemble`, `save`, `load`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fer_zoo._device import resolve_device
from fer_zoo.errors import ArgumentError, CheckpointError, FerZooError
from fer_zoo.fusion import FUSIONS, Fusion, create_fusion
from fer_zoo.models import (
    MODELS,
    Classifier,
    Ensemble,
    ModelSpec,
    build_network,
    get_spec,
)
from fer_zoo.models.base import check_temperature
from fer_zoo.transforms import PRESETS, Preset, Transform
from fer_zoo.weights.checkpoint import (
    is_file_address,
    load_state_dict,
    read_checkpoint,
    write_checkpoint,
)
from fer_zoo.weights.records import WeightsRecord, get_weights, verified_path

Path_ = str | os.PathLike[str]


def create_transform(
    model_or_preset: Classifier | Preset | str, *, training: bool = False
) -> Transform:
    """Return the transform that makes images valid for a model.

    Args:
        model_or_preset: a model, a preset, or the name of either.
        training: the random training counterpart instead of the evaluation views.

    Example:
        >>> create_transform("fer40_tencrop")(torch.zeros(1, 48, 48)).shape
        torch.Size([10, 1, 40, 40])
    """
    if isinstance(model_or_preset, Preset):
        return Transform(model_or_preset, training)
    if isinstance(model_or_preset, Classifier):
        preset = PRESETS[model_or_preset.preset]
        return Transform(preset, training, model_or_preset.in_channels)
    if not isinstance(model_or_preset, str):
        raise ArgumentError(f"expected a model, a preset or a name, got {model_or_preset!r:.80}")
    if model_or_preset in PRESETS:
        return Transform(PRESETS[model_or_preset], training)
    if model_or_preset in MODELS or model_or_preset.startswith("timm/"):
        return Transform(PRESETS[get_spec(model_or_preset).preset], training)
    return Transform(PRESETS[model_or_preset], training)


def create(
    name: str,
    *,
    weights: str | None = None,
    fusion: str | Fusion | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Classifier:
    """Build a model by name; the network is never touched.

    Args:
        name: a name from `list_models()`, or `timm/<any>`.
        weights: None for an untrained model, `"default"`, a tag from `list_weights(name)`, or the
            path of a `.safetensors` checkpoint of this model.
        fusion: for ensembles, a name from `list_fusions()` or a `Fusion`.
        num_classes: width of the head; 7 if not given. With weights it must be theirs.
        in_channels: 1 for gray (default) or 3 for RGB. With weights it must be theirs.
        device: where the parameters live.
        dtype: what they are kept in.

    Returns:
        A model in evaluation mode if it has weights, else in training mode, as in timm and
        torchvision.

    Raises:
        UnknownNameError: nothing has that name.
        ArgumentError: arguments contradict each other or the weights.

    Example:
        >>> model = create("resnet18_025", num_classes=3)
        >>> model(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 3])
    """
    spec = get_spec(name)
    if weights is not None and not isinstance(weights, str):
        raise ArgumentError(f"weights is None, 'default', a tag or a path, got {weights!r}")
    if fusion is not None and not spec.members:
        raise ArgumentError(
            f"{name!r} is a single network and has no fusion; "
            f"fer_zoo.create_ensemble([{name!r}, ...], fusion=...) makes an ensemble"
        )
    if weights is not None:
        model = _create_trained(spec, weights, fusion)
        for key, asked in (("num_classes", num_classes), ("in_channels", in_channels)):
            if asked is not None and asked != getattr(model, key):
                call = f"fer_zoo.create({name!r}, weights={weights!r})"
                then = (
                    "then model.reset_classifier(n)" if key == "num_classes" else "with gray input"
                )
                raise ArgumentError(
                    f"{key}={asked} contradicts the weights, which have {key}="
                    f"{getattr(model, key)}; use {call}, {then}"
                )
        return _placed(model, device, dtype).eval()
    if spec.members:
        classes = spec.num_classes if num_classes is None else num_classes
        channels = spec.in_channels if in_channels is None else in_channels
        members = [
            build_network(m, num_classes=classes, in_channels=channels) for m in spec.members
        ]
        model = _assemble(members, spec.fusion if fusion is None else fusion)
        model.name, model.preset = name, spec.preset
    else:
        model = build_network(name, num_classes=num_classes, in_channels=in_channels)
    return _placed(model, device, dtype)


def create_ensemble(
    members: Sequence[str | Classifier],
    *,
    fusion: str | Fusion = "average",
    weights: str | None = None,
    preset: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Ensemble:
    """Compose members and a fusion into one model.

    Args:
        members: names (built as `create` does) or networks, any number, no ensembles.
        fusion: a name from `list_fusions()` or a `Fusion`.
        weights: for members given by name: None, `"default"`, or a tag they all have.
        preset: the transform of the ensemble; needed where the members' presets differ.
        num_classes: for members given by name.
        in_channels: for members given by name.
        device: where the parameters live.
        dtype: what they are kept in.

    Example:
        >>> model = create_ensemble(["resnet18_025", "test_tiny"], fusion="stacked")
        >>> model(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 7])
    """
    if isinstance(members, str) or not isinstance(members, Iterable):
        raise ArgumentError(f"members must be a list of names or models, got {members!r:.80}")
    if weights is not None and not any(isinstance(m, str) for m in members):
        raise ArgumentError(f"weights={weights!r} is for members given by name; none is")
    built = [
        m
        if isinstance(m, Classifier)
        else create(m, weights=weights, num_classes=num_classes, in_channels=in_channels)
        for m in members
    ]
    for key, asked in (("num_classes", num_classes), ("in_channels", in_channels)):
        if wrong := [m.name for m in built if asked is not None and getattr(m, key) != asked]:
            raise ArgumentError(f"{key}={asked} contradicts the members {wrong}")
    model = _assemble(built, fusion)
    presets = {m.preset for m in built}
    if preset is None and len(presets) > 1:
        raise ArgumentError(
            f"the members were made for different presets {sorted(presets)}; "
            "pass preset= to say which one all of them shall see"
        )
    model.preset = PRESETS[preset].name if preset else model.preset
    model.name = "+".join(m.name for m in built)
    model.train(any(m.training for m in built))
    _placed(model, device, dtype)
    return model


def _assemble(members: Sequence[Classifier], fusion: str | Fusion) -> Ensemble:
    if isinstance(fusion, str):
        classes = members[0].num_classes if members else 1
        fusion = create_fusion(fusion, max(len(members), 1), classes)
    if not isinstance(fusion, Fusion):
        raise ArgumentError(f"fusion must be a name or a fer_zoo.Fusion, got {fusion!r:.80}")
    return Ensemble(members, fusion)


def _placed(
    model: Classifier, device: torch.device | str | None, dtype: torch.dtype | None
) -> Classifier:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ArgumentError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    return model.to(device=None if device is None else resolve_device(device), dtype=dtype)


def _create_trained(spec: ModelSpec, weights: str, fusion: str | Fusion | None) -> Classifier:
    if is_file_address(weights):
        model = load(weights)
        if model.name != spec.name:
            raise ArgumentError(
                f"{weights} holds {model.name!r}, not {spec.name!r}; "
                f"fer_zoo.load({str(weights)!r}) builds what it holds"
            )
        return model if fusion is None else with_fusion(model, fusion)
    record = get_weights(spec.name, weights)
    if not spec.members:
        return _from_record(record)
    members = [_from_record(get_weights(*tag.rsplit(".", 1))) for tag in record.members]
    name = fusion if isinstance(fusion, str) else record.fusion
    model = _assemble(members, fusion if isinstance(fusion, Fusion) else name)
    model.name, model.preset = spec.name, record.preset
    model.provenance = record.provenance()
    if not isinstance(fusion, Fusion):
        model.temperature = dict(record.temperature.get(name, {}))
    if not model.temperature:
        model.provenance.pop("calibration")
    if not isinstance(fusion, Fusion) and any(True for _ in model.fusion.parameters()):
        tensors, heads = read_checkpoint(verified_path(record))
        if name not in heads["fusions"]:
            raise ArgumentError(
                f"{record.address} holds fitted heads for {sorted(heads['fusions'])}, none for "
                f"{name!r}; pass a fitted Fusion, or fit one on the members' logits"
            )
        model.fusion = create_fusion(
            name, len(members), model.num_classes, **heads["fusions"][name]
        )
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        load_state_dict(model.fusion, own)
    return model


def _from_record(record: WeightsRecord) -> Classifier:
    model = load(verified_path(record))
    model.preset, model.provenance = record.preset, record.provenance()
    model.temperature = dict(record.temperature.get("", {}))
    return model


def with_fusion(model: Classifier, fusion: str | Fusion) -> Ensemble:
    """Return an ensemble of the same members (shared, not copied) under another fusion.

    It is uncalibrated: a temperature belongs to the scores of one fusion.

    Raises:
        ArgumentError: `model` is no ensemble, or the fusion asked for by name must be fitted.
    """
    if not isinstance(model, Ensemble):
        raise ArgumentError(f"{model.name!r} is a single network and has no fusion")
    if fusion == model.fusion.name:
        return model
    other = _assemble(model.members, fusion)
    if isinstance(fusion, str) and any(True for _ in other.fusion.parameters()):
        raise ArgumentError(
            f"{fusion!r} has to be fitted for these members: make an ensemble of them with "
            f"fer_zoo.create_ensemble(model.members, fusion={fusion!r}) and fer_zoo.fit_fusion it"
        )
    other.name, other.preset = model.name, model.preset
    fitted = ("fusion_fit", "calibration")
    other.provenance = {k: v for k, v in model.provenance.items() if k not in fitted}
    return other.train(model.training)


def save(model: Classifier, path: Path_, *, dtype: torch.dtype | None = None) -> Path:
    """Write a model, its labels and its temperatures to one `.safetensors` file.

    The file describes itself, and it appears whole or not at all.

    Args:
        model: a network or an ensemble; its architecture must be registered (or timm's).
        path: where to; must end in `.safetensors`.
        dtype: what floating-point tensors are stored in, e.g. `torch.float16`; as they are if
            not given. Loading restores float32.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(create("test_tiny"), folder + "/tiny.safetensors")
        ...     load(path).name
        'test_tiny'
    """
    if not isinstance(model, Classifier):
        raise ArgumentError(f"save takes a model of the zoo, got {type(model).__name__}")
    tensors = model.state_dict()
    if dtype is not None:
        if not dtype.is_floating_point:
            raise ArgumentError(f"dtype must be a floating-point type, got {dtype}")
        stored = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
        lost = [k for k in stored if not torch.equal(stored[k].isfinite(), tensors[k].isfinite())]
        if lost:
            raise ArgumentError(f"{dtype} cannot hold the values of {lost[:3]}; use another dtype")
        tensors = stored
    write_checkpoint(path, tensors, _config(model))
    return Path(path)


def load(path: Path_, *, device: torch.device | str | None = None) -> Classifier:
    """Rebuild a model, its labels and its preset from a file that `save` wrote, and only that.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: no file, not a checkpoint, or one that does not fit what it says it is.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(create("test_tiny", num_classes=3), folder + "/tiny.safetensors")
        ...     load(path).num_classes
        3
    """
    tensors, config = read_checkpoint(path)
    try:
        with torch.random.fork_rng(devices=[]):
            model = _build(config)
    except (KeyError, TypeError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: its config cannot be built: {error}") from error
    try:
        load_state_dict(model, tensors)
    except FerZooError as error:
        raise type(error)(f"{path}: {error}") from None
    return _placed(model, device, None).eval()


def _config(model: Classifier) -> dict[str, Any]:
    PRESETS[model.preset]
    common = {
        "name": model.name,
        "labels": model.labels,
        "preset": model.preset,
        "provenance": model.provenance,
        "temperature": check_temperature(model.temperature),
    }
    if isinstance(model, Ensemble):
        name = model.fusion.name
        if name not in FUSIONS or FUSIONS[name] is not type(model.fusion):
            raise ArgumentError(
                f"{type(model.fusion).__name__} is not registered; decorate it with "
                "fer_zoo.register_fusion, so that a file can say what it holds"
            )
        return common | {
            "members": [_config(m) for m in model.members],
            "fusion": {"name": model.fusion.name, "options": model.fusion.options()},
        }
    if not model.name:
        raise ArgumentError(
            f"{type(model).__name__} has no registry name; fer_zoo.register_model it and build it "
            "with fer_zoo.create, so that a file can say what it holds"
        )
    get_spec(model.name)
    return common | {"num_classes": model.num_classes, "in_channels": model.in_channels}


def _build(config: Mapping[str, Any]) -> Classifier:
    if "members" in config:
        members = [_build(member) for member in config["members"]]
        head = config["fusion"]
        model: Classifier = Ensemble(
            members,
            create_fusion(head["name"], len(members), members[0].num_classes, **head["options"]),
        )
    else:
        model = build_network(
            config["name"], num_classes=config["num_classes"], in_channels=config["in_channels"]
        )
        model.labels = config["labels"]
    model.name = config["name"]
    model.preset = PRESETS[config["preset"]].name
    model.provenance = dict(config["provenance"])
    # Files from before temperatures do not name them.
    model.temperature = check_temperature(config.get("temperature", {}))
    return model
