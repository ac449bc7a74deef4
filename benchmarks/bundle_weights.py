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
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from harness import call
from scipy.stats import binomtest
from storage import cheapest, storage_costs
from torch import Tensor

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.evaluation import score_metrics
from fer_zoo.evaluation.metrics import cross_validated_ece
from fer_zoo.evidence import Calibration, Evidence, Score, Storage
from fer_zoo.inference import fit_temperature, fuse, member_scores
from fer_zoo.models import Classifier, Ensemble, get_spec
from fer_zoo.plain import to_plain
from fer_zoo.training.ensembles import cross_validate
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.records import BUNDLED, WEIGHTS, WeightsRecord, get_weights
from fer_zoo.weights.storage import STORAGE, storage_dtype

ENSEMBLE = "ensemble_r18_vgg19_025"
MEASURED = ("fer40_center", "fer44_mirror", "fer40_tencrop")
FUSIONS = ("average", "weighted", "stacked")
SIGNIFICANT = 0.05
"""p of McNemar's test below which a fitted fusion becomes the default."""
FITTED = (
    "head fitted on PublicTest with fer40_center, so accuracy is not held out; "
    "cross_validated_accuracy is, over 5 folds"
)
Scores = dict[str, Tensor]


def predictions(members: Iterable[Classifier], data: FaceDataset) -> Scores:
    """Return the scores `(M, N, K)` of all members under each measured preset."""
    members = list(members)
    return {
        preset: torch.cat(
            [member_scores(m, data.images, preset=preset, progress=True) for m in members]
        )
        for preset in MEASURED
    }


