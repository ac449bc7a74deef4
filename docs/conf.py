"""Sphinx settings; the tables are made from the registries while the docs are built."""

import logging
import os
import re
import sys
from pathlib import Path

# Before anything draws: figures go into the pages, and bars would fill them.
os.environ |= {"MPLBACKEND": "agg", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("examples", "benchmarks"))]

from sphinx_gallery import gen_gallery

import fer_zoo
from fer_zoo.transforms import PRESETS
from fer_zoo.weights import WEIGHTS
from fer_zoo.weights.address import GRAMMAR

project = "fer_zoo"
author = "the fer_zoo authors"
copyright = "the fer_zoo authors"
release = fer_zoo.__version__
extensions = [
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "offline",
]
# The Space's README would be taken for the head of a gallery of its own.
gen_gallery.get_subsections = lambda *_, **__: []
html_math_renderer = "mathml"
logging.getLogger("fer_zoo").setLevel(logging.WARNING)
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "ignore_pattern": r"(^|/)(picture|render_faces|serve)\.py",
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib",
    "image_scrapers": ("matplotlib", "gallery_figures"),
    "reset_modules": ("matplotlib", "seaborn", "gallery_figures.facts"),
    "reset_modules_order": "both",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,  # a page that loads its table from other hosts
    "download_all_examples": False,
    "copyfile_regex": r"render_faces\.py",
    "within_subsection_order": "FileNameSortKey",
}
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["zoo.css"]
html_js_files = ["zoo.js"]
exclude_patterns = ["_build", "gallery/GALLERY_HEADER.rst", "**sg_execution_times.rst"]
myst_enable_extensions = ["colon_fence", "substitution", "dollarmath"]
copybutton_exclude = ".linenos, .gp, .go"  # what one types, without prompts and answers
myst_heading_anchors = 3
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
viewcode_follow_imported_members = False
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}  # an option that is False is on
doctest_test_doctest_blocks = ""
add_module_names = False
default_role = "code"
# Names of other libraries: links where asked for, as a build needs no network otherwise.
if os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
# And what signatures name of others, or of what has no page of its own.
OTHERS = (
    r"(abc|collections|numpy|os|pathlib|torch)\..*|typing\.Literal.*|(PIL)?Image|(dict|tuple)\[.*"
)
INNER = r"fer_zoo\.(inference\.(crops|engines|images|programs)|fusion\.base)\..*"
nitpick_ignore_regex = [("py:.*", OTHERS), ("py:.*", INNER)]


def _with_summary(app: object, page: str, source: list[str]) -> None:
    """Put a table of its names, a line for each, over each section of the API."""
    if page != "api":
        return
    blocks = source[0].split("```{eval-rst}\n")
    for i, block in enumerate(blocks[1:], 1):
        names = re.findall(r"^\.\. auto(?:class|function|data):: (\S+)", block, re.MULTILINE)
        listed = "\n   ".join(f"~{name}" for name in names)
        blocks[i] = f".. autosummary::\n\n   {listed}\n\n{block}" if names else block
    source[0] = "```{eval-rst}\n".join(blocks)


def setup(app: object) -> None:
    """Let the API's page have its tables."""
    app.connect("source-read", _with_summary)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _weights() -> str:
    head = ["fusion, preset", "accuracy % (95 % interval)", "held out %", "balanced %"]
    head += ["macro-F1 %", "NLL", "ECE %: uncalibrated / fitted / held out", "temperature"]
    parts = []
    for address, record in WEIGHTS.items():
        rows = []
        for score in record.scores:
            low, high = (100 * x for x in score.interval)
            held_out = score.cross_validated_accuracy
            errors = (score.ece_uncalibrated, score.ece, score.cross_validated_ece)
            rows.append([f"{score.fusion} `{score.preset}`"])
            rows[-1] += [f"{100 * score.accuracy:.2f} ({low:.1f} to {high:.1f})"]
            rows[-1] += [f"{100 * held_out:.2f}" if held_out else ""]
            rows[-1] += [f"{100 * x:.1f}" for x in (score.balanced_accuracy, score.macro_f1)]
            rows[-1] += [f"{score.nll:.3f}", " / ".join(f"{100 * x:.1f}" for x in errors)]
            rows[-1] += [f"{score.temperature:.3f}"]
        faces = record.scores[0].faces
        title = f":::{{dropdown}} {address} ({faces}; transform `{record.preset}`)"
        parts += [title, _table(head, rows), ":::"]
    return "\n\n".join(parts)


