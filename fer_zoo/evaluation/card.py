"""The card: the published evidence for one set of weights, as Markdown."""

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from fer_zoo.evaluation.comparison import Comparison, compare
from fer_zoo.evaluation.metrics import FOLDS, Evaluation
from fer_zoo.evaluation.mistakes import Mistake
from fer_zoo.evaluation.robustness import Robustness
from fer_zoo.models import Classifier, Ensemble, count_parameters

PACKAGES = ("fer-zoo", "torch", "torchmetrics", "scikit-learn", "scipy", "numpy")
LIMITS = """\
- A label says what a face looks like to whoever labelled it, not what a person feels. People \
agree with FER2013's labels on 65 ± 5 % of its faces (Goodfellow et al. 2013).
- Where PublicTest chose the epoch, the fusion or the temperature, figures on PublicTest are a \
little too high.
- FER2013 repeats photographs across its splits, so some of these faces may have been trained on; \
`fer-zoo data report` names them.
- The intervals say how far the figures would move with other faces of the same kind. They do not \
cover other cameras, other crops, or another training run.
- Nothing here is broken down by age, sex or skin colour, which the data does not name."""


def make_card(
    model: Classifier,
    results: Sequence[Evaluation],
    *,
    mistakes: Sequence[Mistake] = (),
    robustness: Robustness | None = None,
    command: str = "",
) -> str:
    """Return the card of a model.

    Every figure on it is one of the evaluations', and they say how they were measured.

    Args:
        model: what was evaluated.
        results: of it on the same faces, the preset that counts first, e.g. with one view and ten.
        mistakes: of the first result, the most confident first.
        robustness: how it does on corrupted faces, if that was measured.
        command: what measures all of it again.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> print(make_card(model, [fer_zoo.evaluate(model, faces)]).splitlines()[0])
        # resnet18_025
    """
    first = results[0]
    where = f"{first.data}, split `{first.split}`" if first.split else first.data
    parts = [
        f"# {first.title}",
        f"Measured on {where}, n = {first.n:,}.{f' {first.note}.' if first.note else ''}",
        figures_table(results),
        *_gain(results),
        "## Where it comes from",
        "\n".join(origin(model)),
        "## Each class",
        recall_table(results),
        _detection(first),
        f"What each class was labelled as, {first.view_count} (rows are the classes in the data):",
        _confusion(first),
        "![Confusion matrix](confusion.png) ![Recall of each class](recalls.png)",
        "## Calibration",
        *_calibration(results),
    ]
    if robustness is not None:
        parts += ["## Robustness", robustness.to_markdown().strip()]
        parts += ["![Robustness](robustness.png)"]
    parts += ["## Most confident errors", *_mistakes(mistakes, first), "## Limits", LIMITS]
    parts += ["## Measured again by", *_again(command)]
    return "\n\n".join(parts) + "\n"


