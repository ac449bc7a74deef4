"""The scripts of benchmarks/ on small data."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fer_zoo
from conftest import ROOT, stripes
from fer_zoo.data import fer2013
from fer_zoo.transforms import PRESETS, Augmentation

sys.path.insert(0, str(ROOT / "benchmarks"))

import compare
import harness
import inference
import startup
import training


def small_csv(folder: Path, public: int = 35) -> Path:
    """Write stripes as a fer2013.csv of three classes' worth of Training and PublicTest."""
    path = folder / "fer2013.csv"
    rows = ["emotion,pixels,Usage"]
    for usage, n, seed in (("Training", 70, 0), ("PublicTest", public, 1)):
        faces = stripes(n, seed=seed)
        for i in range(n):
            pixels = " ".join(map(str, faces.images[i].flatten().tolist()))
            rows.append(f"{i % 7},{pixels},{usage}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
@pytest.mark.weekly
def test_the_thesis_tables(tmp_path: Path, monkeypatch, capsys):
    """What is missing is trained, a longer run goes on from a shorter, the rest says so."""
    import thesis

    monkeypatch.setattr(thesis, "MEMBERS", {"ResNet18": "other_plain_test", "VGG19": "plain_test"})
    monkeypatch.setattr(thesis, "ENSEMBLE", "other_plain_test+plain_test")
    runs = tmp_path / "runs"
    options = ["thesis", "--data", str(small_csv(tmp_path)), "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", [*options, "--epochs", "20", "30"])
    thesis.main()
    printed = capsys.readouterr().out
    stored = json.loads((runs / "tables.json").read_text())
    assert {row: list(cells) for row, cells in stored.items()} == {
        "ResNet18": ["20", "30"],
        "VGG19": ["20", "30"],
        "Ensemble": ["20", "30"],
    }
    low, high = (100 * x for x in stored["VGG19"]["20"]["interval"])
    ours = f"{100 * stored['VGG19']['20']['accuracy']:.2f} ({low:.1f} to {high:.1f})"
    assert f"{ours} [54.22]" in printed
    theirs = "ResNet18 64.61 %, VGG19 68.90 %, Ensemble 69.54 %"
    assert f"300 epochs were not run here; the thesis has {theirs}." in printed
    assert "5.5" not in printed
    held_out = stored["Ensemble"]["20"]["held_out"]
    assert f"{100 * held_out:.2f} held out" in printed
    first, second = (
        (runs / f"thesis_{n}" / "other_plain_test" / "seed0" / "history.csv")
        .read_text()
        .splitlines()
        for n in (20, 30)
    )
    assert second[: len(first)] == first
    assert len(second) == 31


def test_the_thesis_figures_are_consistent():
    """Its detection rates are the shares of its own columns of winners."""
    import thesis

    own = [thesis.SHORT[name] for name in fer2013.LABELS]
    for row, cells in thesis.THESIS.items():
        for epochs, (_, rate, recalls, winners) in cells.items():
            found = sum(a == b for a, b in zip(winners.split(), own, strict=True))
            assert len(recalls) == 7
            stated = (row, epochs) in {("ResNet18", 30)}  # its table says 5 of 7, its text 6 of 7
            assert stated or rate == pytest.approx(100 * found / 7, abs=0.02), (row, epochs)


def test_the_recorded_runs_stand_beside_the_thesis():
    """Each figure of ours in its cells with the interval that follows from it."""
    import thesis
    from scipy.stats import binomtest

    found = thesis.recorded()
    text = thesis.tables(found)
    cells = [(row, n, cell) for row, done in found.items() for n, cell in done.items()]
    assert cells
    for row, n, cell in cells:
        right = round(cell["accuracy"] * cell["n"])
        assert cell["n"] == sum(fer2013.COUNTS["public"])
        assert right / cell["n"] == pytest.approx(cell["accuracy"], abs=1e-5)
        interval = binomtest(right, cell["n"]).proportion_ci(method="wilson")
        assert cell["interval"] == pytest.approx(list(interval), abs=1e-5)
        shown = thesis.accuracy(cell, row, n)
        assert shown.endswith(f"[{thesis.THESIS[row][n][0]:.2f}]")
        pairs = [pair for pair in ((20, 30), (30, 300)) if n in pair and {*pair} <= {*found[row]}]
        assert text.count(shown) == 1 + len(pairs)  # of its model, and of tables 5.4 and 5.5
        assert f"{n} epochs: {cell['remark']}." in text
    assert {(row, n) for row, n, _ in cells} == {
        *((row, n) for row in thesis.THESIS for n in (20, 30)),
        ("ResNet18", 300),
    }
    assert "not run [" not in text


def test_the_curves_and_the_matrices_are_those_of_the_recorded_runs():
    """The best epoch of the curve is the one of the table, and no matrix is left out."""
    import thesis

    found = thesis.recorded()
    text = thesis.matrices(found)
    for row, done in found.items():
        for n, cell in done.items():
            part = text.split(f"**{row}, {n} epochs**\n")[1].split("**")[0]
            rows = [line.split(" | ")[1:] for line in part.splitlines() if line[:2] == "| "][1:]
            assert [[int(x.strip(" |")) for x in line] for line in rows] == cell["confusion"]
    for name, path in thesis.CURVES.items():
        (row,) = (row for row, model in thesis.MEMBERS.items() if model == name)
        run, cell = fer_zoo.training.read_history(path), found[row][300]
        best = max(run, key=lambda epoch: epoch.val_accuracy)
        assert [epoch.epoch for epoch in run] == list(range(1, 301))
        assert cell["remark"].startswith(f"best epoch {best.epoch} of 300")
        assert best.val_accuracy == pytest.approx(cell["accuracy"], abs=1e-5)


def test_what_one_network_ran_alone_has_a_column_of_its_own():
    import thesis

    found = {row: {n: done[n] for n in (20, 30)} for row, done in thesis.recorded().items()}
    theirs = "ResNet18 64.61 %, VGG19 68.90 %, Ensemble 69.54 %"
    assert f"\n300 epochs were not run here; the thesis has {theirs}." in thesis.tables(found)
    found["ResNet18"][300] = found["ResNet18"][30] | {"accuracy": 0.5, "interval": [0.48, 0.52]}
    first, second, *_, last = thesis.tables(found).split("**Table ")[1:]
    assert "| | 20 epochs | 30 epochs | 300 epochs |" in first
    assert "50.00 (48.0 to 52.0) [64.61] |" in first
    assert "| | 20 epochs | 30 epochs |\n" in second
    assert last.startswith("5.5: 30 and 300 epochs**\n\n| | ResNet18 |\n|---|---|")
    assert "| 300 epochs, accuracy % | 50.00 (48.0 to 52.0) [64.61] |" in last
    theirs = "VGG19 68.90 %, Ensemble 69.54 %"
    said = f"\n300 epochs of VGG19 and Ensemble were not run here; the thesis has {theirs}."
    assert last.endswith(said)


def test_the_thesis_page_states_its_figures():
    """Those typed there are those of the tables, and the folders it counts are both test splits."""
    import thesis

    page = " ".join((ROOT / "docs/thesis.md").read_text().split())
    both = [sum(n) for n in zip(fer2013.COUNTS["public"], fer2013.COUNTS["private"], strict=True)]
    assert f"({', '.join(map(str, both[:-1]))} and {both[-1]} files)" in page
    assert f"{thesis.THESIS['Ensemble'][20][0]:.2f} % in the list under table 5.3" in page
    _, rate, _, winners = thesis.THESIS["ResNet18"][30]
    own = [thesis.SHORT[name] for name in fer2013.LABELS]
    found = sum(a == b for a, b in zip(winners.split(), own, strict=True))
    assert f"after 30 epochs it says {rate} %" in page
    assert found == 5
    assert f"five of seven, {100 * found / 7:.2f} %" in page


@pytest.mark.weekly
def test_the_loop_against_its_bare_arithmetic_and_the_peers(tmp_path: Path, capsys):
    """All ways are timed in the same rounds; a recipe that the peers cannot follow says so."""
    import training

    output = tmp_path / "rows.jsonl"
    line = ["test_tiny", "--device", "cpu", "--batch-size", "8", "--steps", "2", "--rounds", "2"]
    training.main([*line, "--workers", "0", "1", "--output", str(output)])
    rows = {row["mode"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert list(rows) == ["loop", "bare", "PIL, no workers", "PIL, 1 worker"]
    for way, row in rows.items():
        assert row["repeats"] == 2
        assert row["images_per_s"] == pytest.approx(16 / row["median_s"], rel=1e-3)
        if way == "loop":
            assert row["loop_over_this"] is None
        else:
            low, median, high = row["loop_over_this"]
            assert 0.01 < low <= median <= high < 100
    assert rows["PIL, 1 worker"]["dtype"] == "fp32"
    assert capsys.readouterr().out.count("| `test_tiny` | strong | 8 |") == 4
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('preset = "fer40_center"\n[augment]\nmixup = 0.2\n')
    training.main(
        [*line, "--workers", "0", "--output", str(tmp_path / "b.jsonl"), "--recipe", str(mixed)]
    )
    assert "not available: the peers' loop knows neither" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_the_time_to_an_accuracy(tmp_path: Path, capsys):
    import training

    line = ["plain_test", "--data", str(small_csv(tmp_path)), "--device", "cpu"]
    line += ["--output", str(tmp_path / "rows.jsonl")]
    training.main([*line, "--to-accuracy", "0.01"])
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["accuracy"] >= 0.01
    assert row["epochs"] >= 1
    assert row["seconds"] > 0
    assert "| 1.0 % |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        training.main(["plain_test", "--to-accuracy", "0.5"])


@pytest.mark.parametrize("name", ["thesis40", "fer40_center"])
def test_the_peers_transforms_do_what_ours_do(name):
    """Without chance, a face through PIL is the same face to a level of gray."""
    import peers

    still = Augmentation(flip=0.0)
    preset = PRESETS[name]
    data = stripes(4, noise=0)
    assert len(peers.Pictures(data, preset, still)) == 4
    picture, target = peers.Pictures(data, preset, still)[1]
    assert (picture.shape, target) == ((1, 40, 40), 1)
    square = preset.square(data.images[1][None, None])[0]
    if name == "thesis40":
        torch.testing.assert_close(picture, square, rtol=0, atol=1.5 / 255)
    else:  # the crop's place is random
        crops = square.unfold(1, 40, 1).unfold(2, 40, 1).flatten(0, 2)
        assert any(torch.allclose(picture[0], crop, atol=1e-6) for crop in crops)
    strong = Augmentation(padding=4, scale=(0.8, 1.2), rotate=10, contrast=0.2, erase=0.5)
    assert peers.pil_transform(preset, strong)(peers.Image.new("L", (48, 48))).shape == (1, 40, 40)


def test_a_fresh_process_tells_its_times_and_its_peak():
    found = startup.run("import json", "[0] * 5_000_000")
    assert found.imports < found.then + 1
    assert 40e6 < found.peak < 150e6  # the list, and not the 300 MB of this very process
    assert found.size == 0
    with pytest.raises(RuntimeError, match="No module named 'no_such'"):
        startup.run("import no_such", "None")


def test_startup_ratios_are_those_of_paired_rounds(tmp_path: Path, monkeypatch, capsys):
    def pretend(imports: str, then: str) -> startup.Start:
        if "nonsense" in then:
            raise RuntimeError("unknown model 'nonsense'")
        loads = "weights" in then
        return startup.Start(
            2.2 if "fer_zoo" in imports else 2.0, 0.4 if loads else 0.0, 300 + 42 * loads, 20
        )

    monkeypatch.setattr(startup, "run", pretend)
    output = tmp_path / "s.jsonl"
    startup.main(["--models", "test_tiny", "nonsense", "--repeats", "3", "--output", str(output)])
    rows = {row["mode"]: row for row in harness.read_rows(output)}
    assert rows["import torch"]["ratio"] is None
    assert rows[startup.OURS]["ratio"][1] == pytest.approx(1.1)
    assert rows[startup.OURS]["repeats"] == 3
    loaded = rows['fer_zoo.create("ensemble_r18_vgg19_025", weights="default")']
    assert loaded["ratio"][1] == pytest.approx(1.3)
    assert loaded["then_s"] == [0.4, 0.4, 0.4]
    assert (loaded["added_bytes"], loaded["size_ratio"]) == (42, 2.1)
    assert rows['fer_zoo.create("nonsense")']["status"] == "failed"
    printed = capsys.readouterr().out
    assert "failed: unknown model 'nonsense'" in printed
    assert len(rows) == printed.count("\n| `")
    assert 'fer_zoo.load("vgg19.safetensors")' in rows


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (inference, ["--batch-sizes", "0"]),
        (inference, ["--minutes", "-1"]),
        (inference, ["--repeats", "x"]),
        (startup, ["--repeats", "0"]),
        (training, ["--rounds", "0"]),
    ],
)
def test_numbers_are_above_zero(script, arguments, capsys):
    with pytest.raises(SystemExit) as told:
        script.main(arguments)
    assert told.value.code == 2
    assert "above 0" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_told_before_anything_is_measured(tmp_path: Path):
    (tmp_path / "file").touch()
    for script in (inference, startup, training):
        with pytest.raises(SystemExit, match="cannot be written to"):
            script.main(["--output", str(tmp_path / "file" / "x.jsonl")])
    with pytest.raises(SystemExit, match="cannot be read"):
        compare.main([str(tmp_path / "none.jsonl"), str(tmp_path / "none.jsonl")])
    (tmp_path / "odd.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit, match="line 1: not a row"):
        compare.main([str(tmp_path / "odd.jsonl")] * 2)


def test_an_interrupt_keeps_the_starts_until_then(tmp_path: Path, monkeypatch, capsys):
    calls = []

    def pretend(imports: str, then: str) -> startup.Start:
        calls.append(then)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return startup.Start(1.0, 0.1, 1000, 40)

    monkeypatch.setattr(startup, "run", pretend)
    output = tmp_path / "rows.jsonl"
    code = startup.main(["--models", "test_tiny", "--repeats", "9", "--output", str(output)])
    assert code == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(output.read_text().splitlines()) == 6


def test_the_frontier_is_what_records_and_rows_say():
    """Accuracies of the bundled weights, averaged, against the speeds with as many views."""
    import frontier

    rows = [
        {"model": "resnet18_025", "views": views, "images_per_s": rate, "batch_size": 32}
        | {"environment": {"cpu": "a CPU", "cores": 2}}
        for views, rate in ((10, 100.0), (1, 900.0), (2, 400.0))
    ]
    rows[1].pop("views")  # as rows had it before there were others
    found = frontier.lines(rows)
    scores = fer_zoo.weights.get_weights("resnet18_025.fer2013").scores
    accuracies = {score.views: 100 * score.accuracy for score in scores}
    expected = [(n, rate, accuracies[n]) for n, rate in ((1, 900.0), (2, 400.0), (10, 100.0))]
    assert found == {"resnet18_025": expected}
    axes = frontier.draw(rows).axes[0]
    ours, peer = axes.lines
    assert ours.get_xdata() == pytest.approx([900, 400, 100])
    assert ours.get_ydata() == pytest.approx([accuracies[n] for n in (1, 2, 10)])
    assert peer.get_ydata() == pytest.approx([65.65])
    assert "measured elsewhere" in peer.get_label()
    assert [text.get_text() for text in axes.texts] == ["1", "2", "10"]


def test_rows_of_other_views_are_other_cells():
    row = {"kind": "inference", "model": "m", "environment": {}}
    assert harness.identity(row) == harness.identity(row | {"views": 1})
    assert harness.identity(row) != harness.identity(row | {"views": 2})


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
@pytest.mark.weekly
def test_the_detectors_stand_side_by_side(tmp_path: Path, monkeypatch, capsys):
    """Each by name has its row in both tables; nobody finds a face in stripes."""
    pytest.importorskip("cv2")
    import detectors

    monkeypatch.setattr(detectors, "PORTRAITS", {"grace_hopper": (208, 169, 168)})
    data = ["--data", str(small_csv(tmp_path)), "--output", str(tmp_path / "table.md")]
    monkeypatch.setattr(sys, "argv", ["detectors", *data, "--faces", "2"])
    threads = torch.get_num_threads(), detectors.cv2.getNumThreads()
    try:
        detectors.main()
    finally:
        torch.set_num_threads(threads[0])
        detectors.cv2.setNumThreads(threads[1])
    written = (tmp_path / "table.md").read_text()
    assert written == capsys.readouterr().out
    assert written.count("| `haar` |") == written.count("| `blazeface` |") == 2
    assert "| `blazeface` | 3 of 3 | 6 of 6 | 6 of 6 | 6 of 6 | 6 of 6 | 0 |" in written
    assert "2 faces of PublicTest" in written


def test_the_pasted_face_is_where_the_picture_says(tmp_path: Path):
    """Turned clockwise by the roll: its pixels, turned back, are those of the face."""
    import detectors

    class Faces:
        images, targets, labels = stripes(3).images, torch.zeros(3, dtype=int), ("angry",)

        def __len__(self) -> int:
            return 3

    for picture in detectors.pasted(Faces(), 3):
        (crop,) = fer_zoo.inference.crop_faces(
            picture.rgb, lambda rgb, p=picture: [{"box": box_of(p), "roll": p.roll}]
        )
        assert picture.shows(crop.box)
        shown = torch.nn.functional.interpolate(crop.face[None].float(), (48, 48), mode="area")
        likest = [
            float(np.corrcoef(shown.flatten(), face.float().flatten())[0, 1])
            for face in Faces.images
        ]
        assert max(likest) > 0.8


def box_of(picture) -> tuple[float, float, float, float]:
    (x, y), half = picture.centre, picture.side / 2
    return x - half, y - half, x + half, y + half


def test_another_packages_loop_runs_in_its_own_environment(tmp_path: Path, monkeypatch):
    """Here one that is made up: a face in each frame; its version names the row."""
    import video

    pytest.importorskip("cv2")
    (tmp_path / "fer").mkdir()
    (tmp_path / "fer" / "__init__.py").touch()
    (tmp_path / "fer" / "fer.py").write_text(
        "class FER:\n    def detect_emotions(self, frame):\n"
        "        assert frame.shape == (720, 1280, 3)\n        return [{'box': 0}]\n"
    )
    (tmp_path / "fer-9.8.dist-info").mkdir()
    (tmp_path / "fer-9.8.dist-info" / "METADATA").write_text("Name: fer\nVersion: 9.8\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    name, rate = video.peer(Path(sys.executable), video.made(tmp_path / "a.mp4", 1, 4))
    assert name == "fer 9.8, its cascade at 1280 px, from 50 px"
    assert rate > 0
