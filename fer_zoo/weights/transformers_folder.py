"""Image classifiers of transformers: their folders and repositories, read as members of the zoo."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    HubError,
    LabelError,
    WeightsError,
    needing,
)
from fer_zoo.evidence import Evidence
from fer_zoo.labels import canonical, check_labels, is_expression
from fer_zoo.models.transformers_member import PREFIX, TransformersMember, read_config
from fer_zoo.plain import to_plain
from fer_zoo.transforms import Preset
from fer_zoo.transforms.presets import name_of, restore
from fer_zoo.transforms.transform import for_network
from fer_zoo.weights.address import HUB, Address
from fer_zoo.weights.processor import preset_of
from fer_zoo.weights.reading import MAX_HEADER, open_regular, read_json
from fer_zoo.weights.repository import CONFIG, MODEL

INDEX = f"{MODEL}.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
LABEL = re.compile(r"LABEL_\d+|\d+")


def load_transformers(
    where: Address,
    *,
    trained: bool = True,
    endpoint: str | None = None,
    token: str | None = None,
    cached: bool = False,
) -> TransformersMember:
    """Return the image classifier in a folder or a repository, with its preset and its labels.

    The labels are None where the names are no expressions; `why_unlabelled` says what to do.

    Args:
        where: an address that begins with `transformers/`.
        trained: with its weights, else as transformers initialises it.
        endpoint: of the Hub.
        token: for a private repository.
        cached: take what the cache has, and do not ask the network.

    Raises:
        ArgumentError: it is no image classifier, or its processor does what no preset can.
        CheckpointError: files are missing, are not safetensors, or do not fit each other.
        MissingDependencyError: transformers is not installed.
    """
    with needing(f"{where} needs transformers", "hf"):
        import transformers  # noqa: F401
    folder, commit = _fetched(where, trained, endpoint, token, cached)
    try:
        config = _read(folder / CONFIG)
        if "fer_zoo" in config or config.get("model_type") == "fer_zoo":
            place = f"{HUB}{where.location}" if commit else str(folder)
            raise ArgumentError(f"fer_zoo wrote this one: fer_zoo.load({place!r})")
        member = TransformersMember(config)
        member.name = PREFIX + (where.location if commit else folder.resolve().name)
        preset = preset_of(folder, str(config["model_type"]), member.in_channels)
        member.preset = name_of(restore(to_plain(preset)))
        if trained:
            member.take(_with_weights(folder, config))
        member.eval()
        _rehearse(member, preset)
    except (ArgumentError, CheckpointError) as error:
        raise type(error)(f"{where}: {error}") from None
    if not trained:
        return member
    labels = _labels_of(member)
    if not isinstance(labels, str):
        member.labels = labels
    known = str(Address("transformers", where.location, commit))
    member.evidence = Evidence(weights=known) if commit else Evidence(started_from=member.name)
    return member


def why_unlabelled(member: TransformersMember, where: str) -> str:
    """Say why a classifier has no labels, and what to type."""
    names = ", ".join(f"'class {i}'" for i in range(member.num_classes))
    return (
        f"{where}: {_labels_of(member)}. If you know what its outputs mean, say so, in their "
        f"order:\n  model = fer_zoo.load({where!r})\n  model.labels = [{names}]\nand use the model "
        "in place of its address"
    )


def _fetched(
    where: Address, trained: bool, endpoint: str | None, token: str | None, cached: bool
) -> tuple[Path, str]:
    """Return the folder of the files, and the commit if they are of the Hub."""
    from fer_zoo.weights.hub import Repository, client

    if where.revision == "" and (folder := Path(where.location)).is_dir():
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{where}: the folder has no {CONFIG}")
        if (folder / "adapter_config.json").exists():
            raise CheckpointError(
                f"{where} is an adapter, which needs another network: save both as one, by "
                "model.merge_and_unload().save_pretrained('folder')"
            )
        if trained:
            _check_weights(str(where), [path.name for path in folder.iterdir()])
        return folder, ""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", where.location):
        raise CheckpointError(f"{where}: no such folder, and no org/name of the Hub")
    repository = Repository(where, client(endpoint, token), cached)
    try:
        found = repository.fetch(CONFIG)
        for name in PROCESSORS:
            repository.fetch(name)
        if trained and repository.fetch(MODEL) is None:
            index = repository.fetch(INDEX)
            if index is None:
                _check_weights(str(where), [])
            else:
                for name in _shards(index.path):
                    repository.fetch(name)
    except HubError as error:
        if not cached:
            raise
        raise WeightsError(
            f"{where} is not here, and models are built without the network. This downloads it, "
            f"once:\n  fer_zoo.load({str(where)!r})\n{error}"
        ) from None
    if found is None:
        raise CheckpointError(f"{where}: the repository has no {CONFIG}")
    if repository.discard_damaged():
        raise WeightsError(f"{where}: what was downloaded is damaged, and removed: load it again")
    return repository.snapshot, repository.commit


def _shards(index: Path) -> list[str]:
    names = sorted({*map(str, (_read(index).get("weight_map") or {}).values())})
    if odd := [name for name in names if not SHARD.fullmatch(name)]:
        raise CheckpointError(f"{index}: names {odd[0]!r:.80}, which is no part of a model")
    return names


def _check_weights(where: str, names: list[str]) -> None:
    """Raise unless there are weights as safetensors."""
    if {MODEL, INDEX} & {*names}:
        return
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    beside = f" but {pickled[0]}, a pickle, which fer_zoo does not open" if pickled else ""
    raise CheckpointError(
        f"{where} has no {MODEL}{beside}. Where you trust it, this writes one:\n  transformers."
        f"AutoModelForImageClassification.from_pretrained(...).save_pretrained('folder')\n  "
        "transformers.AutoImageProcessor.from_pretrained(...).save_pretrained('folder')"
    )


def _read(path: Path) -> dict[str, Any]:
    def refuse(reason: str) -> Any:
        raise CheckpointError(f"{path.name} {reason}")

    with open_regular(path) as file:
        content = file.read(MAX_HEADER + 1)
    if len(content) > MAX_HEADER:
        refuse(f"is longer than the {MAX_HEADER:,} bytes allowed")
    value = read_json(content, refuse)
    return value if isinstance(value, dict) else refuse("is no JSON object")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from showing how far it is."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _with_weights(folder: Path, config: dict[str, Any]) -> Any:
    """Return transformers' network with all its weights and no others."""
    from transformers import AutoModelForImageClassification as Auto

    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    how |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    try:
        with _quiet():
            model, told = Auto.from_pretrained(folder, config=read_config(config), **how)
    except ArgumentError:
        raise
    except Exception as error:  # transformers and safetensors raise whatever they like
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"transformers cannot load its weights: {reason:.300}") from None
    odd = {name: sorted(map(str, told.get(f"{name}_keys") or ())) for name in _WRONG}
    if wrong := "; ".join(f"{len(v)} {name}: {v[:3]}" for name, v in odd.items() if v):
        raise CheckpointError(
            f"its weights are not those of its {CONFIG} ({wrong}), and what is missing would be "
            "random: name a repository of a fine-tuned image classifier"
        )
    return model


