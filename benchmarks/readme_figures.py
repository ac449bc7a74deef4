"""Write the table of which model to take into the README, between its two markers.

python benchmarks/readme_figures.py
"""

import re
import textwrap
import tomllib
from pathlib import Path

import torch
from harness import RESULTS, markdown, read_rows
from scipy.stats import binomtest

import fer_zoo
from fer_zoo.models import count_parameters
from fer_zoo.weights import WEIGHTS, get_weights

CHOICES = (
    ("accuracy", "resnet18", "", 1),
    ("speed", "vgg19_025", "", 1),
    ("size", "resnet18_025", "", 1),
    ("calibration", "ensemble_r18_vgg19_025", "stacked", 2),
)
"""What to take for which purpose: the model, its fusion and its views."""
README = Path(__file__).parent.parent / "README.md"
QUOTED = tomllib.loads((Path(__file__).parent / "results" / "quoted.toml").read_text())


def choice() -> str:
    """Return the README's table of four rows, and what its columns are."""
    head = ["for", "take", "PublicTest % (95 %)", "ECE %", "faces/s", "MB"]
    speeds, place = {}, ""
    for path in sorted(RESULTS.glob("cpu-*.jsonl")):
        for row in read_rows(path):
            if row["kind"] == "inference" and row.get("views") and row["mode"] == "optimized":
                speeds[row["model"], row["views"]] = row["images_per_s"]
                known = row["environment"]
                place = f"{known['cpu']}, {known['cores']} cores, batches of {row['batch_size']}"
    rows = []
    for purpose, model, fusion, views in CHOICES:
        record = get_weights(model)
        (score,) = (s for s in record.evidence[fusion].scores if s.views == views)
        accuracy = score.cross_validated_accuracy or score.accuracy
        wilson = binomtest(round(accuracy * score.n), score.n).proportion_ci(method="wilson")
        accuracy, low, high = (100 * x for x in (accuracy, wilson.low, wilson.high))
        how = f"`{model}`" + (f', `fusion="{fusion}"`' if fusion else "")
        how += f", `views={views}`" if views > 1 else ""
        size = record.size + sum(get_weights(member).size for member in record.members)
        rows.append([purpose, how, f"{accuracy:.2f} ({low:.1f} to {high:.1f})"])
        rows[-1] += [f"{100 * score.cross_validated_ece:.1f}", f"{speeds[model, views]:,.0f}"]
        rows[-1] += [f"{size / 1e6:.1f}"]
    (n,) = {score.n for score in get_weights("resnet18").scores}
    told = textwrap.fill(
        f"FER2013's PublicTest, n = {n:,}, which also chose the epochs; what is fitted there (a "
        "stacked head, the temperature of the calibration error, ECE) is cross-validated. None of "
        f"it was measured on PrivateTest. Speed on a CPU in float32 ({place}). {peer()}",
        100,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{markdown(head, rows)}\n\n{told}"


def table(tag: str) -> str:
    """Return the Markdown table of all records of one training."""
    head = ["weights", "fusion", "one view %", "two views %", "ten views %"]
    head += [f"{what} %: one / two / ten views" for what in ("held out", "ECE held out")]
    lines = []
    for record in WEIGHTS.values():
        for fusion, known in record.evidence.items() if record.tag == tag else ():
            cells, by_views = [], sorted(known.scores, key=lambda score: score.views)
            for score in by_views:
                low, high = (100 * x for x in score.interval)
                cells.append(f"{100 * score.accuracy:.2f} ({low:.1f} to {high:.1f})")
            held = [score.cross_validated_accuracy for score in by_views]
            cells.append(" / ".join(f"{100 * h:.2f}" for h in held if h) or "as measured")
            cells.append(" / ".join(f"{100 * s.cross_validated_ece:.1f}" for s in by_views))
            lines.append([f"`{record.model}`", fusion or "single network", *cells])
    return markdown(head, lines)


def peer() -> str:
    """Return the sentence on the best of the classifiers that are installed elsewhere."""
    best = QUOTED["peer"]
    return (
        f"For comparison: the best of {len(best['compared'])} classifiers that people install "
        f"({', '.join(best['compared'])}) is {best['name']} with {100 * best['accuracy']:.2f} % of "
        f"the same {best['n']:,} faces, by a survey that is not repeated here ({best['how']})."
    )


def trained(width: str, ensemble: str, before: str = "") -> str:
    """Return how the networks of an ensemble were trained, as half a sentence."""
    members = [get_weights(address) for address in get_weights(ensemble).members]
    recipes = [member.evidence[""].training.recipe for member in members]
    epochs = before + " and ".join(str(recipe["epochs"]) for recipe in recipes)
    with torch.device("meta"):
        sizes = [count_parameters(fer_zoo.create(member.model)) for member in members]
    parameters = " and ".join(f"{size / 1e6:.2f}" for size in sizes)
    return f"those of {width} width ({parameters} million parameters) for {epochs} epochs"


def figures() -> str:
    """Return all tables with the words around them, as the page of the figures has them."""
    new = QUOTED["new_faces"]
    record = get_weights(new["model"])
    (whole,) = {score.n for w in WEIGHTS.values() for score in w.scores if w.tag == record.tag}
    (plus,) = {score.n for w in WEIGHTS.values() for score in w.scores if w.tag == "ferplus"}
    before = f"On FER2013's PublicTest (n = {whole:,}), by `benchmarks/bundle_weights.py` from the "
    before += "bundled bytes:"
    between = (
        'On PublicTest under FER+\'s labels (`weights="ferplus"`: eight classes, the '
        f"{plus:,} faces on one of which most of ten people agree):"
    )
    after = [
        "PublicTest also chose the epoch, and the fitted fusions were fitted on it: for those, "
        "*held out* is five-fold cross-validation of heads fitted on one view, as the stored ones "
        "are. The intervals are Wilson's, 95 %. ECE is the expected calibration error; its "
        "temperature, and a fitted fusion, are cross-validated too. None of it was measured on "
        "PrivateTest.",
        f"Of the {whole:,} faces {whole - new['n']:,} are in Training too, exactly or nearly; of "
        f"the other {new['n']:,} `{new['model']}` (one view) labels {100 * new['accuracy']:.2f} % "
        "right ([how it was counted](data.md)). The networks were trained by the recipe "
        f"`strong`: {trained('full', 'ensemble_r18_vgg19')} as students of four others, "
        f"{trained('a quarter of the', 'ensemble_r18_vgg19_025', '80 and then ')} as students of "
        "`resnet18`; but for the 80, which took two CPU cores, on one H100 (the plan is "
        "`benchmarks/zoo.toml`, all that was tried stands in "
        f"`benchmarks/results/training-log.md`). {peer()}",
    ]
    wrapped = [
        textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
        for text in (between, *after)
    ]
    return "\n\n".join([before, table("fer2013"), wrapped[0], table("ferplus"), *wrapped[1:]])


def updated(text: str) -> str:
    """Return the README `text` with today's figures."""
    marked = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
    return re.sub(marked, lambda m: f"{m[1]}{choice()}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
