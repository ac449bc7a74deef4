"""What notebooks and terminals show: predictions as HTML, results as lines, fusions as figures."""

import base64
import dataclasses
import pickle
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import stripes
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Evidence, Faces, Training
from fer_zoo.inference import crop_faces
from fer_zoo.inference.prediction import SHOWN, Photo, Photos, Prediction, Predictions

FACE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
TWO = {"calm": 0.25, "<tense>": 0.75}


def test_a_prediction_is_drawn_as_the_face_and_a_bar_for_each_class():
    prediction = fer_zoo.Predictor("resnet18_025")(FACE)
    shown = prediction._repr_html_()
    (picture,) = re.findall(r"data:image/png;base64,([^\"]+)", shown)
    with Image.open(BytesIO(base64.b64decode(picture))) as image:
        assert np.array_equal(np.asarray(image), FACE)
    widths = [float(w) for w in re.findall(r"width:([0-9.]+)%;height", shown)]
    assert widths == pytest.approx([100 * p for p in prediction.probabilities.values()], abs=0.05)
    assert shown.count("#0072b2") == 1


def test_names_in_the_html_are_escaped():
    shown = Prediction(
        label="<tense>", probability=0.75, probabilities=TWO, source="<b>.png"
    )._repr_html_()
    assert "&lt;tense&gt;" in shown
    assert "<tense>" not in shown
    assert "<b>" not in shown
    assert "&lt;i&gt;" in Prediction(error="<i>")._repr_html_()


def test_many_predictions_are_counted_and_photographs_flattened():
    one = Prediction(label="calm", probability=0.75, probabilities=TWO)
    shown = Predictions([one] * (SHOWN + 3))._repr_html_()
    assert shown.count("<table") == SHOWN
    assert "and 3 more" in shown
    assert Photos([Photo(faces=(one, one)), Photo()])._repr_html_().count("<tab") == 2
    assert fer_zoo.Predictor("resnet18_025")([FACE])._repr_html_().count("<table") == 1


def test_a_prediction_is_one_line_and_plain_values():
    prediction = fer_zoo.Predictor("resnet18_025")(FACE)
    assert re.fullmatch(r"Prediction\('\w+', \d+\.\d %\)", repr(prediction))
    assert "face" not in prediction.to_dict()
    assert repr(Prediction(error="a.png: no such file", source="a.png")) == (
        "Prediction(none, source='a.png', error='a.png: no such file')"
    )


def test_results_are_one_line_with_the_figures(labelled):
    faces = stripes(30)
    labelled = fer_zoo.create("test_tiny", num_classes=3).eval()
    labelled.labels = faces.labels
    result = fer_zoo.evaluate(labelled, faces)
    assert re.fullmatch(
        r"Evaluation\('test_tiny' on stripes, n = 30, fer40_center: accuracy .* % \(.* to .*\), "
        r"macro-F1 .* %, ECE .* %\)",
        repr(result),
    )
    assert repr(fer_zoo.compare(result, result)).endswith("+0.00 points, McNemar's p = 1, n = 30)")
    found = fer_zoo.robustness(labelled, faces, corruptions=["blur"], severities=[1])
    assert repr(found).startswith("Robustness('test_tiny' on stripes, n = 30: clean ")


@pytest.mark.parametrize("fusion", ["weighted", "stacked"])
def test_every_weight_of_a_fusion_is_written(fusion):
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion=fusion)
    panels = [axes for axes in fer_zoo.plots.fusion(model).axes if axes.texts]
    written = [[float(t.get_text()) for t in axes.texts] for axes in panels]
    if fusion == "weighted":
        expected = [model.fusion.weights.flatten().tolist()]
    else:
        expected = [w.flatten().tolist() for w in model.fusion.linear.weight.detach().chunk(2, 1)]
    for found, wanted in zip(written, expected, strict=True):
        assert found == pytest.approx(wanted, abs=0.0051)


def test_weights_per_class_have_a_column_for_each_and_others_are_refused():
    members = [fer_zoo.create(n, weights="default") for n in ("resnet18_025", "vgg19_025")]
    per_class = fer_zoo.fusion.Weighted(2, 7, space="logit", per_class=True)
    figure = fer_zoo.plots.fusion(fer_zoo.create_ensemble(members, fusion=per_class))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == list(members[0].labels)
    with pytest.raises(ArgumentError, match="'average' has no weights to plot"):
        fer_zoo.plots.fusion(fer_zoo.create_ensemble(members))


def test_the_face_has_the_label_as_its_escaped_text():
    face = torch.zeros(48, 48, dtype=torch.uint8)
    shares = {'"><b>': 0.75, "calm": 0.25}
    tense = Prediction(label='"><b>', probability=0.75, probabilities=shares, face=face)
    shown = tense._repr_html_()
    assert 'alt="&quot;&gt;&lt;b&gt;"' in shown
    assert "<b>" not in shown


