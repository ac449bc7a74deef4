"""Pickled state dicts of others, read without running what is in them."""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer_zoo._files import as_path
from fer_zoo.errors import ArgumentError, CheckpointError, LabelError, StateDictError
from fer_zoo.evidence import Evidence
from fer_zoo.labels import check_labels
from fer_zoo.models import VGG, Classifier, ResNet, TimmMember, get_spec
from fer_zoo.models.zoo import build_network
from fer_zoo.transforms.presets import Preset, get_preset, name_of
from fer_zoo.weights.checkpoint import load_state_dict
from fer_zoo.weights.others import (
    contradict,
    is_called_labels,
    kind_of,
    protocol_of,
    stored_count,
    stored_labels,
)
from fer_zoo.weights.pickles import look_through
from fer_zoo.weights.reading import DTYPES, open_regular

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""Where training scripts put the state dict: Lightning, many tutorials, timm, WuJie1010."""
HEADS = ("fc", "linear", "classifier", "head", "logits")
RENAMES = ((".shortcut.", ".downsample."), (".module.", "."))
"""Names of layers in other code, and in torchvision's.

The first is kuangliu's and WuJie1010's, the second of a part that was in DataParallel.
"""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model in evaluation mode made from another's file, and notes of what was adapted.

    Example:
        >>> Conversion(model=build_network("test_tiny"), notes=["removed 'module.'"]).notes
        ["removed 'module.'"]
    """

    model: Classifier
    notes: list[str] = field(default_factory=list)


def convert(
    path: str | os.PathLike[str],
    model: str,
    *,
    labels: Sequence[str] | None = None,
    preset: str | Preset | None = None,
) -> Conversion:
    """Read a pickled state dict into a model of the zoo; `save` it then.

    `torch.load` reads it with `weights_only=True`, which makes tensors and plain containers and
    nothing else. Known are the wrappers and key styles of DataParallel, `torch.compile`, Lightning,
    torchvision, timm, and the classic FER2013 code (`net`, `linear`, `shortcut`). After these
    adaptations the tensors fit whole or not at all.

    Args:
        path: the file.
        model: registry name of the network it belongs to.
        labels: class names of its head in order; if not given, those that the file has beside the
            tensors (`class_to_idx`, `classes`), if any.
        preset: the transform it was trained with; if not given, the model's usual one, and a note.

    Raises:
        CheckpointError: the file holds something else than tensors, or cannot be read.
        StateDictError: the tensors do not fit the model; the message lists how.
        LabelError: `labels` are not as many as the head's, or the file names them in another order,
            or in two orders.

    Example:
        >>> import tempfile, fer_zoo
        >>> old = fer_zoo.create("test_tiny").state_dict()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"net": {f"module.{k}": v for k, v in old.items()}}, f"{folder}/a.t7")
        ...     convert(f"{folder}/a.t7", "test_tiny").notes
        ["took 'net'", "removed 'module.' from the names",
        'no labels: predictions need them (labels=, --labels)',
        'no preset: the usual one of test_tiny is taken, fer40_center (preset=, --preset)']
    """
    spec, notes = get_spec(model), list[str]()
    if spec.members:
        raise ArgumentError(
            f"{model!r} is an ensemble: convert its members {spec.members} one by one, and make "
            "the ensemble of them (fer-zoo fuse)"
        )
    path = as_path(path)
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        held = _unpickled(file, path)
    tensors = _state_dict(held, path, notes)
    _check_sizes(tensors, path)
    wanted = build_network(model)
    classic = any(".shortcut." in k for k in tensors)
    tensors = {name: _counter(name, t) for name, t in _renamed(tensors, wanted, notes).items()}
    classes, channels = _shape(tensors, wanted)
    if channels != wanted.in_channels:
        notes.append(
            f"{channels} input channels: predictors feed it gray three times, so where it was "
            "trained on colours its answers differ from those it gave"
        )
    found = build_network(model, num_classes=classes, in_channels=channels)
    state = found.state_dict()
    counters = {k: v for k, v in state.items() if k.endswith(".num_batches_tracked")}
    if missing := counters.keys() - tensors.keys():
        notes.append(f"set {len(missing)} counters of batch norm to 0, which it does not have")
    try:
        load_state_dict(found, counters | tensors)
    except StateDictError as error:
        hint = "save the state dict of the network alone, or name another model"
        raise StateDictError(f"{path}: {error}\n{hint}") from None
    if found.num_classes < 2:
        raise CheckpointError(
            f"{path}: its head has one output, and of one class every face has 100 %: convert one "
            "of two classes or more"
        )
    found.labels = _labels(labels, held, found.num_classes, path, notes)
    if preset is None:
        notes.append(
            f"no preset: the usual one of {model} is taken, {found.preset} (preset=, --preset)"
        )
    chosen = get_preset(found.preset if preset is None else preset)
    found.preset = name_of(chosen)
    if classic and isinstance(found, ResNet) and not found.pool:
        size = chosen.size
        with torch.no_grad():
            side = found.eval().forward_features(torch.zeros(1, channels, size, size)).shape[-1]
        if side > 4:
            raise CheckpointError(
                f"{path}: the code that says `shortcut` averages the top left 4x4 of the last map, "
                f"{model} all {side}x{side} of it under {found.preset}, so labels would change: "
                "--model resnet18_pool4 averages what that code does"
            )
    if isinstance(found, ResNet) and not classic and found.conv1.out_channels == 64:
        notes.append(
            f"strides and pooling are not in the file: {model} is {spec.description}; where the "
            "original's are others (torchvision's with a new conv1 keeps its max-pool) so are its "
            "labels"
        )
    if isinstance(found, VGG) and next(found.parameters()).shape[0] == 64:
        notes.append(
            f"pooling and activation are not in the file: {model} is {spec.description}; where the "
            "original's are others (average pooling, LeakyReLU) so are its labels"
        )
    found.evidence = Evidence(started_from=f"{path.name} (sha256 {digest}), converted")
    return Conversion(model=found.eval(), notes=notes)


