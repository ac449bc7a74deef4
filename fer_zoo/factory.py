"""Where specs, weights and presets meet: `create`, `create_ensemble`, `create_transform`."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from fer_zoo._device import resolve_device, to_device
from fer_zoo._words import answering
from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.fusion import Fusion
from fer_zoo.models import (
    MODELS,
    Classifier,
    Ensemble,
    ModelSpec,
    TransformersMember,
    get_spec,
)
from fer_zoo.models.ensemble import assemble, differ, own_views, with_fusion
from fer_zoo.models.transformers_member import PREFIX
from fer_zoo.models.zoo import build_network
from fer_zoo.saving import load, load_address, load_record
from fer_zoo.transforms import PRESETS, Preset, Transform
from fer_zoo.weights.address import Address, is_address, not_an_address, parse_address
from fer_zoo.weights.imagenet import download_imagenet
from fer_zoo.weights.reading import PICKLES, refuse_pickle
from fer_zoo.weights.records import get_weights


def create_transform(
    model_or_preset: Classifier | Preset | str, *, training: bool = False
) -> Transform:
    """Return the transform that makes images valid for a model.

    Args:
        model_or_preset: a model, a preset, the name of either, or a model's address.
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
    name = model_or_preset
    if name not in PRESETS and (name in MODELS or name.startswith("timm/")):
        name = get_spec(name).preset
    elif name not in PRESETS and is_address(name):
        return create_transform(resolve(name), training=training)
    return Transform(PRESETS[name], training)


