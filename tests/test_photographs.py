"""Whole photographs: boxes of any detector, cropped as FER2013 was, one list of faces each."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import ROOT, cli
from fer_zoo.data import FER2013
from fer_zoo.errors import ArgumentError, InputError, MissingDependencyError
from fer_zoo.inference import crop_faces

FACES = ROOT / "examples/faces"
PORTRAITS = {"eileen_collins": "happy", "grace_hopper": "neutral"}
NAME = "resnet18_025"


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def photograph(*places: tuple[str, int, int, int], size=(640, 480), background=120) -> Image.Image:
    """Return a photograph with faces of examples/faces: file, left, top, and side in px."""
    image = Image.new("RGB", size, (background, background + 20, background - 20))
    for name, left, top, side in places:
        image.paste(opened(FACES / name).resize((side, side)), (left, top))
    return image


@pytest.fixture(scope="module")
def predict() -> fer_zoo.Predictor:
    return fer_zoo.Predictor(NAME, detector=fer_zoo.FaceDetector())


@pytest.mark.parametrize(("name", "label"), PORTRAITS.items())
def test_the_portraits_are_found_and_labelled_as_their_crops(predict, name, label):
    """The face that the detector cuts gets nearly the probability of the one cut by hand."""
    (found,) = predict(ROOT / f"examples/photographs/{name}.jpg")
    by_hand = fer_zoo.Predictor(NAME)(FACES / f"{name}.png")
    assert found.label == by_hand.label == label
    assert found.score == pytest.approx(by_hand.score, abs=0.15)
    assert found.face.shape == (48, 48)


def test_the_crops_themselves_are_photographs_too(predict):
    found = predict(sorted(FACES.glob("*.png")))
    assert [len(faces) for faces in found] == [1] * 7


def test_several_faces_are_one_prediction_each_the_largest_first(predict):
    image = photograph(
        ("drawn_happy.png", 40, 60, 150),
        ("drawn_surprise.png", 380, 200, 220),
        ("drawn_sad.png", 240, 40, 120),
    )
    found = predict(image)
    assert [p.label for p in found] == ["surprise", "happy", "sad"]
    centres = [((p.box[0] + p.box[2]) / 2, (p.box[1] + p.box[3]) / 2) for p in found]
    assert centres == [pytest.approx(c, abs=20) for c in ((490, 310), (115, 135), (300, 100))]


def test_a_photograph_without_faces_is_an_empty_list(predict):
    assert predict(photograph()) == []
    assert predict([photograph(), photograph()]) == [[], []]


def test_many_photographs_keep_their_order_and_their_faces(predict, tmp_path: Path):
    one, two = tmp_path / "one.png", tmp_path / "two.jpg"
    photograph(("drawn_happy.png", 40, 60, 150)).save(one)
    photograph(("drawn_sad.png", 40, 60, 150), ("drawn_happy.png", 300, 60, 200)).save(two)
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [two, tmp_path / "broken.png", one, photograph(), tmp_path / "none.png"] * 4
    found = predict(files)
    assert [len(faces) for faces in found] == [2, 1, 1, 0, 1] * 4
    assert [p.label for p in found[0]] == ["happy", "sad"]
    assert {p.source for p in found[0]} == {str(two)}
    assert "broken.png: cannot be read as an image" in found[1][0].error
    assert "none.png: no such file" in found[4][0].error
    with pytest.raises(InputError, match="no such file"):
        predict(tmp_path / "none.png")


def test_a_box_over_the_border_repeats_the_last_pixels():
    image = torch.arange(100, dtype=torch.uint8).reshape(1, 10, 10)
    (crop,) = crop_faces(image, lambda rgb: [(-2, 7, 3, 12)])
    assert crop.box == (-2, 7, 3, 12)
    assert crop.face[0].tolist() == [
        [70, 70, 70, 71, 72],
        [80, 80, 80, 81, 82],
        [90, 90, 90, 91, 92],
        [90, 90, 90, 91, 92],
        [90, 90, 90, 91, 92],
    ]


def test_a_face_at_the_border_of_the_photograph_is_found(predict):
    image = photograph(("drawn_surprise.png", 490, 330, 150))
    (found,) = predict(image)
    assert found.label == "surprise"


def test_the_margin_is_a_share_of_the_side_all_round():
    image = torch.zeros(1, 200, 200, dtype=torch.uint8)
    box = [(50, 60, 90, 110)]
    assert crop_faces(image, lambda rgb: box)[0].box == (45, 60, 95, 110)
    assert crop_faces(image, lambda rgb: box, margin=0.1)[0].box == (40, 55, 100, 115)


@pytest.mark.parametrize("roll", [-90, 90])
def test_a_roll_is_turned_back(roll):
    """By a right angle, which Pillow turns without resampling."""
    face = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    image = Image.new("L", (100, 100))
    image.paste(face.rotate(-roll), (30, 20))
    (crop,) = crop_faces(image, lambda rgb: [(30, 20, 70, 60, roll)])
    assert crop.face.shape == (1, 40, 40)
    assert np.abs(crop.face[0].numpy().astype(int) - np.asarray(face)).max() <= 1


def test_the_exif_rotation_is_applied_before_the_search(predict, tmp_path: Path):
    upright = photograph(("drawn_happy.png", 40, 60, 150))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    (found,), (expected,) = predict(path), predict(upright)
    assert found.box == expected.box
    assert found.probabilities == pytest.approx(expected.probabilities)


def test_a_huge_photograph_is_searched_small_and_cropped_from_the_original(predict):
    """8000 x 6000 px, with a face as high as a tenth of it."""
    image = photograph(("drawn_surprise.png", 3000, 2000, 1200), size=(8000, 6000))
    (found,) = predict(image)
    assert found.label == "surprise"
    (crop,) = crop_faces(image, predict.detector)
    assert crop.face.shape[-1] == crop.box[2] - crop.box[0]
    assert 700 < crop.face.shape[-1] < 1500


@pytest.mark.parametrize(
    "form",
    [
        lambda i: i,
        np.asarray,
        lambda i: np.asarray(i) / 255,
        lambda i: torch.from_numpy(np.array(i)).permute(2, 0, 1),
        lambda i: i.convert("L"),
        lambda i: i.convert("P"),
    ],
    ids=["pil", "array", "float array", "tensor", "gray", "palette"],
)
def test_the_detector_sees_upright_rgb_of_any_form(form):
    seen = []

    def detector(rgb):
        seen.append(rgb)
        return [(40, 60, 190, 210)]

    predict = fer_zoo.Predictor(NAME, detector=detector)
    (found,) = predict(form(photograph(("drawn_happy.png", 40, 60, 150))))
    assert found.label == "happy"
    assert found.box == (40, 60, 190, 210)
    assert seen[0].dtype == np.uint8
    assert seen[0].shape == (480, 640, 3)


@pytest.mark.parametrize("boxes", [None, [], np.empty((0, 4)), torch.empty(0, 4)])
def test_no_box_in_any_form_is_no_face(boxes):
    assert crop_faces(photograph(), lambda rgb: boxes) == []


@pytest.mark.parametrize(
    "boxes",
    [
        [(1, 2, 3)],
        [("a", 2, 3, 4)],
        [7],
        [(5, 5, 5, 9)],
        [(0, 0, float("nan"), 9)],
        [(-9, 0, 0, 9)],
    ],
)
def test_what_is_no_box_is_refused(boxes):
    with pytest.raises(ArgumentError, match="the detector returned"):
        crop_faces(photograph(), lambda rgb: boxes)


def test_contradicting_arguments_are_refused():
    with pytest.raises(ArgumentError, match="margin is for detector="):
        fer_zoo.Predictor(NAME, margin=0.1)
    with pytest.raises(ArgumentError, match="must be callable"):
        fer_zoo.Predictor(NAME, detector="opencv")
    with pytest.raises(ArgumentError, match="longest_side"):
        fer_zoo.FaceDetector(longest_side=3)


@pytest.mark.parametrize("version", ["none", "5"])
def test_without_the_extra_the_message_says_what_to_install(monkeypatch, version):
    monkeypatch.delattr(fer_zoo.inference.photographs.CASCADES, "frontal", raising=False)
    fake = None if version == "none" else types.ModuleType("cv2")  # OpenCV 5 has no cascades
    monkeypatch.setitem(sys.modules, "cv2", fake)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fer-zoo\[detect\]'"):
        fer_zoo.FaceDetector()


def test_the_command_line_labels_every_face_of_photographs(tmp_path: Path):
    two = tmp_path / "two.png"
    photograph(("drawn_sad.png", 40, 60, 150), ("drawn_happy.png", 300, 60, 200)).save(two)
    photograph().save(tmp_path / "none.png")
    command = cli("predict", tmp_path, "--detect", "--model", NAME)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(Path(x["source"]).name, len(x["faces"])) for x in lines] == [
        ("none.png", 0),
        ("two.png", 2),
    ]
    assert [face["label"] for face in lines[1]["faces"]] == ["happy", "sad"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert f"no face in {tmp_path / 'none.png'}" in shown.stderr
    assert shown.stdout.count(" %") == 2


@pytest.mark.real_data
def test_fer2013_is_cropped_like_the_detectors_boxes(fer2013_root: Path):
    """The claim that the margin is nought: its boxes on FER2013's images are the images."""
    faces = FER2013(fer2013_root, "public").subset(150).images
    detect, sides, centres = fer_zoo.FaceDetector(), [], []
    for face in faces.numpy():
        big = np.asarray(Image.fromarray(face).resize((192, 192), Image.Resampling.BICUBIC))
        rgb = np.pad(big, ((96, 96), (96, 96)), mode="edge")[..., None].repeat(3, 2)
        for left, top, right, bottom in detect(rgb)[:1]:
            sides.append((right - left) / 4)
            centres.append(((left + right) / 8 - 24, (top + bottom) / 8 - 24))
    assert len(sides) > 75
    assert np.median(sides) == pytest.approx(48, abs=2)
    assert np.median(centres, axis=0) == pytest.approx((24, 24), abs=1)
