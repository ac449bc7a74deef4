"""What it costs in accuracy to store weights in fewer bits, measured on the stored weights."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fer_zoo
from fer_zoo.data import FaceDataset
from fer_zoo.inference import fuse
from fer_zoo.models import Classifier
from fer_zoo.weights.reading import read_safetensors

ALLOWED_COST = 0.001
"""Share of the faces that a stored precision may lose: 0.1 points of accuracy."""
NARROW_TO_WIDE = (torch.int8, torch.float16, torch.bfloat16, torch.float32)
Scores = dict[str, Tensor]
Costs = dict[str, list[dict[str, Any]]]


def storage_costs(
    models: list[Classifier],
    before: Scores,
    public: FaceDataset,
    dtypes: Iterable[torch.dtype],
    predictions: Callable[[list[Classifier], FaceDataset], Scores],
    against: str,
) -> Costs:
    """Return a row for each type and preset, by member, and for their plain average as `""`.

    Args:
        models: the members of an ensemble.
        before: their scores `(M, N, K)` by preset.
        public: the faces.
        dtypes: what to store the members in.
        predictions: gives such scores.
        against: what the members themselves are, or were, stored in.
    """
    average = fer_zoo.create_ensemble(models).eval()
    whole: dict[str, tuple[Classifier, slice]] = {"": (average, slice(None))}
    whole |= {m.name: (m, slice(i, i + 1)) for i, m in enumerate(models)}
    targets = public.targets_for(models[0].labels)
    costs: Costs = {name: [] for name in whole}
    for dtype in dtypes:
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                m.name: fer_zoo.save(m, Path(folder) / f"{m.name}.safetensors", dtype=dtype)
                for m in models
            }
            sizes = {name: path.stat().st_size for name, path in paths.items()}
            after = predictions([fer_zoo.load(path) for path in paths.values()], public)
        for name, (model, members) in whole.items():
            for preset, scores in after.items():
                hits = [
                    float((fuse(model, s[members]).argmax(1) == targets).double().mean())
                    for s in (before[preset], scores)
                ]
                row = {"dtype": str(dtype).removeprefix("torch."), "against": against}
                row |= {"size": sizes.get(name, sum(sizes.values())), "preset": preset}
                row |= {"split": public.split, "n": len(public)}
                row |= {"accuracy": round(hits[1], 5), "gain": round(hits[1] - hits[0], 5)}
                costs[name].append(row)
    return costs


def cheapest(costs: Mapping[str, Any], dtype: torch.dtype, preset: str) -> torch.dtype:
    """Return `dtype`, or the next wider type that no model loses too much by."""
    for candidate in NARROW_TO_WIDE[NARROW_TO_WIDE.index(dtype) :]:
        name = str(candidate).removeprefix("torch.")
        rows = [r for of_one in costs.values() for r in of_one]
        rows = [r for r in rows if r["dtype"] == name and r["preset"] == preset]
        worst = min((row["gain"] for row in rows), default=0.0)
        if candidate is torch.float32 or (rows and worst >= -ALLOWED_COST):
            return candidate
        print(
            f"not stored as {name}: " + (f"{100 * worst:+.2f} points" if rows else "not measured")
        )
    raise AssertionError("float32 loses nothing")


def stored_dtype(path: Path) -> str:
    """Return what the weights in a file are stored in."""
    kinds = {t.dtype for t in read_safetensors(path)[0].values() if t.ndim >= 2}
    (kind,) = kinds
    return str(kind).removeprefix("torch.")
