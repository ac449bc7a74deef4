"""Files of others, beside their tensors: what kind they are, and what they say of classes."""

import zipfile
from collections.abc import Mapping
from typing import IO, Any

from fer_zoo.labels import canonical, check_labels

NAMED = (
    *("class_to_idx", "idx_to_class", "classes", "class_names", "labels", "label_names"),
    *("categories", "label2id", "id2label", "label_to_idx", "idx_to_label", "label_map"),
)
"""What training scripts call the names of classes; torchvision's first."""
COUNTED = ("num_classes", "n_classes", "nb_classes", "num_labels")
Stored = tuple[str, tuple[str, ...]]


def kind_of(file: IO[bytes]) -> str:
    """Return what a file is and what takes it, if that is no pickle; else nothing."""
    file.seek(0)
    start = file.read(16)
    file.seek(0)
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
            return f"a zip file of something else, {shown}, not what torch.save writes"
    return ""


def protocol_of(pickled: bytes) -> str:
    """Say of a pickle that it is of a protocol that is not looked through."""
    if pickled[:1] != b"\x80" or pickled[1:2] <= b"\2":
        return ""
    return f"of pickle's protocol {pickled[1]}, torch.save without pickle_protocol= writes 2"


def stored_labels(value: Any) -> Stored | None:
    """Return how a training state names its classes in order, and under which word."""
    for held in _parts(value):
        for word in NAMED:
            if names := _in_order(held.get(word)):
                return word, names
    return None


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


def _parts(value: Any) -> list[Mapping[Any, Any]]:
    """Return a training state, and what it holds of settings."""
    if not isinstance(value, Mapping):
        return []
    return [value, *(part for part in value.values() if isinstance(part, Mapping))]


def _in_order(value: Any) -> tuple[str, ...]:
    """Return names by index: of a list, or of a mapping of names to indices or the other way."""
    if isinstance(value, Mapping):
        pairs = [(k, v) if isinstance(v, int) else (v, k) for k, v in value.items()]
        places = {str(place): name for name, place in pairs}
        value = [places.get(str(i)) for i in range(len(pairs))]
    try:
        found = check_labels(value) if isinstance(value, list | tuple) else ()
    except ValueError:
        return ()
    return () if all(name.strip().isdigit() for name in found) else found
