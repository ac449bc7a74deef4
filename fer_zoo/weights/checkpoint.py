"""Checkpoints: one `.safetensors` file that describes itself, and nothing that is unpickled.

The tensors are a state dict; the file's metadata holds one entry, `fer_zoo`, a JSON object that
says which model they belong to, and has one digest of all that it says and of the tensors: damage
is noticed, however the JSON is spelt. This module maps files to tensors and back; it builds no
model.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from fer_zoo._files import as_path, replacing
from fer_zoo.errors import ArgumentError, CheckpointError, StateDictError
from fer_zoo.plain import canonical_json, digest_tensors
from fer_zoo.weights.reading import MAX_HEADER, read_json, read_metadata, read_safetensors
from fer_zoo.weights.storage import to_gray, unpack

FORMAT = 3
"""1 and 2 have no digest of this kind; they load unchecked."""
PREFIX = "prefix"
"""In a config: what the names of the tensors lack, where a file keeps to another library's."""
LONGEST_PREFIX = 64
STEMS = "rgb_stems"
"""In a config: the names of the tensors that are gray stems, stored as stems for RGB."""


class Checkpoint(NamedTuple):
    """What a file holds: tensors, int8 with scales as float32, and what it says of itself."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]

    @property
    def num_values(self) -> int:
        """How many numbers all tensors hold."""
        return sum(t.numel() for t in self.tensors.values())


def write_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write one file, which appears whole or not at all; an older one stays until then."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if as_path(path).suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint's name must end in .safetensors")
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        said = json.loads(json.dumps(config))  # as it will be read: tuples are lists then
        head = {"format": FORMAT, "digest": _digest(plain, said)}
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the config is not plain values: {error}") from None
    try:
        with replacing(path) as temporary:
            save_file(plain, temporary, metadata={"fer_zoo": json.dumps(head | said)})
            with temporary.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise OSError(f"its header would take {length:,} bytes, {MAX_HEADER:,} are allowed")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def read_checkpoint(path: str | os.PathLike[str], *, sha256: str | None = None) -> Checkpoint:
    """Return what the file at `path` holds, its bytes checked: by `sha256`, or by its digest."""
    path = Path(path)
    stored, metadata = read_safetensors(path, sha256=sha256)
    config, digest = _parse_config(metadata, path)
    if digest is not None and sha256 is None:
        try:
            found = _digest(stored, config)
        except (ValueError, RecursionError):  # NaN, or nested deeper than can be written
            found = None
        if found != digest:
            raise CheckpointError(
                f"{path}: damaged or changed after it was written: what it holds does not have the "
                "digest that was written with it; use another copy"
            )
    prefix = config.get(PREFIX, "")
    try:
        if not isinstance(prefix, str) or len(prefix) > LONGEST_PREFIX:
            raise CheckpointError(f"its {PREFIX} is no text of {LONGEST_PREFIX} letters at most")
        tensors = unpack({prefix + name: t for name, t in stored.items()})
        for name in _stems(config, tensors):
            tensors[name] = to_gray(tensors[name])
        return Checkpoint(tensors, config)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the config alone of the file at `path`; the digest is not checked."""
    return _parse_config(read_metadata(path), Path(path))[0]


