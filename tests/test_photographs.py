"""Whole photographs: boxes of any detector, cropped as FER2013 was, one list of faces each."""

import inspect
import io
import json
import re
import sys
import threading
import time
import tracemalloc
import types
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import fer_zoo
from conftest import ROOT, cli, in_this_process
from fer_zoo._install import install_command
from fer_zoo.data import FER2013
from fer_zoo.errors import ArgumentError, InputError, MissingDependencyError
from fer_zoo.inference import (
    Photo,
    crop_faces,
    crops,
    detector as detectors,
    photographs,
    predictor,
)
from fer_zoo.transforms import to_gray

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


def faces_of(photo: Photo) -> tuple[fer_zoo.Prediction, ...]:
    assert photo.error is None
    return photo.faces


@pytest.fixture(scope="module")
def predict() -> fer_zoo.PhotoPredictor:
    return fer_zoo.PhotoPredictor(NAME)


@pytest.mark.parametrize(("name", "label"), PORTRAITS.items())
def test_the_portraits_are_found_and_labelled_as_their_crops(predict, name, label):
    """The face that the detector cuts gets nearly the probability of the one cut by hand."""
    (found,) = faces_of(predict(ROOT / f"examples/photographs/{name}.jpg"))
    by_hand = fer_zoo.Predictor(NAME)(FACES / f"{name}.png")
    assert found.label == by_hand.label == label
    assert found.probability == pytest.approx(by_hand.probability, abs=0.15)
    assert found.face.shape == (48, 48)


def test_the_crops_themselves_are_photographs_too(predict):
    found = predict(sorted(FACES.glob("*.png")))
    assert [len(photo.faces) for photo in found] == [1] * 7


def test_it_takes_what_a_predictor_takes():
    """All arguments of the one are arguments of the other, and reach it."""
    both = fer_zoo.Predictor, fer_zoo.PhotoPredictor
    one, other = (inspect.signature(kind).parameters for kind in both)
    assert [name for name in one if other.get(name) != one[name]] == []
    predict = fer_zoo.PhotoPredictor(NAME, views=2)
    assert predict.preset.name == "fer44_mirror"


def test_several_faces_are_one_prediction_each_the_largest_first(predict):
    image = photograph(
        ("drawn_happy.png", 40, 60, 150),
        ("drawn_surprise.png", 380, 200, 220),
        ("drawn_angry.png", 240, 40, 120),
    )
    found = predict(image).faces
    assert [p.label for p in found] == ["surprise", "happy", "angry"]
    centres = [((p.box[0] + p.box[2]) / 2, (p.box[1] + p.box[3]) / 2) for p in found]
    assert centres == [pytest.approx(c, abs=20) for c in ((490, 310), (115, 135), (300, 100))]


def test_a_photograph_without_faces_has_none(predict):
    assert predict(photograph()) == Photo()
    assert predict([photograph(), photograph()]) == [Photo(), Photo()]


def test_many_photographs_keep_their_order_and_their_faces(predict, tmp_path: Path):
    one, two = tmp_path / "one.png", tmp_path / "two.jpg"
    photograph(("drawn_happy.png", 40, 60, 150)).save(one)
    photograph(("drawn_surprise.png", 40, 60, 150), ("drawn_happy.png", 300, 60, 200)).save(two)
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [two, tmp_path / "broken.png", one, photograph(), tmp_path / "none.png"] * 4
    found = predict(files)
    assert [len(photo.faces) for photo in found] == [2, 0, 1, 0, 0] * 4
    assert [p.label for p in found[0].faces] == ["happy", "surprise"]
    assert {found[0].source, *(p.source for p in found[0].faces)} == {str(two)}
    assert "broken.png: cannot be read as an image" in found[1].error
    assert "none.png: no such file" in found[4].error
    with pytest.raises(InputError, match="no such file"):
        predict(tmp_path / "none.png")


