"""Pack trained runs as the bundled weights, with their figures on PublicTest.

    python benchmarks/bundle_weights.py --data fer2013.csv --runs runs

`--runs` holds one folder per member, as `fer-zoo train NAME --output runs/NAME` leaves them. Each
member is stored in half precision and read back before anything is measured, so the figures are
those of the stored bytes. The fusions are fitted on PublicTest, which no member was trained on,
and judged by cross-validation on it; plain averaging stays the default unless a fitted one is
better there.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import fer_zoo
from fer_zoo.data import FER2013
from fer_zoo.evaluation import score_metrics
from fer_zoo.inference import fuse, member_scores
from fer_zoo.training import cross_validate
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.records import BUNDLED

ENSEMBLE, MEMBERS = "ensemble_r18_vgg19_025", ("resnet18_025", "vgg19_025")
TAG, MEASURED = "fer2013", ("fer40_center", "fer40_tencrop")
DATA = "FER2013 Training (28,709 faces); epoch chosen on PublicTest"
COMMON = {"tag": TAG, "data": DATA, "licence": "Apache-2.0"}


def figures(
    model: Any, data: FER2013, found: dict[str, torch.Tensor], selection: str, **more: Any
) -> list[dict[str, Any]]:
    """Return the model's metrics on `data`, one row per preset of `found` (member scores)."""
    rows = []
    for preset, scores in found.items():
        targets = data.targets_for(model.labels)
        values = score_metrics(fuse(model, scores), targets, model.labels)
        del values["recall"], values["confusion"]
        where = {"split": data.split, "preset": preset, "views": PRESETS[preset].num_views}
        values["interval"] = list(values["interval"])
        rows.append(more | where | {k: _rounded(v) for k, v in values.items()})
        rows[-1]["selection"] = selection
    return rows


def write_record(model: str, path: Path, **values: Any) -> None:
    """Write the record beside the file it describes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"model": model, "file": path.name, "sha256": digest} | COMMON | values
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Pack, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="fer2013.csv or its folder")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=BUNDLED)
    parser.add_argument("--preset", default=MEASURED[0], help="the transform bound to the weights")
    options = parser.parse_args()
    public = FER2013(options.data, "public")

    members, found = [], {preset: [] for preset in MEASURED}
    for name in MEMBERS:
        trained = fer_zoo.load(options.runs / name / "best.safetensors")
        run = trained.provenance
        trained.preset, trained.provenance = options.preset, {"weights": f"{name}.{TAG}"}
        path = options.output / f"{name}.{TAG}.safetensors"
        fer_zoo.save(trained, path, dtype=torch.float16)
        members.append(fer_zoo.load(path))
        own = {p: member_scores(members[-1], public.images, preset=p, progress=True) for p in found}
        for preset, scores in own.items():
            found[preset].append(scores)
        selection = f"{run['selection'].replace('the validation data', 'PublicTest')}, one view"
        write_record(
            name,
            path,
            labels=trained.labels,
            preset=options.preset,
            metrics=figures(members[-1], public, own, selection),
            recipe=run["recipe"] | {"best_epoch": run["epoch"]},
        )
        print(name, "packed")

    together = {preset: torch.cat(scores) for preset, scores in found.items()}
    tensors, heads, metrics, held_out = {}, {}, [], {}
    targets = public.targets_for(members[0].labels)
    for fusion in ("average", "weighted", "stacked"):
        model = fer_zoo.create_ensemble(members, fusion=fusion).eval()
        model.name = ENSEMBLE
        more: dict[str, Any] = {"fusion": fusion}
        selection = "no parameters"
        if fusion != "average":
            bound = together[options.preset]
            model.fusion.fit(bound, targets, split="public")
            for preset, scores in together.items():
                found = cross_validate(
                    model.fusion, bound, targets, split="public", apply_to=scores
                )
                figures_held_out = score_metrics(found, targets, members[0].labels)
                held_out[fusion, preset] = {k: figures_held_out[k] for k in ("accuracy", "nll")}
            selection = (
                f"head fitted on PublicTest with {options.preset}, so accuracy is not held out; "
                "cross_validated_accuracy is, over 5 folds"
            )
            heads[fusion] = model.fusion.options()
            state = model.fusion.state_dict().items()
            tensors |= {f"{fusion}.{key}": value for key, value in state}
        rows = figures(model, public, together, selection, **more)
        for row in rows:
            if fusion != "average":
                for name, value in held_out[fusion, row["preset"]].items():
                    row[f"cross_validated_{name}"] = _rounded(value)
            elif row["preset"] == options.preset:
                average = row["accuracy"]
        metrics += rows
        print(fusion, "measured")
    fitted = {
        f: value["accuracy"] for (f, preset), value in held_out.items() if preset == options.preset
    }
    best = max(fitted, key=lambda name: fitted[name])
    path = options.output / f"{ENSEMBLE}.{TAG}.safetensors"
    write_checkpoint(path, tensors, {"fusions": heads})
    write_record(
        ENSEMBLE,
        path,
        labels=members[0].labels,
        preset=options.preset,
        metrics=metrics,
        members=[f"{name}.{TAG}" for name in MEMBERS],
        fusion=best if fitted[best] > average else "average",
    )
    print(json.dumps(metrics, indent=1))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
