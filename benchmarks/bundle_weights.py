"""Pack trained runs as the bundled weights, with their figures on PublicTest.

    python benchmarks/bundle_weights.py --data fer2013.csv --runs runs
    python benchmarks/bundle_weights.py --data fer2013.csv --remeasure

`--runs` holds one folder per member of `--model`, as `fer-zoo train NAME --output runs/NAME` leaves
them; `benchmarks/train_zoo.py --bundle` packs what it trained by the same code. Each member is
stored in `--dtype` and read back before anything is measured, so the figures are those of the
stored bytes. The fusions are fitted on PublicTest, which no member was trained on, and judged by
cross-validation on it; plain averaging stays the default unless a fitted one is better there by
more than chance (McNemar's test, p < 0.05). Temperatures are fitted on PublicTest too, for a fitted
fusion on its cross-validated scores, and stored in the records. At the
end the packed ensemble is compared with the bundled one, face by face.

What a stored precision costs in accuracy is measured on the same faces (benchmarks/storage.py): one
that costs more than 0.1 points is not used, but the next wider one. The records have the cost of
int8 in any case.

`--remeasure` leaves the weights as they are and measures the bundled bytes again: temperatures and
figures are written anew, and an accuracy that is not the recorded one is an error.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from storage import cheapest, storage_costs, stored_dtype
from torch import Tensor

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.evaluation import Evaluation, score_metrics
from fer_zoo.evaluation.metrics import cross_validated_ece
from fer_zoo.inference import fit_temperature, fuse, member_scores
from fer_zoo.models import Classifier, Ensemble, get_spec
from fer_zoo.training.fusing import cross_validate
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.records import BUNDLED, WEIGHTS, WeightsRecord, get_weights
from fer_zoo.weights.storage import STORAGE

ENSEMBLE = "ensemble_r18_vgg19_025"
MEASURED = ("fer40_center", "fer40_tencrop")
FUSIONS = ("average", "weighted", "stacked")
SIGNIFICANT = 0.05
"""p of McNemar's test below which a fitted fusion becomes the default."""
NOT_IN_RECORDS = ("recall", "recall_interval", "confusion")
Scores = dict[str, Tensor]


def predictions(members: list[Classifier], data: FaceDataset) -> Scores:
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
    model: Classifier, data: FaceDataset, found: Scores, selection: str
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


