"""Checkpoints: one `.safetensors` file that describes itself, and nothing that is unpickled.

The tensors are a state dict; the file's metadata holds one entry, `fer_zoo`, a JSON object that
says which model they belong to and seals the file: it has the sha256 of the file itself, so that no
byte of it can change unnoticed. This module maps files to tensors and back; it builds no model.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from fer_zoo._files import replacing
from fer_zoo.errors import CheckpointError, StateDictError
from fer_zoo.weights.container import (
    MAX_HEADER,
    SEAL,
    UNSEALED,
    Container,
    Entry,
    hash_file,
    read_json,
)
from fer_zoo.weights.storage import SCALE, restore

PIECE = 2**18
"""How many values are looked at at once."""
FORMATS = (1, 2)
"""1 has no seal."""
PREFIX = "prefix"
"""In a config: what the names of the tensors lack, where a file keeps to another library's."""


def write_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write `tensors` and `config` to one sealed file, which appears whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; an older one at `path` is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if Path(path).suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint's name must end in .safetensors")
    head = {"format": FORMATS[-1], "sha256": UNSEALED.decode()}
    try:
        metadata = {"fer_zoo": json.dumps({**head, **config})}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the config is not plain values: {error}") from None
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(plain, temporary, metadata=metadata)
            _seal(temporary)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def _seal(path: Path) -> None:
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise OSError(f"its header would take {length:,} bytes, {MAX_HEADER:,} are allowed")
        where = 8 + file.read(length).index(SEAL) + len(SEAL)
        digest = hash_file(file, where).hexdigest()
        file.seek(where)
        file.write(digest.encode())


class Checkpoint:
    """The tensors and the config in one open file, or in the shards of one checkpoint.

    Attributes:
        config: what the file says of itself.
        entries: the tensors by name, as they are once read: int8 with scales is float32.

    Raises:
        CheckpointError: the files contradict each other, or scales do not fit their weights.
    """

    def __init__(self, files: Sequence[Container], config: dict[str, Any]) -> None:
        self.config, self.path = config, files[0].path
        prefix = config.get(PREFIX, "")
        if not isinstance(prefix, str):
            raise CheckpointError(f"{self.path}: its {PREFIX} is no text")
        self._files: dict[str, tuple[Container, str]] = {}
        for file in files:
            for own in file.entries:
                name = prefix + own
                if name in self._files:
                    other = self._files[name][0].path
                    raise CheckpointError(f"{file.path}: {own:.80} is in {other} too")
                self._files[name] = file, own
        stored = {name: file.entries[own] for name, (file, own) in self._files.items()}
        self.entries = {k: e for k, e in stored.items() if not k.endswith(SCALE)}
        self._scaled = {k.removesuffix(SCALE) for k in stored if k.endswith(SCALE)}
        for name in self._scaled:
            scale, entry = stored[name + SCALE], self.entries.get(name)
            shape = entry.shape[:1] if entry and entry.dtype is torch.int8 else None
            if entry is None or scale.dtype is not torch.float32 or scale.shape != shape:
                raise CheckpointError(f"{self.path}: {name}{SCALE} fits no int8 weight")
            self.entries[name] = Entry(torch.float32, entry.shape, entry.start, entry.end)

    @property
    def stored_names(self) -> list[str]:
        """The names of all tensors in the files, scales included."""
        return [own for _, own in self._files.values()]

    @property
    def num_values(self) -> int:
        """How many numbers all tensors hold."""
        return sum(torch.Size(entry.shape).numel() for entry in self.entries.values())

    def read(self, name: str) -> Tensor:
        """Return one tensor."""
        tensor = self._stored(name)
        if name not in self._scaled:
            return tensor
        scale = self._stored(name + SCALE)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise CheckpointError(f"{self.path}: {name}{SCALE} holds what is no scale")
        return restore(tensor, scale)

    def _stored(self, name: str) -> Tensor:
        file, own = self._files[name]
        return file.read(own)


@contextmanager
def open_checkpoint(
    path: str | os.PathLike[str], *, sha256: str | None = None, sealed: bool = True
) -> Iterator[Checkpoint]:
    """Open the checkpoint at `path`, its bytes checked.

    Raises:
        CheckpointError: there is no file, it is not safetensors, or fer_zoo did not write it.
        WeightsError: its sha256 is not the one given.
    """
    with Container(path, sha256=sha256, sealed=sealed) as file:
        yield Checkpoint([file], parse_config(file))