def pack(
    ensemble: str,
    runs: dict[str, Path],
    public: FaceDataset,
    output: Path,
    *,
    tag: str = "fer2013",
    dtype: torch.dtype = torch.float16,
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
        chosen: by member, what to add to the record on how this run was selected.
    """
    trained = {name: fer_zoo.load(path) for name, path in runs.items()}
    costs = storage_costs(trained, public, {torch.int8, dtype}, predictions, "float32")
    dtype = cheapest(costs, dtype, MEASURED[0])
    members = []
    for name, model in trained.items():
        run = model.evidence.training
        how = f"{run.selection.replace('the validation data', 'PublicTest')}, one view"
        how += (chosen or {}).get(name, "")
        # What else is known of the run is of the weights before they were rounded.
        model.preset, model.evidence = MEASURED[0], Evidence(training=replace(run, selection=how))
        path = output / f"{name}.{tag}.safetensors"
        members.append(fer_zoo.load(fer_zoo.save(model, path, dtype=dtype)))
        print(name, "packed")
    found = predictions(members, public)
    ensembles, tensors, options = {}, {}, {}
    for fusion in FUSIONS:
        model = ensembles[fusion] = fer_zoo.create_ensemble(members, fusion=fusion).eval()
        model.name = ensemble
        if fusion != "average":
            targets = public.targets_for(model.labels)
            model.fusion.fit(found[MEASURED[0]], targets, split="public")
            options[fusion] = model.fusion.options()
            state = model.fusion.state_dict().items()
            tensors |= {f"{fusion}.{key}": value for key, value in state}
    write_checkpoint(output / f"{ensemble}.{tag}.safetensors", tensors, {"fusions": options})
    kind = str(dtype).removeprefix("torch.")
    storage = {name: Storage(dtype=kind, costs=costs[name]) for name in costs}
    write_records(ensembles, found, public, output, tag, storage)
    for preset in MEASURED if f"{ensemble}.{tag}" in WEIGHTS else ():
        bundled = fer_zoo.create(ensemble, weights=tag, fusion="average")
        both = (bundled, ensembles["average"])
        print(fer_zoo.compare(*(fer_zoo.evaluate(m, public, preset=preset) for m in both)))


def remeasure(record: WeightsRecord, public: FaceDataset, output: Path) -> None:
    """Measure the bundled bytes of an ensemble again and write the records anew."""
    ensembles = {
        fusion: fer_zoo.create(record.model, weights=record.tag, fusion=fusion)
        for fusion in record.evidence
    }
    members = {member.name: member for member in ensembles["average"].members}
    kind = get_weights(record.members[0]).evidence[""].storage.dtype
    costs = storage_costs(members, public, {torch.int8}, predictions, kind)
    storage = {name: Storage(dtype=kind, costs=costs[name]) for name in costs}
    found = predictions(members.values(), public)
    for new in write_records(ensembles, found, public, output, record.tag, storage):
        figures = [
            [(s.fusion, s.preset, s.n, s.accuracy, s.cross_validated_accuracy) for s in r.scores]
            for r in (WEIGHTS[new.address], new)
        ]
        if figures[0] != figures[1]:
            raise SystemExit(f"{new.address} had {figures[0]}, has {figures[1]} now")


def write_records(
    ensembles: dict[str, Ensemble],
    found: Scores,
    public: FaceDataset,
    output: Path,
    tag: str,
    storage: dict[str, Storage],
) -> list[WeightsRecord]:
    """Measure an ensemble under each fusion, and its members, and write a record of each.

    Args:
        ensembles: by fusion; that of `"average"` among them.
        found: the scores of the members, as `predictions` returns them.
        public: the faces.
        output: where the weights are.
        tag: of all of them.
        storage: of each member by name, and of the ensemble as `""`.
    """
    average, records = ensembles["average"], []
    targets = public.targets_for(average.labels)
    for i, member in enumerate(average.members):
        own = {preset: scores[i : i + 1] for preset, scores in found.items()}
        known = measured(member, own, public, f"{member.name}.{tag}", storage[member.name])
        records.append(write_record(member, tag, output, {"": known}))
    address = f"{average.name}.{tag}"
    by_fusion = {
        fusion: measured(model, found, public, address, storage[""] if model is average else None)
        for fusion, model in ensembles.items()
    }
    hits = {
        fusion: held_out_scores(model, found, targets)[average.preset].argmax(1) == targets
        for fusion, model in ensembles.items()
    }
    members = tuple(record.address for record in records)
    best = default_fusion(hits)
    return [*records, write_record(average, tag, output, by_fusion, members=members, fusion=best)]


def measured(
    model: Classifier, found: Scores, data: FaceDataset, address: str, storage: Storage | None
) -> Evidence:
    """Return what is known of a model: its figures, one score per preset, and its temperatures."""
    targets, fusion = data.targets_for(model.labels), getattr(model, "fusion", None)
    held_out = held_out_scores(model, found, targets)
    temperature, scores = {}, []
    fitted = fusion is not None and has_parameters(fusion)
    training = model.evidence.training
    selection = FITTED if fitted else training.selection if training else "no parameters"
    for preset, others in held_out.items():
        by = temperature[preset] = round(fit_temperature(others, targets, split="public"), 5)
        values = score_metrics(fuse(model, found[preset]), targets, model.labels, temperature=by)
        values["cross_validated_ece"] = cross_validated_ece(others, targets, data.official_split)
        if fitted:
            apart = score_metrics(others, targets, model.labels, temperature=by)
            values |= {f"cross_validated_{name}": apart[name] for name in ("accuracy", "nll")}
        values |= {"faces": data.faces, "preset": preset, "views": PRESETS[preset].num_views}
        values |= {"fusion": fusion.name if fusion else "", "selection": selection}
        names = [field.name for field in fields(Score) if field.name in values]
        scores.append(Score(**{name: _rounded(values[name]) for name in names}))
    return Evidence(
        state=model.state,
        weights=address,
        scores=tuple(scores),
        training=training,
        calibration=Calibration(temperature=temperature, faces=data.faces),
        storage=storage,
        licence="Apache-2.0",
    )


def held_out_scores(model: Classifier, found: Scores, targets: Tensor) -> Scores:
    """Return scores that no face had a part in, as far as the fusion goes."""
    if not isinstance(model, Ensemble) or not has_parameters(model.fusion):
        return {preset: fuse(model, scores) for preset, scores in found.items()}
    bound = found[model.preset]
    return {
        preset: cross_validate(model.fusion, bound, targets, split="public", apply_to=scores)
        for preset, scores in found.items()
    }


def has_parameters(fusion: fer_zoo.fusion.Fusion) -> bool:
    """Whether a fusion is fitted."""
    return any(True for _ in fusion.parameters())


def write_record(
    model: Classifier, tag: str, output: Path, evidence: dict[str, Evidence], **values: Any
) -> WeightsRecord:
    """Write the record beside the file that it describes."""
    path = output / f"{model.name}.{tag}.safetensors"
    content = path.read_bytes()
    record = WeightsRecord(
        model=model.name,
        tag=tag,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        labels=model.labels,
        preset=model.preset,
        evidence=evidence,
        **values,
    )
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(to_plain(record), indent=1) + "\n")
    print(record)
    return record


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
        dtype = storage_dtype(options.dtype)
        pack(options.model, runs, public, options.output, dtype=dtype)


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_rounded(v) for v in value)
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    call(main)
