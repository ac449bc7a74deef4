"""What notebooks and terminals show: predictions as HTML, results as lines, fusions as figures."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import fer_zoo
from conftest import stripes
from fer_zoo.errors import ArgumentError
from fer_zoo.inference.prediction import SHOWN, Prediction, Predictions

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
    shown = Prediction("<tense>", 0.75, TWO, source="<b>.png")._repr_html_()
    assert "&lt;tense&gt;" in shown
    assert "<tense>" not in shown
    assert "<b>" not in shown
    assert "&lt;i&gt;" in Prediction(error="<i>")._repr_html_()


def test_many_predictions_are_counted_and_photographs_flattened():
    one = Prediction("calm", 0.75, TWO)
    shown = Predictions([one] * (SHOWN + 3))._repr_html_()
    assert shown.count("<table") == SHOWN
    assert "and 3 more" in shown
    assert Predictions([Predictions([one, one]), Predictions([])])._repr_html_().count("<tab") == 2
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
        r"Evaluation\('test_tiny' on stripes, fer40_center: accuracy .* % \(.* to .*\), "
        r"macro-F1 .* %, ECE .* %, n = 30\)",
        repr(result),
    )
    assert repr(fer_zoo.compare(result, result)).endswith("+0.00 points, McNemar's p = 1, n = 30)")
    found = fer_zoo.robustness(labelled, faces, corruptions=["blur"], severities=[1])
    assert repr(found).startswith("Robustness('test_tiny' on stripes, n = 30: clean ")


@pytest.mark.parametrize("fusion", ["weighted", "stacked"])
def test_every_weight_of_a_fusion_is_written(fusion):
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion=fusion)
    panels = [axes for axes in fer_zoo.plot_fusion(model).axes if axes.texts]
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
    figure = fer_zoo.plot_fusion(fer_zoo.create_ensemble(members, fusion=per_class))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == list(members[0].labels)
    with pytest.raises(ArgumentError, match="'average' has no weights to plot"):
        fer_zoo.plot_fusion(fer_zoo.create_ensemble(members))
