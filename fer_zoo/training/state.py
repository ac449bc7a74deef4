"""What a run is, so that it can be told from another and repeated: faces, seeds, precision."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import SplitError, TrainingError
from fer_zoo.models import Classifier
from fer_zoo.training.recipe import Recipe


def check_splits(data: FaceDataset, validation: FaceDataset) -> None:
    """Raise unless training and choosing on these faces keeps the numbers honest."""
    if data.split == "private" or validation.split == "private":
        raise SplitError(
            "PrivateTest is scored once, for reporting: train on split='train' and choose on "
            "split='public'"
        )
    if data.split == "public":
        raise SplitError("PublicTest chooses between models: train on split='train'")
    if not len(validation):
        raise TrainingError("no validation faces: the best epoch is chosen on them")
    same = data.split is not None and data.split == validation.split
    if same or validation.image_hashes <= data.image_hashes:
        raise SplitError(
            f"all validation faces are training faces (split={data.split!r}); the best epoch must "
            "be chosen on faces that were not trained on"
        )


def describe(data: FaceDataset) -> dict[str, Any]:
    """Return what tells these faces from any others."""
    names = ("name", "split", "labels", "fingerprint")
    return {name: getattr(data, name) for name in names} | {"n": len(data)}


def hash_state(model: Classifier) -> str:
    """Return a hash of the body: its parameters and buffers, without the last layer.

    A head that `reset_classifier` drew anew does not make a run another run.
    """
    digest = hashlib.sha256()
    head = {p.data_ptr() for p in model.get_classifier().parameters()}
    for key, value in sorted(model.state_dict().items()):
        if value.data_ptr() in head:
            continue
        digest.update(key.encode() + value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()[:16]


def resolve_precision(recipe: Recipe, device: torch.device) -> str:
    """Return `fp32` or `bf16`: for `auto`, bf16 where torch says that the device computes in it."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if device.type == "cpu" and fast else "fp32"


def mix_seed(seed: int, epoch: int, stream: int) -> int:
    """Return a seed of its own for each epoch and use of chance."""
    return (seed * 1_000_003 + epoch) * 7 + stream


def generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a source of randomness of its own for each epoch and use of chance."""
    return torch.Generator().manual_seed(mix_seed(seed, epoch, stream))


def batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Yield all rows; a last batch of one joins the one before, as batch norm needs two."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> str:
    """Say in which values two nested configs differ."""
    found = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found.append(differences(left, right, f"{where}{key}."))
        elif left != right:
            found.append(f"{where}{key} {left!r} there, {right!r} here")
    return ", ".join(f for f in found if f)