def test_a_box_over_the_border_repeats_the_last_pixels():
    image = torch.arange(100, dtype=torch.uint8).reshape(1, 10, 10)
    (crop,) = crop_faces(image, lambda rgb: [(-7, 7, 3, 17)])
    assert crop.box == (-7, 7, 3, 17)
    assert crop.face[0, :4].tolist() == [
        [70] * 7 + [70, 71, 72],
        [80] * 7 + [80, 81, 82],
        *[[90] * 7 + [90, 91, 92]] * 2,
    ]
    assert crop.face[0, 4:].tolist() == [crop.face[0, 3].tolist()] * 6


def test_a_face_at_the_border_of_the_photograph_is_found(predict):
    image = photograph(("drawn_surprise.png", 490, 330, 150))
    (found,) = faces_of(predict(image))
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
    (crop,) = crop_faces(image, lambda rgb: [{"box": (30, 20, 70, 60), "roll": roll}])
    assert crop.face.shape == (1, 40, 40)
    assert np.abs(crop.face[0].numpy().astype(int) - np.asarray(face)).max() <= 1


@pytest.mark.parametrize("roll", [-90, 90])
def test_a_large_face_is_made_smaller_before_it_is_turned(roll):
    """One of 6,000 px took 2.7 GB."""
    smooth = Image.radial_gradient("L").resize((1536, 1536))
    (crop,) = crop_faces(smooth, lambda rgb: [{"box": (0, 0, 1536, 1536), "roll": roll}])
    assert crop.face.shape == (1, 1024, 1024)
    expected = np.asarray(smooth.rotate(roll).resize((1024, 1024), Image.Resampling.BILINEAR), int)
    assert np.abs(crop.face[0].numpy() - expected)[4:-4, 4:-4].max() <= 2


def test_the_exif_rotation_is_applied_before_the_search(predict, tmp_path: Path):
    upright = photograph(("drawn_happy.png", 40, 60, 150))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    (found,), (expected,) = predict(path).faces, predict(upright).faces
    assert found.box == expected.box
    assert found.probabilities == pytest.approx(expected.probabilities)


def test_a_huge_photograph_is_searched_small_and_cropped_from_the_original(predict):
    """8000 x 6000 px, with a face as high as a tenth of it."""
    image = photograph(("drawn_surprise.png", 3000, 2000, 1200), size=(8000, 6000))
    (found,) = faces_of(predict(image))
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
    """As a copy, in which it may write without any harm to the crop or to the caller's image."""
    seen = []

    def detector(rgb):
        seen.append((rgb.dtype, rgb.shape, int(rgb.max())))
        rgb[:] = 0
        return [(40, 60, 190, 210)]

    predict = fer_zoo.PhotoPredictor(NAME, detector=detector)
    image = form(photograph(("drawn_happy.png", 40, 60, 150)))
    before = deepcopy(image)
    (found,) = faces_of(predict(image))
    assert found.label == "happy"
    assert found.box == (40, 60, 190, 210)
    assert seen[0][:2] == (np.uint8, (480, 640, 3))
    assert seen[0][2] > 200
    assert np.array_equal(np.asarray(image), np.asarray(before))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "transparent"]
)
def test_the_crops_gray_is_that_of_the_whole_image_in_every_mode(mode):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
    elif mode == "transparent":
        image = image.convert("P")
        image.info["transparency"] = bytes(range(256))
    else:
        image = image.convert(mode)
    (crop,) = crop_faces(image, lambda rgb: [(0, 0, 600, 600)])
    assert crop.face.dtype == to_gray(image).dtype
    assert torch.equal(crop.face, to_gray(image))


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
        [(-19, 0, 0, 19)],
        [(9, 9, 3, 3)],
        [(-1e5, -1e5, 1e5, 1e5)],
        [(0, 0, 1e19, 1e19)],
        [(-1e300, -1e300, 1e300, 1e300)],
        [(0, 0, 10**400, 9)],
        [torch.zeros(4, 2)],
        [{"box": (1, 2, 30, 40), "score": 0.9}],
        [{"box": (1, 2, 30, 40), "roll": float("inf")}],
        [{"box": 7}],
        ["1234"],
        [{10, 60, 20, 90}],
        [(10 + 1j, 10, 60, 60)],
        np.array([[10, 10, 60, 60]], complex),
        5,
        (10, 10, 60, 60),
    ],
)
def test_what_is_no_box_is_refused(boxes):
    with pytest.raises(ArgumentError, match="the detector returned"):
        crop_faces(photograph(), lambda rgb: boxes)


