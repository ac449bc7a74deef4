"""Repositories: a checkpoint as a folder, on disk or on the Hub.

A repository has `model.safetensors`, which is a checkpoint, and `config.json`, which says the same
as that does, and what other libraries want to know.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from fer_zoo._files import replacing
from fer_zoo.errors import CheckpointError
from fer_zoo.weights.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fer_zoo.weights.reading import MAX_HEADER, check_sha256, open_regular, read_json

CONFIG = "config.json"
MODEL = "model.safetensors"


class Fetched(NamedTuple):
    """A file that is here now, and the sha256 that whoever gave it says it has."""

    path: Path
    sha256: str | None = None


Fetch = Callable[[str], Fetched | None]
"""Called with a file's name in the repository; returns where it is, or None if there is none."""


def read_repository(fetch: Fetch, where: str, sha256: str | None = None) -> Checkpoint:
    """Return the checkpoint in a repository, its bytes checked; messages call it `where`."""
    config = _read_config(fetch, where)
    weights = fetch(MODEL)
    if weights is None:
        raise CheckpointError(f"{where} has no {MODEL}")
    checkpoint = read_checkpoint(weights.path, sha256=sha256 or weights.sha256)
    if checkpoint.config != config:
        raise CheckpointError(f"{weights.path}: of another checkpoint than the {CONFIG} beside it")
    return checkpoint


def _read_config(fetch: Fetch, where: str) -> dict[str, Any]:
    """Return what `config.json` says of the model, as `fer_zoo.save` put it."""
    found = fetch(CONFIG)
    if found is None:
        raise CheckpointError(
            f"{where} has no {CONFIG}, so nothing says which fer_zoo model it is; "
            "fer_zoo.push_to_hub makes repositories that load"
        )

    def refuse(reason: str) -> NoReturn:
        raise CheckpointError(f"{found.path}: {reason}")

    with open_regular(found.path) as file:
        content = file.read(MAX_HEADER + 1)
    if len(content) > MAX_HEADER:
        refuse(f"longer than the {MAX_HEADER:,} bytes allowed")
    check_sha256(content, found.sha256, found.path)
    value = read_json(content, refuse)
    config = value.get("fer_zoo") if isinstance(value, dict) else None
    if not isinstance(config, dict):
        refuse(
            "does not say which fer_zoo model it is; build the model and call "
            "fer_zoo.load_state_dict(model, tensors)"
        )
    return config


def fetch_from(folder: Path) -> Fetch:
    """Return what finds files in a folder."""

    def fetch(name: str) -> Fetched | None:
        path = folder / name
        return Fetched(path) if os.path.lexists(path) else None

    if not os.path.isdir(folder):
        # Where not even the first part is here, a name of the Hub was meant.
        hub = re.fullmatch(r"\w[\w.-]*/[\w.@-]+", str(folder)) and not folder.parent.exists()
        hint = f"; if it is on the Hub: hf-hub:{folder}" if hub else ""
        raise CheckpointError(f"{folder}: no such folder{hint}")
    return fetch


def write_repository(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    others: Mapping[str, Any],
) -> Path:
    """Write a checkpoint as a repository; `config.json` holds `others` too. Return its weights."""
    write_checkpoint(folder / MODEL, tensors, config)
    with replacing(folder / CONFIG) as temporary:
        text = json.dumps({**others, "fer_zoo": dict(config)}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    return folder / MODEL