def make_comparison(results: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> str:
    """Return several models side by side, as Markdown."""
    first = results[0]
    where = f"{first.data}, split `{first.split}`" if first.split else first.data
    figures = [[cell(r) for cell in FIGURES.values()] for r in results]
    recalls = [[percent(r.recall[name]) for name in first.labels] for r in results]
    parts = [
        "# Comparison",
        f"Measured on {where}, n = {first.n:,}.{f' {first.note}.' if first.note else ''}",
        _side_by_side(results, list(FIGURES), figures),
        "## Recall of each class, in %",
        _side_by_side(results, first.labels, recalls),
    ]
    if comparisons:
        parts += ["## McNemar's exact test", comparison_table(comparisons)]
    return "\n\n".join(parts) + "\n"


def figures_table(results: Sequence[Evaluation]) -> str:
    """Return a Markdown table of all figures, a column for each result."""
    rows = [["", *(_head(r) for r in results)]]
    rows += [[name, *(cell(r) for r in results)] for name, cell in FIGURES.items()]
    return markdown(rows)


def recall_table(results: Sequence[Evaluation]) -> str:
    """Return a Markdown table of the recall of each class with its interval, in per cent."""
    first = results[0]
    rows = [["class", "faces", *(_head(r) for r in results)]]
    for name, row in zip(first.labels, first.confusion, strict=True):
        cells = [_recall(r, name) for r in results]
        rows.append([name, f"{sum(row):,}", *cells])
    return markdown(rows)


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Return a Markdown table of comparisons."""
    rows = [["first", "second", "gain, points", "only first right", "only second right", "p"]]
    for c in comparisons:
        counts = [f"{100 * c.difference:+.2f}", str(c.only_first), str(c.only_second)]
        rows.append([c.first, c.second, *counts, p_value(c)])
    return markdown(rows)


def percent(share: float) -> str:
    """Return a share in per cent; `-` where it is not a number."""
    return f"{100 * share:.2f}" if share == share else "-"


def interval(bounds: tuple[float, float]) -> str:
    """Return an interval of shares in per cent."""
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


def p_value(comparison: Comparison) -> str:
    """Return the p-value with as many digits as anyone needs."""
    p = comparison.p_value
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def detection(result: Evaluation) -> str:
    """Return the detection rate as a count."""
    present = sum(any(row) for row in result.confusion)
    return f"{len(result.detected)} of {present}"


FIGURES: dict[str, Any] = {
    "accuracy %": lambda r: percent(r.accuracy),
    "95 % interval, Wilson": lambda r: interval(r.interval),
    "95 % interval, bootstrap": lambda r: interval(r.bootstrap_interval),
    "balanced accuracy %": lambda r: percent(r.balanced_accuracy),
    "macro-F1 %": lambda r: percent(r.macro_f1),
    "emotion detection rate": detection,
    "NLL, nats": lambda r: f"{r.nll:.4f}",
    "ECE %": lambda r: percent(r.ece),
    "temperature": lambda r: f"{r.temperature:.3f}",
}


def versions() -> dict[str, str]:
    """Return the versions of python and of the packages that the figures come from."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def origin(model: Classifier, indent: str = "") -> list[str]:
    """Return what is known of a model's weights, as the lines of a Markdown list."""
    known = model.provenance
    lines = [f"{indent}- `{model.name}`, {count_parameters(model):,} parameters"]
    if weights := known.get("weights"):
        lines.append(f"{indent}  - weights `{weights}`")
    if isinstance(model, Ensemble):
        lines.append(
            f"{indent}  - fusion `{model.fusion.name}` {_plain(model.fusion.options())}".rstrip()
        )
    if known.get("started_from"):
        lines.append(f"{indent}  - started from {known['started_from']}")
    if known.get("teacher"):
        lines.append(f"{indent}  - taught by {known['teacher']}")
    if data := known.get("data"):
        lines.append(f"{indent}  - trained on {_faces(data)}")
    if validation := known.get("validation"):
        lines.append(f"{indent}  - validated on {_faces(validation)}")
    what = "fusion" if isinstance(model, Ensemble) else "selection"
    lines += [f"{indent}  - {what}: {text}" for text in _selections(model)]
    if recipe := known.get("recipe"):
        lines.append(f"{indent}  - recipe: {_plain(recipe)}")
    if fit := known.get("fusion_fit"):
        report = fit.get("report", {})
        lines.append(
            f"{indent}  - fusion fitted on {fit.get('data')}, split `{report.get('split')}`, "
            f"n = {report.get('n')}; held out over {fit.get('folds')} folds: accuracy "
            f"{percent(fit['held_out_accuracy'])} %, NLL {fit['held_out_nll']:.4f}"
        )
    if licence := known.get("licence"):
        lines.append(f"{indent}  - licence {licence}")
    if isinstance(model, Ensemble):
        for member in model.members:
            lines += origin(member, indent + "  ")
    return lines


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *map(list, rows[1:])]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in lines)


def _head(result: Evaluation) -> str:
    return f"{result.view_count} (`{result.preset}`)"


def _side_by_side(
    results: Sequence[Evaluation], columns: Sequence[str], cells: Sequence[Sequence[str]]
) -> str:
    rows = [["model", "preset", *columns]]
    rows += [[r.title, f"`{r.preset}`", *row] for r, row in zip(results, cells, strict=True)]
    return markdown(rows)


def _recall(result: Evaluation, name: str) -> str:
    if result.recall[name] != result.recall[name]:
        return "no faces"
    low, high = result.recall_interval[name]
    return f"{100 * result.recall[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(results: Sequence[Evaluation]) -> list[str]:
    if len(results) < 2:
        return [
            f"Only {results[0].view_count} was measured: no preset is registered that differs from "
            f"`{results[0].preset}` in the number of views alone, or only this one was asked for."
        ]
    one, ten = sorted(results[:2], key=lambda r: r.views)
    c = compare(one, ten)
    return [
        f"Ten views instead of one: **{100 * c.difference:+.2f} points** (McNemar's exact test: "
        f"p = {p_value(c)}; {c.only_second} faces only ten views have right, {c.only_first} only "
        "one view)."
    ]


