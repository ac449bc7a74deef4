"""Files of others, beside their tensors: what kind they are, and what they say of classes."""

import json
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from torch import Tensor

from fer_zoo.labels import FER2013, FERPLUS, canonical, check_labels

NAMED = {
    *("classtoidx", "idxtoclass", "classidx", "idxclass", "classes", "classnames", "classlabels"),
    *("labels", "labelnames", "labelid", "idlabel", "labelidx", "idxlabel", "labeltoidx"),
    *("idxtolabel", "labelmap", "categories", "targetnames"),
}
"""What training scripts call the names of classes, the letters alone: `label2id` is `labelid`."""
EXPRESSIONS = {*FER2013, *FERPLUS}
DEPTH = 4  # mappings in which names are looked for
MOST_NAMES = 10_000
PACKED = "packed: unpack it, and convert the file in it"
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file: git lfs pull fetches it",
    b"<!doctype html": "a web page, not the file: download it again, from its page in a browser",
    b"<html": "a web page, not the file: download it again, from its page in a browser",
    b"\x1f\x8b": f"gzip, {PACKED}",
    b"bzh": f"bzip2, {PACKED}",
    b"\xfd7zxz\0": f"xz, {PACKED}",
    b"\x28\xb5\x2f\xfd": f"zstd, {PACKED}",
    b"7z\xbc\xaf\x27\x1c": f"7z, {PACKED}",
    b"rar!\x1a": f"rar, {PACKED}",
    b"\x93numpy": "an array of numpy's: a state dict of tensors is what torch.save writes",
}
"""What files begin with, small letters."""
COUNTED = ("num_classes", "n_classes", "nb_classes", "num_labels")
Stored = tuple[str, tuple[str, ...]]


def kind_of(file: IO[bytes]) -> str:
    """Return what a file is and what takes it, if that is no pickle; else nothing."""
    file.seek(0)
    start = file.read(512)
    file.seek(0)
    for begins, what in BEGINNINGS.items():
        if start.lstrip().lower().startswith(begins):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it, and convert the file in it"
    if start[8:9] == b"{" and start[5:8] == b"\0\0\0":
        return (
            "a safetensors file, which needs no conversion: fer_zoo.load takes fer_zoo's own; of "
            "another, fer_zoo.load_state_dict(model, safetensors.torch.load_file(path)) its tensors"
        )
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file, as of Keras, whose layers are not PyTorch's"
    if start[:1] == b"\x08" and b"\x12" in start[2:5]:
        return "an ONNX program, not a state dict: fer_zoo.Predictor takes those that fer_zoo wrote"
    if start.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if any("/code/" in name for name in names):
            return (
                "a TorchScript program, which is code: where you trust it, save "
                "torch.jit.load(path).state_dict() with torch.save, and convert that"
            )
        if not any(name.endswith("data.pkl") for name in names):
            shown = [name[:40] for name in names[:3]]
            return (
                f"a zip file of something else, {shown}, not what torch.save writes: where that is "
                "in it, unpack it first"
            )
    return ""


def protocol_of(pickled: bytes) -> str:
    """Say of a pickle that it is of a protocol that is not looked through."""
    if pickled[:1] != b"\x80" or pickled[1:2] <= b"\2":
        return ""
    return f"of pickle's protocol {pickled[1]}, torch.save without pickle_protocol= writes 2"


def stored_labels(value: Any, classes: int) -> list[Stored]:
    """Return how a training state names its classes in order, and under which words.

    Those that are called so come first; then what lists expressions, one for each of `classes`.
    """
    found, called = list[Stored](), list[bool]()
    for held in _parts(value, DEPTH):
        for word, one in held.items():
            names = _in_order(one)
            named = isinstance(word, str) and is_called_labels(word)
            known = len(names) == classes and {*map(canonical, names)} <= EXPRESSIONS
            if names and (known or (named and not isinstance(one, str))):
                found.append((str(word), names))
                called.append(named)
    return [found[i] for i in sorted(range(len(found)), key=lambda i: not called[i])]


def is_called_labels(word: str) -> bool:
    """Whether a word is one of those that names of classes are stored under."""
    return re.sub("[^a-z]", "", word.lower()) in NAMED


def stored_count(value: Any) -> tuple[str, int] | None:
    """Return how many classes a training state says that there are, and under which word."""
    found = ((word, held[word]) for held in _parts(value) for word in COUNTED if word in held)
    return next(((word, n) for word, n in found if type(n) is int), None)


def contradict(stored: tuple[str, ...], labels: tuple[str, ...]) -> bool:
    """Whether both cannot be the names of one head: another number of them, or another order."""
    theirs, ours = [*map(canonical, stored)], [*map(canonical, labels)]
    return len(theirs) != len(ours) or any(
        name in ours and name != own for name, own in zip(theirs, ours, strict=True)
    )


def _parts(value: Any, depth: int = 2) -> list[Mapping[Any, Any]]:
    """Return a training state, and what it holds of settings, the outer ones first."""
    found, level = list[Mapping[Any, Any]](), [value]
    for _ in range(depth):
        level = [held for held in level if isinstance(held, Mapping)]
        found += level
        level = [part for held in level for part in held.values()]
    return found


def _in_order(value: Any) -> tuple[str, ...]:
    """Return names by index: of a list or text, or of a mapping from or to indices.

    Where expressions are numbered (`0_angry`) or have a picture (`Angry 😠`), the words alone.
    """
    if isinstance(value, str) and len(value) <= MOST_NAMES:
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list | tuple) and all(_is_pair(one) for one in value):
        value = dict(value)
    if isinstance(value, Mapping) and len(value) <= MOST_NAMES:
        turned = {v: k for k, v in value.items() if _is_plain(v)}
        value = _by_number(value) or (_by_number(turned) if len(turned) == len(value) else [])
    elif isinstance(value, str):
        parted = re.split("[,;|]", value)
        value = [name.strip() for name in parted] if len(parted) > 1 else value.split()
    try:
        found = check_labels(value) if isinstance(value, list | tuple) else ()
    except ValueError:
        return ()
    if found and not {*map(canonical, found)} <= EXPRESSIONS:
        bare = ["".join(re.findall(r"[^\W\d_]", canonical(name))) for name in found]
        named = {*map(canonical, bare)}
        found = tuple(bare) if len(named) == len(bare) and named <= EXPRESSIONS else found
    return () if all(name.strip().isdigit() for name in found) else found


def _is_pair(value: Any) -> bool:
    """Whether a value is a class's index and name, in any order."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_plain, value))


def _by_number(value: Mapping[Any, Any]) -> list[Any]:
    """Return the values of a mapping in the order of its keys, if those count from 0 or 1."""
    places = {_number(place): name for place, name in value.items()}
    first = 0 if 0 in places else 1
    whole = {*places} == {*range(first, first + len(value))}
    return [places[i] for i in range(first, first + len(value))] if whole else []


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) or (
        isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu"
    )


def _number(value: Any) -> int | None:
    """Return a class's index, however it is written."""
    if isinstance(value, Tensor):
        value = value.item() if _is_plain(value) else None
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"\d{1,5}", value.strip(), re.ASCII) else None
    whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and 0 <= value <= MOST_NAMES else None
