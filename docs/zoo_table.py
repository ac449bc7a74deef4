"""The table of the zoo, made from the registry, the weight records and the measured speeds."""

import html
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import fer_zoo
from fer_zoo.evaluation.figures import interval, written
from fer_zoo.evidence import Score
from fer_zoo.models import Ensemble, count_parameters, get_spec
from fer_zoo.transforms import PRESETS
from fer_zoo.weights import WEIGHTS

HEAD = {
    "model": "below it the tag of its weights and the fusion",
    "parameters, M": "learned values, millions",
    "GFLOPs": "of one view; x and + are two",
    "PublicTest %, one view": "accuracy (95 % interval), held out where fitted",
    "PublicTest %, two views": "a crop of 44 px and its mirror image",
    "PublicTest %, ten views": "five crops and their mirror images",
    "PrivateTest %": "scored once",
    "ECE held out %": "calibration error, one view, 15 bins",
    "faces/s": "one view, float32; batches: below",
    "file, MB": "with its members",
}
"""The columns, and below their names what they say."""


def zoo_table(speeds: list[dict]) -> str:
    """Return the table as HTML, a row for each model, tag and fusion; those with weights first.

    Args:
        speeds: rows of benchmarks/inference.py.
    """
    names = fer_zoo.list_models(exclude="test_*")
    trained = [name for name in names if fer_zoo.list_weights(name)]
    plain = [name for name in names if name not in trained]
    return (
        "```{raw} html\n"
        '<p><input class="zoo-filter" type="search" aria-label="Show rows that hold all words" '
        'placeholder="filter: resnet, stacked, ferplus ..."> <span class="zoo-count"></span></p>\n'
        f"{_table(trained, speeds)}\n"
        f"<details><summary>{len(plain)} models without weights</summary>{_table(plain, speeds)}"
        f"</details>\n```\n\n{_where(speeds)}"
    )


def _table(names: Sequence[str], speeds: list[dict]) -> str:
    head = "".join(f"<th>{name}<br><small>{why}</small></th>" for name, why in HEAD.items())
    rows = (row for name in names for row in _rows(name, speeds))
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="zoo-scroll" tabindex="0" role="region" aria-label="Models">'
        f'<table class="zoo"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _rows(name: str, speeds: list[dict]) -> list[list[str]]:
    spec = get_spec(name)
    with torch.device("meta"):
        model = fer_zoo.create(name).eval()
    fixed = [f"{count_parameters(model) / 1e6:.2f}", f"{_flops(model) / 1e9:.2f}"]
    what = f'<div class="zoo-what">{html.escape(spec.description)}</div>'
    addresses = fer_zoo.list_weights(name)
    if not addresses:
        unknown = ["-", "-", "-", "-", "-", _speed(name, "", speeds), "-"]
        note = '<br><span class="zoo-note">no weights</span>'
        return [[f"<code>{name}</code>{note}{what}", *fixed, *unknown]]
    rows = []
    for address in addresses:
        record = WEIGHTS[address]
        for fusion, known in record.evidence.items():
            note = f"trained: {record.tag}{f', {fusion}' if fusion else ''}"
            own = what if fusion in ("", record.fusion) else ""
            cells = [
                f'<code>{name}</code><br><span class="zoo-note">{html.escape(note)}</span>{own}',
                *fixed,
                _accuracy(known.scores, "public", 1),
                _accuracy(known.scores, "public", 2),
                _accuracy(known.scores, "public", 10),
                _accuracy(known.scores, "private", None),
                _calibration(known.scores),
                _speed(name, fusion, speeds),
                f"{_bytes(address) / 1e6:.1f}",
            ]
            rows.append(cells)
    return rows


def _flops(model: fer_zoo.models.Classifier) -> int:
    size = PRESETS[model.preset].size
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        networks = model.members if isinstance(model, Ensemble) else [model]
        for network in networks:
            network(torch.empty(1, network.in_channels, size, size, device="meta"))
    return counter.get_total_flops()


def _accuracy(scores: Sequence[Score], split: str, views: int | None) -> str:
    for score in scores:
        if score.split == split and views in (None, score.views):
            shown = f"{written(score, 'accuracy')}<br><small>{interval(score.interval)}</small>"
            if score.cross_validated_accuracy is None:
                return shown
            # A fusion that was fitted on these faces: what it does on faces it was not fitted on.
            held_out = written(score, "cross_validated_accuracy")
            return f"{held_out}<br><small>held out; fitted</small><br>{shown}"
    return "not scored" if split == "private" else "-"


def _calibration(scores: Sequence[Score]) -> str:
    own = [score for score in scores if score.split == "public" and score.views == 1]
    held_out = own[0].cross_validated_ece if own else None
    return "-" if held_out is None else f"{100 * held_out:.1f}"


def _speed(name: str, fusion: str, speeds: list[dict]) -> str:
    if fusion not in ("", "average"):
        return "same"
    own = [r for r in speeds if r["model"] == name and r["status"] == "ok"]
    own = [r for r in own if r.get("views", 1) == 1]
    peers = ("torchvision", "timm")  # those rows are their networks, not ours
    own = [r for r in own if r["dtype"] == "float32" and r["mode"] not in peers]
    if not own:
        return "-"
    sizes = sorted({r["batch_size"] for r in own})
    ends = dict.fromkeys((sizes[0], sizes[-1]))
    best = {n: max(r["images_per_s"] for r in own if r["batch_size"] == n) for n in ends}
    return " / ".join(f"{rate:,.0f}" for rate in best.values())


def _bytes(address: str) -> int:
    record = WEIGHTS[address]
    path = Path(record.path)
    own = path.stat().st_size if path.is_file() else record.size
    return own + sum(map(_bytes, record.members))


def _where(speeds: list[dict]) -> str:
    if not speeds:
        return "Speeds have not been measured for this version ([](performance.md))."
    known = speeds[-1]["environment"]
    sizes = sorted({row["batch_size"] for row in speeds})
    return (
        f"Speeds: {known['gpu'] or known['cpu']}, {known['cores']} cores, {known['date']}, batches "
        f"of {sizes[0]} and {sizes[-1]}, the fastest way of each ([](performance.md))."
    )