@pytest.mark.parametrize(
    "boxes",
    [
        torch.tensor([[10.0, 10, 60, 60]], dtype=torch.bfloat16),
        [{"box": torch.tensor([10.0, 10, 60, 60], dtype=torch.bfloat16)}],
        [[np.float16(10), 10, np.int8(60), torch.tensor(60)]],
    ],
)
def test_boxes_are_numbers_of_any_kind(boxes):
    (found,) = crop_faces(photograph(), lambda rgb: boxes)
    (expected,) = crop_faces(photograph(), lambda rgb: [(10, 10, 60, 60)])
    assert found.box == expected.box


@pytest.mark.parametrize("box", [[10, 10, 60, 60, 0.98], (10, 10, 60, 60, 0.98, 0)])
def test_a_fifth_number_may_be_a_score_and_is_refused(box):
    with pytest.raises(ArgumentError, match=r"keep the first four, box\[:4\].*'roll': degrees"):
        crop_faces(photograph(), lambda rgb: np.array([box]))


@pytest.mark.parametrize(
    "box", [(0.2, 0.3, 0.5, 0.6), (0, 0, 1, 1), (-0.04, 0.1, 0.9, 1.1), (0.99, 0.99, 1.0, 1.0)]
)
def test_shares_of_the_photograph_are_refused_with_how_to_scale_them(box):
    """As mediapipe and YOLO give them; a crop of one pixel would be labelled."""
    with pytest.raises(ArgumentError, match=r"shares .*: multiply left and right by its width"):
        crop_faces(photograph(), lambda rgb: [box])
    (photo,) = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [box])([photograph()])
    assert "shares of the photograph" in photo.error


def test_a_box_under_ten_pixels_is_no_face():
    boxes = [(0, 0, 9, 9), (100, 100, 101, 101), (0, 0, 2, 2), (50, 50, 60, 59), (50, 50, 60, 60)]
    found = crop_faces(photograph(), lambda rgb: boxes, margin=1)
    assert [crop.box for crop in found] == [(40, 40, 70, 70)]


def test_a_crop_that_shows_nothing_has_an_error_of_its_own(tmp_path: Path):
    photograph(("drawn_happy.png", 40, 60, 150)).save(tmp_path / "a.png")
    boxes = [(300, 200, 400, 300), (40, 60, 190, 210)]
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: boxes)
    photo = predict(tmp_path / "a.png")
    wall, face = photo.faces
    assert (photo.error, face.error, face.label) == (None, None, "happy")
    assert (wall.label, wall.probabilities, wall.box) == (None, {}, boxes[0])
    assert "a.png: shows nothing" in wall.error
    rows = fer_zoo.inference.Photos([photo]).to_dicts()
    assert [row["label"] for row in rows] == [None, "happy"]


def test_a_box_up_to_twice_the_photograph_is_cut():
    (crop,) = crop_faces(photograph(), lambda rgb: [(-640, -640, 640, 640)])
    assert crop.face.shape == (1, 1280, 1280)


