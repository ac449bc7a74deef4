r"""Measure image classifiers of transformers on FER2013's PublicTest, beside ours, as one table.

    python benchmarks/compare_hub.py org/name@revision ./folder --data fer2013.csv

Each is shown the same gray faces (three times where it sees colours) by its own processor's
arithmetic, and answers with its own probabilities; the figures are those of `fer_zoo.evaluate`. A
network of the Hub is downloaded, as safetensors, and the commit is in the table: name it to measure
the same again. The speed is that of batches of 32 faces on this machine, with as many threads as
torch takes.

The last two columns are about what a network was trained on. They are what its card says, not what
it was: FER2013 in a card says that PublicTest may be among the faces it was trained on (`may be in
it`), and a card that does not name it (`not named`) says nothing. Ours were trained on Training;
PublicTest chose the epoch.
"""

import argparse
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import fer_zoo
from fer_zoo._tables import markdown
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.errors import FerZooError
from fer_zoo.evaluation.figures import interval, percent
from fer_zoo.inference.engines import networks_of
from fer_zoo.models import Classifier, count_parameters
from fer_zoo.models.transformers_member import PREFIX
from fer_zoo.weights.address import parse_address
from fer_zoo.weights.hub import Repository, client

CARD = "README.md"
NAMES = {
    "FER2013": r"fer[-_ ]?2013(?!\s*plus)|icml[-_ ]face[-_ ]data",
    "FER+": r"fer[-_ ]?(2013)?[-_ ]?(\+|plus)",
    "AffectNet": r"affect[-_ ]?net",
    "RAF-DB": r"raf[-_ ]?db",
    "CK+": r"\bck(\+|[-_ ]?plus)",
    "ExpW": r"\bexpw\b",
    "KDEF": r"\bkdef\b",
    "JAFFE": r"\bjaffe\b",
}
"""Data sets of expressions, and how cards write them."""
SAME_FACES = ("FER2013", "FER+")
"""Those that hold the faces of PublicTest."""
HEAD = [
    *("model", "accuracy %", "95 % interval", "macro-F1 %", "ECE %", "parameters, M", "faces/s"),
    *("trained on, by its card", "PublicTest"),
]
BATCH = 32


def card_of(model: str) -> str | None:
    """Return the card of a network of transformers, None if it has none."""
    where = parse_address(model)
    if where.kind != "transformers":
        return None
    path = Path(where.location, CARD)
    if not path.parent.is_dir():
        found = Repository(where, client(None, None)).fetch(CARD)
        path = found.path if found else path
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def says(card: str | None) -> tuple[str, str]:
    r"""Return which data a card names, and whether the faces of PublicTest may be in it.

    Example:
        >>> says("datasets:\n- fer2013\n---\nand AffectNet")
        ('FER2013, AffectNet', 'may be in it')
    """
    if card is None:
        return "-", "no card"
    named = [name for name, words in NAMES.items() if re.search(words, card, re.IGNORECASE)]
    listed = re.search(r"^datasets:[ \t]*(.*(?:\n[ \t]*-.*)*)", card, re.MULTILINE)
    others = re.findall(r"[\w./+-]*\w[\w./+-]*", listed[1]) if listed else []
    words = "|".join(NAMES.values())
    told = named + [name for name in others if not re.search(words, name, re.IGNORECASE)]
    return ", ".join(told) or "-", "may be in it" if {*named} & {*SAME_FACES} else "not named"


def faces_per_second(model: Classifier, data: FaceDataset) -> float:
    """Return the median of at least five batches, optimized."""
    faces = data.images[:BATCH]
    faces = faces.repeat(-(-BATCH // len(faces)), 1, 1)[:BATCH]
    fast = fer_zoo.optimize(model, example=faces)
    took = list[float]()
    while len(took) < 5 or sum(took) < 1:
        began = time.perf_counter()
        fast(faces)
        took.append(time.perf_counter() - began)
    return BATCH / statistics.median(took)


def row(name: str, data: FaceDataset) -> list[str]:
    """Return the line of a model, or what is in the way of one."""
    try:
        model = fer_zoo.factory.resolve(name)
        result = fer_zoo.evaluate(model, data, progress=True)
        training = [network.evidence.training for network in networks_of(model)]
        if all(training):
            about = ", ".join(dict.fromkeys(str(run.faces) for run in training if run))
            named = about, "not in it; it chose the epoch"
        else:
            named = says(card_of(name))
        return [
            model.evidence.origin or name,
            *(percent(result.accuracy), interval(result.interval)),
            *(percent(result.macro_f1), percent(result.ece)),
            f"{count_parameters(model) / 1e6:.2f}",
            f"{faces_per_second(model, data):,.0f}",
            *named,
        ]
    except FerZooError as error:
        return [name, f"not measured: {str(error).splitlines()[0]}", *[""] * (len(HEAD) - 2)]


def table(models: Sequence[str], data: FaceDataset) -> str:
    """Return the lines of ours and of these as a Markdown table."""
    addresses = fer_zoo.list_weights()
    ours = [name for name in addresses if name.endswith(".fer2013")]
    known = (PREFIX, "hf-hub:")
    theirs = [
        name if name.startswith(known) or name in addresses else PREFIX + name for name in models
    ]
    return markdown([HEAD, *(row(name, data) for name in (*theirs, *ours))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    about, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="org/name@revision, or a folder")
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv, or its folder")
    parser.add_argument("--limit", type=int, help="the first so many faces, to try it")
    options = parser.parse_args(arguments)
    data: FaceDataset = FER2013(options.data, "public")
    data = data[: options.limit] if options.limit else data
    print(table(options.models, data))
    print(f"\nMeasured on {data.faces}; {torch.get_num_threads()} threads of torch.")


if __name__ == "__main__":
    main()
