"""The card, the published evidence for one set of weights, and the folder that it stands in."""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from fer_zoo import plots
from fer_zoo._files import check_writable, replacing
from fer_zoo._tables import markdown, safe
from fer_zoo.errors import ArgumentError, printable
from fer_zoo.evaluation.figures import EVALUATED, figure_rows, interval, p_value, percent, points
from fer_zoo.evaluation.held_out import selections
from fer_zoo.evaluation.metrics import Evaluation, check_results
from fer_zoo.evaluation.report import (
    Comparison,
    Mistake,
    Report,
    compare_all,
    cross_table,
    find_mistakes,
)
from fer_zoo.evaluation.selective import GROUPS, abstention_rows, group_rows
from fer_zoo.models import Classifier, Ensemble, count_parameters

PACKAGES = ("fer-zoo", "torch", "torchmetrics", "scikit-learn", "scipy", "numpy")
CALIBRATION = ("ece_uncalibrated", "ece", "cross_validated_ece", "nll_uncalibrated", "nll")
REPORT = (
    "evaluation.json", "card.md", "errors.csv", "confusion.png", "reliability.png",
    "recalls.png", "risk_coverage.png", "errors.png", "robustness.png",
)  # fmt: skip
"""The files of a report; the first is written first, and says whose they are."""
COMPARISON = ["comparison.md"], "# Comparison\n\nMeasured on "
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


def to_json(reports: Sequence[Report], command: str = "") -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "results": [result.to_dict() for report in reports for result in report.results],
        "comparisons": [comparison.to_dict() for comparison in compare_all(reports)],
        "robustness": [r.robustness.to_dict() for r in reports if r.robustness is not None],
        "command": command,
        "versions": versions(),
    }


def prepare_folder(
    folder: str | os.PathLike[str], own: Sequence[str] = REPORT, start: str = '{\n "results":'
) -> Path:
    """Make a folder that can be written to, before the long work; return it.

    Files of the names `own` are only written over where the first of them begins as ours does.
    """
    path, mark = Path(folder), Path(folder, own[0])
    try:
        check_writable(path)
        found = [name for name in own if os.path.lexists(path / name)]
        ours = mark.is_file() and mark.read_bytes().startswith(start.encode())
    except OSError as error:
        raise ArgumentError(f"{folder} cannot be written to: {error}") from None
    if found and not ours:
        raise ArgumentError(
            f"{path / found[0]} would be written over, and no report of fer_zoo is there: name "
            "another folder"
        )
    return path


def write_report(folder: str | os.PathLike[str], report: Report, *, command: str = "") -> Path:
    """Write the card, its figures as JSON, pictures and the list of errors; return the card.

    Each file appears whole or not at all, and replaces the one of an earlier report only.

    Args:
        folder: where to; made if it is not there.
        report: what `measure` returned.
        command: what measures all of it again, for the card.

    Raises:
        ArgumentError: the folder cannot be written to, or holds files of others by these names.

    Example:
        >>> import tempfile, torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> report = fer_zoo.evaluation.measure("resnet18_025", faces)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_report(folder, report).read_text().splitlines()[0])
        # resnet18_025
    """
    path, first = prepare_folder(folder), report.results[0]
    mistakes, card = find_mistakes(first, report.data), make_card(report, command=command)
    write_text(path / REPORT[0], json.dumps(to_json([report], command), indent=1))
    write_text(path / "card.md", card)
    pictures = {
        "confusion.png": plots.confusion(first),
        "reliability.png": plots.reliability(first),
        "recalls.png": plots.recalls(report.results),
        "risk_coverage.png": plots.risk_coverage(report.results),
        "errors.png": plots.mistakes(mistakes, report.data) if mistakes else None,
        "robustness.png": plots.robustness(report.robustness) if report.robustness else None,
    }
    for name, figure in pictures.items():
        if figure is None:
            (path / name).unlink(missing_ok=True)  # it would be an earlier report's
        else:
            with replacing(path / name) as temporary:
                figure.savefig(temporary, dpi=130)
    rows = io.StringIO()
    writer = csv.DictWriter(rows, [f.name for f in fields(Mistake)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, mistakes))
    write_text(path / "errors.csv", rows.getvalue())
    return path / "card.md"


def write_comparison(folder: str | os.PathLike[str], reports: Sequence[Report]) -> Path:
    """Write `comparison.md`, several models side by side, or on several data sets; return its path.

    Example:
        >>> import tempfile, torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> report = fer_zoo.evaluation.measure("resnet18_025", faces)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_comparison(folder, [report]).name
        'comparison.md'
    """
    results = [result for report in reports for result in report.results]
    if len({result.faces.fingerprint for result in results}) > 1:
        return _write_cross(folder, reports)
    titles = ["model", *(r.title for r in results)]
    figures = figure_rows(results, ["preset", *EVALUATED])
    recalls = [[n, *(percent(r.recall[n]) for r in results)] for n in results[0].labels]
    parts = [
        "# Comparison",
        _measured(results[0]),
        markdown([*zip(titles, *figures, strict=True)]),
        "## Recall of each class, in %",
        markdown([*zip(titles, figures[0], *recalls, strict=True)]),
    ]
    if comparisons := compare_all(reports):
        parts += ["## McNemar's exact test", markdown(comparison_rows(comparisons))]
    path = prepare_folder(folder, *COMPARISON) / "comparison.md"
    write_text(path, "\n\n".join(parts))
    return path


