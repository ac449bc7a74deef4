"""Evaluation: every figure against another way to compute it, temperatures, cards."""

import csv
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

import fer_zoo
from fer_zoo.cli import main, show
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation import (
    Evaluation,
    Report,
    compare,
    find_mistakes,
    make_card,
    measure,
    score_metrics,
    write_comparison,
    write_report,
)
from fer_zoo.evaluation.figures import FIGURES, figure_rows, percent
from fer_zoo.evaluation.metrics import detected
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.evidence import Faces
from fer_zoo.transforms import counterparts

LABELS = fer_zoo.labels.FER2013
PICTURES = {
    f"{name}.png" for name in ("confusion", "reliability", "recalls", "risk_coverage", "errors")
}
VIEWED = ("fer40_center", "fer44_mirror", "fer40_tencrop")


def noise(n: int, *, split: str | None = "public", seed: int = 0) -> FaceDataset:
    images = torch.randint(
        0, 256, (n, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return FaceDataset(images, torch.arange(n) % 7, labels=LABELS, name="noise", split=split)


def boastful(n: int = 1000, factor: float = 2.5) -> tuple[Tensor, Tensor]:
    """Scores whose probabilities are true, times `factor`, and the targets."""
    rng = torch.Generator().manual_seed(0)
    honest = 1.5 * torch.randn(n, 7, generator=rng)
    return factor * honest, honest.softmax(1).multinomial(1, generator=rng)[:, 0]


def evaluated(
    scores: Tensor, targets: Tensor, *, temperature: float = 1.0, **changes: Any
) -> Evaluation:
    labels = changes.pop("labels", LABELS)
    faces = Faces(name="d", n=len(targets), fingerprint=changes.pop("fingerprint", "f"))
    values: dict[str, Any] = {"model": "m", "preset": "p", "views": 1, "faces": faces} | changes
    values |= score_metrics(scores, targets, labels, temperature=temperature)
    return Evaluation(**values, labels=labels, scores=scores, targets=targets)


def ece_by_hand(probabilities: np.ndarray, targets: np.ndarray) -> float:
    total = 0.0
    for k in range(15):
        inside = [
            i for i, p in enumerate(probabilities) if k / 15 <= p.max() < (k + 1) / 15 + (k == 14)
        ]
        if inside:
            right = np.mean([probabilities[i].argmax() == targets[i] for i in inside])
            sure = np.mean([probabilities[i].max() for i in inside])
            total += len(inside) / len(targets) * abs(right - sure)
    return total


@pytest.mark.parametrize("temperature", [1.0, 2.5, 0.3])
def test_the_calibration_error_is_that_of_a_loop(temperature):
    scores, targets = boastful()
    found = score_metrics(scores, targets, LABELS, temperature=temperature)
    for key, divisor in (("ece", temperature), ("ece_uncalibrated", 1.0)):
        exact = (scores.double() / divisor).softmax(1).numpy()
        assert found[key] == pytest.approx(ece_by_hand(exact, targets.numpy()), abs=1e-6)
    logs = (scores.double() / temperature).log_softmax(1)
    assert found["nll"] == pytest.approx(-float(logs[range(1000), targets].mean()))
    assert found["nll_uncalibrated"] == pytest.approx(
        -float(scores.double().log_softmax(1)[range(1000), targets].mean())
    )


def test_the_reliability_plot_shows_the_calibration_error():
    scores, targets = boastful()
    result = evaluated(scores, targets, temperature=2.5)
    counts, confidence, accuracy = result.bins(2.5)
    gaps = [n * abs(c - a) for n, c, a in zip(counts, confidence, accuracy, strict=True)]
    assert sum(counts) == 1000
    assert sum(gaps) / 1000 == pytest.approx(result.ece, abs=1e-6)
    figure = fer_zoo.plots.reliability(result)
    assert len(figure.axes) == 4
    assert f"{100 * result.ece_uncalibrated:.2f} %" in figure.axes[0].get_title()
    assert f"temperature 2.500: ECE {100 * result.ece:.2f} %" in figure.axes[1].get_title()
    assert len(fer_zoo.plots.reliability(evaluated(scores, targets)).axes) == 2


def test_the_bootstrap_interval_is_numpys():
    scores, targets = boastful(400)
    found = score_metrics(scores, targets, LABELS)
    again = score_metrics(scores, targets, LABELS)
    assert found["bootstrap_interval"] == again["bootstrap_interval"]
    right = (scores.argmax(1) == targets).numpy()
    draws = np.random.default_rng(1).choice(right, (4000, 400)).mean(1)
    expected = np.percentile(draws, [2.5, 97.5])
    assert found["bootstrap_interval"] == pytest.approx(tuple(expected), abs=0.006)
    assert found["bootstrap_interval"] == pytest.approx(found["interval"], abs=0.01)


def test_the_detection_rate_is_the_thesis():
    """Table 5.1, ResNet18 after 20 epochs: disgust is read as angry, fear as sad: 5 of 7."""
    recalls = {"angry": 40, "disgust": 4, "fear": 26, "happy": 83, "sad": 47, "surprise": 76}
    recalls["neutral"] = 40
    taken_for = {"disgust": "angry", "fear": "sad"}
    rows, targets = [], []
    for i, (name, right) in enumerate(recalls.items()):
        others = [k for k in range(7) if k != i]
        row = [0] * 7
        row[i] = right
        most = taken_for.get(name)
        for k in range(100 - right):
            row[others[k % 6]] += 1
        if most is not None:
            row[LABELS.index(most)] += 30
        rows += [k for k, n in enumerate(row) for _ in range(n)]
        targets += [i] * sum(row)
    result = evaluated(torch.eye(7)[rows], torch.tensor(targets))
    assert result.detection_rate == pytest.approx(5 / 7)
    assert set(LABELS) - set(result.detected) == {"disgust", "fear"}


def test_the_detection_rate_of_ties_and_of_classes_without_faces():
    assert detected([[2, 2], [1, 3]]) == [1]
    assert detected([[0, 0], [0, 1]]) == [1]
    one_class = evaluated(torch.eye(7)[[0, 0, 1]], torch.tensor([0, 0, 0]))
    assert one_class.detection_rate == 1.0
    assert one_class.recall["happy"] != one_class.recall["happy"]
    assert one_class.to_dict()["recall"]["happy"] is None
    assert one_class.to_dict()["recall_interval"]["happy"] is None
    json.dumps(one_class.to_dict(), allow_nan=False)


def right_where(pattern: list[bool], **changes: Any) -> Evaluation:
    """An evaluation on faces of class 0 that is right where `pattern` says."""
    scores = torch.eye(7)[[0 if right else 1 for right in pattern]]
    return evaluated(scores, torch.zeros(len(pattern), dtype=torch.long), **changes)


def test_mcnemars_test_on_a_known_table():
    """10 both right, 5 only the first, 15 only the second, 3 none."""
    first = [True] * 10 + [True] * 5 + [False] * 15 + [False] * 3
    second = [True] * 10 + [False] * 5 + [True] * 15 + [False] * 3
    found = compare(right_where(first), right_where(second, model="other"))
    assert (found.only_first, found.only_second, found.n) == (5, 15, 33)
    assert found.difference == pytest.approx(10 / 33)
    assert found.p_value == pytest.approx(2 * sum(math.comb(20, k) for k in range(6)) / 2**20)
    assert (found.first, found.second) == ("m, p", "other, p")
    back = compare(right_where(second), right_where(first))
    assert (back.p_value, back.difference) == (found.p_value, -found.difference)
    assert compare(right_where(first), right_where(first)).p_value == 1.0
    with pytest.raises(ArgumentError, match="not the same faces"):
        compare(right_where(first), right_where(second, fingerprint="g"))


def test_labels_may_come_in_another_order(labelled):
    """What is compared is who is right, whatever the index of a class."""
    faces = noise(70)
    other = fer_zoo.create("test_tiny").eval()
    other.load_state_dict(labelled.state_dict())
    other.labels = LABELS[::-1]
    a, b = fer_zoo.evaluate(labelled, faces), fer_zoo.evaluate(other, faces)
    found = compare(a, b)
    both = int((a.scores.argmax(1) == faces.targets).sum())
    assert found.difference == pytest.approx((int(b.correct.sum()) - both) / 70)


def test_presets_that_differ_in_views_alone():
    def others(preset):
        return [p.name for p in counterparts(preset)]

    assert others("fer40_center") == ["fer44_mirror", "fer40_tencrop"]
    assert others("fer40_tencrop") == ["fer40_center", "fer44_mirror"]
    assert others("fer44_mirror") == ["fer40_center", "fer44_tencrop"]
    assert others("thesis40") == []
    darker = replace(fer_zoo.transforms.PRESETS["fer40_center"], name="darker", mean=0.5)
    assert counterparts(darker) == []
    assert others(replace(darker, name="small", mean=0.0, size=32)) == []


def test_views_choose_the_preset(labelled):
    faces = noise(70)
    for views, preset in ((1, "fer40_center"), (2, "fer44_mirror"), (10, "fer40_tencrop")):
        found = fer_zoo.evaluate(labelled, faces, views=views)
        assert (found.preset, found.views) == (preset, views)
        same = fer_zoo.evaluate(labelled, faces, preset=preset)
        assert torch.equal(found.scores, same.scores)
        predict = fer_zoo.Predictor(labelled, views=views)
        assert predict.preset.name == preset
        said = [p.label for p in predict(faces.images[:, None])]
        assert said == [LABELS[i] for i in same.scores.argmax(1)]
    with pytest.raises(ArgumentError, match=r"views=3: presets like .* have \[1, 2, 10\] views"):
        fer_zoo.Predictor(labelled, views=3)
    with pytest.raises(ArgumentError, match="preset or views, not both"):
        fer_zoo.evaluate(labelled, faces, preset="fer40_center", views=2)
    with pytest.raises(ArgumentError, match="views=True"):
        fer_zoo.evaluate(labelled, faces, views=True)


def test_mistakes_are_sorted_and_bound_to_their_faces(labelled):
    faces = noise(70)
    result = fer_zoo.evaluate(labelled, faces)
    found = find_mistakes(result, faces)
    assert len(found) == 70 - int(result.correct.sum())
    sure = [m.probability for m in found]
    assert sure == sorted(sure, reverse=True)
    for m in found:
        assert m.true == LABELS[faces.targets[m.index]] != m.predicted
        assert m.probability == float(result.probabilities()[m.index].max())
    with pytest.raises(ArgumentError, match="is not what was evaluated"):
        find_mistakes(result, noise(70, seed=1))


@pytest.mark.slow
def test_the_report_is_one_folder(labelled, tmp_path: Path):
    faces = noise(60)
    labelled.temperature = {"fer40_center": 1.3}
    report = measure(labelled, faces)
    write_report(tmp_path, report)
    (tmp_path / "robustness.png").write_bytes(b"of an earlier report")
    card = write_report(tmp_path, report, command="fer-zoo evaluate it").read_text()
    files = {path.name for path in tmp_path.iterdir()}
    assert files == PICTURES | {"card.md", "errors.csv", "evaluation.json"}
    for name in PICTURES:
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300
    one, two, ten = report.results
    assert (one.views, two.views, ten.views) == (1, 2, 10)
    for text in (
        f"{100 * one.accuracy:.2f} | {100 * two.accuracy:.2f} | {100 * ten.accuracy:.2f}",
        "Ten views instead of one: **",
        f"{100 * report.gain.difference:+.2f} points",
        f"| {100 * one.ece:.2f} |",
        "For two views that of `fer40_center` is used",
        "For ten views that of `fer40_center` is used",
        "fer-zoo evaluate it",
        f"torch {torch.__version__.split('+')[0]}",
    ):
        assert text in card
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert [r["accuracy"] for r in written["results"]] == [one.accuracy, two.accuracy, ten.accuracy]
    assert written["comparisons"][0]["p_value"] == report.gain.p_value
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 - int(one.correct.sum())
    assert LABELS[faces.targets[int(rows[0]["index"])]] == rows[0]["true"]
    both = write_comparison(tmp_path, [report, report]).read_text()
    assert both.count("| test_tiny | fer40_tencrop |") == 4
    with pytest.raises(ArgumentError, match="cannot be written to"):
        write_report(tmp_path / "card.md", report)


def test_a_report_without_ten_views_says_so(labelled, tmp_path: Path):
    labelled.preset = "thesis40"
    report = measure(labelled, noise(20))
    assert (len(report.results), report.gain) == (1, None)
    assert "no preset is registered" in write_report(tmp_path, report).read_text()
    assert len(fer_zoo.plots.recalls(report.results).axes) == 1


@pytest.mark.parametrize("spelling", ["model.safetensors", "a run", "path"])
def test_a_model_may_be_named_by_its_file_or_its_run(labelled, tmp_path: Path, spelling):
    faces = noise(20)
    path = fer_zoo.save(labelled, tmp_path / "best.safetensors")
    named = {"model.safetensors": str(path), "a run": str(tmp_path), "path": path}[spelling]
    report = measure(named, faces)
    assert report.results[0].accuracy == fer_zoo.evaluate(labelled, faces).accuracy
    assert report.results[0].title == str(named)
    assert report.results[0].state == fer_zoo.evaluate(labelled, faces).state


def test_an_exported_file_is_refused():
    for call in (fer_zoo.evaluate, fer_zoo.robustness, measure):
        with pytest.raises(ArgumentError, match=r"\.safetensors file that it was exported from"):
            call("model.onnx", noise(7))


# What is published belongs to the network that is published


def step(model: Any) -> None:
    """Train for a step, as a user's own loop does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()(torch.rand(4, 1, 40, 40)).logsumexp(1).sum().backward()
    optimizer.step()
    model.eval()


def load_other(model: Any) -> None:
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)


def replace_layer(model: Any) -> None:
    network = model.members[0] if hasattr(model, "members") else model
    network.fc = torch.nn.Linear(network.num_features, 7)


def replace_pool(model: Any) -> None:
    """No value changes, but what the network makes of an image."""
    network = model.members[0] if hasattr(model, "members") else model
    network.maxpool = torch.nn.MaxPool2d(2)


def round_to_half(model: Any) -> None:
    """Round a network, of which figures are known, that is not exact in half precision."""
    known = model.evidence
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    model.evidence = replace(known, state="")
    assert model.evidence.scores
    model.half()


TRAINED = ("resnet18_025.fer2013", "ensemble_r18_vgg19_025.fer2013")


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """What was measured of the bundled networks, before anybody changed them."""
    faces = noise(14)
    return {name: measure(name, faces, preset="fer40_center") for name in TRAINED}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("change", [step, load_other, replace_layer, replace_pool, round_to_half])
def test_a_network_that_changed_has_no_figures(name, change, reports):
    model, report = fer_zoo.load(name), reports[name]
    scores = model.evidence.scores
    published = make_model_card(model, "hf-hub:me/faces", results=report.results)
    assert f"| {percent(report.results[0].accuracy)} |" in published
    change(model)
    card = make_model_card(model, "hf-hub:me/faces")
    assert f"started from {name}" in card
    assert "No figures are recorded" in card
    assert "model-index" not in card
    assert not any(percent(score.accuracy) in card for score in scores)
    with pytest.raises(ArgumentError, match="before it changed"):
        make_model_card(model, "hf-hub:me/faces", results=report.results)
    with pytest.raises(ArgumentError, match="before it changed"):
        make_card(replace(report, model=model))
    if change is not replace_pool:  # a file of it holds the network that was evaluated
        with pytest.raises(ArgumentError, match="before it changed"):
            fer_zoo.push_to_hub(model, "me/faces", results=report.results)
    again = fer_zoo.evaluate(model, report.data)
    assert (again.weights, again.calibration, again.temperature) == ("", None, 1.0)


def test_half_precision_that_changes_no_value_keeps_the_figures(reports):
    model = fer_zoo.load(TRAINED[0]).half()
    assert model.evidence.weights == TRAINED[0]
    card = make_model_card(model, "hf-hub:me/faces", results=reports[TRAINED[0]].results)
    assert "No figures" not in card


def test_results_of_another_network_are_refused(reports):
    one, other = (reports[name] for name in TRAINED)
    model = fer_zoo.load(TRAINED[1])
    for results in (one.results, [replace(other.results[0], model="another")]):
        with pytest.raises(ArgumentError, match="of another network"):
            make_model_card(model, "hf-hub:me/faces", results=results)
    weighted = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="weighted")
    with pytest.raises(ArgumentError, match="of another network"):
        make_model_card(weighted, "hf-hub:me/faces", results=other.results)


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_uploaded_in_another_type_has_the_figures_of_that(name, reports, monkeypatch):
    model = fer_zoo.load(name)
    scores, cards = model.evidence.scores, []

    def upload(folder: Path, *_, **__) -> str:
        cards.append((folder / "README.md").read_text())
        return "0" * 40

    monkeypatch.setattr("fer_zoo.publishing.upload", upload)

    def card(dtype: str, results=()) -> str:
        fer_zoo.push_to_hub(model, "me/faces", dtype=dtype, results=results)
        return cards.pop()

    assert all(f"| {percent(score.accuracy)} |" in card("float16") for score in scores[:1])
    rounded = card("int8")
    assert not any(f"| {percent(score.accuracy)} |" in rounded for score in scores)
    assert "No figures are recorded" in rounded
    assert "stored as int8: -0" in rounded
    with pytest.raises(ArgumentError, match="stored in another type"):
        card("int8", reports[name].results)


# Tables


def test_every_figure_has_one_name_and_one_form():
    """In the card, in the Hub's card and on the terminal."""
    score = fer_zoo.weights.get_weights("resnet18_025").scores[0]
    rows = dict(figure_rows([score], FIGURES))
    assert len(rows) == len(FIGURES)
    assert rows["accuracy %"] == "70.88"
    assert rows["accuracy %, cross-validated"] == "-"
    shown = run("info", "resnet18_025.fer2013").stdout
    card = make_model_card(fer_zoo.load("resnet18_025.fer2013"), "hf-hub:me/faces")
    for name in ("accuracy %", "95 % interval, Wilson", "macro-F1 %"):
        assert f"{name} " in shown
        assert f"| {name} |" in card
        assert f"| {rows[name]} |" in card
        assert f" {rows[name]} " in shown
    assert re.search(r"faces +FER2013, split `public`, n = 3,589  FER2013, split", shown)


@pytest.mark.parametrize("arguments", [("list",), ("recipes",), ("info", "resnet18_025")])
def test_what_is_piped_is_as_wide_as_its_content(arguments):
    """Whole, no line folded, and no blanks at the ends of lines."""
    shown = run(*arguments).stdout
    assert len(shown) < 20_000  # other tests register models, too
    assert all(line == line.rstrip() for line in shown.splitlines())
    if arguments[0] == "info":
        record = fer_zoo.weights.get_weights("resnet18_025")
        assert str(record.scores[0].faces.fingerprint) in shown
        assert record.sha256 in shown


def test_a_terminal_folds_and_cuts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(show, "out", show._Output(force_terminal=True, width=30))
    show.print_table([["name", "n"], ["a_name_of_more_letters_than_the_line_has", "12"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines) <= 30
    letters = re.sub(r"\x1b\[[\d;]*m|[^a-z_]", "", "".join(lines[1:]))
    assert letters == "a_name_of_more_letters_than_the_line_has"


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """210 faces of noise, in one folder per class; two thirds as the ensemble labels them."""
    root, data = tmp_path_factory.mktemp("faces"), noise(210)
    targets = fer_zoo.inference.predict_scores("ensemble_r18_vgg19_025", data.images).argmax(1)
    targets[::3] = torch.arange(70) % 7
    for i, (image, target) in enumerate(zip(data.images, targets, strict=True)):
        folder = root / LABELS[target]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.numpy()).save(folder / f"{i:03}.png")
    return root


def run(*arguments: object) -> Result:
    """Run a command in this process, which saves the seconds that torch takes to start."""
    with patch.object(sys, "argv", ["fer-zoo", *map(str, arguments)]):
        return CliRunner().invoke(
            main, [*map(str, arguments)], standalone_mode=False, catch_exceptions=False
        )


@pytest.mark.slow
def test_cli_compares_models(noise_folder: Path, tmp_path: Path):
    names = ("resnet18_025", "vgg19_025")
    out = tmp_path / "cards"
    arguments = ("evaluate", *names, "--data", noise_folder, "--limit", 42)
    found = json.loads(run(*arguments, "--json", "--report", out).stdout)
    assert set(found) == {"results", "comparisons", "robustness", "command", "versions"}
    shown = [(r["model"], r["preset"]) for r in found["results"]]
    assert shown == [(n, p) for n in names for p in VIEWED]
    assert len(found["comparisons"]) == 5
    assert "fer-zoo evaluate resnet18_025 vgg19_025" in found["command"]
    assert {p.name for p in out.iterdir()} == {*names, "comparison.md"}
    text = run(*arguments[:2], *arguments[3:], "--preset", "thesis40").stdout
    assert "McNemar" not in text
    assert "recall %, disgust" in text
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="cannot be written to"):
        run(*arguments, "--report", tmp_path / "file")


def test_cli_fuse_calibrates_a_fusion_without_parameters(noise_folder: Path, tmp_path: Path):
    path = tmp_path / "e.safetensors"
    arguments = ("fuse", "resnet18_025", "vgg19_025", "--data", noise_folder, "--output", path)
    done = run(*arguments)
    model = fer_zoo.load(path)
    value = model.temperature["fer40_center"]
    assert f"temperature {value:.3f} (fer40_center)" in done.stdout
    assert model.evidence.calibration.faces.n == 210
    held = path.read_bytes()
    with pytest.raises(ArgumentError, match="exists: name another with --output"):
        run(*arguments)
    assert path.read_bytes() == held
    few = tmp_path / "few.safetensors"
    assert "at least 200 faces" in run(*arguments[:-1], few, "--limit", 100).stderr
    assert fer_zoo.load(few).temperature == {}