def test_a_box_that_is_none_is_the_error_of_its_photograph_alone(tmp_path: Path):
    """In lists and streams; alone, it is raised. Each message says which photograph it was."""
    files = [tmp_path / f"{name}.png" for name in ("good", "outside", "reversed", "five", "last")]
    boxes = {
        "good": [(40, 60, 190, 210)],
        "outside": [(40, 60, 190, 210), (900, 60, 990, 210)],
        "reversed": [(60, 60, 10, 10)],
        "five": 5,
        "last": [],
    }
    for level, file in enumerate(files):
        Image.new("L", (640, 480), level).save(file)
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: list(boxes.values())[rgb[0, 0, 0]])
    found = predict(files)
    assert [photo.error is None for photo in found] == [True, False, False, False, True]
    assert [len(photo.faces) for photo in found] == [1, 0, 0, 0, 0]
    for file, photo in zip(files[1:4], found[1:4], strict=True):
        assert photo.error.startswith(f"{file}: the detector returned")
        assert photo.source == str(file)
        with pytest.raises(InputError, match=f"{file.stem}.png: the detector returned"):
            predict(file)
    arrays = predict([np.asarray(Image.open(f)) for f in files])
    assert [photo.error and photo.error[:22] for photo in arrays[1:4]] == [
        "the detector returned "
    ] * 3


def test_a_detector_that_raises_ends_no_run(tmp_path: Path, caplog):
    """Its own traceback is in the log of level INFO."""
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for level, file in enumerate(files):
        Image.new("L", (64, 48), level).save(file)

    def detector(rgb):
        if rgb[0, 0, 0] == 1:
            raise ZeroDivisionError("no ground")
        return []

    predict = fer_zoo.PhotoPredictor(NAME, detector=detector)
    with caplog.at_level("INFO", "fer_zoo.inference"):
        errors = [photo.error for photo in predict(files)]
    says = "the detector raised ZeroDivisionError: no ground"
    assert errors == [None, f"{files[1]}: {says}", None]
    assert "in detector" in caplog.text
    with pytest.raises(InputError, match=f"1.png: {says}"):
        predict(files[1])
    assert [photo.error for photo in predict.stream([np.full((48, 64, 3), 1, np.uint8)])] == [says]


def test_the_detector_is_called_in_order_in_the_callers_thread_never_twice_at_once():
    """So it may keep a state, need not bear threads, and the caller's `torch.no_grad` holds."""
    here, busy, order = threading.get_ident(), threading.Lock(), []

    def detector(rgb):
        assert busy.acquire(blocking=False)
        assert threading.get_ident() == here
        assert not torch.is_grad_enabled()
        time.sleep(0.002 if rgb[0, 0, 0] % 2 else 0)
        order.append(int(rgb[0, 0, 0]))
        busy.release()
        return [(0, 0, 20, 20)]

    predict = fer_zoo.PhotoPredictor(NAME, detector=detector)
    with torch.no_grad():
        assert len(predict([np.full((30, 30, 3), n, np.uint8) for n in range(20)])) == 20
    assert order == list(range(20))


def test_the_ready_detector_may_be_called_by_the_threads_of_a_server():
    detect = fer_zoo.FaceDetector()
    images = [np.asarray(opened(f).resize((s, s))) for f in FACES.glob("*.png") for s in (96, 192)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detect, images * 3)) == [detect(image) for image in images] * 3


def test_the_settings_of_the_ready_detector_are_used():
    rgb = np.asarray(photograph(("drawn_happy.png", 40, 60, 150)))
    assert len(fer_zoo.FaceDetector()(rgb)) == 1
    assert fer_zoo.FaceDetector(longest_side=60)(rgb) == []  # where the face has 14 px
    assert fer_zoo.FaceDetector(neighbours=1000)(rgb) == []


def test_a_damaged_pil_image_is_one_error():
    file = io.BytesIO()
    photograph(("drawn_happy.png", 40, 60, 150)).save(file, "jpeg", quality=95)
    cut = Image.open(io.BytesIO(file.getvalue()[:5000]))
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [(40, 60, 190, 210)])
    damaged, good = predict([cut, Image.open(file)])
    assert "cannot be read as an image (image file is truncated" in damaged.error
    assert good.faces[0].label == "happy"


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_broken_exif_is_taken_as_none(form, tmp_path: Path):
    path = tmp_path / f"exif.{form}"
    photograph(("drawn_happy.png", 40, 60, 150)).save(path, exif=b"Exif\0\0garbage")
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [(40, 60, 190, 210)])
    with Image.open(path) as image:
        assert [photo.faces[0].label for photo in predict([path, image])] == ["happy"] * 2


