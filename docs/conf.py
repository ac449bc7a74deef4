"""Sphinx settings; the tables are made from the registries while the docs are built."""

import sys
from pathlib import Path

import fer_zoo
from fer_zoo.models import get_spec
from fer_zoo.transforms import PRESETS
from fer_zoo.weights import WEIGHTS
from fer_zoo.weights.address import GRAMMAR

project = "fer_zoo"
author = "the fer_zoo authors"
copyright = "the fer_zoo authors"
release = fer_zoo.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_enable_extensions = ["substitution", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
doctest_test_doctest_blocks = ""
add_module_names = False
default_role = "code"
nitpick_ignore_regex = [("py:.*", r"(abc|collections|pathlib|torch)\..*")]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _models() -> str:
    from fer_zoo.models import count_parameters

    rows = []
    for name in fer_zoo.list_models():
        spec, size = get_spec(name), count_parameters(fer_zoo.create(name))
        rows.append([f"`{name}`", f"{size / 1e6:.2f} M", f"`{spec.preset}`", spec.description])
    return _table(["model", "parameters", "preset", "what"], rows)


def _weights() -> str:
    head = ["fusion", "preset", "accuracy %", "95 % interval", "held out %"]
    head += ["balanced %", "macro-F1 %", "NLL", "ECE %, uncalibrated", "calibrated", "held out"]
    head += ["temperature"]
    parts = []
    for address, record in WEIGHTS.items():
        rows = []
        for row in record.metrics:
            low, high = (100 * x for x in row["interval"])
            held_out = row.get("cross_validated_accuracy")
            rows.append([row.get("fusion", ""), f"`{row['preset']}`"])
            rows[-1] += [f"{100 * row['accuracy']:.2f}"]
            rows[-1] += [f"{low:.1f} to {high:.1f}", f"{100 * held_out:.2f}" if held_out else ""]
            rows[-1] += [f"{100 * row[k]:.1f}" for k in ("balanced_accuracy", "macro_f1")]
            rows[-1] += [f"{row['nll']:.3f}"]
            errors = ("ece_uncalibrated", "ece", "cross_validated_ece")
            rows[-1] += [f"{100 * row[k]:.1f}" for k in errors] + [f"{row['temperature']:.3f}"]
        parts += [f"**{address}** ({record.data}; transform `{record.preset}`)", _table(head, rows)]
    return "\n\n".join(parts)


def _records() -> str:
    head = ["weights", "file", "stored as", "int8", "int8 costs, one view / ten views", "sha256"]
    rows = []
    for address, record in WEIGHTS.items():
        costs = {row["preset"]: row for row in record.storage["costs"] if row["dtype"] == "int8"}
        small = costs[record.preset]["size"]
        gains = " / ".join(f"{100 * row['gain']:+.2f}" for row in costs.values())
        size = record.size + sum(WEIGHTS[member].size for member in record.members)
        rows.append([f"`{address}`", f"{size / 1e6:.2f} MB", record.storage["dtype"]])
        rows[-1] += [f"{small / 1e6:.2f} MB", f"{gains} points", f"`{record.sha256[:16]}`..."]
    return _table(head, rows)


def _presets() -> str:
    rows = [
        [f"`{p.name}`", f"{p.size} px of {p.resize}", str(p.num_views), p.average, p.description]
        for p in PRESETS.values()
    ]
    return _table(["preset", "size", "views", "averaged", "what"], rows)


def _performance() -> str:
    sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
    from tables import results

    return results()


myst_substitutions = {
    "addresses": f"```text\n{GRAMMAR}\n```",
    "records": _records(),
    "models": _models(),
    "performance": _performance(),
    "presets": _presets(),
    "weights": _weights(),
}
