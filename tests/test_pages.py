"""The code of the documentation's pages that the doctest builder only defines, or skips."""

import asyncio
import functools
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fer_zoo
import films
from conftest import ROOT, ramp, stripes
from test_report import planted, write_csv
from test_training import faces_on_disk

pytestmark = pytest.mark.filterwarnings("ignore:.*not the official FER2013")


def code(page: str) -> str:
    """Return the blocks of a page that are no sessions."""
    text = (ROOT / f"docs/{page}.md").read_text()
    return "\n".join(re.findall(r"^```(?:py|python|{testcode})\n(.*?)^```", text, re.S | re.M))


def run(page: str, **names: Any) -> dict[str, Any]:
    """Return the names that the page's code leaves."""
    exec(compile(code(page), page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_page_with_such_code_is_here():
    """That of weights.md needs a Hub: it is in test_hub.py."""
    pages = {path.stem for path in (ROOT / "docs").glob("*.md") if code(path.stem)}
    assert pages == {
        "data",
        "deployment",
        "evaluation",
        "finetuning",
        "hub",
        "index",
        "robustness",
        "video",
        "weights",
    }


def test_data(tmp_path: Path):
    names, csv = run("data"), write_csv(tmp_path / "fer2013.csv", *planted())
    assert names["rows_to_leave_out"](csv) == [3, 6, 8, 41]
    faces = names["new_faces"](csv)
    assert (len(faces), faces.official_split) == (10, "public")
    _, folder = faces_on_disk(tmp_path)
    train, validation, first, bright = names["parts"](folder)
    assert (len(train), len(validation), len(first)) == (24, 6, 30)
    assert (bright.images.float().mean((1, 2)) > 128).all()
    for path in [*folder.rglob("*.png")]:
        path.rename(path.with_name(f"anna{int(path.stem) % 4}_{path.name}"))
    sides = [{p.name[:5] for p in part.files} for part in names["persons_apart"](folder)]
    assert len(sides[0] | sides[1]) == 4
    assert not sides[0] & sides[1]
    twice = fer_zoo.data.faces.check_faces(stripes(30) + stripes(30))
    rest, part = names["copies_apart"](twice)
    assert (rest.shared_with(part), len(rest) + len(part)) == (0, 60)


def test_deployment():
    names = run("deployment")
    assert names["label"] in names["model"].labels
    expected = names["fast"](names["faces"]).numpy()
    assert names["probabilities"] == pytest.approx(expected, abs=1e-4)
    content = (ROOT / "examples/faces/drawn_sad.png").read_bytes()

    class Upload:
        files = {"face": io.BytesIO(content)}  # noqa: RUF012

        async def read(self) -> bytes:
            return content

    whole = names["predict"](ROOT / "examples/faces/drawn_sad.png")
    assert asyncio.run(names["of_upload"](Upload())).probabilities == whole.probabilities
    assert names["of_request"](Upload()).probabilities == whole.probabilities
    frames = (np.dstack([ramp(level)] * 3) for level in (9, 99))
    assert [p.error for p in names["of_camera"](frames)] == [None, None]


def test_evaluation(tmp_path: Path):
    model = fer_zoo.create("resnet18_025", weights="default")
    path = fer_zoo.save(model, tmp_path / "a.safetensors")
    faces = stripes(210)
    targets = fer_zoo.inference.predict_scores(model, faces.images).argmax(1)
    targets[::3] = torch.arange(70) % 7  # so that a temperature fits
    faces = fer_zoo.data.FaceDataset(
        faces.images, targets, labels=model.labels, name="x", split="public"
    )
    run("evaluation")["calibrated"](path, faces)
    assert fer_zoo.load(path).evidence.calibration.faces == faces.faces
    assert set(fer_zoo.load(path).temperature) == {
        "fer40_center",
        "fer44_mirror",
        "fer40_tencrop",
    }


def test_finetuning(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(fer_zoo, "train", functools.partial(fer_zoo.train, epochs=1))
    names, (train, val) = run("finetuning"), faces_on_disk(tmp_path)
    result = names["fine_tune"](train, val)
    assert fer_zoo.Predictor("runs/mine/best.safetensors").labels == result.model.labels
    data, validation = map(fer_zoo.data.ImageFolder, (train, val))
    frozen = result.model.conv1.weight.clone()
    result = names["fine_tune_gently"](result.model, data, validation)
    assert torch.equal(result.model.conv1.weight, frozen)
    one = names["with_one_folder"](train, result.model).model.evidence.training
    assert (one.faces.n, one.validation.n) == (78, 18)


def test_robustness(tmp_path: Path):
    csv = write_csv(tmp_path / "fer2013.csv", *planted())
    assert "| occlude_eyes |" in run("robustness")["measure"](csv)
    assert (tmp_path / "robustness.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("default")
def test_hub():
    pytest.importorskip("transformers")
    import small_transformers

    fer_zoo.save(fer_zoo.load("resnet18_025.fer2013"), "faces")
    small_transformers.save("vit", Path("theirs"))
    shutil.copy(ROOT / "examples/faces/drawn_happy.png", "face.png")
    names = run("hub")
    assert names["both"].mixed
    found = names["classify"](str(ROOT / "examples/faces/drawn_happy.png"))
    assert found[0]["label"] == "happy"
    assert names["model"].network.labels == ("amused", "bored", "startled")
    assert type(names["processor"]).__name__.startswith("CLIPImageProcessor")


def test_index(tmp_path: Path, capsys):
    shutil.copy(ROOT / "examples/faces/eileen_collins.png", tmp_path / "face.png")
    run("index")
    assert "Prediction('happy'" in capsys.readouterr().out


def test_video(tmp_path: Path, monkeypatch, capsys):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("av")
    frames = [films.scene((films.portrait(), 100, 60), size=(320, 240))] * 8
    films.write(tmp_path / "film.mp4", frames, sound=True)
    monkeypatch.setattr(cv2, "VideoCapture", films.Camera([f[..., ::-1] for f in frames], 0.05))
    names = run("video")
    assert [len(frame.faces) for frame in names["film"]] == [1] * 8
    assert (tmp_path / "film.png").is_file()
    assert (tmp_path / "seen.mp4").is_file()
    assert "face 0: happy" in capsys.readouterr().out
