"""Pack trained runs as the bundled weights, with their figures on PublicTest.

    python benchmarks/bundle_weights.py --data fer2013.csv --runs runs
    python benchmarks/bundle_weights.py --data fer2013.csv --remeasure

`--runs` holds one folder per member, as `fer-zoo train NAME --output runs/NAME` leaves them. Each
member is stored in half precision and read back before anything is measured, so the figures are
those of the stored bytes. The fusions are fitted on PublicTest, which no member was trained on,
and judged by cross-validation on it; plain averaging stays the default unless a fitted one is
better there. Temperatures are fitted on PublicTest too, for a fitted fusion on its cross-validated
scores, and stored in the records.

`--remeasure` leaves the weights as they are and measures the bundled bytes again: temperatures and
figures are written anew, and an accuracy that is not the recorded one is an error.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fer_zoo
from fer_zoo.data import FER2013
from fer_zoo.evaluation import score_metrics
from fer_zoo.evaluation.metrics import cross_validated_ece
from fer_zoo.inference import fit_temperature, fuse, member_scores
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.training import cross_validate
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.records import BUNDLED

ENSEMBLE, MEMBERS = "ensemble_r18_vgg19_025", ("resnet18_025", "vgg19_025")
TAG, MEASURED = "fer2013", ("fer40_center", "fer40_tencrop")
FUSIONS = ("average", "weighted", "stacked")
DATA = "FER2013 Training (28,709 faces); epoch chosen on PublicTest"
COMMON = {"tag": TAG, "data": DATA, "licence": "Apache-2.0"}
NOT_IN_RECORDS = ("recall", "recall_interval", "confusion")
Scores = dict[str, Tensor]


def predictions(members: list[Classifier], data: FER2013) -> Scores:
    """Return the scores `(M, N, K)` of all members under each measured preset."""
    return {
        preset: torch.cat(
            [member_scores(m, data.images, preset=preset, progress=True) for m in members]
        )
        for preset in MEASURED
    }


def held_out_scores(model: Classifier, found: Scores, targets: Tensor) -> Scores:
    """Return scores that no face had a part in, as far as the fusion goes."""
    if not isinstance(model, Ensemble) or not any(True for _ in model.fusion.parameters()):
        return {preset: fuse(model, scores) for preset, scores in found.items()}
    bound = found[model.preset]
    return {
        preset: cross_validate(model.fusion, bound, targets, split="public", apply_to=scores)
        for preset, scores in found.items()
    }


def measured(
    model: Classifier, data: FER2013, found: Scores, selection: str
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the figures of a model, one row per preset, and its temperatures."""
    targets, rows = data.targets_for(model.labels), []
    held_out = held_out_scores(model, found, targets)
    temperature = {
        preset: round(fit_temperature(scores, targets, split="public"), 5)
        for preset, scores in held_out.items()
    }
    fitted = isinstance(model, Ensemble) and any(True for _ in model.fusion.parameters())
    for preset, scores in found.items():
        row: dict[str, Any] = {"fusion": model.fusion.name} if isinstance(model, Ensemble) else {}
        row |= {"split": data.split, "preset": preset, "views": PRESETS[preset].num_views}
        by_what = {"temperature": temperature[preset]}
        values = score_metrics(fuse(model, scores), targets, model.labels, **by_what)
        row |= {k: _rounded(v) for k, v in values.items() if k not in NOT_IN_RECORDS}
        row["selection"] = selection
        if fitted:
            others = score_metrics(held_out[preset], targets, model.labels, **by_what)
            for name in ("accuracy", "nll"):
                row[f"cross_validated_{name}"] = _rounded(others[name])
        error = cross_validated_ece(held_out[preset], targets, data.split)
        row["cross_validated_ece"] = _rounded(error)
        rows.append(row)
    return rows, temperature