def _detection(result: Evaluation) -> str:
    missed = [
        name
        for name, row in zip(result.labels, result.confusion, strict=True)
        if any(row) and name not in result.detected
    ]
    return (
        f"Emotion detection rate (the thesis' measure: classes whose most frequent prediction is "
        f"the class itself): {detection(result)}"
        + (f"; not {', '.join(missed)}." if missed else ".")
    )


def _confusion(result: Evaluation) -> str:
    rows = [["", *result.labels]]
    for name, row in zip(result.labels, result.confusion, strict=True):
        rows.append([name, *map(str, row)])
    return markdown(rows)


def _calibration(results: Sequence[Evaluation]) -> list[str]:
    rows = [["", *(_head(r) for r in results)]]
    rows += [
        ["ECE %, uncalibrated", *(percent(r.ece_uncalibrated) for r in results)],
        ["ECE %, with the temperature", *(percent(r.ece) for r in results)],
        [f"ECE %, temperature cross-validated here ({FOLDS} folds)", *map(_held_out, results)],
        ["NLL, uncalibrated", *(f"{r.nll_uncalibrated:.4f}" for r in results)],
        ["NLL, with the temperature", *(f"{r.nll:.4f}" for r in results)],
        ["temperature", *(f"{r.temperature:.3f}" for r in results)],
    ]
    return [
        markdown(rows),
        *_temperature(results[0], results[1:]),
        "![Reliability](reliability.png)",
    ]


def _held_out(result: Evaluation) -> str:
    found = result.cross_validated_ece
    return "-" if found is None else percent(found)


def _temperature(result: Evaluation, others: Sequence[Evaluation]) -> list[str]:
    faces = result.calibration
    if not faces:
        return [
            "The model is uncalibrated. `fer_zoo.calibrate` fits a temperature on faces that it "
            "was not trained on."
        ]
    if result.fitted_here:
        held_out = "these very faces, so its ECE here is not held out; the cross-validated one is"
    elif "n" in faces:
        held_out = "other faces than these, so its ECE here is held out"
    else:
        held_out = "faces that are not recorded"
    own = "" if faces["preset"] == result.preset else f" for `{faces['preset']}`"
    return [
        f"The temperature was fitted{own} on {_faces(faces)}: {held_out}. It never changes which "
        "class wins, and the one with the lowest NLL need not have the lowest ECE."
        + "".join(map(_borrowed, others))
    ]


def _borrowed(result: Evaluation) -> str:
    own = result.calibration.get("preset", result.preset)
    if own == result.preset:
        return ""
    return f" For {result.view_count} that of `{own}` is used, which is only approximate."


def _mistakes(mistakes: Sequence[Mistake], result: Evaluation) -> list[str]:
    if not mistakes:
        return ["None."]
    rows = [["face", "in the data", "predicted", "probability %", "of the class in the data %"]]
    for m in mistakes[:10]:
        shares = [f"{100 * p:.1f}" for p in (m.probability, m.true_probability)]
        rows.append([m.source or f"face {m.index}", m.true, m.predicted, *shares])
    return [
        f"The first {len(rows) - 1} of {len(mistakes):,}, {result.view_count}; all are in "
        "[errors.csv](errors.csv). The thesis calls such faces faulty images (figure 5.10); "
        "whether the image, its label or the model is wrong is for the eye to tell.",
        markdown(rows),
        "![Most confident errors](errors.png)",
    ]


def _again(command: str) -> list[str]:
    parts = [f"```console\n$ {command}\n```"] if command else []
    return [*parts, ", ".join(f"{name} {version}" for name, version in versions().items())]


def _selections(model: Classifier) -> list[str]:
    known = model.provenance
    found = [str(known["selection"])] if known.get("selection") else []
    fusion = model.fusion.name if isinstance(model, Ensemble) else ""
    rows = known.get("metrics", [])
    found += [str(row["selection"]) for row in rows if row.get("fusion", "") == fusion]
    return list(dict.fromkeys(found))


def _faces(data: Any) -> str:
    if not isinstance(data, dict):
        return str(data)
    split = f", split `{data['split']}`" if data.get("split") else ""
    count = f", n = {data['n']:,}" if "n" in data else ""
    return f"{data.get('data') or data.get('name') or 'faces'}{split}{count}"


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"`{key}` {value}" for key, value in values.items() if _told(key, value))


def _told(key: str, value: Any) -> bool:
    return key != "description" and value not in ({}, None)
