"""The card of a repository on the Hub: metadata that the Hub reads, and what people read."""

from collections.abc import Mapping, Sequence
from typing import Any

from fer_zoo.evaluation.card import LIMITS, markdown, origin, percent, versions
from fer_zoo.evaluation.metrics import Evaluation
from fer_zoo.models import Classifier, Ensemble

OFFICIAL = {"public": "PublicTest", "private": "PrivateTest", "train": "Training"}
METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "balanced_accuracy": "balanced_accuracy"}
"""Which figures go into the Hub's `model-index`, and what it calls them."""


def evidence(model: Classifier, results: Sequence[Evaluation] = ()) -> list[dict[str, Any]]:
    """Return the figures known of a model, a row for each preset and split.

    Args:
        model: its provenance has those of its record.
        results: measured otherwise; they replace the record's.
    """
    if results:
        return [{**r.to_dict(), "selection": r.note or "said by the evaluation"} for r in results]
    fusion = model.fusion.name if isinstance(model, Ensemble) else ""
    rows = model.provenance.get("metrics", [])
    return [row for row in rows if row.get("fusion", "") == fusion]


def make_model_card(
    model: Classifier,
    place: str,
    *,
    results: Sequence[Evaluation] = (),
    stored: str = "",
) -> str:
    """Return the README of a model's repository on the Hub.

    The `model-index` in its metadata and the table in its text are of the same rows: the record's,
    or those of `results`.

    Args:
        model: what the repository holds.
        place: `org/name`.
        results: evaluations of it.
        stored: the type that its weights are stored in, where that is another than the model's.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> "model-index:" in make_model_card(model, "me/faces")
        True
    """
    rows = evidence(model, results)
    labels = ", ".join(model.labels) if model.labels else f"{model.num_classes} unnamed classes"
    parts = [
        f"---\n{_metadata(model, place, rows)}\n---",
        f"# {place.rpartition('/')[2]}",
        f"Facial-expression recognition on {'gray' if model.in_channels == 1 else 'RGB'} face "
        f"crops: `{model.name}` of fer_zoo (`pip install fer-zoo`), transform "
        f"`{model.preset}`, classes {labels}.",
        "## Use",
        _usage(model, place),
        "## Evidence",
        _table(model, rows) if rows else "No figures are recorded for these weights.",
        "## Storage",
        "\n".join(storage_lines(model.provenance.get("storage", {}), stored)),
        "## Where it comes from",
        "\n".join(origin(model)),
        "## Limits",
        LIMITS,
        "Card made by " + ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]
    return "\n\n".join(parts) + "\n"


def storage_lines(storage: Mapping[str, Any], stored: str = "") -> list[str]:
    """Return what the stored precision costs, as the lines of a Markdown list.

    Example:
        >>> cost = {"dtype": "int8", "against": "float32", "gain": -0.00056, "preset": "p",
        ...         "split": "public", "n": 3589}
        >>> storage_lines({"dtype": "float32", "costs": [cost]}, "int8")
        ['- stored as int8: -0.06 points of accuracy against float32 (`p`, PublicTest, n = 3,589)']
    """
    dtype = stored or storage.get("dtype") or "float32"
    found = [row for row in storage.get("costs", []) if row.get("dtype") == dtype]
    if not found:
        return [f"- stored as {dtype}" + ("" if dtype == "float32" else "; its cost: not measured")]
    return [
        f"- stored as {dtype}: {100 * row['gain']:+.2f} points of accuracy against "
        f"{row['against']} (`{row['preset']}`, {OFFICIAL.get(row['split'], row['split'])}, "
        f"n = {row['n']:,})"
        for row in found
    ]


def _metadata(model: Classifier, place: str, rows: Sequence[Mapping[str, Any]]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    licence = model.provenance.get("licence")
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Facial-expression recognition",
            dataset_type=_data(model, row).lower(),
            dataset_name=_data(model, row),
            dataset_split=OFFICIAL.get(row.get("split") or "", row.get("split") or "all"),
            metric_type=kind,
            metric_name=f"{name.replace('_', ' ')}, {_views(row)} ({row['preset']})",
            metric_value=row[name],
            metric_args={k: row[k] for k in ("preset", "views", "n", "selection")}
            | ({"interval": list(row["interval"])} if name == "accuracy" else {}),
        )
        for row in rows
        for name, kind in METRICS.items()
    ]
    data = ModelCardData(
        license=licence.lower() if licence else None,
        library_name="fer_zoo",
        pipeline_tag="image-classification",
        tags=["facial-expression-recognition", "emotion-recognition", "fer2013", model.name],
        model_name=place.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _usage(model: Classifier, place: str) -> str:
    call = f'fer_zoo.load("hf-hub:{place}")'
    if model.labels:
        call = f'fer_zoo.Predictor("hf-hub:{place}")'
    name = "predict" if model.labels else "model"
    then = '\nprint(predict("face.png").label)' if model.labels else ""
    return f"```python\nimport fer_zoo\n\n{name} = {call}{then}\n```"


def _table(model: Classifier, rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["data", "views", "n", "accuracy %", "95 % interval", "balanced %", "macro-F1 %"]
    cells = [
        [
            f"{_data(model, row)} {OFFICIAL.get(row['split'] or '', row['split'] or '')}".strip(),
            f"{_views(row)} (`{row['preset']}`)",
            f"{row['n']:,}",
            percent(row["accuracy"]),
            " to ".join(percent(x) for x in row["interval"]),
            percent(row["balanced_accuracy"]),
            percent(row["macro_f1"]),
        ]
        for row in rows
    ]
    rules = dict.fromkeys(str(row["selection"]) for row in rows)
    return markdown([[*head], *cells]) + "\n\nSelection: " + "; ".join(rules) + "."


def _data(model: Classifier, row: Mapping[str, Any]) -> str:
    """Return what a row was measured on; rows of a record are on the faces it was calibrated on."""
    return str(row.get("data") or model.provenance.get("calibration", {}).get("data", "unnamed"))


def _views(row: Mapping[str, Any]) -> str:
    return "one view" if row["views"] == 1 else f"{row['views']} views"
