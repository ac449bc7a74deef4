"""Files of weights as bytes: read once through one handle, checked before a value is believed.

`safetensors` parses; here is what it leaves to its callers. A file is never mapped into memory, so
another process that cuts it short is an error here, not a crash, and what was hashed is what is
used. Memory is bounded by the size of the file, and its header may only be so long.
"""

import hashlib
import json
import math
import os
import shlex
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from fer_zoo.errors import CheckpointError, WeightsError

MAX_HEADER = 4 * 2**20
"""Longest header in bytes: some 30,000 tensors. Python needs about 25 times that to parse it."""

PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".t7"})
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Malformed(ValueError):
    """What is wrong with the bytes of a file, in words that follow its name."""


def read_safetensors(
    path: str | os.PathLike[str], *, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors in a `.safetensors` file, on the CPU, and its metadata.

    A sha256 is checked before anything else.
    """
    from safetensors import deserialize

    path = Path(path)
    with _opened(path) as (file, size):
        if sha256 is None:
            _header_length(file.read(8), size)  # before memory is taken for all of the file
            file.seek(0)
        content = file.read(size)
        check_sha256(content, sha256, path)
        length = _header_length(content[:8], len(content))
        metadata = _parse_header(content[8 : 8 + length])
        stored: Any = deserialize(content)  # type: ignore[no-untyped-call]
        return {name: _tensor(name, **value) for name, value in stored}, metadata


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata alone of a `.safetensors` file; its tensors are not looked at."""
    with _opened(Path(path)) as (file, size):
        return _parse_header(file.read(_header_length(file.read(8), size)))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a file and yield it with its size; what is wrong with its bytes is said of its name."""
    from safetensors import SafetensorError

    with open_regular(path) as file:
        try:
            yield file, os.fstat(file.fileno()).st_size
        except (_Malformed, SafetensorError) as error:
            file.seek(0)
            start = file.read(2)
            pickled = start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
            if pickled or path.suffix in PICKLES:
                refuse_pickle(path)
            reason = str(error).removeprefix("Error while deserializing: ")
            raise CheckpointError(f"{path}: not a safetensors file ({reason:.300})") from None


def _header_length(start: bytes, size: int) -> int:
    if size < 8:
        raise _Malformed(f"it has {size} bytes" if size else "it is empty")
    length = int.from_bytes(start, "little")
    if length > size - 8:
        raise _Malformed(
            f"its header would take {length:,} bytes, and {size - 8:,} are left: cut short, or "
            "something else"
        )
    if length > MAX_HEADER:
        raise _Malformed(f"its header takes {length:,} bytes, and {MAX_HEADER:,} are allowed")
    return length


def _parse_header(raw: bytes) -> dict[str, str]:
    """Return the metadata in a header, if all of it is as it should be where parsers differ."""

    def refuse(reason: str) -> NoReturn:
        raise _Malformed(f"its header {reason}")

    header = read_json(raw, refuse)
    if not isinstance(header, dict):
        refuse("is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _Malformed("its metadata is not text by name")
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise _Malformed(f"{name:.80} is not described by dtype, shape and data_offsets")
    return metadata


def _tensor(name: str, *, dtype: str, shape: list[int], data: bytearray) -> Tensor:
    """Return a tensor that safetensors found, without a copy."""
    kind = DTYPES.get(dtype)
    if kind is None:
        raise _Malformed(f"{name:.80} has the type {dtype!r}, not one of {[*DTYPES]}")
    if len(shape) > 32:
        raise _Malformed(f"{name:.80} has {len(shape):,} dimensions, and 32 are allowed")
    # No values, but rows longer than torch can count.
    if 0 in shape and math.prod(n or 1 for n in shape) >= 2**60:
        raise _Malformed(f"{name:.80} has a shape of no size, {shape}")
    if kind is torch.bool and data.translate(None, b"\0\1"):
        raise _Malformed(f"{name:.80} is boolean but holds other values than 0 and 1")
    # An empty buffer cannot be seen as a tensor.
    return (torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)).view(shape)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, and nothing else: no folder, pipe or device."""
    # A pipe that nobody writes to would keep `open` waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error  # the error itself has the path again
        raise CheckpointError(f"{path}: cannot be read ({why})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def check_sha256(content: bytes, sha256: str | None, path: Path) -> None:
    """Raise `WeightsError` if a file's content has another sha256 than the one known, if any."""
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise WeightsError(f"{path}: sha256 {found} is not the recorded {sha256}")


def read_json(raw: bytes | str, refuse: Any) -> Any:
    """Return what JSON says, or call `refuse` with what is wrong with it.

    A name that stands twice in one object and nesting that would exhaust the stack are refused.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise _Malformed(f"names {name!r:.80} twice")
        return found

    try:
        return json.loads(raw, object_pairs_hook=distinct)
    except _Malformed as error:
        return refuse(str(error))
    except RecursionError:
        return refuse("is nested too deep")
    except ValueError as error:
        return refuse(f"is not JSON: {error}")


def refuse_pickle(path: str | Path, model: str = "resnet18") -> NoReturn:
    """Raise what there is to say of a pickle."""
    path, output = Path(path), ""
    if path.suffix == ".safetensors":
        output = f" --output {shlex.quote(str(path.with_stem(path.stem + '-converted')))}"
    raise CheckpointError(
        f"{path} is a pickle, which can run code; fer_zoo loads none. This converts the state dict "
        f"in it, here of a {model}, without running any:\n"
        f"  fer-zoo convert {shlex.quote(str(path))} --model {model}{output}"
    )
