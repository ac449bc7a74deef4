"""What the README says runs, and its figures are the records'."""

import re
import sys
from pathlib import Path

import pytest

import fer_zoo
from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readmes_code_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), {})
    assert "happy" in capsys.readouterr().out


def test_the_readmes_fine_tuning_runs(monkeypatch, tmp_path: Path):
    from test_training import faces_on_disk

    train_faces, val_faces = faces_on_disk(tmp_path)
    (tmp_path / "my_faces").mkdir()
    train_faces.rename(tmp_path / "my_faces" / "train")
    val_faces.rename(tmp_path / "my_faces" / "val")
    (tmp_path / "a_face.png").write_bytes((ROOT / "examples/faces/drawn_sad.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```py\n(.*?)```", README, re.S)
    exec(
        compile(
            block.replace('recipe="finetune"', 'recipe="finetune", epochs=1'), "README.md", "exec"
        ),
        {"fer_zoo": fer_zoo},
    )
    assert (tmp_path / "runs/mine/best.safetensors").exists()


def test_the_readmes_figures_are_the_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("readme_figures", None)
    import readme_figures

    if readme_figures.updated(README) != README:
        pytest.fail("run: python benchmarks/readme_figures.py")


def test_every_command_in_the_readme_exists():
    from fer_zoo.cli import main

    used = set(re.findall(r"fer-zoo (\w+)", README))
    assert used <= set(main.commands)
    assert {"predict", "train", "fuse", "evaluate"} <= used