def write_record(model: str, path: Path, public: FER2013, **values: Any) -> None:
    """Write the record beside the file it describes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    faces = {"data": public.name, "split": public.split, "n": len(public)}
    record = {"model": model, "file": path.name, "sha256": digest} | COMMON | values
    record["calibration"] = faces | {"fingerprint": public.fingerprint}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def pack(options: argparse.Namespace, public: FER2013) -> None:
    """Store the runs' best networks and the fitted fusions, and measure what was stored."""
    members: list[Classifier] = []
    for name in MEMBERS:
        trained = fer_zoo.load(options.runs / name / "best.safetensors")
        run = trained.provenance
        trained.preset, trained.provenance = options.preset, {"weights": f"{name}.{TAG}"}
        # That of the run is of the weights before they were rounded to half precision.
        trained.temperature = {}
        path = options.output / f"{name}.{TAG}.safetensors"
        fer_zoo.save(trained, path, dtype=torch.float16)
        members.append(fer_zoo.load(path))
        selection = f"{run['selection'].replace('the validation data', 'PublicTest')}, one view"
        metrics, temperature = measured(
            members[-1], public, predictions(members[-1:], public), selection
        )
        write_record(
            name,
            path,
            public,
            labels=trained.labels,
            preset=options.preset,
            metrics=metrics,
            recipe=run["recipe"] | {"best_epoch": run["epoch"]},
            temperature={"": temperature},
        )
        print(name, "packed")

    found = predictions(members, public)
    targets = public.targets_for(members[0].labels)
    tensors, heads, rows, temperatures = {}, {}, [], {}
    for fusion in FUSIONS:
        model = fer_zoo.create_ensemble(members, fusion=fusion).eval()
        model.name = ENSEMBLE
        selection = "no parameters"
        if fusion != "average":
            model.fusion.fit(found[options.preset], targets, split="public")
            selection = (
                f"head fitted on PublicTest with {options.preset}, so accuracy is not held out; "
                "cross_validated_accuracy is, over 5 folds"
            )
            heads[fusion] = model.fusion.options()
            state = model.fusion.state_dict().items()
            tensors |= {f"{fusion}.{key}": value for key, value in state}
        metrics, temperatures[fusion] = measured(model, public, found, selection)
        rows += metrics
        print(fusion, "measured")
    bound = [row for row in rows if row["preset"] == options.preset]
    best = max(bound, key=lambda row: row.get("cross_validated_accuracy", row["accuracy"]))
    path = options.output / f"{ENSEMBLE}.{TAG}.safetensors"
    write_checkpoint(path, tensors, {"fusions": heads})
    write_record(
        ENSEMBLE,
        path,
        public,
        labels=members[0].labels,
        preset=options.preset,
        metrics=rows,
        members=[f"{name}.{TAG}" for name in MEMBERS],
        fusion=best["fusion"],
        temperature=temperatures,
    )
    print(json.dumps(rows, indent=1))


def remeasure(options: argparse.Namespace, public: FER2013) -> None:
    """Measure the bundled bytes again and write the records anew."""
    members = [fer_zoo.create(name, weights=TAG) for name in MEMBERS]
    found = predictions(members, public)
    for i, name in enumerate(MEMBERS):
        own = {preset: scores[i : i + 1] for preset, scores in found.items()}
        _write_again(options.output / f"{name}.{TAG}.json", {"": (members[i], own)}, public)
    ensembles = {f: (fer_zoo.create(ENSEMBLE, weights=TAG, fusion=f), found) for f in FUSIONS}
    _write_again(options.output / f"{ENSEMBLE}.{TAG}.json", ensembles, public)


def _write_again(path: Path, models: dict[str, tuple[Classifier, Scores]], public: FER2013) -> None:
    before = json.loads(path.read_text())
    rows, temperatures = [], {}
    for fusion, (model, found) in models.items():
        old = [row for row in before["metrics"] if row.get("fusion", "") == fusion]
        new, temperatures[fusion] = measured(model, public, found, old[0]["selection"])
        for a, b in zip(old, new, strict=True):
            for key in ("preset", "n", "accuracy", "cross_validated_accuracy", "selection"):
                if a.get(key) != b.get(key):
                    raise SystemExit(f"{path}: {key} was {a.get(key)}, is {b.get(key)} now")
        rows += new
    kept = {k: v for k, v in before.items() if k not in ("model", "file", "sha256")}
    values = kept | {"metrics": rows, "temperature": temperatures}
    write_record(before["model"], path.with_suffix(".safetensors"), public, **values)
    print(path.name, "written")


def main() -> None:
    """Pack and measure, or measure again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="fer2013.csv or its folder")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--remeasure", action="store_true", help="keep the weights")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    parser.add_argument("--preset", default=MEASURED[0], help="the transform bound to the weights")
    options = parser.parse_args()
    public = FER2013(options.data, "public")
    (remeasure if options.remeasure else pack)(options, public)


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