def test_what_is_no_image_is_one_error_among_faces(predict):
    found = predict([np.float32(1), photograph(("drawn_happy.png", 40, 60, 150))])
    assert "got float32" in found[0].error
    assert found[1].faces[0].label == "happy"


def test_a_file_of_ambiguous_depth_is_refused_by_its_name(tmp_path: Path):
    Image.fromarray(np.full((9, 9), 200, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(InputError, match=r"deep.tif: 16 bits that go up to 200 may be 8, 10"):
        crop_faces(tmp_path / "deep.tif", lambda rgb: [])


def test_what_pillow_thinks_too_large_is_read_or_the_error_says_what_to_do(monkeypatch, tmp_path):
    path = tmp_path / "large.png"
    photograph(("drawn_happy.png", 40, 60, 150)).save(path)
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [(40, 60, 190, 210)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)  # of 307,200: Pillow only warns
    assert predict([path])[0].faces[0].label == "happy"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(InputError, match=r"large.png: .* set PIL.Image.MAX_IMAGE_PIXELS = None"):
        predict(path)


@pytest.mark.parametrize("deep", [False, True])
def test_more_pixels_than_a_photograph_may_have_are_not_decoded(monkeypatch, tmp_path: Path, deep):
    path, pixels = tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (50, 60))
    Image.fromarray((257 * pixels).astype(np.uint16) if deep else pixels.astype(np.uint8)).save(
        path
    )
    most = 6000 if deep else 3000
    monkeypatch.setattr(crops, "MOST_PIXELS", most - 1)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
        with pytest.raises(InputError, match=r"a.png: 60x50 px.*raise .*crops.MOST_PIXELS"):
            crop_faces(path, lambda rgb: [])
        (photo,) = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [])([path])
        assert "crops.MOST_PIXELS" in photo.error
    monkeypatch.setattr(crops, "MOST_PIXELS", most)
    assert crop_faces(path, lambda rgb: []) == []


def test_what_is_read_ahead_is_bounded_by_pixels_and_by_number(monkeypatch):
    """When a photograph is searched, few after it were asked for; a large one is read alone."""
    asked, lead = [], []

    def images():
        for n in range(12):
            asked.append(n)
            yield np.full((10, 10), n, np.uint8)

    def detector(rgb):
        lead.append(len(asked) - 1 - int(rgb[0, 0, 0]))
        return []

    predict = fer_zoo.PhotoPredictor(NAME, detector=detector)
    assert len(list(predict.stream(images()))) == 12
    assert 1 < max(lead) <= photographs.DECODERS
    asked.clear()
    lead.clear()
    monkeypatch.setattr(photographs, "AHEAD", 150)
    assert len(list(predict.stream(images()))) == 12
    assert max(lead) == 1


def test_what_is_large_is_read_alone_in_the_callers_thread(monkeypatch, tmp_path: Path):
    """Faces and photographs; memory that one thread gave back is not all there for the others."""
    for n in range(4):
        photograph(("drawn_happy.png", 40, 60, 150)).save(tmp_path / f"{n}.png")
    where = []

    def noting(function):
        def run(*args, **kwargs):
            where.append(threading.current_thread() is threading.main_thread())
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(photographs, "read_pixels", noting(photographs.read_pixels))
    monkeypatch.setattr(predictor, "read_face", noting(predictor.read_face))
    pixels = 640 * 480
    faces, photos = fer_zoo.Predictor(NAME), fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [])
    for most, alone in ((2 * pixels, False), (pixels - 1, True)):
        monkeypatch.setattr(photographs, "AHEAD", most)
        monkeypatch.setattr(predictor, "LARGE", most)
        for predict in (faces, photos):
            where.clear()
            assert [found.error for found in predict(tmp_path)] == [None] * 4
            assert where == [alone] * 4


