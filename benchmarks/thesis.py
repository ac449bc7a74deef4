"""The thesis' tables 5.1 to 5.5 again: train what is missing, print them beside its own figures.

    python benchmarks/thesis.py --data fer2013.csv --runs runs/thesis --budget 60

Runs are those of `train_zoo.py` in `RUNS/thesis_N/MODEL/seed0`, for 20, 30 and 300 epochs of each
member. The recipes differ in nothing but their epochs and the rate is constant, so
the run of 30 epochs goes on from the one of 20, and that of 300 from the one of 30: the numbers are
those of three runs from one seed. Each ensemble is its two members of as many epochs under a
stacked head that is fitted on PublicTest; beside its accuracy there stands the one on held-out
folds. With `--budget`, training stops after that many minutes; the next call goes on. What did not
run to its end says so instead of a number. The documentation prints its tables from
`results/thesis.json`, in the form of `RUNS/tables.json`; what an older run did not keep is missing.
Its curves are those of a run's `history.csv`, stored there, too.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import call
from train_zoo import PLAN, Zoo
from zoo_plan import read_plan

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.evaluation import Evaluation

Found = dict[str, dict[int, dict[str, Any]]]  # figures by table row and epochs, as they are stored
RECORD = Path(__file__).parent / "results" / "thesis.json"
CURVES = {"resnet18_7x7": RECORD.with_name("thesis_resnet18_7x7.csv")}
"""The `history.csv` of the runs of 300 epochs."""
EPOCHS = (20, 30, 300)
MEMBERS = {"ResNet18": "resnet18_7x7", "VGG19": "vgg19_fc"}
ENSEMBLE = "ensemble_r18_vgg19_thesis"
SHORT = {"angry": "An", "disgust": "Di", "fear": "Fe", "happy": "Ha", "sad": "Sa"}
SHORT |= {"surprise": "Su", "neutral": "Ne"}

KEPT = ("model", "accuracy", "interval", "macro_f1", "balanced_accuracy", "detection_rate")
KEPT += ("recall", "confusion", "labels")

# Of the thesis: accuracy, emotion detection rate, recall of each class (NULL is 0), and which
# class a class is taken for most often, in the order of FER2013's labels; tables 5.1 to 5.3.
THESIS: dict[str, dict[int, tuple[float, float, tuple[int, ...], str]]] = {
    "ResNet18": {
        20: (53.60, 71.42, (40, 4, 26, 83, 47, 76, 40), "An An Sa Ha Sa Su Ne"),
        30: (55.11, 85.71, (35, 16, 27, 86, 50, 59, 56), "An An Sa Ha Sa Su Ne"),
        300: (64.61, 100.0, (51, 55, 46, 85, 55, 80, 62), "An Di Fe Ha Sa Su Ne"),
    },
    "VGG19": {
        20: (54.22, 57.14, (48, 0, 14, 77, 64, 78, 38), "An An Sa Ha Sa Su Sa"),
        30: (59.09, 71.42, (40, 0, 16, 84, 72, 69, 57), "An An Sa Ha Sa Su Ne"),
        300: (68.90, 100.0, (55, 62, 53, 85, 64, 82, 66), "An Di Fe Ha Sa Su Ne"),
    },
    "Ensemble": {
        20: (57.48, 71.42, (45, 4, 23, 83, 52, 76, 56), "An An Sa Ha Sa Su Ne"),
        30: (60.76, 85.71, (51, 12, 30, 84, 56, 76, 58), "An An Fe Ha Sa Su Ne"),
        300: (69.54, 100.0, (60, 59, 54, 86, 61, 83, 66), "An Di Fe Ha Sa Su Ne"),
    },
}


def zoo_of(options: argparse.Namespace) -> Zoo:
    """Return the thesis' runs of the plan of `train_zoo.py`."""
    stages = [stage for stage in read_plan(PLAN)[0] if stage.name.startswith("thesis_")]
    return Zoo([replace(stage, models=[*MEMBERS.values()]) for stage in stages], options)


