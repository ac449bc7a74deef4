"""Detectors by name, and BlazeFace: turned faces, boxes as FER2013's, threads and processes."""

import hashlib
import json
import math
import re
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import fer_zoo
from conftest import ROOT, cli, in_this_process
from fer_zoo._install import install_command
from fer_zoo.errors import ArgumentError, DuplicateNameError, MissingDependencyError
from fer_zoo.inference import (
    BlazeFace,
    blazeface,
    crop_faces,
    detector as detectors,
    list_detectors,
    register_detector,
)

pytest.importorskip("cv2")
NAME = "resnet18_025"
PORTRAITS = {"eileen_collins": (225, 114, 98), "grace_hopper": (208, 169, 168)}
"""Where OpenCV's cascade finds the faces: the centre and the side."""
DRAWN = sorted((ROOT / "examples/faces").glob("drawn_*.png"))


def portrait(name: str) -> Image.Image:
    with Image.open(ROOT / f"examples/photographs/{name}.jpg") as image:
        return image.convert("RGB")


def crowd() -> np.ndarray:
    """Return 1024x768 px with six faces of 45 px, too small to be found in the whole."""
    image = Image.new("RGB", (1024, 768), (120, 130, 110))
    places = [(60, 60), (470, 90), (900, 60), (230, 400), (489, 345), (800, 640)]
    for i, (x, y) in enumerate(places):
        face = portrait([*PORTRAITS][i % 2])
        cx, cy, side = [*PORTRAITS.values()][i % 2]
        cut = face.crop((cx - side, cy - side, cx + side, cy + side)).resize((90, 90))
        image.paste(cut, (x, y))
    return np.asarray(image)


def square(crop: fer_zoo.inference.crops.Crop) -> np.ndarray:
    return F.interpolate(crop.face[None].float(), (48, 48), mode="area")[0, 0].numpy()


def alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def detect() -> BlazeFace:
    return BlazeFace()


def test_the_file_is_the_one_whose_source_is_told():
    content = blazeface.FILE.read_bytes()
    said = (blazeface.FILE.parent / "SOURCE.md").read_text()
    assert hashlib.sha256(content).hexdigest() in said
    assert f"{len(content):,} bytes" in said
    assert blazeface.FILE.name in (ROOT / "NOTICE").read_text()


@pytest.mark.parametrize("name", PORTRAITS)
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_the_portraits_boxes_are_near_the_cascades(detect, name, scale):
    image = portrait(name)
    (row,) = detect(np.asarray(image.resize([round(scale * n) for n in image.size])))
    left, top, right, bottom = (v / scale for v in row["box"])
    x, y, side = PORTRAITS[name]
    assert math.dist(((left + right) / 2, (top + bottom) / 2), (x, y)) < side / 8
    assert 0.9 < (right - left) / side < 1.35
    assert abs(row["roll"]) < 5


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_the_drawings_are_found_wherever_they_are(detect, path):
    with Image.open(path) as face:
        face = face.convert("RGB").resize((120, 120))
    for x, y in ((0, 0), (260, 0), (100, 180), (260, 180)):
        image = Image.new("RGB", (380, 300), (120, 140, 100))
        image.paste(face, (x, y))
        (row,) = detect(np.asarray(image))
        left, top, right, bottom = row["box"]
        assert math.dist(((left + right) / 2, (top + bottom) / 2), (x + 60, y + 60)) < 20
        assert 80 < right - left < 150


@pytest.mark.parametrize("name", PORTRAITS)
@pytest.mark.parametrize("roll", [-60, -30, -15, 15, 30, 60])
def test_a_turned_portrait_is_cut_upright(detect, name, roll):
    """The crop shows what that of the upright portrait shows; without the roll it would not."""
    image = portrait(name)
    turned = image.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
    (row,) = detect(np.asarray(turned))
    assert row["roll"] == pytest.approx(roll, abs=11)
    (upright,), (crop,) = crop_faces(image, detect), crop_faces(turned, detect)
    (lying,) = crop_faces(turned, lambda rgb: [row["box"]])
    assert alike(square(crop), square(upright)) > alike(square(lying), square(upright)) + 0.1
    if abs(roll) <= 30:
        assert alike(square(crop), square(upright)) > 0.6


def test_a_turned_face_gets_the_label_of_the_upright_one():
    predict = fer_zoo.PhotoPredictor(NAME, detector="blazeface")
    for name, label in {"eileen_collins": "happy", "grace_hopper": "neutral"}.items():
        image = portrait(name)
        photos = predict([image.rotate(a, expand=True) for a in (0, -25, 25)])
        assert [[face.label for face in photo.faces] for photo in photos] == [[label]] * 3


