"""The card of a repository on the Hub: metadata that the Hub reads, and what people read."""

from collections.abc import Sequence

from fer_zoo._tables import markdown, safe
from fer_zoo.evaluation.card import LIMITS, made_by, origin
from fer_zoo.evaluation.figures import figure_rows, points
from fer_zoo.evaluation.metrics import Evaluation, check_results
from fer_zoo.evidence import Score, Storage
from fer_zoo.models import Classifier

OFFICIAL = {"public": "PublicTest", "private": "PrivateTest", "train": "Training"}
METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "balanced_accuracy": "balanced_accuracy"}
"""Which figures go into the Hub's `model-index`, and what it calls them."""
SHOWN = ("faces", "view_count", "preset", "accuracy", "interval", "balanced_accuracy", "macro_f1")


def make_model_card(
    model: Classifier, place: str, *, results: Sequence[Evaluation] = (), stored: str = ""
) -> str:
    """Return the README of a model's repository on the Hub.

    Args:
        model: what the repository holds.
        place: `org/name`.
        results: evaluations of it, as it is now, in place of the figures of its evidence.
        stored: the type that its weights are stored in, where that is another than the model's.

    Raises:
        ArgumentError: the results are of another network, or of this one before it changed.

    Example:
        >>> import fer_zoo
        >>> "model-index:" in make_model_card(fer_zoo.load("resnet18_025.fer2013"), "me/faces")
        True
    """
    check_results(model, results)
    scores = results or model.evidence.scores
    labels = ", ".join(model.labels) if model.labels else f"{model.num_classes} unnamed classes"
    name, call = ("predict", "Predictor") if model.labels else ("model", "load")
    then = '\nprint(predict("face.png").label)' if model.labels else ""
    evidence = "No figures are recorded for these weights."
    if scores:
        rules = dict.fromkeys(score.selection or "not recorded" for score in scores)
        table = markdown([*zip(*figure_rows(scores, SHOWN), strict=True)])
        evidence = f"{table}\n\nSelection: {safe('; '.join(rules))}."
    storage = model.evidence.storage or Storage(dtype="float32")
    dtype = stored or storage.dtype
    costs = [
        f"- stored as {dtype}: {points(cost.gain)} points of accuracy against {cost.against} "
        f"(`{cost.preset}`, {cost.faces})"
        for cost in storage.costs
        if cost.dtype == dtype
    ]
    unknown = "" if dtype == "float32" else "; its cost: not measured"
    parts = [
        f"---\n{_metadata(model, place, scores)}\n---",
        f"# {place.rpartition('/')[2]}",
        safe(
            f"Facial-expression recognition on {'gray' if model.in_channels == 1 else 'RGB'} face "
            f"crops: `{model.name}` of fer_zoo (`pip install fer-zoo`), transform "
            f"`{model.preset}`, classes {labels}."
        ),
        "## Use",
        f'```python\nimport fer_zoo\n\n{name} = fer_zoo.{call}("hf-hub:{place}"){then}\n```',
        "## Evidence",
        evidence,
        "## Storage",
        "\n".join(map(safe, costs or [f"- stored as {dtype}{unknown}"])),
        "## Where it comes from",
        "\n".join(origin(model)),
        "## Limits",
        LIMITS,
        made_by(),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(model: Classifier, place: str, scores: Sequence[Score]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    licence = model.evidence.licence
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Facial-expression recognition",
            dataset_type=score.faces.name.lower(),
            dataset_name=score.faces.name,
            dataset_split=OFFICIAL.get(score.split or "", score.split or "all"),
            metric_type=kind,
            metric_name=f"{name.replace('_', ' ')}, {score.view_count} ({score.preset})",
            metric_value=getattr(score, name),
            metric_args={k: getattr(score, k) for k in ("preset", "views", "n", "selection")}
            | ({"interval": list(score.interval)} if name == "accuracy" else {}),
        )
        for score in scores
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
