"""Plain values: frozen dataclasses to what JSON holds, strictly back, and digests of both."""

import hashlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, FerZooError, InputError

LATER = {"later": True}
"""Metadata of a field that came later: a default is left out, so that files stay what they were."""
T = TypeVar("T")
_hints = cache(get_type_hints)  # it takes most of the time of reading


def to_plain(value: Any) -> Any:
    """Return a value as JSON holds it; a dataclass leaves out what is empty by default."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {f.name: (f, getattr(value, f.name)) for f in fields(value)}
        return {k: to_plain(v) for k, (f, v) in found.items() if not _left_out(f, v)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return [to_plain(v) for v in value] if isinstance(value, list | tuple) else value


def from_plain(kind: type[T], value: Any, where: str) -> T:
    """Return the dataclass that `to_plain` made `value` of, or say what is wrong `where`."""
    return cast(T, _read(kind, value, where))


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of a plain value: sorted names, no blanks, 1.0 as 1."""
    how: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    return json.dumps(_whole(value), **how).encode()


def check_plain(tensor: Tensor, where: str, error: type[FerZooError] = InputError) -> None:
    """Raise unless a tensor holds its values one by one."""
    odd = tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized
    if odd or tensor.is_complex() or tensor.is_meta:
        raise error(
            f"{where} is no plain tensor, but one of {tensor.dtype}, {tensor.layout}, on "
            f"{tensor.device}: pass what .to_dense(), .dequantize() or .real gives"
        )


def digest_tensors(tensors: Mapping[str, Tensor], *, as_stored: bool = False) -> str:
    """Return the sha256 of tensors' names, shapes and values, and of their types `as_stored`.

    Else a float counts as the float32 that has its value, if there is one.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if not as_stored and tensor.is_floating_point():
            single = tensor.float()
            finer = tensor.dtype is torch.float64 and not torch.equal(single.double(), tensor)
            tensor = tensor if finer else single
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        if tensor.numel():
            digest.update(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _left_out(field: Field[Any], value: Any) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    later = bool(field.metadata.get("later"))
    return value == default and (later or value in (None, "", (), {}))


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        several = [k for k in inner if k is not type(None)]
        fits = {Mapping: isinstance(value, Mapping), tuple: isinstance(value, list | tuple)}
        fitting = (k for k in several if fits.get(get_origin(k), not any(fits.values())))
        return _read(next(fitting, several[0]), value, where)
    if origin is Literal:
        return value if value in inner else _refuse(where, f"one of {list(inner)}", value)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            _refuse(where, f"{len(kinds)} values", value)
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(_read(k, v, f"{where}[{i}]") for i, (k, v) in pairs)
    if (origin or kind) in (dict, Mapping) and isinstance(value, Mapping):
        held = inner[1] if inner else Any
        if wrong := [key for key in value if not isinstance(key, str)]:
            _refuse(where, "named by text", wrong[0])
        return {key: _read(held, v, f"{where}.{key}") for key, v in value.items()}
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _read_fields(cast(Any, kind), value, where)
    if (kind in (int, bool) and type(value) is kind) or (kind is str and isinstance(value, str)):
        return value
    return _refuse(where, getattr(origin or kind, "__name__", str(kind)), value)


def _read_fields(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    hints = _hints(kind)
    if unknown := sorted(map(str, value.keys() - hints.keys())):
        raise ArgumentError(f"{where} has no {unknown[0]!r:.80}, only {sorted(hints)}")
    needed = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [f.name for f in needed if f.name not in value]:
        raise ArgumentError(f"{where} lacks {missing}")
    return kind(**{name: _read(hints[name], v, f"{where}.{name}") for name, v in value.items()})


def _refuse(where: str, expected: str, value: object) -> Any:
    raise ArgumentError(f"{where:.200} must be {expected}, got {value!r:.80}")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # larger ones have up to 300 digits
    if isinstance(value, Mapping):
        return {key: _whole(v) for key, v in value.items()}
    return [_whole(v) for v in value] if isinstance(value, list | tuple) else value