def test_small_faces_are_found_with_a_longer_side_each_once():
    """One lies over the corner where four squares meet."""
    rgb = crowd()
    assert len(BlazeFace(longest_side=256)(rgb)) < 6
    rows = BlazeFace(longest_side=1024)(rgb)
    assert len(rows) == 6
    sides = [row["box"][2] - row["box"][0] for row in rows]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("longest_side", [256, 1024])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (9, 9), (257, 256), (600, 4000)])
def test_photographs_of_any_shape_are_searched(longest_side, shape):
    """Nothing is found in a plain one, nor at its border, as where black was set beside white."""
    for level in (0, 255):
        assert BlazeFace(longest_side=longest_side)(np.full((*shape, 3), level, np.uint8)) == []


@pytest.mark.parametrize("length", [1, 256, 257, 384, 512, 700, 1024])
def test_squares_cover_a_length_and_overlap(length):
    places = blazeface._places(length)
    assert places[0] == 0
    assert places[-1] == max(0, length - 256)
    assert all(0 < after - before <= 176 for before, after in pairwise(places))


def test_hits_that_overlap_are_one_face_by_their_scores():
    """A smaller box within a face is none; what lies apart is another."""

    def hit(x: float, y: float, side: float) -> list[list[float]]:
        return [[x, y], [x + side, y + side], *[[x, y]] * 6]

    points = np.array([hit(10, 0, 100), hit(0, 0, 100), hit(20, 20, 30), hit(300, 0, 50)], float)
    one, other = blazeface._merged(points, np.array([0.6, 0.9, 0.7, 0.8]))
    assert one[:2] == pytest.approx(np.array([[4, 0], [104, 100]]))
    assert other[0].tolist() == [300, 0]


def test_the_score_and_the_longest_side_are_checked_and_used(detect):
    rgb = np.asarray(portrait("grace_hopper"))
    assert len(detect(rgb)) == 1
    assert BlazeFace(score=0.99)(rgb) == []
    for wrong in ({"longest_side": 255}, {"score": 0}, {"score": 1}):
        with pytest.raises(ArgumentError, match="longest_side must be 256 or more, score within"):
            BlazeFace(**wrong)


def test_the_photograph_is_left_as_it_is(detect):
    rgb = np.asarray(portrait("grace_hopper")).copy()
    before = rgb.copy()
    detect(rgb)
    assert np.array_equal(rgb, before)


def test_threads_may_share_it(detect):
    images = [np.asarray(portrait(n).rotate(a)) for n in PORTRAITS for a in (0, 20)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detect, images * 3)) == [detect(image) for image in images] * 3


PROGRAM = """
import copy, multiprocessing, os, pickle, sys
import numpy as np
import fer_zoo
from PIL import Image

RGB = np.asarray(Image.open(sys.argv[1]).convert("RGB"))


def ask(predict):
    return [(face.label, face.box) for face in predict(RGB).faces]


if __name__ == "__main__":
    predictors = [fer_zoo.PhotoPredictor("resnet18_025", detector=d) for d in ("haar", "blazeface")]
    expected = [ask(p) for p in predictors]
    assert [len(e) for e in expected] == [1, 1]
    process = os.fork()
    if process == 0:
        os._exit(0 if [ask(p) for p in predictors] == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, "fork after use"
    assert [ask(p) for p in copy.deepcopy(predictors)] == expected, "deepcopy"
    assert [ask(p) for p in pickle.loads(pickle.dumps(predictors))] == expected, "pickle"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(ask, predictors) == expected, "spawn"
    print("done")
"""