def write_record(model: str, path: Path, public: FaceDataset, **values: Any) -> None:
    """Write the record beside the file it describes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    faces = {"data": public.name, "split": public.split, "n": len(public)}
    record = {"model": model, "file": path.name, "sha256": digest, "size": path.stat().st_size}
    record |= {"source": "bundled", "licence": "Apache-2.0"} | values
    record["calibration"] = faces | {"fingerprint": public.fingerprint}
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def pack(
    ensemble: str,
    runs: dict[str, Path],
    public: FaceDataset,
    output: Path,
    *,
    tag: str = "fer2013",
    dtype: torch.dtype = torch.float16,
    preset: str = MEASURED[0],
    chosen: dict[str, str] | None = None,
) -> None:
    """Store the members of an ensemble and its fitted fusions, and measure what was stored.

    Args:
        ensemble: registry name; its record names the members' records.
        runs: the checkpoint of each member's best epoch, by name.
        public: the faces to measure and fit on, that no member was trained on.
        output: folder for the files and records.
        tag: of all these weights.
        dtype: what the members are stored in, unless it costs too much.
        preset: the transform bound to the weights.
        chosen: by member, what to add to the record on how this run was selected.
    """
    before = bundled(ensemble, tag, public)
    members: list[Classifier] = []
    common: dict[str, Any] = {"tag": tag, "preset": preset}
    originals = {name: fer_zoo.load(path) for name, path in runs.items()}
    precise = predictions(list(originals.values()), public)
    costs = storage_costs(
        list(originals.values()),
        precise,
        public,
        dict.fromkeys((torch.int8, dtype)),
        predictions,
        "float32",
    )
    dtype = cheapest(costs, dtype, preset)
    stored_as = {"dtype": str(dtype).removeprefix("torch.")}
    for name, trained in originals.items():
        run = trained.provenance
        common["labels"] = trained.labels
        faces = f"{run['data']['name']} Training ({run['data']['n']:,} faces)"
        common["data"] = f"{faces}; epoch chosen on PublicTest"
        trained.preset, trained.provenance = preset, {"weights": f"{name}.{tag}"}
        # That of the run is of the weights before they were rounded.
        trained.temperature = {}
        stored = output / f"{name}.{tag}.safetensors"
        fer_zoo.save(trained, stored, dtype=dtype)
        members.append(fer_zoo.load(stored))
        selection = f"{run['selection'].replace('the validation data', 'PublicTest')}, one view"
        selection += (chosen or {}).get(name, "")
        metrics, temperature = measured(
            members[-1], public, predictions(members[-1:], public), selection
        )
        recipe = run["recipe"] | {"best_epoch": run["epoch"]}
        values = common | {"metrics": metrics, "recipe": recipe, "temperature": {"": temperature}}
        values |= {"storage": stored_as | {"costs": costs[name]}}
        write_record(name, stored, public, **values)
        print(name, "packed")

    found = predictions(members, public)
    targets = public.targets_for(members[0].labels)
    tensors, heads, rows, temperatures, hits = {}, {}, [], {}, {}
    for fusion in FUSIONS:
        model = fer_zoo.create_ensemble(members, fusion=fusion).eval()
        model.name = ensemble
        selection = "no parameters"
        if fusion != "average":
            model.fusion.fit(found[preset], targets, split="public")
            selection = (
                f"head fitted on PublicTest with {preset}, so accuracy is not held out; "
                "cross_validated_accuracy is, over 5 folds"
            )
            heads[fusion] = model.fusion.options()
            state = model.fusion.state_dict().items()
            tensors |= {f"{fusion}.{key}": value for key, value in state}
        metrics, temperatures[fusion] = measured(model, public, found, selection)
        rows += metrics
        hits[fusion] = held_out_scores(model, found, targets)[preset].argmax(1) == targets
        print(fusion, "measured")
    path = output / f"{ensemble}.{tag}.safetensors"
    write_checkpoint(path, tensors, {"fusions": heads})
    values = {"metrics": rows, "fusion": default_fusion(hits), "temperature": temperatures}
    values["members"] = [f"{name}.{tag}" for name in runs]
    values["storage"] = stored_as | {"costs": costs[""]}
    write_record(ensemble, path, public, **common, **values)
    print(json.dumps(rows, indent=1))
    for measure, old in before.items():
        new = fer_zoo.evaluate(fer_zoo.create_ensemble(members), public, preset=measure)
        change = fer_zoo.compare(old, new)
        print(
            f"{ensemble}.{tag}, average, {measure}: bundled {100 * old.accuracy:.2f} %, packed "
            f"{100 * new.accuracy:.2f} % ({100 * change.difference:+.2f} points, p = "
            f"{change.p_value:.2g}, n = {change.n})"
        )


def default_fusion(hits: dict[str, Tensor]) -> str:
    """Return the fusion that is best on held-out faces: the average unless chance is ruled out.

    Args:
        hits: by fusion, whether each face `(N,)` was labelled right by a fusion that did not see
            it; that of `"average"` among them.
    """
    best, average = "average", hits["average"]
    for name, own in hits.items():
        won, lost = int((own & ~average).sum()), int((average & ~own).sum())
        significant = won > lost and binomtest(won, won + lost).pvalue < SIGNIFICANT
        if significant and own.sum() > hits[best].sum():
            best = name
    return best


def bundled(ensemble: str, tag: str, public: FaceDataset) -> dict[str, Evaluation]:
    """Return what the bundled members, averaged, have by preset; nothing if there are none."""
    if f"{ensemble}.{tag}" not in WEIGHTS:
        return {}
    model = fer_zoo.create(ensemble, weights=tag, fusion="average")
    return {preset: fer_zoo.evaluate(model, public, preset=preset) for preset in MEASURED}


def remeasure(record: WeightsRecord, public: FaceDataset, output: Path) -> None:
    """Measure the bundled bytes of an ensemble again and write the records anew."""
    addresses = [address.rsplit(".", 1) for address in record.members]
    members = [fer_zoo.create(name, weights=tag) for name, tag in addresses]
    found = predictions(members, public)
    kind = stored_dtype(get_weights(record.members[0]).path)
    costs = storage_costs(members, found, public, [torch.int8], predictions, kind)
    for i, address in enumerate(record.members):
        own = {preset: scores[i : i + 1] for preset, scores in found.items()}
        storage = {"dtype": kind, "costs": costs[members[i].name]}
        _write_again(output / f"{address}.json", {"": (members[i], own)}, public, storage)
    ensembles = {
        f: (fer_zoo.create(record.model, weights=record.tag, fusion=f), found) for f in FUSIONS
    }
    storage = {"dtype": kind, "costs": costs[""]}
    _write_again(output / f"{record.address}.json", ensembles, public, storage)


def _write_again(
    path: Path,
    models: dict[str, tuple[Classifier, Scores]],
    public: FaceDataset,
    storage: dict[str, Any],
) -> None:
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
    kept = {k: v for k, v in before.items() if k not in ("model", "file", "sha256", "size")}
    values = kept | {"metrics": rows, "temperature": temperatures, "storage": storage}
    write_record(before["model"], path.with_suffix(".safetensors"), public, **values)
    print(path.name, "written")


def main() -> None:
    """Pack and measure, or measure again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="fer2013.csv or its folder")
    parser.add_argument("--model", default=ENSEMBLE, help="the ensemble to pack")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--remeasure", action="store_true", help="keep the weights")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    parser.add_argument("--dtype", default="float16", choices=(*STORAGE,))
    options = parser.parse_args()
    public = FER2013(options.data, "public")
    if options.remeasure:
        remeasure(get_weights(options.model), public, options.output)
    else:
        names = get_spec(options.model).members
        runs = {name: options.runs / name / "best.safetensors" for name in names}
        dtype = getattr(torch, options.dtype)
        pack(options.model, runs, public, options.output, dtype=dtype)


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