@answering
def create(
    name: str,
    *,
    weights: str | None = None,
    fusion: str | Fusion | None = None,
    num_classes: int | None = None,
    head: str | None = None,
    in_channels: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Classifier:
    """Build a model by name; only `weights` that say so touch the network.

    Args:
        name: a name from `list_models()`, `timm/<any>`, or an image classifier of transformers as
            `transformers/org/name@revision` or `transformers/` and a folder (`fer-zoo[hf]`).
        weights: None for an untrained model, `"default"`, a tag from `list_weights(name)`, a file
            or folder, `"hf-hub:org/name@revision"`, or `"imagenet"`: what torchvision or timm
            publish for this network, downloaded by them, under a fresh head.
        fusion: for ensembles, a name from `list_fusions()` or a `Fusion`.
        num_classes: width of the head; 7 if not given. With weights it must be theirs, or `head`
            says to put a new one on.
        head: `"reset"` for a fresh, untrained head on the body of the weights.
        in_channels: 1 for gray (default) or 3 for RGB. With weights it must be theirs.
        device: where the parameters live.
        dtype: what they are kept in.

    Returns:
        A model in evaluation mode if it has weights, else in training mode.

    Raises:
        UnknownNameError: nothing has that name.
        ArgumentError: arguments contradict each other or the weights.
        CheckpointError: the weights are a file that cannot be used.
        WeightsError: the weights are not there, or not the right ones.

    Example:
        >>> model = create("resnet18_025", num_classes=3)
        >>> model(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 3])
    """
    if isinstance(name, str) and name.startswith(PREFIX):
        given = {"fusion": fusion, "in_channels": in_channels, "num_classes": num_classes}
        return to_device(_of_transformers(name, weights, head, given), device, dtype)
    spec = get_spec(name)
    if fusion is not None and not spec.members:
        raise ArgumentError(
            f"{name!r} is a single network and has no fusion; "
            f"fer_zoo.create_ensemble([{name!r}, ...], fusion=...) makes an ensemble"
        )
    if head not in (None, "reset"):
        raise ArgumentError(f"head is 'reset' for a fresh one, or left out, got {head!r}")
    if weights is None:
        if head is not None:
            raise ArgumentError("head='reset' is for weights; without them the head is new anyway")
        return to_device(_untrained(spec, fusion, num_classes, in_channels), device, dtype)
    where = parse_address(weights)
    if where.kind == "imagenet":
        if spec.members:
            raise ArgumentError(
                f"{name!r} is an ensemble: start its members from ImageNet one by one, and "
                "fer_zoo.create_ensemble them once they are trained"
            )
        model = build_network(name, num_classes=num_classes, in_channels=in_channels)
        download_imagenet(model)
        model.reset_classifier(model.num_classes)
        return to_device(model, device, dtype).eval()
    model = _trained(spec, where, fusion)
    if head == "reset":
        model.reset_classifier(spec.num_classes if num_classes is None else num_classes)
    call = f"fer_zoo.create({name!r}, weights={weights!r}"
    if num_classes not in (None, model.num_classes):
        raise ArgumentError(
            f"num_classes={num_classes} contradicts the weights, which have {model.num_classes}: "
            f'{call}, num_classes={num_classes}, head="reset") keeps their body and puts a new, '
            "untrained head on it"
        )
    if in_channels not in (None, model.in_channels):
        raise ArgumentError(
            f"in_channels={in_channels} contradicts the weights, which have {model.in_channels}: "
            f"use {call}), with {'gray' if model.in_channels == 1 else 'RGB'} input"
        )
    return to_device(model, device, dtype).eval()


def resolve(
    model: str | os.PathLike[str] | Classifier,
    *,
    weights: str | None = None,
    fusion: str | Fusion | None = None,
    device: torch.device | str | None = None,
) -> Classifier:
    """Return the trained model that is meant, however it is named.

    Everything that takes a model takes what this takes, the command line included.

    Args:
        model: a model, as it is; a name from `list_models()`; an address (`model.tag`, a file, a
            folder, `hf-hub:org/name@revision`); or the folder of a training run.
        weights: for a name, which ones; `"default"` if not given.
        fusion: for an ensemble, another fusion than its own.
        device: where it shall live; where it is, or CUDA where there is one, if not given.

    Raises:
        UnknownNameError: nothing has that name.
        WeightsError: the model has no weights, or they are not there.
        CheckpointError: the file cannot be used.
        ArgumentError: it is no model, or arguments contradict each other.

    Example:
        >>> resolve("resnet18_025.fer2013").evidence.weights
        'resnet18_025.fer2013'
    """
    if not isinstance(model, Classifier | str | os.PathLike):
        raise ArgumentError(f"expected a model, a name or an address, got {model!r:.80}")
    if not isinstance(model, Classifier):
        device = resolve_device(device)
        if not is_address(model):
            weights = "default" if weights is None else weights
            return create(os.fspath(model), weights=weights, fusion=fusion, device=device)
        address = model
        model = load(address)
        if isinstance(model, TransformersMember) and model.labels is None:
            from fer_zoo.weights.transformers_folder import why_unlabelled

            raise LabelError(why_unlabelled(model, str(address)))
    if weights is not None:
        raise ArgumentError(f"weights={weights!r} is for a model given by name")
    return to_device(model if fusion is None else with_fusion(model, fusion), device, None)


def _untrained(
    spec: ModelSpec,
    fusion: str | Fusion | None,
    num_classes: int | None,
    in_channels: int | None,
) -> Classifier:
    if not spec.members:
        return build_network(spec.name, num_classes=num_classes, in_channels=in_channels)
    classes = spec.num_classes if num_classes is None else num_classes
    channels = spec.in_channels if in_channels is None else in_channels
    members = [build_network(m, num_classes=classes, in_channels=channels) for m in spec.members]
    model = assemble(members, spec.fusion if fusion is None else fusion)
    model.name, model.preset = spec.name, spec.preset
    return model


def _of_transformers(
    name: str, weights: str | None, head: str | None, given: dict[str, Any]
) -> Classifier:
    """Return a network of transformers, untrained or as its folder or repository has it."""
    from fer_zoo.weights.transformers_folder import load_transformers

    if weights not in (None, "default"):
        raise ArgumentError(
            f"{name!r} is an address, whose weights are its own: weights='default' takes them, and "
            f"not {weights!r:.80}"
        )
    where, trained = parse_address(name), weights is not None
    if where.kind != "transformers":
        raise not_an_address(name)
    model = load_transformers(where, trained=trained, cached=not trained)
    wanted = given.pop("num_classes")
    if (wanted not in (None, model.num_classes) and not trained) or head == "reset":
        model.reset_classifier(model.num_classes if wanted is None else wanted)
        wanted = None
    found = {"fusion": None, "in_channels": model.in_channels, "num_classes": model.num_classes}
    given["num_classes"] = wanted
    if wrong := {k: v for k, v in given.items() if v not in (None, found[k])}:
        raise ArgumentError(
            f"{wrong} contradicts {name!r}, which has {found}; head='reset' puts a new head of "
            "num_classes on"
        )
    return model if trained else model.train()


def _trained(spec: ModelSpec, where: Address, fusion: str | Fusion | None) -> Classifier:
    """Return the model with the weights at an address, if they are of this model."""
    if where.kind in ("tag", "record"):
        tagged = where.kind == "tag"
        record = get_weights(*((spec.name, where.location) if tagged else (where.location,)))
        _check_model(where, record.model, spec.name)
        return load_record(record, fusion)
    if where.kind == "file" and where.location.endswith(tuple(PICKLES)):
        refuse_pickle(where.location, spec.name)
    model = load_address(where)
    _check_model(where, model.name, spec.name)
    return model if fusion is None else with_fusion(model, fusion)


def _check_model(where: Address, found: str, asked: str) -> None:
    if found != asked:
        raise ArgumentError(
            f"{where} holds {found!r}, not {asked!r}; fer_zoo.load({str(where)!r}) builds that"
        )


@answering
def create_ensemble(
    members: Sequence[str | os.PathLike[str] | Classifier],
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
        members: networks, names (built as `create` does), or addresses and run folders (see
            `fer_zoo.factory.resolve`); any number, no ensembles.
        fusion: a name from `list_fusions()` or a `Fusion`.
        weights: for members given by name: None, `"default"`, `"imagenet"`, or a tag they all have.
        preset: the transform that all members see. Where it is not given and theirs differ, each
            sees its own view of a face.
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
    members = list(members)
    if weights is not None and all(isinstance(m, Classifier) for m in members):
        raise ArgumentError(f"weights={weights!r} is for members given by name; none is")
    built = [
        resolve(m, device="cpu")
        if not isinstance(m, str) or is_address(m)
        else create(m, weights=weights, num_classes=num_classes, in_channels=in_channels)
        for m in members
    ]
    for key, asked in (("num_classes", num_classes), ("in_channels", in_channels)):
        if wrong := [m.name for m in built if asked is not None and getattr(m, key) != asked]:
            raise ArgumentError(f"{key}={asked} contradicts the members {wrong}")
    model = assemble(built, fusion)
    if preset is not None:
        model.preset = PRESETS[preset].name
    elif differ(built):
        model.preset = own_views(built)
    model.name = "+".join(m.name for m in built)
    model.train(any(m.training for m in built))
    return to_device(model, device, dtype)