def _records() -> str:
    head = ["weights", "file", "stored as", "int8", "int8 costs, one / two / ten views", "sha256"]
    rows = []
    for address, record in WEIGHTS.items():
        storage = record.evidence[record.fusion].storage
        costs = {cost.preset: cost for cost in storage.costs if cost.dtype == "int8"}
        gains = " / ".join(f"{100 * cost.gain:+.2f}" for cost in costs.values())
        size = record.size + sum(WEIGHTS[member].size for member in record.members)
        rows.append([f"`{address}`", f"{size / 1e6:.2f} MB", storage.dtype])
        rows[-1] += [f"{costs[record.preset].size / 1e6:.2f} MB", f"{gains} points"]
        rows[-1] += [f"`{record.sha256[:16]}`..."]
    return _table(head, rows)


def _presets() -> str:
    rows = [
        [f"`{p.name}`", f"{p.size} px of {p.resize}", str(p.num_views), p.average, p.description]
        for p in PRESETS.values()
    ]
    return _table(["preset", "size", "views", "averaged", "what"], rows)


def _performance() -> str:
    from tables import results

    return results()


def _built(name: str) -> Path:
    """Return where a picture goes that is made while the docs are built."""
    path = HERE / "_build" / name
    path.parent.mkdir(exist_ok=True)
    return path


def _speed() -> str:
    from speed import compared, draw, summary

    draw(compared(gpu=False)).savefig(_built("speed.png"), dpi=130)
    return summary()


def _thesis() -> str:
    from thesis import CURVES, matrices, recorded, tables

    curves = {name: fer_zoo.training.read_history(path) for name, path in CURVES.items()}
    fer_zoo.plots.history(curves).savefig(_built("thesis.png"), dpi=130)
    found = recorded()
    fold = ":::{dropdown} The confusion matrices, in faces"
    return f"{tables(found)}\n\n{fold}\n{matrices(found)}\n:::"


def _peer() -> str:
    from readme_figures import peer

    return peer()


def _video() -> str:
    return (HERE.parent / "benchmarks" / "results" / "video.md").read_text()


def _figures() -> str:
    from readme_figures import figures

    return figures()


def _zoo() -> str:
    from harness import RESULTS, read_rows
    from zoo_table import zoo_table

    # The newest of a CPU, which every reader has; where there is none, the newest of anything.
    paths = sorted(RESULTS.glob("*.jsonl"), key=lambda p: (p.stem.startswith("cpu"), p.stem[-10:]))
    # Rows of several views are the frontier's, of one batch.
    measured = (
        [r for r in read_rows(p) if r["kind"] == "inference" and not r.get("views")]
        for p in reversed(paths)
    )
    return zoo_table(next(filter(None, measured), []))


def _commands() -> str:
    """Return the help of every command, as the command line prints it."""
    import click

    from fer_zoo.cli import main

    parts = []

    def add(command: click.Command, name: str) -> None:
        context = click.Context(command, info_name=name, max_content_width=88)
        parts.append(f"### {name}\n\n```text\n{command.get_help(context)}\n```")
        for sub, child in sorted(getattr(command, "commands", {}).items()):
            add(child, f"{name} {sub}")

    for name, command in sorted(main.commands.items()):
        add(command, f"fer-zoo {name}")
    return "\n\n".join(parts)


myst_substitutions = {
    "commands": _commands(),
    "addresses": f"```text\n{GRAMMAR}\n```",
    "records": _records(),
    "figures": _figures(),
    "peer": _peer(),
    "performance": _performance(),
    "presets": _presets(),
    "speed": _speed(),
    "thesis": _thesis(),
    "video": _video(),
    "weights": _weights(),
    "zoo": _zoo(),
}
