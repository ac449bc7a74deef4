"""`load`, and what `save` is made of: models to files and back, wherever the files are."""

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fer_zoo._device import to_device
from fer_zoo._files import replacing
from fer_zoo._words import answering
from fer_zoo.config import build_model, model_config
from fer_zoo.errors import ArgumentError, CheckpointError, WeightsError
from fer_zoo.evidence import Evidence
from fer_zoo.fusion import Fusion, create_fusion
from fer_zoo.layout import (
    PREPROCESSOR,
    as_rgb,
    preprocessor_config,
    timm_form,
    transformers_config,
)
from fer_zoo.models import MODELS, Classifier, Ensemble, TimmMember
from fer_zoo.models.ensemble import assemble, with_fusion
from fer_zoo.plain import to_plain
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.address import Address, not_an_address, parse_address
from fer_zoo.weights.checkpoint import (
    PREFIX,
    STEMS,
    Checkpoint,
    give_tensors,
    load_state_dict,
    read_checkpoint,
    unusable,
    write_checkpoint,
)
from fer_zoo.weights.records import WeightsRecord, get_weights
from fer_zoo.weights.repository import fetch_from, read_repository, write_repository
from fer_zoo.weights.storage import SCALE, pack, storage_dtype, unpack

RUN_FILES = ("best.safetensors", "ensemble.safetensors", "soup.safetensors")
"""What the folder of a training run holds: the first of these is its model."""


def save_file(
    model: Classifier, path: str | os.PathLike[str], *, dtype: str | torch.dtype | None = None
) -> Path:
    """Write a model as one `.safetensors` file; see `fer_zoo.save`."""
    tensors, config = _described(model, dtype)
    write_checkpoint(path, tensors, config)
    return Path(path)