@contextmanager
def open_shards(
    paths: Iterable[tuple[Path, str | None]], config: Mapping[str, Any]
) -> Iterator[Checkpoint]:
    """Open the shards of one checkpoint: paths, each with the sha256 it must have.

    Raises:
        CheckpointError: as of `open_checkpoint`, or a shard is of another checkpoint.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(Container(path, sha256=sha256)) for path, sha256 in paths]
        for file in files:
            if parse_config(file) != config:
                raise CheckpointError(
                    f"{file.path}: of another checkpoint than the config.json beside it"
                )
        yield Checkpoint(files, dict(config))


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the config alone of the file at `path`; the seal is not checked."""
    with open_checkpoint(path, sealed=False) as checkpoint:
        return checkpoint.config


def read_checkpoint(
    path: str | os.PathLike[str], *, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the config in the file at `path`; see `open_checkpoint`."""
    with open_checkpoint(path, sha256=sha256) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.entries}, checkpoint.config


def parse_config(file: Container) -> dict[str, Any]:
    """Return what a file's metadata says of it."""

    def refuse(reason: str) -> NoReturn:
        raise CheckpointError(
            f"{file.path}: safetensors, but its metadata does not say which fer_zoo model it is "
            f"({reason}); build the model and call fer_zoo.load_state_dict(model, tensors)"
        )

    if "fer_zoo" not in file.metadata:
        refuse("no entry fer_zoo")
    config = read_json(file.metadata["fer_zoo"], lambda reason: refuse(f"its entry {reason}"))
    if not isinstance(config, dict):
        refuse("its entry is no JSON object")
    version = config.pop("format", None)
    if type(version) is not int or version not in FORMATS:
        refuse(f"format {version!r:.40}, this fer_zoo knows {FORMATS}")
    # JSON can say the same in other bytes: then the seal was not found, nor checked.
    if config.pop("sha256", None) != file.seal or (file.seal is None) != (version == 1):
        refuse(f"format {version} with a seal that is not where it was put")
    return config


def load_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into `model`: all of them and nothing else.

    Stored half precision becomes the model's own dtype.

    Raises:
        StateDictError: keys or shapes differ, or values are no numbers; the message lists them,
            and `model` is unchanged.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> load_state_dict(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        >>> layer(torch.ones(1, 2)).item()
        2.0
    """
    own = model.state_dict()
    _check_fit(model, own, tensors)
    problems = [p for k in own if (p := unusable(k, tensors[k], own[k]))]
    if problems:
        raise StateDictError(_list(problems, model))
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(tensors[key])


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint into a new `model`, tensor by tensor, so that memory holds it once.

    Raises:
        StateDictError: as of `load_state_dict`; `model` is of no use then.
    """
    own = model.state_dict()
    _check_fit(model, own, checkpoint.entries)
    with torch.no_grad():
        for key, value in own.items():
            tensor = checkpoint.read(key)
            if problem := unusable(key, tensor, value):
                raise StateDictError(_list([problem], model))
            value.copy_(tensor)


def _check_fit(model: nn.Module, own: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    """Raise unless `found` has the names, shapes and kinds of number of `own`."""
    problems = [f"missing {k}" for k in own if k not in found]
    problems += [f"unexpected {k:.80}" for k in found if k not in own]
    problems += [
        f"{k} has shape {tuple(found[k].shape)}, the model's is {tuple(own[k].shape)}"
        for k in own
        if k in found and tuple(found[k].shape) != tuple(own[k].shape)
    ]
    problems += [
        f"{k} is {found[k].dtype}, the model's is {own[k].dtype}"
        for k in own
        if k in found
        and found[k].dtype != own[k].dtype
        and not (found[k].dtype.is_floating_point and own[k].is_floating_point())
    ]
    if problems:
        raise StateDictError(_list(problems, model))


def unusable(key: str, tensor: Tensor, own: Tensor) -> str:
    """Say why the values cannot be a model's; infinities may be where the model has some itself.

    What counts is what the model would hold: float64 may be too large for its float32.
    """
    if not tensor.is_floating_point() or is_finite(tensor.to(own.dtype)):
        return ""
    if bool(tensor.isnan().any()) or bool(own.isfinite().all()):
        return f"{key} holds NaN or infinity"
    return ""


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    By numpy: torch would wake all its threads for each tensor, which takes longer than the work.
    """
    plain = tensor.detach().cpu().reshape(-1)
    # numpy has no bfloat16; in what is no number, its exponent is all ones.
    bits = plain.dtype is torch.bfloat16
    values = (plain.view(torch.int16) if bits else plain).numpy()
    for start in range(0, len(values), PIECE):
        piece = values[start : start + PIECE]
        good = (piece & 0x7F80) != 0x7F80 if bits else np.isfinite(piece)
        if not good.all():
            return False
    return True


def _list(problems: Sequence[str], model: nn.Module) -> str:
    shown = "\n  ".join(problems[:12])
    more = f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
    return f"the tensors do not fit {_name(model)}:\n  {shown}{more}"


def _name(model: nn.Module) -> str:
    return str(getattr(model, "name", "") or type(model).__name__)