def _labels(
    labels: Sequence[str] | None, held: Any, classes: int, path: Path, notes: list[str]
) -> tuple[str, ...] | None:
    """Return the names of a head's classes: as given, or as the file has them."""
    if (count := stored_count(held)) and count[1] != classes:
        notes.append(f"{count[0]!r} says {count[1]}, and its head has {classes} outputs")
    given = None if labels is None else check_labels(labels)
    stored = stored_labels(held, classes)
    fitting = [(word, names) for word, names in stored if len(names) == classes]
    for word, names in stored:
        if len(names) != classes:
            notes.append(f"left {word!r}: {len(names)} names, and its head has {classes} outputs")
    if given and fitting and all(contradict(names, given) for _, names in fitting):
        word, names = fitting[0]
        raise LabelError(
            f"{path}: its {word!r} says that the classes are {names}, and labels are {given}: "
            "leave labels out, or give its order in your words"
        )
    if given is None and fitting:
        word, names = fitting[0]
        for other, theirs in fitting[1:]:
            # What is called otherwise, such as a report, may have an order of its own.
            if is_called_labels(other) == is_called_labels(word) and contradict(theirs, names):
                raise LabelError(
                    f"{path}: its {word!r} says that the classes are {names}, its {other!r} "
                    f"{theirs}: give those that are right (labels=, --labels)"
                )
        notes.append(f"took the labels of {word!r}: {', '.join(names)}"[:1000])
        return names
    if given is None:
        notes.append("no labels: predictions need them (labels=, --labels)")
    return given


def _unpickled(file: Any, path: Path) -> Any:
    """Return what a pickle holds, if that is tensors and plain containers."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    zipped, kind, protocol = file.read(2) == b"PK", "", ""
    with suppress(zipfile.BadZipFile, OSError, ValueError):  # damaged: told below
        kind = kind_of(file)
    if kind:
        raise CheckpointError(f"{path} is {kind}")
    file.seek(0)
    if zipped:
        try:
            with zipfile.ZipFile(file) as archive:
                whole = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: a zip file, but damaged ({error})") from None
        # torch.save does not compress, so what would grow was not made by it.
        if whole > size:
            raise CheckpointError(f"{path}: {size:,} bytes that would unpack to {whole:,}")
    file.seek(0)
    try:
        if zipped:
            record = torch._C.PyTorchFileReader(file).get_record("data.pkl")
            protocol = protocol_of(record)
            look_through(io.BytesIO(record))
        else:
            protocol = protocol_of(file.read(2))
            file.seek(0)
            for _ in range(5):  # what the file says of itself, the state dict, and its storages
                look_through(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a hostile pickle raises is its own choice
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        said = f"it names {named[1]:.200}" if named else protocol or type(error).__name__
        raise CheckpointError(
            f"{path}: not a pickle of tensors and plain containers, and nothing else is read "
            f"({said}). Where you trust "
            "it, load it with the code that made it and save model.state_dict() alone"
        ) from None


def _state_dict(value: Any, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """Return the state dict in what was unpickled."""
    if not _is_state_dict(value):
        held = value if isinstance(value, Mapping) else {}
        taken = next((w for w in WRAPPERS if _is_state_dict(held.get(w))), None)
        if taken is None:
            what = sorted(map(str, held))[:8] if held else type(value).__name__
            tensors = [isinstance(one, Tensor) for one in held.values()]
            if any(tensors) and not all(tensors):
                others = [str(k) for k, own in zip(held, tensors, strict=True) if not own]
                what = f"tensors beside others, {sorted(others)[:8]}: leave those out"
            raise CheckpointError(
                f"{path}: holds no state dict, on top or as one of {WRAPPERS}, but {what}"
            )
        others = sorted(str(k) for k in held if k != taken)
        notes.append(f"took {taken!r}" + (f", left {', '.join(others)[:200]}" if others else ""))
        value = held[taken]
    return {name: tensor.detach() for name, tensor in value.items()}


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what is no plain tensor, or shows more numbers than the file has bytes for."""
    size = path.stat().st_size
    for name, tensor in tensors.items():
        kinds = tensor.device.type, tensor.layout, tensor.dtype
        if kinds[:2] != ("cpu", torch.strided) or tensor.dtype not in DTYPES.values():
            said = ", ".join(map(str, kinds))
            raise CheckpointError(f"{path}: {name} is no plain tensor of numbers ({said})")
        if tensor.numel() * tensor.element_size() > size:
            raise CheckpointError(f"{path}: {name} is larger than the file")


