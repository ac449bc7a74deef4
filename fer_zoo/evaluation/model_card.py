"""The card of a repository on the Hub: metadata that the Hub reads, and what people read."""

from collections.abc import Mapping, Sequence
from typing import Any

from fer_zoo._install import said
from fer_zoo._tables import markdown, safe
from fer_zoo.evaluation.card import LIMITS, made_by, origin
from fer_zoo.evaluation.figures import figure_rows, points
from fer_zoo.evaluation.metrics import Evaluation, check_results
from fer_zoo.evidence import Score, Storage
from fer_zoo.inference.engines import networks_of
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.address import HUB
from fer_zoo.weights.hub import LIBRARY

OFFICIAL = {"public": "PublicTest", "private": "PrivateTest", "train": "Training"}
METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "balanced_accuracy": "balanced_accuracy"}
"""Which figures go into the Hub's `model-index`, and what it calls them."""
SHOWN = ("faces", "view_count", "preset", "accuracy", "interval", "balanced_accuracy", "macro_f1")


def make_model_card(
    model: Classifier,
    address: str,
    *,
    results: Sequence[Evaluation] = (),
    stored: str = "",
    config: Mapping[str, Any] | None = None,
    onnx: bool = False,
) -> str:
    """Return the README of a model's repository, on the Hub or in a folder.

    Args:
        model: what the repository holds.
        address: of the repository: `hf-hub:org/name`, or a folder.
        results: evaluations of it, as it is now, in place of the figures of its evidence.
        stored: the type that its weights are stored in, where that is another than the model's.
        config: its `config.json`, for how other libraries read it.
        onnx: whether it holds `onnx/model.onnx`.

    Raises:
        ArgumentError: the results are of another network, or of this one before it changed.

    Example:
        >>> import fer_zoo
        >>> card = make_model_card(fer_zoo.load("resnet18_025.fer2013"), "hf-hub:me/faces")
        >>> "model-index:" in card
        True
    """
    check_results(model, results)
    scores = results or model.evidence.scores
    labels = ", ".join(model.labels) if model.labels else f"{model.num_classes} unnamed classes"
    place = address.removeprefix(HUB)
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
        f"---\n{_metadata(model, place, scores, config or {}, onnx)}\n---",
        f"# {place.rpartition('/')[2]}",
        safe(
            f"Facial-expression recognition on {model._colours} face crops: `{model.name}` of "
            f"fer_zoo (`pip install fer-zoo`), transform `{model.preset}`, classes {labels}."
        ),
        "## Use",
        *how_to_use(model, address, config or {}, onnx),
        "## Evidence",
        evidence,
        *([f"![Confusion matrix of {safe(results[0].title)}](confusion.png)"] if results else []),
        "## Storage",
        "\n".join(map(safe, costs or [f"- stored as {dtype}{unknown}"])),
        "## Where it comes from",
        "\n".join(origin(model)),
        "## Limits",
        LIMITS,
        made_by(),
    ]
    return "\n\n".join(parts) + "\n"


def how_to_use(model: Classifier, address: str, config: Mapping[str, Any], onnx: bool) -> list[str]:
    """Return a paragraph for each library that reads the repository."""
    place = address.removeprefix(HUB)
    name, call = ("predict", "Predictor") if model.labels else ("model", "load")
    lines = ["import fer_zoo", "", f'{name} = fer_zoo.{call}("{address}")']
    found = [_code(*lines, *(['print(predict("face.png").label)'] if model.labels else []))]
    if "model_type" in config:
        extra = [] if config["model_type"] == "timm_wrapper" else ["import fer_zoo.hf"]
        install = said("hf") if extra else "`pip install transformers timm`"
        found += [f"With transformers ({install}):"]
        lines = [*extra, "from transformers import pipeline", ""]
        lines += [f'classify = pipeline("image-classification", model="{place}")']
        found += [_code(*lines, 'print(classify("face.png"))')]
    if "architecture" in config:
        source = "hf-hub" if place != address else "local-dir"
        found += ["With timm:" + _of_timm(model)]
        call = f'timm.create_model("{source}:{place}", pretrained=True).eval()'
        found += [_code("import timm", "", f"model = {call}")]
    if onnx:
        found += [
            "`onnx/model.onnx` takes `pixel_values` (N, 3, S, S), as `preprocessor_config.json` "
            "makes them, and gives `logits`. With transformers.js:",
            "```js\nconst [model, processor] = [\n"
            f'  await AutoModel.from_pretrained("{place}", {{ dtype: "fp32" }}),\n'
            f'  await AutoImageProcessor.from_pretrained("{place}"),\n];\n'
            'const { logits } = await model(await processor(await load_image("face.png")));\n```',
        ]
    return found


def _of_timm(model: Classifier) -> str:
    """Return what timm's network leaves out."""
    temperature = model.temperature_for(model.preset)
    left = [] if temperature == 1 else [f"its logits divided by {temperature:g} are calibrated"]
    views = PRESETS[model.preset].num_views
    left += [] if views == 1 else [f"it sees one view, not {views}"]
    return f" ({'; '.join(left)})" * bool(left)


def _code(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _metadata(
    model: Classifier, place: str, scores: Sequence[Score], config: Mapping[str, Any], onnx: bool
) -> str:
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
    training = [network.evidence.training for network in networks_of(model)]
    faces = [run.faces.name for run in training if run] + [score.faces.name for score in scores]
    readers = ["transformers"] * ("model_type" in config) + ["timm"] * ("architecture" in config)
    readers += ["onnx", "transformers.js"] * onnx
    data = ModelCardData(
        license=licence.lower() if licence else None,
        library_name=LIBRARY,
        pipeline_tag="image-classification",
        tags=["facial-expression-recognition", "emotion-recognition", *readers, model.name],
        datasets=[*dict.fromkeys(name.lower() for name in faces)] or None,
        metrics=[*METRICS.values()] if results else None,
        model_name=place.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()