def evaluate(zoo: Zoo, split: str) -> Found:
    """Return each finished model's evaluation, with a remark and its accuracy held out."""
    data, public = zoo.faces("fer2013", split), zoo.faces("fer2013", "public")
    found: Found = {row: {} for row in THESIS}
    for epochs in EPOCHS:
        members = []
        for row, job in zip(MEMBERS, zoo.jobs(f"thesis_{epochs}"), strict=True):
            if job.result:
                members.append(fer_zoo.load(job.network))
                best = job.result["best_epoch"]
                remark = f"best epoch {best} of {epochs}, chosen on PublicTest"
                result = fer_zoo.evaluate(members[-1], data, progress=True)
                found[row][epochs] = stored(result, split, remark)
        if len(members) == len(MEMBERS):
            model = fer_zoo.create_ensemble(members, fusion="stacked")
            model.name = ENSEMBLE
            fit = fer_zoo.fit_fusion(model, public, even_if_worse=True)  # the thesis' own fusion
            held_out = fit.held_out_accuracy
            remark = f"head fitted on PublicTest; held out by 5 folds: {100 * held_out:.2f} %"
            fer_zoo.save(model, zoo.runs / f"thesis_{epochs}" / ENSEMBLE / "best.safetensors")
            result = fer_zoo.evaluate(model, data, progress=True)
            found["Ensemble"][epochs] = stored(result, split, remark)
            found["Ensemble"][epochs]["held_out"] = held_out if split == "public" else None
    return found


def stored(result: Evaluation, split: str, remark: str) -> dict[str, Any]:
    """Return what is kept of an evaluation: what the tables need, and of what it is."""
    told = result.to_dict()
    about = {"data": "FER2013", "split": split, "n": result.n, "views": told["views"]}
    return about | {name: told[name] for name in KEPT} | {"remark": remark}


def tables(found: Found) -> str:
    """Return the five tables as Markdown: ours, the thesis' in brackets.

    What nobody has trained here is said in one sentence for each number of epochs.
    """
    lines = []
    for number, (row, done) in enumerate(found.items(), start=1):
        if not (ran := [n for n in EPOCHS if n in done]):
            continue
        lines += [f"\n**Table 5.{number}: {row}**\n"]
        lines += [f"| | {' | '.join(f'{n} epochs' for n in ran)} |", "|---" * (1 + len(ran)) + "|"]
        for k, label in enumerate(fer_zoo.labels.FER2013):
            cells = [recall(done[n], row, n, k) for n in ran]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        for name, cell in FIGURES.items():
            lines.append(f"| {name} | {' | '.join(cell(done[n], row, n) for n in ran)} |")
        lines += [f"\n{n} epochs: {cell['remark']}." for n, cell in done.items()]
    for number, pair in ((4, EPOCHS[:2]), (5, EPOCHS[1:])):
        if not (rows := [row for row, done in found.items() if {*pair} <= {*done}]):
            continue
        lines += [f"\n**Table 5.{number}: {pair[0]} and {pair[1]} epochs**\n"]
        lines += ["| | " + " | ".join(rows) + " |", "|---" * (1 + len(rows)) + "|"]
        for n in pair:
            for name, cell in reversed(FIGURES.items()):
                cells = [cell(found[row][n], row, n) for row in rows]
                lines.append(f"| {n} epochs, {name} | {' | '.join(cells)} |")
    for n in EPOCHS:
        if lacking := [row for row, done in found.items() if n not in done]:
            theirs = ", ".join(f"{row} {THESIS[row][n][0]:.2f} %" for row in lacking)
            whose = "" if len(lacking) == len(found) else f" of {' and '.join(lacking)}"
            lines.append(f"\n{n} epochs{whose} were not run here; the thesis has {theirs}.")
    return "\n".join(lines)