def test_a_photograph_costs_what_the_comment_says(tmp_path: Path):
    """Beside Pillow's own 4 bytes for each pixel: 3 of RGB and 1 of gray, and a few rows."""
    path = tmp_path / "large.jpg"
    Image.new("RGB", (3000, 4000), (90, 120, 60)).save(path)
    crop_faces(path, lambda rgb: [])
    tracemalloc.start()
    crop_faces(path, lambda rgb: [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4 < peak / 12e6 < 5


def test_contradicting_arguments_are_refused():
    for make in (
        lambda detector: fer_zoo.PhotoPredictor(NAME, detector=detector),
        lambda detector: crop_faces(photograph(), detector),
    ):
        with pytest.raises(ArgumentError, match="must be callable"):
            make("opencv")
        with pytest.raises(ArgumentError, match=r"must be callable.*pass FaceDetector\(\)"):
            make(fer_zoo.FaceDetector)
    with pytest.raises(ArgumentError, match="longest_side"):
        fer_zoo.FaceDetector(longest_side=3)


@pytest.mark.parametrize("margin", [-0.6, 2.1, float("nan"), "a", None])
def test_a_margin_that_is_no_share_is_refused_alike(margin):
    message = "margin must be a number from 0 to 2"
    with pytest.raises(ArgumentError, match=message):
        crop_faces(photograph(), lambda rgb: [(10, 10, 60, 60)], margin=margin)
    with pytest.raises(ArgumentError, match=message):
        fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [], margin=margin)


def test_the_margin_of_a_predictor_widens_the_boxes():
    predict = fer_zoo.PhotoPredictor(NAME, detector=lambda rgb: [(50, 60, 100, 110)], margin=0.1)
    assert [p.box for p in predict(photograph()).faces] == [(45, 55, 105, 115)]


@pytest.mark.parametrize("version", ["none", "5"])
def test_without_the_extra_the_message_says_what_to_install(monkeypatch, version):
    monkeypatch.delattr(detectors.CASCADES, "frontal", raising=False)
    fake = None if version == "none" else types.ModuleType("cv2")  # OpenCV 5 has no cascades
    monkeypatch.setitem(sys.modules, "cv2", fake)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("detect"))):
        fer_zoo.FaceDetector()


def test_the_command_line_labels_every_face_of_photographs(tmp_path: Path):
    two = tmp_path / "two.png"
    photograph(("drawn_surprise.png", 40, 60, 150), ("drawn_happy.png", 300, 60, 200)).save(two)
    photograph().save(tmp_path / "none.png")
    command = cli("predict", tmp_path, "--detect", "--model", NAME)
    done = in_this_process([*command, "--json"])
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(Path(x["source"]).name, len(x["faces"])) for x in lines] == [
        ("none.png", 0),
        ("two.png", 2),
    ]
    assert [face["label"] for face in lines[1]["faces"]] == ["happy", "surprise"]
    shown = in_this_process(command)
    assert f"no face in {tmp_path / 'none.png'}" in shown.stderr
    assert shown.stdout.count(" %") == 2


def test_the_command_line_counts_photographs_that_cannot_be_used(tmp_path: Path):
    photograph(("drawn_happy.png", 40, 60, 150)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    command = cli("predict", tmp_path, "--detect", "--model", NAME, "--json")
    done = in_this_process(command)
    assert done.returncode == 1
    assert "1 of 2 files could not be used" in done.stderr
    broken, good = (json.loads(line) for line in done.stdout.splitlines())
    assert "cannot be read as an image" in broken["error"]
    assert broken["faces"] == []
    assert (good["error"], len(good["faces"])) == (None, 1)


@pytest.mark.real_data
@pytest.mark.slow
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
