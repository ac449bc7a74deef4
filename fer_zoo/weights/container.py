"""The container: what a `.safetensors` file must be before a value in it is believed.

The format is that of safetensors (https://github.com/huggingface/safetensors): eight bytes with
the length of a header, the header as JSON, the tensors. A file is read through one open handle and
never mapped into memory, so another process that cuts it short is an error here, not a crash, and
what was checked is what is used. Nothing is allocated before its size is known to fit the file.
"""

import hashlib
import json
import math
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from fer_zoo.errors import CheckpointError, WeightsError

MAX_HEADER = 4 * 2**20
"""Longest header in bytes: some 30,000 tensors. Python needs about 20 times that to parse it."""

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
SEAL = rb'"fer_zoo":"{\"format\": 2, \"sha256\": \"'
"""What stands in front of the seal in the header: the sha256 of the file with a seal of zeros."""
UNSEALED = b"0" * 64
CHUNK = 2**22


@dataclass(frozen=True)
class Entry:
    """Where one tensor is in the file, and what it is."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class Container:
    """A checked `.safetensors` file that is open for reading.

    Args:
        path: a regular file.
        sha256: what the file must have, in hexadecimal; checked before anything else.
        sealed: check the seal, if the file has one.

    Attributes:
        metadata: text by name.
        entries: the tensors by name.
        seal: the sha256 that the file was sealed with, None if it has no seal.

    Raises:
        CheckpointError: it is no such file; the message says why.
        WeightsError: it has another sha256.

    Example:
        >>> import tempfile, fer_zoo
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fer_zoo.save(fer_zoo.create("test_tiny"), f"{folder}/tiny.safetensors")
        ...     with Container(path) as file:
        ...         file.entries["fc.weight"].shape
        (7, 96)
    """

    def __init__(
        self, path: str | os.PathLike[str], *, sha256: str | None = None, sealed: bool = True
    ) -> None:
        self.path = Path(path)
        self._file = open_regular(self.path)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            if sha256 is not None:
                found = self._hash().hexdigest()
                if found != sha256:
                    raise WeightsError(f"{path}: sha256 {found} is not the recorded {sha256}")
            raw = self._header()
            self.metadata, self.entries = self._parse(raw)
            self.seal = self._check_seal(raw, check=sha256 is None and sealed)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._file.close()

    def read(self, name: str) -> Tensor:
        """Return one tensor, on the CPU."""
        entry = self.entries[name]
        found = torch.empty(entry.shape, dtype=entry.dtype)
        self._file.seek(self._data + entry.start)
        # An empty tensor cannot be seen as bytes.
        there: Any = found.reshape(-1).view(torch.uint8).numpy() if found.numel() else bytearray()
        if self._file.readinto(there) != entry.end - entry.start:
            raise CheckpointError(f"{self.path}: became shorter while it was read")
        if entry.dtype is torch.bool and found.numel() and int(found.view(torch.uint8).max()) > 1:
            self._refuse(f"{name} is boolean but holds other values than 0 and 1")
        return found

    def _header(self) -> bytes:
        if self.size < 8:
            self._refuse(f"it has {self.size} bytes" if self.size else "it is empty")
        self._file.seek(0)
        length = int.from_bytes(self._file.read(8), "little")
        if length > self.size - 8:
            self._refuse(
                f"its header would take {length:,} bytes, and {self.size - 8:,} are left: cut "
                "short, or something else"
            )
        if length > MAX_HEADER:
            self._refuse(f"its header takes {length:,} bytes, and {MAX_HEADER:,} are allowed")
        self._data = 8 + length
        content: bytes = self._file.read(length)
        return content

    def _parse(self, raw: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
        header = read_json(raw, lambda reason: self._refuse(f"its header {reason}"))
        if not isinstance(header, dict):
            self._refuse("its header is no JSON object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            self._refuse("its metadata is not text by name")
        entries = {name: self._entry(name, value) for name, value in header.items()}
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
            if entry.start != end:
                word = "overlaps" if entry.start < end else "leaves a gap after"
                self._refuse(f"{name} {word} what stands before it")
            end = entry.end
        if end != self.size - self._data:
            self._refuse(f"its tensors take {end:,} bytes, and it holds {self.size - self._data:,}")
        return metadata, entries

    def _entry(self, name: str, value: Any) -> Entry:
        """Return an entry if its type is known and its shape fits its bytes."""
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            self._refuse(f"{name:.80} is not described by dtype, shape and data_offsets")
        dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
        if dtype is None:
            self._refuse(f"{name:.80} has the type {value['dtype']!r:.40}, not one of {[*DTYPES]}")
        shape, offsets = value["shape"], value["data_offsets"]
        for numbers in (shape, offsets):
            # No size of an array is longer than 2**63, so a longer number is no size.
            if not isinstance(numbers, list) or not all(
                type(n) is int and 0 <= n < 2**63 for n in numbers
            ):
                self._refuse(f"{name:.80} has a shape or offsets that are no sizes")
        # No values, but rows longer than torch can count.
        if 0 in shape and math.prod(n or 1 for n in shape) >= 2**60:
            self._refuse(f"{name:.80} has a shape or offsets that are no sizes")
        if len(offsets) != 2 or len(shape) > 32:
            self._refuse(f"{name:.80} needs two offsets and at most 32 dimensions")
        start, end = offsets
        if not start <= end <= self.size - self._data:
            self._refuse(f"{name:.80} lies outside of the file")
        if math.prod(shape) * dtype.itemsize != end - start:
            self._refuse(f"{name:.80} has {end - start:,} bytes, its shape {shape} has others")
        return Entry(dtype, tuple(shape), start, end)

    def _check_seal(self, raw: bytes, check: bool) -> str | None:
        """Return the seal, held against the bytes if `check`."""
        where = raw.find(SEAL) + len(SEAL)
        if where < len(SEAL):
            return None
        said = raw[where : where + len(UNSEALED)].decode(errors="replace")
        if check and said != self._hash(8 + where).hexdigest():
            raise CheckpointError(
                f"{self.path}: damaged or changed after it was written: its bytes do not have the "
                "sha256 that it was sealed with; use another copy"
            )
        return said

    def _hash(self, seal: int | None = None) -> Any:
        """Return the sha256 of the whole file, with a seal of zeros if `seal` says where it is."""
        return hash_file(self._file, seal)

    def _refuse(self, reason: str) -> NoReturn:
        self._file.seek(0)
        start = self._file.read(2)
        if self.path.suffix in PICKLES or start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
            refuse_pickle(self.path)
        raise CheckpointError(f"{self.path}: not a safetensors file ({reason})")


def open_regular(path: Path) -> Any:
    """Open a regular file for reading, and nothing else: no link, folder, pipe or device.

    Raises:
        CheckpointError: there is no file, it cannot be read, or it is something else.
    """
    if os.path.islink(path):  # False, not an error, for a name that no file can have
        target = os.readlink(path)
        raise CheckpointError(
            f"{path} is a symbolic link to {target}: what it leads to can change after it was "
            f"checked. Name the file itself: fer_zoo.load({str(path.parent / target)!r})"
        )
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def hash_file(file: Any, seal: int | None = None) -> Any:
    """Return the sha256 object of an open file, the 64 bytes from `seal` on taken as zeros."""
    found = hashlib.sha256()
    file.seek(0)
    if seal is not None:
        found.update(file.read(seal) + UNSEALED)
        file.seek(seal + len(UNSEALED))
    for chunk in chunks(file):
        found.update(chunk)
    return found


def chunks(file: Any) -> Iterator[memoryview]:
    """Yield what is left of an open file in pieces, all of them in one buffer."""
    buffer = memoryview(bytearray(CHUNK))
    while count := file.readinto(buffer):
        yield buffer[:count]


def read_json(raw: bytes | str, refuse: Any) -> Any:
    """Return what JSON says, or call `refuse` with what is wrong with it.

    A name that stands twice in one object and nesting that would exhaust the stack are refused.

    Example:
        >>> read_json('{"a": 1, "a": 2}', print)
        names 'a' twice
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise _BadJSON(f"names {name!r:.80} twice")
                seen.add(name)
        return found

    try:
        return json.loads(raw, object_pairs_hook=distinct)
    except _BadJSON as error:
        return refuse(str(error))
    except RecursionError:
        return refuse("is nested too deep")
    except ValueError as error:
        return refuse(f"is not JSON: {error}")


class _BadJSON(ValueError):
    """JSON that Python would read all the same."""


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
