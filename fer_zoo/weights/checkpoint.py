"""Checkpoints: one `.safetensors` file that describes itself, and nothing that is unpickled.

The tensors are a state dict; the file's metadata holds one entry, `fer_zoo`, a JSON object that
says which model they belong to. This module maps files to tensors and back; it builds no model.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer_zoo._files import replacing
from fer_zoo.errors import CheckpointError, StateDictError

FORMAT = 1
PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl"})


def write_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write `tensors` and `config` to one file, which appears whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; an older one at `path` is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if Path(path).suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint's name must end in .safetensors")
    try:
        metadata = {"fer_zoo": json.dumps({"format": FORMAT, **config})}
    except TypeError as error:
        raise CheckpointError(f"{path}: the config is not plain values: {error}") from None
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(plain, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the config alone of the file at `path`; see `read_checkpoint`."""
    return read_checkpoint(path, with_tensors=False)[1]


def read_checkpoint(
    path: str | os.PathLike[str], *, with_tensors: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the config in the file at `path`.

    Raises:
        CheckpointError: there is no file, it is not safetensors, or fer_zoo did not write it.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys() if with_tensors}
    except (SafetensorError, OSError) as error:
        _refuse_pickle(Path(path))
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from None
    try:
        config = json.loads(metadata["fer_zoo"])
        known = isinstance(config, dict) and config.pop("format") == FORMAT
    except (KeyError, ValueError):
        known = False
    if not known:
        raise CheckpointError(
            f"{path}: safetensors, but its metadata does not say which fer_zoo model it is; "
            "build the model and call fer_zoo.load_state_dict(model, tensors)"
        )
    return tensors, config


def load_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into `model`: all of them and nothing else.

    Stored half precision becomes the model's own dtype.

    Raises:
        StateDictError: keys or shapes differ; the message lists them, and `model` is unchanged.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> load_state_dict(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        >>> layer(torch.ones(1, 2)).item()
        2.0
    """
    own = model.state_dict()
    problems = [f"missing {k}" for k in own if k not in tensors]
    problems += [f"unexpected {k}" for k in tensors if k not in own]
    problems += [
        f"{k} has shape {tuple(tensors[k].shape)}, the model's is {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    problems += [
        f"{k} is {tensors[k].dtype}, the model's is {own[k].dtype}"
        for k in own
        if k in tensors and tensors[k].is_floating_point() != own[k].is_floating_point()
    ]
    if problems:
        shown = "\n  ".join(problems[:12])
        more = f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise StateDictError(f"the tensors do not fit {_name(model)}:\n  {shown}{more}")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(tensors[key])


def is_file_address(name: str) -> bool:
    """Whether a model or weights are given as a file rather than by name."""
    return Path(name).suffix in {".safetensors", *PICKLES}


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if path.suffix in PICKLES or start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        target = path.with_suffix(".safetensors")
        raise CheckpointError(
            f"{path} is a pickle, which can run code; fer_zoo reads none. If it holds the state "
            "dict of a model, say resnet18, this converts it:\n"
            f"  python -c \"import torch, fer_zoo; m = fer_zoo.create('resnet18'); "
            f"fer_zoo.load_state_dict(m, torch.load('{path}', weights_only=True)); "
            f"fer_zoo.save(m, '{target}')\""
        )


def _name(model: nn.Module) -> str:
    return str(getattr(model, "name", "") or type(model).__name__)
