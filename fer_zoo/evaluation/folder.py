"""What is written of reports: a folder with the card, figures as JSON, pictures and errors."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_zoo import plots
from fer_zoo._files import check_writable, replacing
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.card import make_card, make_comparison, versions
from fer_zoo.evaluation.comparison import Comparison
from fer_zoo.evaluation.mistakes import find_mistakes, write_mistakes
from fer_zoo.evaluation.report import Report, compare_all

DPI = 130


def to_json(
    reports: Sequence[Report], comparisons: Sequence[Comparison], command: str = ""
) -> dict[str, Any]:
    """Return everything as plain values.

    `results` holds the evaluations in the order of the models, `comparisons` McNemar's tests,
    `robustness` what was measured of it, `command` and `versions` how to measure it again.
    """
    return {
        "results": [result.to_dict() for report in reports for result in report.results],
        "comparisons": [comparison.to_dict() for comparison in comparisons],
        "robustness": [r.robustness.to_dict() for r in reports if r.robustness is not None],
        "command": command,
        "versions": versions(),
    }


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder and see that it can be written to, before the long work.

    Raises:
        ArgumentError: it cannot.
    """
    path = Path(folder)
    try:
        check_writable(path)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written to: {error}") from None
    return path


def write_report(folder: str | os.PathLike[str], report: Report, *, command: str = "") -> Path:
    """Write the card, its figures as JSON, pictures and the list of errors; return the card.

    The files are `card.md`, `evaluation.json`, `confusion.png`, `reliability.png`, `recalls.png`,
    `errors.csv` and `errors.png`, and `robustness.png` where that was measured. Each appears whole
    or not at all, and replaces the one of an earlier report.

    Args:
        folder: where to; made if it is not there.
        report: what `measure` returned.
        command: what measures all of it again, for the card.

    Raises:
        ArgumentError: the folder cannot be written to.

    Example:
        >>> import tempfile, torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48).byte(), torch.arange(7), labels=fer_zoo.labels.FER2013,
        ...     name="black")
        >>> report = fer_zoo.evaluation.measure("resnet18_025", faces)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_report(folder, report).read_text().splitlines()[0])
        # resnet18_025
    """
    path, first = prepare_folder(folder), report.results[0]
    mistakes = find_mistakes(first, report.data)
    pictures = {
        "confusion.png": plots.confusion(first),
        "reliability.png": plots.reliability(first),
        "recalls.png": plots.recalls(report.results),
        "errors.png": plots.mistakes(mistakes, report.data) if mistakes else None,
        "robustness.png": plots.robustness(report.robustness) if report.robustness else None,
    }
    for name, figure in pictures.items():
        if figure is None:
            (path / name).unlink(missing_ok=True)  # it would be an earlier report's
            continue
        with replacing(path / name) as temporary:
            figure.savefig(temporary, dpi=DPI)
    write_mistakes(mistakes, path / "errors.csv")
    comparisons = [] if report.gain is None else [report.gain]
    _write(path / "evaluation.json", json.dumps(to_json([report], comparisons, command), indent=1))
    _write(path / "card.md", make_card(report, command=command))
    return path / "card.md"


def write_comparison(folder: str | os.PathLike[str], reports: Sequence[Report]) -> Path:
    """Write `comparison.md`, several models side by side; return its path.

    Example:
        >>> import tempfile, torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                                  labels=fer_zoo.labels.FER2013, name="black")
        >>> reports = [fer_zoo.evaluation.measure("resnet18_025", faces)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_comparison(folder, reports).name
        'comparison.md'
    """
    results = [result for report in reports for result in report.results]
    path = Path(folder) / "comparison.md"
    _write(path, make_comparison(results, compare_all(reports)))
    return path


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
