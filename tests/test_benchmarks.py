"""The scripts of benchmarks/ on small data."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, stripes
from fer_zoo.data import fer2013

sys.path.insert(0, str(ROOT / "benchmarks"))


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
def test_the_thesis_tables(tmp_path: Path, monkeypatch, capsys):
    """What is missing is trained, a longer run goes on from a shorter, the rest says so."""
    import thesis

    monkeypatch.setattr(thesis, "MEMBERS", {"ResNet18": "test_tiny", "VGG19": "plain_test"})
    runs = tmp_path / "runs"
    monkeypatch.setattr(thesis, "COUNTS", {"train": (70,)})
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
    assert "not run [64.61]" in printed
    assert "300 epochs: did not run to its end: test_tiny not begun" in printed
    held_out = stored["Ensemble"]["20"]["held_out"]
    assert f"{100 * held_out:.2f} held out" in printed
    first, second = (
        (runs / f"thesis_{n}" / "test_tiny" / "seed0" / "history.csv").read_text().splitlines()
        for n in (20, 30)
    )
    assert second[: len(first)] == first
    assert len(second) == 31
    monkeypatch.setattr(sys, "argv", [*options, "--epochs", "300", "--budget", "0.05"])
    thesis.main()
    printed = capsys.readouterr().out
    assert "call again to go on" in printed
    done = (runs / "thesis_300" / "test_tiny" / "seed0" / "history.csv").read_text().splitlines()
    assert done[:31] == second  # it goes on from the run of 30
    assert f"test_tiny {len(done) - 1} of 300 epochs" in printed


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


def test_the_loop_against_its_bare_arithmetic():
    import training

    options = argparse.Namespace(recipe="strong", steps=2, rounds=2, device="cpu")
    row = training.measure("test_tiny", 8, options)
    assert 0.05 < row["share"] < 3
    assert row["share_lowest"] <= row["share"] <= row["share_highest"]
    line = [sys.executable, str(ROOT / "benchmarks" / "training.py"), "--help"]
    assert "bare" in subprocess.run(line, capture_output=True, text=True, check=True).stdout
