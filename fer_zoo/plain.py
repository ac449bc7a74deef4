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

from fer_zoo.errors import ArgumentError

T = TypeVar("T")
HALVES = (torch.float16, torch.bfloat16)


def to_plain(value: Any) -> Any:
    """Return a value as JSON holds it; a dataclass leaves out what is empty by default.

    Example:
        >>> from fer_zoo.evidence import Faces
        >>> to_plain(Faces(name="mine", n=3))
        {'name': 'mine', 'n': 3}
    """
    if is_dataclass(value) and not isinstance(value, type):
        found = {f.name: (f, getattr(value, f.name)) for f in fields(value)}
        return {k: to_plain(v) for k, (f, v) in found.items() if not _left_out(f, v)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return [to_plain(v) for v in value] if isinstance(value, list | tuple) else value


def from_plain(kind: type[T], value: Any, where: str) -> T:
    """Return the dataclass of that type that `to_plain` made `value` of.

    Args:
        kind: a dataclass of numbers, texts, tuples, dicts and other such dataclasses.
        value: from a file, so it may be anything.
        where: what the value is called in messages.

    Raises:
        ArgumentError: fields are missing or unknown, or hold something else than they should.

    Example:
        >>> from fer_zoo.evidence import Faces
        >>> from_plain(Faces, {"name": "mine", "n": True}, "faces")
        Traceback (most recent call last):
        fer_zoo.errors.ArgumentError: faces.n must be int, got True
    """
    return cast(T, _read(kind, value, where))


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of a plain value: sorted names, no blanks, 1.0 as 1.

    Raises:
        ValueError: it holds NaN or infinity.
        TypeError: it holds what is not plain.

    Example:
        >>> canonical_json({"b": 1.0, "a": [True, 0.5]})
        b'{"a":[true,0.5],"b":1}'
    """
    return json.dumps(
        _whole(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def digest_tensors(tensors: Mapping[str, Tensor], *, as_stored: bool = False) -> str:
    """Return the sha256 of tensors by name: of their shapes and values, wherever they are.

    A float counts as the float32 that has its value, if there is one, so a change of precision or
    of memory layout that changes no value changes nothing.

    Args:
        tensors: by name, in any order.
        as_stored: the precision counts too.

    Example:
        >>> halves = {"weight": torch.tensor([0.5, 2.0])}
        >>> digest_tensors(halves) == digest_tensors({"weight": halves["weight"].half()})
        True
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if not as_stored and tensor.dtype in HALVES:
            tensor = tensor.float()
        elif not as_stored and tensor.dtype is torch.float64:
            single = tensor.float()
            tensor = single if torch.equal(single.double(), tensor) else tensor
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        if tensor.numel():
            digest.update(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _left_out(field: Field[Any], value: Any) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return value in (None, "", (), {}) and value == default


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        others = [k for k in inner if k is not type(None)]
        return (
            None if value is None and len(others) < len(inner) else _read(others[0], value, where)
        )
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
    name = getattr(origin or kind, "__name__", str(kind))
    return (
        value if kind in (int, str, bool) and type(value) is kind else _refuse(where, name, value)
    )


def _read_fields(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    hints = _hints(kind)
    if unknown := sorted(map(str, value.keys() - hints.keys())):
        raise ArgumentError(f"{where} has no {unknown[0]!r:.80}, only {sorted(hints)}")
    if missing := [f.name for f in fields(kind) if _needed(f) and f.name not in value]:
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