_WRONG = ("missing", "unexpected", "mismatched")


def _labels_of(member: TransformersMember) -> tuple[str, ...] | str:
    """Return the labels by the alias table, or what is wrong with them."""
    said = member.model.config.id2label
    names = [str(said.get(i, f"LABEL_{i}")) for i in range(member.num_classes)]
    if any(map(LABEL.fullmatch, names)):
        return f"its id2label names no classes, {names}"
    if unknown := [name for name in names if not is_expression(name)]:
        return f"its id2label names classes that are no expressions fer_zoo knows, {unknown}"
    try:
        return check_labels([canonical(name) for name in names])
    except LabelError:
        return f"its id2label names one expression twice, {names}"


def _rehearse(member: TransformersMember, preset: Preset) -> None:
    """Raise unless the network takes what the preset makes, alone, and gives logits."""
    channels = 3 if preset.color else 1
    x = for_network(torch.rand(2, channels, preset.size, preset.size), member.in_channels)
    try:
        with torch.inference_mode():
            logits = member(x)
        wrong = "" if logits.shape == (2, member.num_classes) else f"gives {tuple(logits.shape)}"
    except Exception as error:  # networks raise whatever they like
        wrong = str(error).split("\n")[0]
    if wrong:
        raise ArgumentError(f"it does not take its processor's images alone: {wrong:.300}")
