"""What the README says runs, and its figures are the records'."""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import fer_zoo
import films
from conftest import ROOT, run
from fer_zoo.models import count_parameters

README = (ROOT / "README.md").read_text()


def test_the_readmes_code_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    block, _ = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), {})
    assert "happy" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_the_readmes_lines_for_the_hub_run(monkeypatch, tmp_path: Path, capsys):
    pytest.importorskip("transformers")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    fer_zoo.save(fer_zoo.load("ensemble_r18_vgg19_025.fer2013"), "faces")
    _, block = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), {})
    first = capsys.readouterr().out
    assert first.index("'happy'") < first.index("'neutral'")


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
            block.replace('output="runs/mine"', 'output="runs/mine", epochs=1'), "README.md", "exec"
        ),
        {"fer_zoo": fer_zoo},
    )
    assert (tmp_path / "runs/mine/best.safetensors").exists()


@pytest.mark.slow
def test_the_readmes_commands_run(monkeypatch, tmp_path: Path):
    """All of them in their order, in a folder with the examples and drawn faces as my_faces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from render_faces import draw_folder

    classes = {"amused": "happy", "bored": "neutral", "startled": "surprise"}
    for part, count, seed in (("train", 8, 0), ("val", 6, 1)):
        draw_folder(tmp_path / "my_faces" / part, classes, count, seed=seed)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    films.write(tmp_path / "film.mp4", [films.scene((films.portrait(), 100, 60))] * 9)
    text = README[README.index("On the command line") :].replace("\\\n", " ")
    commands = re.findall(r"^\$ fer-zoo (.*?)(?:\s+#.*)?$", text, re.M)
    assert len(commands) == 9
    for command in commands:
        command = command.replace("--new-head", "--new-head --set epochs=1")
        run(*shlex.split(command))
    predict = fer_zoo.Predictor(tmp_path / "mine.onnx")
    assert predict.labels == tuple(classes)
    assert (tmp_path / "card" / "card.md").is_file()


def test_the_readmes_picture_is_what_the_script_draws(monkeypatch, tmp_path: Path):
    """Shrunk 40 times: matplotlib 3.9 and 3.11 then differ by 6 of 255, another fusion by 40."""
    import numpy as np
    from PIL import Image

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from picture import picture

    drawn = tmp_path / "demo.png"
    picture(fer_zoo.data.image_files(ROOT / "examples/faces")).savefig(drawn, dpi=110)

    def shrunk(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            size = (image.width // 40, image.height // 40)
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), float)

    ours, kept = shrunk(drawn), shrunk(ROOT / "docs/demo.png")
    if ours.shape != kept.shape or np.abs(ours - kept).max() > 15:
        pytest.fail("run: python examples/picture.py examples/faces docs/demo.png")


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_figures_are_the_records(monkeypatch):
    """Those in its words too: none stands outside of what is written from the records."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("readme_figures", None)
    import readme_figures

    if readme_figures.updated(README) != README:
        pytest.fail("run: python benchmarks/readme_figures.py")
    outside = re.sub(r"<!-- figures -->.*<!-- /figures -->", "", README, flags=re.DOTALL)
    assert re.findall(r"\d[\d,]*\.\d+ %|\d,\d{3}|\d %|million", outside) == []


def test_what_is_quoted_is_quoted_from_one_place():
    quoted = tomllib.loads((ROOT / "benchmarks/results/quoted.toml").read_text())
    new, peer = quoted["new_faces"], quoted["peer"]
    page = (ROOT / "docs/data.md").read_text()
    assert f"{100 * new['accuracy']:.2f} % of the {new['n']:,} faces that are new" in page
    for path in (ROOT / "docs").glob("*.md"):
        assert f"{100 * peer['accuracy']:.2f}" not in path.read_text(), path  # by {{ peer }} only
    record = fer_zoo.weights.get_weights(new["model"])
    assert {score.n for score in record.scores} == {peer["n"]}


