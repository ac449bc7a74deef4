"""Corruptions are what they say, the same every time; the figures are those of evaluate."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import ROOT, stripes
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, UnknownNameError
from fer_zoo.evaluation import CORRUPTIONS, robustness
from fer_zoo.plots import contact_sheet

every = pytest.mark.parametrize("name", CORRUPTIONS)


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """The drawn and photographed faces of the examples, as FER2013 has its faces."""
    files = sorted((ROOT / "examples" / "faces").glob("*.png"))
    squares = [Image.open(path).convert("L").resize((48, 48)) for path in files]
    return torch.stack([torch.from_numpy(np.array(square)) for square in squares])


@pytest.fixture
def model() -> fer_zoo.models.Classifier:
    """A tiny network of three classes, as if it were trained."""
    made = fer_zoo.create("test_tiny", num_classes=3).eval()
    made.labels = ("upright", "flat", "slanted")
    return made


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.float() - b.float()).square().mean((1, 2)).sqrt()


@every
def test_each_changes_every_face_and_only_its_pixels(name, faces):
    before = faces.clone()
    for severity in range(1, 6):
        found = CORRUPTIONS[name](faces, severity)
        assert (found.dtype, found.shape) == (torch.uint8, faces.shape)
        assert (found != faces).flatten(1).any(1).all()
    assert torch.equal(faces, before)


@every
def test_each_is_the_same_every_time_and_for_every_batch(name, faces):
    torch.manual_seed(1)
    first = CORRUPTIONS[name](faces, 3)
    torch.manual_seed(2)
    assert torch.equal(CORRUPTIONS[name](faces, 3), first)
    assert torch.equal(CORRUPTIONS[name](faces[:2], 3), first[:2])


@every
def test_severities_lead_away_from_the_face(name, faces):
    apart = [distance(CORRUPTIONS[name](faces, s), faces).mean() for s in (1, 2, 3, 4, 5)]
    assert all(a < b for a, b in pairwise(apart)), apart


@every
def test_other_sizes_are_corrupted_alike(name, faces):
    tall = torch.nn.functional.interpolate(faces[:, None].float(), (120, 96))[:, 0].byte()
    found = CORRUPTIONS[name](tall, 5)
    assert found.shape == tall.shape
    assert (found != tall).flatten(1).any(1).all()
    assert CORRUPTIONS[name](faces[:0], 1).shape == (0, 48, 48)


@pytest.mark.parametrize(("name", "wide", "row"), [("eyes", 36, 17), ("mouth", 26, 38)])
@pytest.mark.parametrize(("severity", "high"), [*enumerate((4, 7, 10, 13, 16), 1)])
def test_bars_are_as_high_and_as_wide_as_documented(name, wide, row, severity, high):
    """About the row and column 24, to half a pixel; twice as large in faces twice as large."""
    corruption = CORRUPTIONS[f"occlude_{name}"]
    assert corruption.severities[severity - 1] == high
    for times in (1, 2, 3):
        ramp = torch.arange(48 * times).repeat(48 * times, 1)
        face = (3 * (ramp % 2) + 100 * (ramp < 24 * times)).byte()[None]
        changed = corruption(face, severity)[0] != face[0]
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        assert (len(rows), len(columns)) == (high * times, wide * times)
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert abs(float(rows.double().mean()) + 0.5 - row * times) <= 0.5
        assert float(columns.double().mean()) + 0.5 == 24 * times


def test_bars_cover_what_they_say(faces):
    """Rows 12 to 21 and columns 6 to 41 are the eyes; the rest stays."""
    changed = (CORRUPTIONS["occlude_eyes"](faces, 3) != faces).any(0)
    assert changed[12:22, 6:42].all()
    changed[12:22, 6:42] = False
    assert not changed.any()
    mouth = (CORRUPTIONS["occlude_mouth"](faces, 1) != faces).any(0)
    assert mouth[36:40, 11:37].all()
    assert mouth.sum() == 4 * 26
    half = CORRUPTIONS["occlude_half"](faces, 5)
    assert torch.equal(half[..., 24:], faces[..., 24:])
    assert torch.equal(half[0, :, :24].unique(), faces[0].float().mean().round().byte()[None])


def test_arithmetic_against_numpy(faces):
    bright = CORRUPTIONS["brighten"](faces, 3)
    assert torch.equal(bright, (faces.int() * 2).clamp(max=255).byte())
    turned = CORRUPTIONS["rotate"](faces, 4)
    expected = Image.fromarray(faces[0].numpy()).rotate(45, Image.Resampling.BILINEAR)
    inner = (slice(12, 36), slice(12, 36))
    assert np.abs(turned[0][inner].int().numpy() - np.array(expected, int)[inner]).mean() < 3
    gray = torch.full((40, 48, 48), 128, dtype=torch.uint8)
    noise = CORRUPTIONS["noise"](gray, 2).float() - 128
    assert float(noise.std()) == pytest.approx(16, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.2)
    assert not torch.equal(noise[0], noise[1])


def test_what_cannot_be_corrupted_is_refused(faces):
    for severity in (0, 6, 2.5):
        with pytest.raises(ArgumentError, match="severity must be 1 to 5"):
            CORRUPTIONS["blur"](faces, severity)
    with pytest.raises(ArgumentError, match="uint8"):
        CORRUPTIONS["blur"](faces.float(), 1)


def test_figures_are_those_of_evaluate_on_corrupted_faces(model):
    data = stripes(60, split="public")
    found = robustness(model, data, corruptions=["rotate", "darken"], severities=[2, 5])
    for name, accuracies in found.accuracy.items():
        for severity, accuracy in zip((2, 5), accuracies, strict=True):
            corrupted = FaceDataset(
                CORRUPTIONS[name](data.images, severity),
                data.targets,
                labels=data.labels,
                name="corrupted",
            )
            assert accuracy == fer_zoo.evaluate(model, corrupted).accuracy
    clean = fer_zoo.evaluate(model, data)
    assert found.clean == clean
    assert found.mean["rotate"] == pytest.approx(np.mean(found.accuracy["rotate"]))
    assert found.overall == pytest.approx(np.mean(list(found.accuracy.values())))
    assert found.to_dict()["clean"]["faces"]["split"] == "public"


def test_labels_are_mapped_by_name(model):
    """A dataset that names its classes in another order gives the same figures."""
    data = stripes(60)
    other = FaceDataset(
        data.images, 2 - data.targets, labels=data.labels[::-1], name="stripes, the other way"
    )
    a, b = (robustness(model, d, corruptions=["blur"]).accuracy for d in (data, other))
    assert a == b
    with pytest.raises(LabelError):
        robustness(fer_zoo.create("test_tiny", num_classes=3), data)


def test_markdown_has_a_row_for_each(model):
    text = robustness(model, stripes(9), severities=[1]).to_markdown()
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:-1]] == list(CORRUPTIONS)
    assert "4 px high, a bar 36 px wide over the eyes" in text


def test_unusable_choices_are_refused(model):
    with pytest.raises(UnknownNameError, match="unknown corruption 'fog'"):
        robustness(model, stripes(9), corruptions=["fog"])
    for choice in ({"severities": [0, 1]}, {"severities": []}, {"corruptions": []}):
        with pytest.raises(ArgumentError, match=r"some of 1 to 5|corruptions is a name"):
            robustness(model, stripes(9), **choice)


@pytest.mark.slow
def test_the_plot_shows_each_result(model, tmp_path):
    results = [robustness(model, stripes(9), severities=[1, 3]) for _ in range(2)]
    figure = fer_zoo.plots.robustness(results)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(CORRUPTIONS)
    assert all(len(axes.lines) == 4 for axes in shown)
    assert shown[8].lines[0].get_ydata() == pytest.approx([100 * results[0].clean.accuracy] * 2)
    assert results[0].clean.accuracy > 0
    expected = [100 * share for share in results[0].accuracy["noise"]]
    assert shown[8].lines[1].get_ydata() == pytest.approx(expected)
    figure.savefig(tmp_path / "a.png")
    fewer = robustness(model, stripes(9), corruptions=["blur"])
    for wrong in ([], [results[0], fewer]):
        with pytest.raises(ArgumentError, match="same corruptions"):
            fer_zoo.plots.robustness(wrong)


def test_sheets_show_each_face_with_its_caption(faces, tmp_path):
    sheet = contact_sheet(faces, [f"{i}_x" for i in range(7)], title="a_b", columns=4)
    assert [axes.get_xlabel() for axes in sheet.axes] == [f"{i}_x" for i in range(7)]
    assert np.array_equal(sheet.axes[2].images[0].get_array(), faces[2].numpy())
    sheet.savefig(tmp_path / "sheet.png")
    for images, captions in ((faces[:0], []), (faces, ["one"]), (faces.float(), [""] * 7)):
        with pytest.raises(ArgumentError):
            contact_sheet(images, captions)


@pytest.mark.real_data
@pytest.mark.slow
def test_trained_weights_lose_under_corruption(real_public: FER2013):
    """Covering eyes or mouth, or blur by 3 px, costs over ten points; the mildest blur little."""
    model = fer_zoo.create("resnet18_025", weights="default")
    names = ["occlude_eyes", "occlude_mouth", "blur"]
    found = robustness(model, real_public.subset(300), corruptions=names, severities=[1, 5])
    assert found.clean.accuracy > 0.55
    assert found.accuracy["blur"][0] > found.clean.accuracy - 0.1
    assert all(high < found.clean.accuracy - 0.1 for _, high in found.accuracy.values())


def test_a_corruption_that_is_none_is_told(labelled, monkeypatch):
    images = torch.randint(0, 256, (7, 48, 48), dtype=torch.uint8)
    faces = FaceDataset(images, torch.arange(7), labels=labelled.labels, name="noise")
    kept = images.clone()
    for wrong in (lambda x, _: x[:1], lambda x, _: x.float(), lambda x, _: None):
        monkeypatch.setitem(CORRUPTIONS._entries, "wrong", wrong)
        with pytest.raises(ArgumentError, match="'wrong' must return uint8"):
            fer_zoo.robustness(labelled, faces, corruptions=["wrong"], severities=[1])
    monkeypatch.setitem(CORRUPTIONS._entries, "in place", lambda x, _: x.mul_(0))
    fer_zoo.robustness(labelled, faces, corruptions=["in place"], severities=[1])
    assert torch.equal(faces.images, kept)
