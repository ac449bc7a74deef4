"""Repositories: a checkpoint as a folder of files, on disk or on the Hub.

A repository has `config.json`, and `model.safetensors` or, for a large model, shards with the
standard index `model.safetensors.index.json`. Each weights file is a checkpoint of its own with the
same config in it; the index names the sha256 of every shard.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from fer_zoo._files import replacing
from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.weights.checkpoint import Checkpoint, read_shards, write_checkpoint
from fer_zoo.weights.reading import MAX_HEADER, check_sha256, open_regular, read_json

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_SIZE = "5GB"


class Fetched(NamedTuple):
    """A file that is here now, and the sha256 that whoever gave it says it has."""

    path: Path
    sha256: str | None = None


Fetch = Callable[[str], Fetched | None]
"""Called with a file's name in the repository; returns where it is, or None if there is none."""


def read_repository(fetch: Fetch, where: str, sha256: str | None = None) -> Checkpoint:
    """Return the checkpoint in a repository, its bytes checked.

    Args:
        fetch: gives the files.
        where: the repository's name in messages.
        sha256: what `model.safetensors` must have or, for shards, the index.

    Raises:
        CheckpointError: files are missing, malformed, or contradict each other.
        WeightsError: a sha256 is another.
    """
    config = _read_config(fetch, where)
    single = fetch(SINGLE)
    if single is not None:
        return read_shards([(single.path, sha256 or single.sha256)], config)[0]
    index = fetch(INDEX)
    if index is None:
        raise CheckpointError(f"{where} has neither {SINGLE} nor {INDEX}")
    places, sums = _parse_index(_read_json(index, sha256), index.path)
    shards = []
    for name in sorted(set(places.values())):
        shard = fetch(name)
        if shard is None:
            raise CheckpointError(f"{where} lacks the shard {name}, which its index names")
        shards.append((shard.path, sums.get(name) or shard.sha256))
    checkpoint, names = read_shards(shards, config)
    if changed := names ^ places.keys():
        raise CheckpointError(
            f"{index.path}: names other tensors than the shards hold: {sorted(changed)[:3]}"
        )
    return checkpoint


def _read_config(fetch: Fetch, where: str) -> dict[str, Any]:
    """Return what `config.json` says of the model, as `fer_zoo.save` put it."""
    found = fetch(CONFIG)
    if found is None:
        raise CheckpointError(
            f"{where} has no {CONFIG}, so nothing says which fer_zoo model it is; "
            "fer_zoo.push_to_hub and fer-zoo publish make repositories that load"
        )
    config = _read_json(found).get("fer_zoo")
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{found.path}: does not say which fer_zoo model it is; build the model and call "
            "fer_zoo.load_state_dict(model, tensors)"
        )
    return config


def fetch_from(folder: Path) -> Fetch:
    """Return what finds files in a folder."""

    def fetch(name: str) -> Fetched | None:
        path = folder / name
        return Fetched(path) if os.path.lexists(path) else None

    if not os.path.isdir(folder):
        raise CheckpointError(f"{folder}: no such folder")
    return fetch


def write_repository(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    others: Mapping[str, Any],
    shard_size: int | str = SHARD_SIZE,
) -> Path:
    """Write a checkpoint as a repository.

    Args:
        folder: an empty one.
        tensors: as they are to be stored.
        config: see `write_checkpoint`.
        others: what `config.json` shall hold beside it, for other libraries.
        shard_size: of one weights file at most, in bytes or as `"5GB"`.

    Returns:
        The file whose sha256 stands for all weights.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        if type(shard_size) not in (int, str):
            raise ValueError("it is neither")
        split = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_size)
    except ValueError as error:
        raise ArgumentError(
            f"shard_size is in bytes, or as '5GB', got {shard_size!r:.80} ({error})"
        ) from None
    sums = {}
    for name, members in split.filename_to_tensors.items():
        write_checkpoint(folder / name, {k: tensors[k] for k in members}, config)
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    main = folder / SINGLE
    if split.is_sharded:
        main = folder / INDEX
        metadata = {"total_size": split.metadata["total_size"], "sha256": sums}
        _write_json(main, {"metadata": metadata, "weight_map": split.tensor_to_filename})
    _write_json(folder / CONFIG, {**others, "fer_zoo": dict(config)})
    return main


def _parse_index(index: dict[str, Any], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the shard of each tensor, and the sha256 of each shard."""
    metadata = index.get("metadata", {})
    places: Any = index.get("weight_map")
    sums: Any = metadata.get("sha256", {}) if isinstance(metadata, dict) else None
    for table in (places, sums):
        if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
            raise CheckpointError(f"{path}: not the index of a sharded checkpoint")
    names = {*places.values(), *sums}
    if wrong := [n for n in sorted(names) if not re.fullmatch(r"\w[\w.-]*\.safetensors", n)]:
        raise CheckpointError(f"{path}: {wrong[0]!r:.80} is no name of a shard in the same folder")
    if not names:
        raise CheckpointError(f"{path}: names no shard")
    return places, sums


def _read_json(found: Fetched, expected: str | None = None) -> dict[str, Any]:
    def refuse(reason: str) -> NoReturn:
        raise CheckpointError(f"{found.path}: {reason}")

    with open_regular(found.path) as file:
        content = file.read(MAX_HEADER + 1)
    if len(content) > MAX_HEADER:
        refuse(f"longer than the {MAX_HEADER:,} bytes allowed")
    check_sha256(content, expected or found.sha256, found.path)
    value = read_json(content, refuse)
    if not isinstance(value, dict):
        refuse("is no JSON object")
    return value


def _write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