@pytest.mark.real_data
@pytest.mark.weekly
def test_the_accuracy_on_new_faces(fer2013_root: Path):
    """By the code of the page that states it."""
    quoted = tomllib.loads((ROOT / "benchmarks/results/quoted.toml").read_text())["new_faces"]
    page = (ROOT / "docs/data.md").read_text()
    names = {"fer_zoo": fer_zoo}
    for code in re.findall(r"```{testcode}\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    faces = names["new_faces"](fer2013_root)
    found = fer_zoo.evaluate(fer_zoo.create(quoted["model"], weights="default"), faces)
    assert (found.n, found.views) == (quoted["n"], quoted["views"])
    assert found.accuracy == pytest.approx(quoted["accuracy"], abs=1e-3)  # three faces


PACKAGES = ["", "data", "evaluation", "fusion", "inference", "models", "training", "transforms"]
PACKAGES += ["video"]


@pytest.mark.parametrize("package", [*PACKAGES, "weights"])
def test_every_public_class_and_function_is_in_the_reference_and_has_an_example(package):
    import importlib
    import inspect
    from importlib.util import find_spec

    listed = re.findall(r"auto(?:function|class):: (\S+)", (ROOT / "docs/api.md").read_text())
    if find_spec("transformers") is None:  # as in `make test-oldest`
        listed = [name for name in listed if not name.startswith("fer_zoo.hf.")]
    reference = [
        getattr(importlib.import_module(m), n) for m, _, n in (p.rpartition(".") for p in listed)
    ]
    public = importlib.import_module(f"fer_zoo.{package}".rstrip("."))
    things = [getattr(public, name) for name in public.__all__]
    mine = [t for t in things if inspect.isclass(t) or inspect.isfunction(t)]
    assert len(mine) > 3
    assert [t for t in mine if t not in reference] == []
    assert [t for t in [*mine, *reference] if ">>>" not in (t.__doc__ or "")] == []


def test_the_table_of_the_zoo_is_made_from_the_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import zoo_table

    row = {"model": "resnet18_025", "status": "ok", "dtype": "float32", "mode": "eager"}
    row["environment"] = {"gpu": "", "cpu": "a chip", "cores": 2, "date": "2026-11-24"}
    rows = [row | {"batch_size": n, "images_per_s": 100.0 * n} for n in (1, 2, 64)]
    rows.append(rows[0] | {"mode": "timm", "images_per_s": 9e9})
    table = zoo_table.zoo_table(rows)
    cells = re.findall(r"<td>(.*?)</td>", table)
    width = len(zoo_table.HEAD)
    lines = [cells[i : i + width] for i in range(0, len(cells), width)]
    shown = {re.sub("<.*?>", "", line[0].replace("<br>", " ")): line for line in lines}
    assert {name.split()[0] for name in shown} == {
        name for name in fer_zoo.list_models(exclude="test_*")
    }
    (mine, _) = (line for name, line in shown.items() if name.startswith("resnet18_025 "))
    record = fer_zoo.weights.get_weights("resnet18_025")
    assert f"{100 * record.scores[0].accuracy:.2f}<br>" in mine[3]
    assert mine[1] == "0.70"
    assert mine[2] == "0.11"  # 0.055 G multiplications with an addition each
    assert mine[8] == "100 / 6,400"
    assert "a chip, 2 cores" in table
    (fitted,) = (
        line
        for name, line in shown.items()
        if name.startswith("ensemble_r18_vgg19_025 ") and "fer2013, stacked" in name
    )
    assert "held out; fitted" in fitted[3]
    ensemble = fer_zoo.weights.get_weights("ensemble_r18_vgg19_025")
    (stacked,) = (score for score in ensemble.evidence["stacked"].scores if score.views == 1)
    shown_ece = fitted[list(zoo_table.HEAD).index("ECE held out %")]
    assert shown_ece == f"{100 * stacked.cross_validated_ece:.1f}"
    assert shown_ece != f"{100 * stacked.ece:.1f}"
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from readme_figures import figures

    row = re.findall(r"`ensemble_r18_vgg19_025.*stacked \|.*", figures())[0]  # FER+'s is the second
    assert row.split("|")[-2].strip().startswith(f"{shown_ece} / ")  # the page has the same
    assert "| ECE held out %: one / two / ten views" in figures()


def test_the_commands_print_what_the_zoo_page_says(capsys):
    """`list` the tags of the weights, `info` the parameters and every figure of the records."""
    from fer_zoo.cli import main

    def printed(*words: str) -> dict:
        main([*words, "--json"], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    name = "ensemble_r18_vgg19_025"
    record = fer_zoo.weights.get_weights(name)
    (row,) = (row for row in printed("list")["models"] if row["name"] == name)
    assert row["weights"] == [record.address, f"{name}.ferplus"]
    found = printed("info", name)
    assert found["weights"][record.address] == record.to_dict()
    assert found["parameters"] == count_parameters(fer_zoo.create(name))


def test_every_command_in_the_readme_exists():
    from fer_zoo.cli import main

    used = set(re.findall(r"fer-zoo (\w+)", README))
    assert used <= set(main.commands)
    assert {"predict", "train", "fuse", "evaluate"} <= used


def contributing_block() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    return block


def extending_block() -> str:
    """The session of the page, as the module that a reader would make of it."""
    lines = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", (ROOT / "docs/extending.md").read_text(), re.M)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("block", [contributing_block, extending_block])
@pytest.mark.weekly
def test_a_model_added_as_the_pages_say_passes_the_tests_that_they_name(block, tmp_path: Path):
    import os
    import subprocess

    (tmp_path / "my_package.py").write_text(block())
    command = "-m pytest -q -p my_package -p no:cacheprovider tests/test_models.py -k resnet18_wide"
    done = subprocess.run(
        [sys.executable, *command.split()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5


def test_contributing_names_the_targets_of_the_makefile():
    targets = re.findall(r"^\$ make (\S+)", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["test", "test-all", "test-app", "lint", "docs", "bench", "wheel"]
    assert all(f"\n{target}:" in makefile for target in targets)


def build(folder: Path, text: str) -> str:
    """Return the page that Sphinx makes of `text`, its formulas by docs/offline.py."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (folder / "index.rst").write_text(text)
    settings = {"extensions": ["offline"], "html_math_renderer": "mathml"}
    output = folder / "out"
    with docutils_namespace():
        app = Sphinx(
            folder, None, output, output, "html", settings, None, None, warningiserror=True
        )
        app.build()
    return (output / "index.html").read_text()


@pytest.fixture
def offline(monkeypatch):
    """With docs/ on the path; `logging` is left as it was found."""
    import logging

    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield
    logger = logging.getLogger("sphinx")
    logger.handlers.clear()
    logger.propagate = True


@pytest.mark.usefixtures("offline")
def test_formulas_need_no_script(tmp_path: Path):
    conf = (ROOT / "docs/conf.py").read_text()
    assert 'html_math_renderer = "mathml"' in conf
    assert '"offline",' in conf
    page = build(tmp_path, "T\n=\n\n:math:`w_m`\n\n.. math:: \\frac{1}{N} \\sum_n x_n\n")
    inline, block = re.findall(r"<math .*?</math>", page, re.S)
    assert "<mi>w</mi>" in inline
    assert 'display="block"' in block
    assert "<mfrac>" in block
    assert "jax" not in page.lower()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://a.host/x.js"></script>',
        '<link rel="stylesheet" href="//a.host/x.css">',
        '<img src="x.png" srcset="y.png 1x, https://a.host/x.png 2x">',
    ],
)
def test_a_page_that_loads_from_another_host_is_an_error(tmp_path: Path, html: str):
    from sphinx.errors import SphinxError

    link = '<a href="https://a.host">a link</a>'
    raw = f"T\n=\n\n.. raw:: html\n\n   {link}"
    with pytest.raises(SphinxError, match=r"index.html loads \S*a.host/x"):
        build(tmp_path, f"{raw}{html}\n")
    assert link in build(tmp_path, f"{raw}\n")


@pytest.mark.usefixtures("offline")
def test_a_formula_that_nobody_can_draw_is_an_error(tmp_path: Path):
    from sphinx.errors import SphinxError

    with pytest.raises(SphinxError, match=r"index.rst:\d+: .*nosuch"):
        build(tmp_path, "T\n=\n\n:math:`\\nosuch x`\n")
