"""What it costs in accuracy to store weights in fewer bits, measured on the stored weights."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

import fer_zoo
from fer_zoo.data import FaceDataset
from fer_zoo.evidence import StorageCost
from fer_zoo.inference import fuse
from fer_zoo.models import Classifier

ALLOWED_COST = 0.001
"""Share of the faces that a stored precision may lose: 0.1 points of accuracy."""
NARROW_TO_WIDE = (torch.int8, torch.float16, torch.bfloat16, torch.float32)
Costs = dict[str, tuple[StorageCost, ...]]


def storage_costs(
    members: Mapping[str, Classifier],
    public: FaceDataset,
    dtypes: Iterable[torch.dtype],
    predictions: Callable[[Iterable[Classifier], FaceDataset], dict[str, Tensor]],
    against: str,
) -> Costs:
    """Return the cost of each type under each preset, by member, and for their average as `""`.

    Args:
        members: of an ensemble, by name.
        public: the faces.
        dtypes: what to store the members in.
        predictions: gives their scores `(M, N, K)` by preset.
        against: what the members themselves are, or were, stored in.
    """
    before = predictions(members.values(), public)
    average = fer_zoo.create_ensemble(list(members.values())).eval()
    whole: dict[str, tuple[Classifier, slice]] = {"": (average, slice(None))}
    whole |= {name: (m, slice(i, i + 1)) for i, (name, m) in enumerate(members.items())}
    targets = public.targets_for(average.labels)
    costs: Costs = dict.fromkeys(whole, ())
    for dtype in dtypes:
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                name: fer_zoo.save(model, Path(folder) / f"{name}.safetensors", dtype=dtype)
                for name, model in members.items()
            }
            sizes = {name: path.stat().st_size for name, path in paths.items()}
            after = predictions([fer_zoo.load(path) for path in paths.values()], public)
        for name, (model, own) in whole.items():
            for preset in after:
                was, now = (
                    float((fuse(model, scores[preset][own]).argmax(1) == targets).double().mean())
                    for scores in (before, after)
                )
                cost = StorageCost(
                    dtype=str(dtype).removeprefix("torch."),
                    against=against,
                    size=sizes.get(name, sum(sizes.values())),
                    faces=public.faces,
                    preset=preset,
                    accuracy=round(now, 5),
                    gain=round(now - was, 5),
                )
                costs[name] += (cost,)
    return costs


def cheapest(costs: Costs, dtype: torch.dtype, preset: str) -> torch.dtype:
    """Return `dtype`, or the next wider type that no model loses too much by."""
    for candidate in NARROW_TO_WIDE[NARROW_TO_WIDE.index(dtype) : -1]:
        name = str(candidate).removeprefix("torch.")
        every = [cost for of_one in costs.values() for cost in of_one]
        gains = [cost.gain for cost in every if (cost.dtype, cost.preset) == (name, preset)]
        if gains and min(gains) >= -ALLOWED_COST:
            return candidate
        print(f"not stored as {name}:", f"{100 * min(gains):+.2f} points" if gains else "unknown")
    return torch.float32