def test_each_photograph_is_a_block_with_its_name_once_even_without_faces():
    one = Prediction(
        label="calm", probability=0.75, probabilities=TWO, source="two.jpg", box=(1, 2, 3, 4)
    )
    two = Photo(faces=(one, one), source="two.jpg")
    none = Photo(source="<none>.jpg")
    assert "no face found" in none._repr_html_()
    assert "&lt;none&gt;.jpg" in none._repr_html_()
    assert "&lt;b&gt;" in Photo(error="<b>")._repr_html_()
    shown = Photos([two, none])._repr_html_()
    assert shown == two._repr_html_() + none._repr_html_()
    assert shown.count("two.jpg") == 1
    assert shown.count("(1, 2, 3, 4)") == 2
    assert Predictions()._repr_html_() == Photos()._repr_html_() == ""
    many = Photos([none] * (SHOWN + 2))._repr_html_()
    assert many.count("no face found") == SHOWN
    assert "and 2 more" in many


def test_a_prediction_of_nothing_says_so_and_long_captions_wrap():
    assert Prediction()._repr_html_() == "<div>Prediction(none)</div>"
    shown = Prediction(
        label="calm", probability=0.75, probabilities=TWO, source="a/" * 99
    )._repr_html_()
    assert re.search(r"max-width:\d+em;overflow-wrap:anywhere'>(a/)+<", shown)


def test_a_slice_can_be_drawn_and_pickled():
    one = Prediction(label="calm", probability=0.75, probabilities=TWO)
    for found in (Predictions([one] * 3), Photos([Photo(faces=(one,))] * 3)):
        for part in (found[:2], pickle.loads(pickle.dumps(found))[:2]):
            assert type(part) is type(found)
            assert part == list(found)[:2]
            assert part._repr_html_().count("<table") == 2
    assert isinstance(found[0], Photo)


def test_results_are_tables():
    """One line to pandas: flat rows of the same columns, None where there is nothing."""
    one = Prediction(label="calm", probability=0.75, probabilities={"error": 0.25, "calm": 0.75})
    bad = Prediction(source="a.png", error="damaged")
    assert Predictions([bad, one]).to_dicts() == [
        dict(
            source="a.png", label=None, probability=None, error="damaged", reason=None,
            p_error=None, p_calm=None,
        ),
        dict(
            source=None, label="calm", probability=0.75, error=None, reason=None, p_error=0.25,
            p_calm=0.75,
        ),
    ]  # fmt: skip
    face = dataclasses.replace(one, source="b.jpg", box=(1, 2, 3, 4))
    photos = Photos([Photo(source="c.jpg"), Photo(source="b.jpg", faces=(face, face))])
    first, second = photos.to_dicts()
    box = dict(left=1, top=2, right=3, bottom=4)
    assert first == dict(
        source="b.jpg", face=0, **box, label="calm", probability=0.75, error=None, reason=None,
        p_error=0.25, p_calm=0.75,
    )  # fmt: skip
    assert second == first | {"face": 1}
    assert Predictions().to_dicts() == []
    with pytest.raises(TypeError):
        Prediction("calm")


def test_a_fitted_fusion_says_its_weights():
    fusion = fer_zoo.fusion.Weighted(2, 3)
    assert repr(fusion).endswith("space='probability', per_class=False, weights=[0.500, 0.500])")
    targets = torch.arange(60) % 3
    good = 3 * torch.eye(3)[targets]
    fusion.fit(torch.stack([good, -good]), targets, split="own faces")
    first, second = re.findall(r"0\.\d{3}|1\.000", repr(fusion))
    assert [float(first), float(second)] == pytest.approx(fusion.weights[:, 0].tolist(), abs=5e-4)
    assert float(first) > 0.9
    per_class = fer_zoo.fusion.Weighted(2, 3, space="logit", per_class=True)
    assert repr(per_class).endswith("per_class=True, weights=[0.500, 0.500])")


def test_a_trained_model_says_the_run_it_comes_from():
    model = fer_zoo.create("resnet18_025", weights="default")
    faces = Faces(name="train", n=9)
    training = Training(
        model="resnet18_025",
        recipe={"name": "finetune", "seed": 3},
        faces=faces,
        validation=faces,
        selection="last",
    )
    model.evidence = Evidence(training=training)
    assert "weights='resnet18_025 trained by finetune (seed 3) on train'" in repr(model)
    model.reset_classifier(2)
    assert "weights=None" in repr(model)


def test_crops_and_registries_are_short():
    (crop,) = crop_faces(FACE, lambda rgb: [(0, 0, 48, 48)])
    assert repr(crop) == "Crop(box=(0, 0, 48, 48))"
    assert repr(fer_zoo.models.MODELS).startswith("Registry(model: resnet18, ")