def matrices(found: Found) -> str:
    """Return the confusion matrices of each row as Markdown, in faces."""
    labels = fer_zoo.labels.FER2013
    head = f"| true | {' | '.join(SHORT[label] for label in labels)} |\n|---{'|--:' * len(labels)}|"
    parts = []
    for row, done in found.items():
        for n, cell in done.items():
            lines = [
                f"| {label} | {' | '.join(map(str, counts))} |"
                for label, counts in zip(labels, cell["confusion"], strict=True)
            ]
            parts.append("\n".join([f"**{row}, {n} epochs**\n", head, *lines]))
    return "\n\n".join(parts)


def recorded(path: Path = RECORD) -> Found:
    """Return the figures of a stored `tables.json`, ready for `tables`."""
    stored = json.loads(path.read_text())
    return {row: {int(n): cell for n, cell in stored.get(row, {}).items()} for row in THESIS}


def accuracy(cell: dict[str, Any], row: str, epochs: int) -> str:
    """Return our accuracy with its 95 % interval, and the thesis'."""

    def ours(cell: dict[str, Any]) -> str:
        fitted = f"{100 * cell['accuracy']:.2f}"
        if cell.get("held_out") is not None:
            return f"{100 * cell['held_out']:.2f} held out ({fitted} fitted)"
        low, high = (100 * x for x in cell["interval"])
        return f"{fitted} ({low:.1f} to {high:.1f})"

    return beside(cell, ours, f"{THESIS[row][epochs][0]:.2f}")


def rate(cell: dict[str, Any], row: str, epochs: int) -> str:
    """Return the emotion detection rate, and the thesis'."""
    theirs = f"{THESIS[row][epochs][1]:.2f}"
    return beside(cell, lambda c: f"{100 * c['detection_rate']:.2f}", theirs)


def recall(cell: dict[str, Any], row: str, epochs: int, k: int) -> str:
    """Return the recall of class k, and what it is taken for most often."""
    _, _, recalls, winners = THESIS[row][epochs]

    def ours(cell: dict[str, Any]) -> str:
        labels, counts = cell["labels"], cell["confusion"][k]
        most = labels[counts.index(max(counts))]
        return f"{100 * cell['recall'][labels[k]]:.0f} {SHORT[most]}"

    return beside(cell, ours, f"{recalls[k]} {winners.split()[k]}")


def beside(cell: dict[str, Any], ours: Callable[[dict[str, Any]], str], theirs: str) -> str:
    """Return our figure, or that an older run did not keep it, and that of the thesis."""
    try:
        shown = ours(cell)
    except KeyError:
        shown = "not kept"
    return f"{shown} [{theirs}]"


FIGURES = {"emotion detection rate %": rate, "accuracy %": accuracy}


def main() -> None:
    """Train within the budget, then print and store what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="fer2013.csv or its folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/thesis"))
    parser.add_argument("--epochs", type=int, nargs="+", default=list(EPOCHS), choices=EPOCHS)
    parser.add_argument("--budget", type=float, help="minutes of training; 0 for none")
    parser.add_argument("--split", choices=("public", "private"), default="public")
    parser.add_argument("--limit", type=int, help="training faces, to try it out")
    parser.add_argument("--device")
    options = parser.parse_args()
    if options.split == "private":
        print("PrivateTest: for reporting only; nothing may be chosen by these figures\n")
    zoo = zoo_of(options)
    zoo.run([f"thesis_{epochs}" for epochs in options.epochs], options.budget)
    found = evaluate(zoo, options.split)
    text = f"Ours on {options.split.capitalize()}Test, one view, seed 0; the thesis' in brackets.\n"
    if options.limit:
        text += f"A TRIAL: trained on {options.limit} faces.\n"
    text += f"{tables(found)}\n\n{matrices(found)}"
    print(text)
    for name, content in (("tables.md", text), ("tables.json", json.dumps(found, indent=1))):
        with replacing(options.runs / name) as temporary:
            temporary.write_text(content + "\n")


if __name__ == "__main__":
    call(main)