def _renamed(tensors: dict[str, Tensor], wanted: Classifier, notes: list[str]) -> dict[str, Tensor]:
    """Return the tensors under the names of the zoo, as far as their style is known."""
    own, held = list(wanted.state_dict()), len(tensors)
    if isinstance(wanted, TimmMember):
        own = [name.removeprefix("model.") for name in own]
    for theirs, ours in RENAMES:
        if any(theirs in name for name in tensors) and not any(theirs in name for name in own):
            tensors = {name.replace(theirs, ours): t for name, t in tensors.items()}
            notes.append(f"renamed {theirs!r} to {ours!r}")
    # What stands before the first name: of most tensors, for blocks may have a layer of that name.
    before = {n.removesuffix(own[0]) for n in tensors if f".{n}".endswith(f".{own[0]}")}
    shortest = sorted(before, key=len)[:8]
    if stem := max(shortest, key=lambda b: sum(n.startswith(b) for n in tensors), default=""):
        tensors = {name.removeprefix(stem): t for name, t in tensors.items()}
        notes.append(f"removed {stem!r:.80} from the names")
    head = _head_name(wanted)
    if f"{head}.weight" not in tensors:
        heads = [h for h in HEADS if f"{h}.weight" in tensors and f"{h}.weight" not in own]
        if len(heads) == 1:
            old = heads[0] + "."
            tensors = {
                f"{head}.{n.removeprefix(old)}" if n.startswith(old) else n: t
                for n, t in tensors.items()
            }
            notes.append(f"renamed the head {heads[0]!r} to {head!r}")
    if len(tensors) < held:
        raise CheckpointError(
            f"several tensors would have one name ({', '.join(notes)}): save the state dict of the "
            "network alone"
        )
    if isinstance(wanted, TimmMember):
        tensors = {f"model.{name}": t for name, t in tensors.items()}
    return tensors


def _counter(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as it is, but batch norm's counter as int64, where it counts."""
    if not name.endswith(".num_batches_tracked") or tensor.dtype is torch.bool:
        return tensor
    values = tensor.double()
    whole = bool((values.isfinite() & (values == values.trunc())).all())
    return tensor.long() if whole else tensor


def _head_name(wanted: Classifier) -> str:
    head = wanted.get_classifier()
    name = next((n for n, m in wanted.named_modules() if m is head), "")
    return name.removeprefix("model.") if isinstance(wanted, TimmMember) else name


def _shape(tensors: Mapping[str, Tensor], wanted: Classifier) -> tuple[int, int]:
    """Return how many classes and channels the tensors are for, where they tell."""
    prefix = "model." if isinstance(wanted, TimmMember) else ""
    head = tensors.get(f"{prefix}{_head_name(wanted)}.weight")
    stem = tensors.get(get_spec(wanted.name).first_conv)
    # Classes count only with all their weights: (10**9, 0) would be a large head in a small file.
    known = getattr(wanted.get_classifier(), "weight", None)
    fits = (
        head is not None and head.ndim and known is not None and head.shape[1:] == known.shape[1:]
    )
    classes = int(head.shape[0]) if head is not None and fits else wanted.num_classes
    channels = int(stem.shape[1]) if stem is not None and stem.ndim == 4 else wanted.in_channels
    return max(classes, 1), channels if channels in (1, 3) else wanted.in_channels