def _write_cross(folder: str | os.PathLike[str], reports: Sequence[Report]) -> Path:
    """Write `comparison.md` of several data sets."""
    results = [result for report in reports for result in report.results]
    faces = {result.faces.fingerprint: result for result in results}.values()
    notes = [f"- {safe(f'{r.faces}. {r.note}'.strip(' .'))}." for r in faces]
    parts = ["# Comparison", f"Measured on {len(faces)} data sets:", "\n".join(notes)]
    parts += [markdown(cross_table(results))]
    if comparisons := compare_all(reports):
        parts += ["## McNemar's exact test", markdown(comparison_rows(comparisons))]
    path = prepare_folder(folder, *COMPARISON) / "comparison.md"
    write_text(path, "\n\n".join(parts))
    return path


def make_card(report: Report, *, command: str = "") -> str:
    """Return the card of a model, with the report's figures and how they were measured.

    Args:
        report: what `measure` returned.
        command: what measures all of it again.

    Raises:
        ArgumentError: the results are of another network, or of this one before it changed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> make_card(fer_zoo.evaluation.measure("resnet18_025", faces)).splitlines()[0]
        '# resnet18_025'
    """
    results, robustness, first = report.results, report.robustness, report.results[0]
    check_results(report.model, [*results, *([robustness.clean] if robustness else [])])
    parts = [
        f"# {safe(first.title)}",
        _measured(first),
        _by_view(results, EVALUATED),
        _gain(report),
        "## Where it comes from",
        "\n".join(origin(report.model)),
        "## Each class",
        *_recalls(results),
        f"What each class was labelled as, {first.view_count} (rows are the classes in the data):",
        markdown(confusion_rows(first)),
        "![Confusion matrix](confusion.png) ![Recall of each class](recalls.png)",
        "## Calibration",
        _by_view(results, CALIBRATION),
        _temperature(first, results[1:]),
        "![Reliability](reliability.png)",
        "## Abstaining",
        *_abstaining(first),
    ]
    if first.groups:
        parts += ["## Groups", GROUPS, markdown(group_rows(first.groups))]
    if robustness is not None:
        parts += ["## Robustness", robustness.to_markdown().strip()]
        parts += ["![Robustness](robustness.png)"]
    limits = LIMITS.rpartition("\n")[0] if first.groups else LIMITS
    parts += ["## Most confident errors", *_mistakes(report), "## Limits", limits]
    parts += ["## Measured again by"] + [f"```console\n$ {printable(command)}\n```"] * bool(command)
    return "\n\n".join([*parts, made_by()]) + "\n"


def comparison_rows(
    comparisons: Sequence[Comparison], names: Mapping[str, str] | None = None
) -> list[list[str]]:
    """Return the table of comparisons, with other names for what is compared, if given."""
    rows = [["first", "second", "gain, points", "only first right", "only second right", "p"]]
    for c in comparisons:
        both = [names[n] if names else n for n in (c.first, c.second)]
        counts = [points(c.difference), str(c.only_first), str(c.only_second)]
        rows.append([*both, *counts, p_value(c.p_value)])
    return rows


def confusion_rows(result: Evaluation) -> list[list[str]]:
    """Return the confusion matrix as a table."""
    pairs = zip(result.labels, result.confusion, strict=True)
    return [["", *result.labels], *([name, *map(str, row)] for name, row in pairs)]


def versions() -> dict[str, str]:
    """Return the versions of python and of the packages that the figures come from."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def made_by() -> str:
    """Return the versions as the last line of a card."""
    return "Made by " + ", ".join(map(" ".join, versions().items()))


def origin(model: Classifier, indent: str = "") -> list[str]:
    """Return what is known of a model's weights, as the lines of a Markdown list."""
    known, facts = model.evidence, []
    if known.weights:
        facts.append(f"weights `{known.weights}`")
    if isinstance(model, Ensemble):
        facts.append(f"fusion `{model.fusion.name}` {_settings(model.fusion.options())}".rstrip())
    if known.started_from:
        facts.append(f"started from {known.started_from}")
    if (run := known.training) is not None:
        facts += [f"taught by {run.teacher}"] if run.teacher else []
        facts += [f"trained on {run.faces}", f"validated on {run.validation}"]
        facts.append(f"recipe: {_settings(run.recipe)}")
    facts += [f"selection: {text}" for text in selections(known)]
    if (fit := known.fusion_fit) is not None:
        facts.append(
            f"fusion {fit.report.fusion} fitted on {fit.faces}; held out over {fit.folds} folds: "
            f"accuracy {percent(fit.held_out_accuracy)} %, NLL {fit.held_out_nll:.4f}; averaging "
            f"{percent(fit.average_accuracy)} %, NLL {fit.average_nll:.4f}"
            f"{fit.instead and f': {fit.instead} was kept'}"
        )
    facts += [f"licence {known.licence}"] if known.licence else []
    lines = [f"{indent}- `{model.name}`, {count_parameters(model):,} parameters"]
    lines += [f"{indent}  - {fact}" for fact in facts]
    lines = [safe(line) for line in lines]
    for member in model.members if isinstance(model, Ensemble) else ():
        lines += origin(member, indent + "  ")
    return lines