def _stems(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the stems for RGB, if they are."""
    names = config.get(STEMS, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"its {STEMS} are no names")
    for name in names:
        stem = tensors.get(name)
        if stem is None or not stem.is_floating_point() or stem.shape[1:2] != (3,):
            raise CheckpointError(f"its {STEMS} name {name!r:.80}, which is no stem for RGB")
    if len({*names}) < len(names):
        raise CheckpointError(f"its {STEMS} name one twice")
    return names


def _digest(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    whole = {"config": config, "tensors": digest_tensors(tensors, as_stored=True)}
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def _parse_config(metadata: Mapping[str, str], path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what a file's metadata says of it, and the digest if its format has one."""

    def refuse(reason: str) -> NoReturn:
        raise CheckpointError(
            f"{path}: safetensors, but its metadata does not say which fer_zoo model it is "
            f"({reason}); build the model and call fer_zoo.load_state_dict(model, tensors)"
        )

    if "fer_zoo" not in metadata:
        refuse("no entry fer_zoo")
    config = read_json(metadata["fer_zoo"], lambda reason: refuse(f"its entry {reason}"))
    if not isinstance(config, dict):
        refuse("its entry is no JSON object")
    version = config.pop("format", None)
    if type(version) is not int or not 1 <= version <= FORMAT:
        refuse(f"format {version!r:.40}, this fer_zoo knows 1 to {FORMAT}")
    digest = config.pop("digest", None)
    if (version == FORMAT) != isinstance(digest, str):
        refuse(f"format {version} with the digest {digest!r:.80}")
    if version == 2:
        config.pop("sha256", None)
    return config, digest


@torch.no_grad()
def load_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into `model`: all of them and nothing else.

    Stored half precision becomes the model's own dtype.

    Raises:
        StateDictError: keys or shapes differ, or values are no tensors or no numbers; the message
            lists them, and `model` is unchanged.
        ArgumentError: `model` is no module, or `tensors` no mapping.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> load_state_dict(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        >>> layer(torch.ones(1, 2)).item()
        2.0
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"tensors are loaded into a module, got {model!r:.80}")
    if not isinstance(tensors, Mapping):
        raise ArgumentError(f"expected tensors by name, a state dict, got {tensors!r:.80}")
    for value, tensor in _pairs(model, tensors):
        value.copy_(tensor)


@torch.no_grad()
def give_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors`, which nobody else has, the model's own, copied where its type is another."""
    for value, tensor in _pairs(model, tensors):
        value.data = tensor.to(value.dtype)


def _pairs(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the model's tensors, each with the one of the same name, if all of them fit."""
    own = model.state_dict(keep_vars=True)
    _check_fit(model, own, tensors)
    if problems := [p for k in own if (p := unusable(k, tensors[k], own[k]))]:
        raise StateDictError(_list(problems, model))
    return [(value, tensors[key]) for key, value in own.items()]


def _check_fit(model: nn.Module, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise unless `found` has the names, shapes and kinds of number of `own`."""
    problems = [f"missing {k}" for k in own if k not in found]
    problems += [f"unexpected {k!s:.80}" for k in found if k not in own]
    for key in (k for k in own if k in found):
        ours, theirs = own[key], found[key]
        if not isinstance(theirs, Tensor):
            problems.append(f"{key} is a {type(theirs).__name__}, no tensor")
            continue
        floats = ours.is_floating_point() and theirs.is_floating_point()
        if theirs.shape != ours.shape:
            shapes = f"{tuple(theirs.shape)}, the model's is {tuple(ours.shape)}"
            problems.append(f"{key} has shape {shapes}")
        if theirs.dtype != ours.dtype and not floats:
            problems.append(f"{key} is {theirs.dtype}, the model's is {ours.dtype}")
    if problems:
        raise StateDictError(_list(problems, model))


def unusable(key: str, tensor: Tensor, own: Tensor) -> str:
    """Say why the values, in the model's own type, cannot be its; some buffers hold infinities."""
    if not tensor.is_floating_point():
        return ""
    if is_finite(tensor.to(own.dtype)):
        negative = key.endswith("running_var") and bool((tensor < 0).any())
        return f"{key} holds variances below 0" if negative else ""
    parameter = isinstance(own, nn.Parameter)
    if parameter or bool(tensor.isnan().any()) or bool(own.isfinite().all()):
        return f"{key} holds NaN or infinity"
    return ""


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite, by numpy: torch would wake all its threads each time."""
    plain = tensor.detach().cpu().reshape(-1)
    # numpy has no bfloat16; in what is no number, its exponent is all ones.
    if plain.dtype is torch.bfloat16:
        return not bool(((plain.view(torch.int16).numpy() & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(plain.numpy()).all())


def _list(problems: Sequence[str], model: nn.Module) -> str:
    shown = "\n  ".join(problems[:12])
    more = f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
    name = getattr(model, "name", "") or type(model).__name__
    return f"the tensors do not fit {name}:\n  {shown}{more}"