@pytest.mark.weekly
def test_predictors_with_a_named_detector_work_in_other_processes(tmp_path: Path):
    """Forked after use, copied, pickled, sent to a fresh process."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    line = [sys.executable, "-W", "ignore", path, ROOT / "examples/photographs/grace_hopper.jpg"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "done\n", done.stdout + done.stderr
    assert done.stderr == ""


def test_settings_are_all_that_is_copied(detect):
    assert deepcopy(detect) == detect == BlazeFace()
    assert hash(detect) == hash(BlazeFace())
    assert repr(detect) == "BlazeFace(longest_side=512, score=0.65)"


def test_names_stand_for_detectors_everywhere():
    image = portrait("grace_hopper")
    default, haar, blaze = (
        [crop.box for crop in crop_faces(image, name)] for name in (None, "haar", "blazeface")
    )
    assert default == haar == [crop.box for crop in crop_faces(image)] != blaze
    photos = fer_zoo.PhotoPredictor(NAME, detector="blazeface")
    assert photos.detector == BlazeFace()
    assert "detector=BlazeFace" in repr(photos)
    assert fer_zoo.PhotoPredictor(NAME, detector="haar").detector == fer_zoo.FaceDetector()


def test_films_search_by_names_too():
    """Each in fewer pixels than a photograph, which is faster."""
    for name in (None, "haar"):
        predict = fer_zoo.VideoPredictor(NAME, detector=name)
        assert predict._photos.detector == fer_zoo.FaceDetector(longest_side=640)
    predict = fer_zoo.VideoPredictor(NAME, detector="blazeface")
    assert predict._photos.detector == BlazeFace(longest_side=256)
    turned = np.asarray(portrait("eileen_collins").rotate(-30))
    film = predict([turned] * 2, progress=False)
    assert [[face.label for face in frame.faces] for frame in film] == [["happy"]] * 2


@pytest.mark.parametrize("name", ["blazefaces", "BLAZEFACE", "", "opencv"])
def test_an_unknown_name_is_told_with_those_that_are_known(name):
    for make in (
        lambda: crop_faces(portrait("grace_hopper"), name),
        lambda: fer_zoo.PhotoPredictor(NAME, detector=name),
        lambda: fer_zoo.VideoPredictor(NAME, detector=name),
    ):
        with pytest.raises(ArgumentError, match=r"inference\.list_detectors\(\) lists all"):
            make()
    with pytest.raises(ArgumentError, match="Did you mean 'blazeface'"):
        crop_faces(portrait("grace_hopper"), "blazefaces")


def test_third_parties_register_theirs(monkeypatch):
    monkeypatch.setattr(detectors.DETECTORS, "_entries", dict(detectors.DETECTORS))
    register_detector("theirs", lambda: lambda rgb: [(10, 10, 50, 50)])
    assert "theirs" in list_detectors()
    (crop,) = crop_faces(torch.zeros(1, 90, 90, dtype=torch.uint8), "theirs")
    assert crop.box == (10, 10, 50, 50)
    with pytest.raises(DuplicateNameError, match="'haar' is already registered"):
        register_detector("haar", fer_zoo.FaceDetector)
    with pytest.raises(ArgumentError, match="a factory is called for a detector"):
        register_detector("none", None)
    register_detector("twice", lambda: fer_zoo.FaceDetector)
    with pytest.raises(ArgumentError, match=r"pass FaceDetector\(\)"):
        crop_faces(portrait("grace_hopper"), "twice")


@pytest.mark.parametrize("version", ["none", "4.6"])
def test_without_opencv_the_message_says_what_to_install(monkeypatch, version):
    monkeypatch.delattr(blazeface.NETS, "back", raising=False)
    fake = None if version == "none" else types.ModuleType("cv2.dnn")
    monkeypatch.setitem(sys.modules, "cv2.dnn", fake)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("blazeface"))):
        BlazeFace()


def test_the_command_line_takes_the_name_and_searches(tmp_path: Path):
    portrait("grace_hopper").rotate(-40, expand=True).save(tmp_path / "turned.png")
    command = cli("predict", tmp_path, "--model", NAME, "--json")
    done = in_this_process([*command, "--detector", "blazeface"])
    assert done.returncode == 0, done.stderr
    assert [face["label"] for face in json.loads(done.stdout)["faces"]] == ["neutral"]
    plain = in_this_process([*command, "--detect"])
    assert json.loads(plain.stdout)["faces"] == []  # the cascade does not find it
    wrong = in_this_process([*command, "--detector", "blazefac"])
    assert wrong.returncode == 2
    assert "Did you mean 'blazeface'? `fer-zoo list` lists all" in wrong.stderr
    assert "detectors  blazeface, haar" in in_this_process(cli("list")).stdout
    listed = json.loads(in_this_process(cli("list", "--json")).stdout)
    assert {"blazeface", "haar"} <= set(listed["detectors"])


def test_watch_takes_the_name(tmp_path: Path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(2):
        portrait("eileen_collins").rotate(30).save(frames / f"{i}.png")
    done = in_this_process(cli("watch", frames, "--detector", "blazeface", "--json"))
    assert done.returncode == 0, done.stderr
    (track,) = json.loads(done.stdout)["tracks"]
    assert track["shares"] == {"happy": 1.0}
    plain = in_this_process(cli("watch", frames, "--json"))
    assert json.loads(plain.stdout)["tracks"] == []