def _settings(values: Mapping[str, Any]) -> str:
    told = {k: v for k, v in values.items() if k != "description" and v not in ({}, None)}
    return ", ".join(f"`{key}` {value}" for key, value in told.items())


def _measured(result: Evaluation) -> str:
    return safe(f"Measured on {result.faces}.{f' {result.note}.' if result.note else ''}")


def _heads(results: Sequence[Evaluation]) -> list[str]:
    return [f"{r.view_count} (`{r.preset}`)" for r in results]


def _by_view(results: Sequence[Evaluation], names: Sequence[str]) -> str:
    return markdown([["", *_heads(results)], *figure_rows(results, names)])


def _recalls(results: Sequence[Evaluation]) -> list[str]:
    first = results[0]
    rows = [["class", "faces", *_heads(results)]]
    for name, row in zip(first.labels, first.confusion, strict=True):
        pairs = [(r.recall[name], r.recall_interval[name]) for r in results]
        cells = [f"{percent(share)} ({interval(bounds)})" for share, bounds in pairs]
        rows.append([name, f"{sum(row):,}", *(cells if any(row) else ["no faces"] * len(cells))])
    present = [n for n, row in zip(first.labels, first.confusion, strict=True) if any(row)]
    missed = "".join(f"; not {safe(name)}" for name in present if name not in first.detected)
    return [
        markdown(rows),
        "Emotion detection rate (the thesis' measure: classes whose most frequent prediction is "
        f"the class itself): {len(first.detected)} of {len(present)}{missed}.",
    ]


def _gain(report: Report) -> str:
    if (c := report.gain) is None:
        return "Measured alone: no preset is registered that differs in views, or one was given."
    fewest, *_, most = sorted(report.results, key=lambda r: r.views)
    more, less = most.view_count, fewest.view_count
    return (
        f"{more.capitalize()} instead of {less.partition(' ')[0]}: **{points(c.difference)} "
        f"points** (McNemar's exact test: p = {p_value(c.p_value)}; {c.only_second} faces only "
        f"{more} have right, {c.only_first} only {less})."
    )


def _abstaining(result: Evaluation) -> list[str]:
    return [
        "Below a probability of the winner no label may be given (`Predictor(abstain=...)`); what "
        f"is then labelled, {result.view_count}. The area under the curve (AURC, the mean share of "
        f"wrong labels over all thresholds) is {percent(result.aurc)} %.",
        markdown(abstention_rows(result.abstention)),
        "![Risk and coverage](risk_coverage.png)",
    ]


def _temperature(result: Evaluation, others: Sequence[Evaluation]) -> str:
    if result.calibration is None or not result.calibrated_for:
        return "The model is uncalibrated; `fer_zoo.calibrate` fits a temperature on other faces."
    faces = result.calibration.faces
    held_out = str(faces or "faces that are not recorded")
    if faces is not None and faces.fingerprint == result.faces.fingerprint:
        held_out += ": these very faces, so its ECE is not held out; the cross-validated is"
    own = "" if result.calibrated_for == result.preset else f" for `{result.calibrated_for}`"
    borrowed = [
        f" For {r.view_count} that of `{r.calibrated_for}` is used, which is only approximate."
        for r in others
        if r.calibrated_for != r.preset
    ]
    return safe(
        f"The temperature was fitted{own} on {held_out}. It never changes which class wins, and "
        "the one with the lowest NLL need not have the lowest ECE." + "".join(borrowed)
    )


def _mistakes(report: Report) -> list[str]:
    mistakes = find_mistakes(report.results[0], report.data)
    if not mistakes:
        return ["None."]
    rows = [["face", "in the data", "predicted", "probability %", "of the class in the data %"]]
    for m in mistakes[:10]:
        shares = [f"{100 * p:.1f}" for p in (m.probability, m.true_probability)]
        rows.append([m.source or f"face {m.index}", m.true, m.predicted, *shares])
    return [
        f"The first {len(rows) - 1} of {len(mistakes):,} with {report.results[0].view_count}; all "
        "are in [errors.csv](errors.csv). The thesis calls such faces faulty images (figure 5.10); "
        "whether the image, its label or the model is wrong is for the eye to tell.",
        markdown(rows),
        "![Most confident errors](errors.png)",
    ]


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    with replacing(path) as temporary:
        text = text.rstrip("\n") + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