def save_repository(
    model: Classifier,
    folder: Path,
    *,
    dtype: str | torch.dtype | None = None,
    timm: bool = True,
) -> Path:
    """Write a model as other libraries read it, too; see `fer_zoo.layout`. Return its weights.

    With `timm`, timm reads it where it has the same network, by a stem for RGB; `load` gives back
    the gray one bit for bit.
    """
    tensors, config = _described(model, dtype)
    packed = any(name.endswith(SCALE) for name in tensors)
    form = timm_form(model) if timm and not packed else None
    others = transformers_config(model, form)
    if form is not None:
        prefix = "model." if isinstance(model, TimmMember) else ""
        plain = {name.removeprefix(prefix): t for name, t in tensors.items()}
        tensors = as_rgb(plain, form.stems)
        config |= {PREFIX: prefix} if prefix else {}
        config |= {STEMS: [prefix + name for name in form.stems]} if form.stems else {}
    if not (isinstance(model, Ensemble) and model.mixed):  # which no processor makes images for
        with replacing(folder / PREPROCESSOR) as temporary:
            text = json.dumps(preprocessor_config(PRESETS[model.preset]), indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
    return write_repository(folder, tensors, config, others)


@answering
def load(
    address: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Classifier:
    """Rebuild a model, its labels and its preset from where they are, and only that.

    Only an address of the Hub touches the network, and not even that if it names a commit that the
    cache has.

    Args:
        address: a file that `save` wrote, the folder of a training run, a folder like a repository
            of the Hub, `hf-hub:org/name@revision`, one of `list_weights()`, or
            `transformers/org/name@revision` or `transformers/` and a folder: an image classifier of
            transformers (`fer-zoo[hf]`), whose labels are None where it names no expressions. A
            file or repository may be pinned: `...#sha256=` and 64 digits.
        device: where the parameters live.
        endpoint: of the Hub; `HF_ENDPOINT` or huggingface.co if not given.
        token: for a private repository; `HF_TOKEN` or the stored one if not given.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: no file, not a checkpoint, or one that does not fit what it says it is.
        WeightsError: its bytes are not those promised, or the Hub does not give them (`HubError`).
        ArgumentError: it is no address; the message explains the grammar.

    Example:
        >>> load("vgg19_025.fer2013").labels[3]
        'happy'
    """
    where = parse_address(address)
    if where.location in MODELS:
        raise ArgumentError(
            f"{address!r} is a model, no address of weights: fer_zoo.create({address!r}), with "
            "weights='default' where it has some"
        )
    if where.kind in ("tag", "imagenet"):
        raise not_an_address(
            address, "a tag needs its model: fer_zoo.create(model, weights=...), or model.tag"
        )
    if where.kind == "record":
        return to_device(load_record(get_weights(where.location)), device, None)
    return to_device(load_address(where, endpoint=endpoint, token=token), device, None)


def load_address(
    where: Address, *, endpoint: str | None = None, token: str | None = None, cached: bool = False
) -> Classifier:
    """Return the model in a file, a folder, or a repository of the Hub; see `load`."""
    if where.kind == "transformers":
        from fer_zoo.weights.transformers_folder import load_transformers

        return load_transformers(where, endpoint=endpoint, token=token, cached=cached)
    if where.kind == "hub":
        from fer_zoo.weights.hub import read_hub

        checkpoint, commit = read_hub(where, endpoint=endpoint, token=token, cached=cached)
        model = _from_checkpoint(checkpoint, str(where))
        known = replace(model._evidence, weights=str(Address("hub", where.location, commit)))
        if known.state:
            model._hold(known)
        else:
            model.evidence = known
        return model
    return _from_checkpoint(_read_local(where), where.location)


def load_record(record: WeightsRecord, fusion: str | Fusion | None = None) -> Classifier:
    """Return the model of a record, its bytes checked; never touches the network.

    Raises:
        WeightsError: the bytes are not there, or not the recorded ones.
    """
    if not record.bundled:
        try:
            model = load_address(parse_address(record.location), cached=True)
        except WeightsError as error:
            raise WeightsError(
                f"{record.address} did not come with the package, and models are built without "
                "the network. This downloads it, once:\n"
                f"  fer_zoo.load({record.location!r})\n{error}"
            ) from None
        if fusion is not None:
            return with_fusion(model, fusion)
    elif record.members:
        model = _fused(record, record.fusion if fusion is None else fusion)
    else:
        model = _from_checkpoint(_read_bundled(record), str(record.path))
    named = record.evidence.get(model.fusion.name if isinstance(model, Ensemble) else "")
    if named is None or isinstance(fusion, Fusion):
        named = Evidence(started_from=record.address)
    model.preset = record.preset
    model._hold(deepcopy(named))
    return model


def _fused(record: WeightsRecord, fusion: str | Fusion) -> Classifier:
    """Return a bundled ensemble: the members' records, and a fitted head of the ensemble's."""
    members = [load_record(get_weights(address)) for address in record.members]
    model = assemble(members, fusion)
    model.name = record.model
    if isinstance(fusion, str) and any(True for _ in model.fusion.parameters()):
        tensors, heads = _read_bundled(record)
        if fusion not in heads["fusions"]:
            raise ArgumentError(
                f"{record.address} holds fitted heads for {sorted(heads['fusions'])}, none for "
                f"{fusion!r}; pass a fitted Fusion, or fit one on the members' logits"
            )
        options = heads["fusions"][fusion]
        model.fusion = create_fusion(fusion, len(members), model.num_classes, **options)
        prefix = f"{fusion}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        load_state_dict(model.fusion, own)
    return model.eval()


def _read_local(where: Address) -> Checkpoint:
    run = [Path(where.location, name) for name in RUN_FILES]
    if where.kind == "folder" and (files := [path for path in run if os.path.exists(path)]):
        return read_checkpoint(files[0], sha256=where.sha256)
    if where.kind == "folder":
        folder = Path(where.location)
        return read_repository(fetch_from(folder), str(folder), where.sha256)
    return read_checkpoint(where.location, sha256=where.sha256)


def _read_bundled(record: WeightsRecord) -> Checkpoint:
    if not record.path.exists():
        raise WeightsError(f"{record.path} is missing: reinstall fer-zoo")
    return read_checkpoint(record.path, sha256=record.sha256)


def _from_checkpoint(checkpoint: Checkpoint, where: str) -> Classifier:
    try:
        model = build_model(checkpoint.config, checkpoint.num_values)
        give_tensors(model, checkpoint.tensors)
    except CheckpointError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__
    for part in [model, *(model.members if isinstance(model, Ensemble) else ())]:
        if part._evidence.claims and not part._evidence.state:
            part.evidence = part._evidence  # of a file from before states
    return model.eval()


def _described(
    model: Classifier, dtype: str | torch.dtype | None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return what a file of the model holds: the tensors as stored, and the config."""
    if not isinstance(model, Classifier):
        raise ArgumentError(f"a model of the zoo can be saved, not a {type(model).__name__}")
    tensors: dict[str, torch.Tensor] = model.state_dict()
    config = model_config(model)
    fresh = build_model(config, sum(t.numel() for t in tensors.values()))
    if odd := _replaced(model, fresh):
        raise ArgumentError(
            f"{odd} is another layer than {model.name!r} has, and a file names the network only: "
            "fer_zoo.register_model one that is built like this, and load_state_dict into it"
        )
    own = fresh.state_dict(keep_vars=True)
    if odd_names := sorted(own.keys() ^ tensors.keys()):
        raise ArgumentError(
            f"{model.name!r} as its name builds it has other tensors: {odd_names[:3]}; undo what "
            "renamed them (pruning, a parametrization) before it is saved"
        )
    if bad := [k for k, t in tensors.items() if k in own and unusable(k, t, own[k])]:
        raise ArgumentError(f"{bad[:3]} hold NaN or infinity: such a file would not load again")
    if dtype is None:
        return tensors, config
    stored = storage_dtype(dtype)
    tensors = pack(tensors, stored)
    _note_rounding(model, config, unpack(tensors), str(stored).removeprefix("torch."))
    return tensors, config


def _replaced(model: Classifier, fresh: Classifier) -> str:
    """Return the first layer that a network would not have again, or nothing."""
    here, there = (
        {name: f"{kind}({settings})" for name, kind, settings in network.form[0]}
        for network in (model, fresh)
    )
    odd = [name for name in here if here[name] != there.get(name)]
    odd += [name for name in there if name not in here]
    return f"{odd[0]!r} ({here.get(odd[0], 'gone')})" if odd else ""


def _note_rounding(
    model: Classifier, config: dict[str, Any], restored: Mapping[str, torch.Tensor], dtype: str
) -> None:
    """Let the evidence in a config speak of the tensors as they will be read again."""
    known, state = model.evidence, model._state_of(restored)
    if known.claims and state != known.state:
        config["evidence"] = to_plain(known.of_rounded(state, dtype))
    for i, member in enumerate(model.members if isinstance(model, Ensemble) else ()):
        prefix = f"members.{i}."
        own = {k.removeprefix(prefix): t for k, t in restored.items() if k.startswith(prefix)}
        _note_rounding(member, config["members"][i], own, dtype)
