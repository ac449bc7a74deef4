"""Temperatures: they make probabilities honest and never change a winner."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fer_zoo
from conftest import ramp
from fer_zoo.data import FER2013
from fer_zoo.errors import (
    ArgumentError,
    LabelError,
    SplitError,
    UnknownNameError,
    WeightsError,
)
from fer_zoo.evaluation.metrics import cross_validated_ece, expected_calibration_error
from fer_zoo.evidence import Evidence, Training
from fer_zoo.factory import resolve
from fer_zoo.inference import fit_temperature, fuse, member_scores, predict_scores
from fer_zoo.inference.scoring import tempered
from fer_zoo.weights import records
from test_evaluation import LABELS, boastful, evaluated, noise


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1 / 3, 3.0, 10.0, 1000.0])
def test_a_temperature_never_changes_the_order(temperature):
    """Not even of scores that are neighbours in single precision."""
    start = np.float32([0.1, 1.0, -7.3, 1e-30, 3e4])
    chains = [start]
    for _ in range(6):
        chains.append(np.nextafter(chains[-1], np.float32(np.inf)))
    scores = torch.from_numpy(np.stack(chains, 1))
    scores = scores[:, torch.randperm(7)]
    divided = tempered(scores, temperature)
    assert torch.equal(divided.argsort(1), scores.argsort(1))
    assert all(len(set(row)) == 7 for row in divided.tolist())


@pytest.mark.parametrize("temperature", [0.1, 10.0])
def test_the_predictors_label_is_the_winner_of_the_scores(labelled, temperature):
    """Even of scores that are neighbours in single precision."""
    bias = torch.full((7,), 0.3)
    bias[4] += 2e-7
    with torch.no_grad():
        labelled.fc.weight.zero_()
        labelled.fc.bias.copy_(bias)
    raw = fuse(labelled, member_scores(labelled, torch.from_numpy(ramp())[None]))[0].numpy()
    assert 0 < raw[4] - raw[3] < 1e-6
    labelled.temperature = {"fer40_center": temperature}
    prediction = fer_zoo.Predictor(labelled)(ramp())
    assert prediction.label == LABELS[4]
    assert prediction.probabilities[LABELS[4]] == prediction.probability


def test_predictions_are_calibrated_and_the_network_is_not(labelled):
    image = noise(1).images
    raw = fuse(labelled, member_scores(labelled, image))
    x = fer_zoo.create_transform(labelled)(image[:, None])
    before = labelled(x)
    labelled.temperature = {"fer40_center": 2.0, "fer40_tencrop": 4.0}
    torch.testing.assert_close(predict_scores(labelled, image), raw.double() / 2)
    ten = fuse(labelled, member_scores(labelled, image, preset="fer40_tencrop"))
    found = predict_scores(labelled, image, preset="fer40_tencrop")
    torch.testing.assert_close(found, ten.double() / 4)
    other = fuse(labelled, member_scores(labelled, image, preset="thesis40"))
    found = predict_scores(labelled, image, preset="thesis40")
    torch.testing.assert_close(found, other.double() / 2)
    assert torch.equal(labelled(x), before)
    probabilities = fer_zoo.Predictor(labelled)(image[0].numpy()).probabilities
    assert list(probabilities.values()) == pytest.approx((raw[0].double() / 2).softmax(0).tolist())


def test_members_are_fused_as_they_are(labelled):
    """A member's own temperature does not count inside an ensemble."""
    image = noise(3).images
    model = fer_zoo.create_ensemble([labelled], fusion="average").eval()
    before = predict_scores(model, image)
    labelled.temperature = {"fer40_center": 5.0}
    assert torch.equal(predict_scores(model, image), before)
    model.temperature = {"fer40_center": 5.0}
    torch.testing.assert_close(predict_scores(model, image), before / 5)


def test_the_fitted_temperature_is_the_best_of_a_grid():
    scores, targets = boastful()
    found = fit_temperature(scores, targets, split="public")
    assert found == pytest.approx(2.5, rel=0.1)
    # A new head's scores are small at first; it stayed uncalibrated, and told 17 % where it had 58.
    assert fit_temperature(scores / 100, targets, split="public") == pytest.approx(found / 100)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 4001))
    exact, rows = scores.double(), torch.arange(1000)
    losses = [-float((exact / t).log_softmax(1)[rows, targets].mean()) for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.003)
    result = evaluated(scores, targets, temperature=found)
    assert result.ece < 0.5 * result.ece_uncalibrated
    assert result.nll < result.nll_uncalibrated
    assert result.accuracy == evaluated(scores, targets).accuracy
    held_out = cross_validated_ece(scores, targets, "public")
    assert held_out is not None
    assert result.ece_uncalibrated > 2 * held_out


def test_what_a_temperature_is_not_fitted_on():
    scores, targets = boastful(300)
    for split in ("private", "test", "PrivateTest"):
        with pytest.raises(SplitError, match="test split"):
            fit_temperature(scores, targets, split=split)
    with pytest.raises(SplitError, match="far too sure"):
        fit_temperature(scores, targets, split="train")
    with pytest.raises(ArgumentError, match="at least 200 faces, got 199"):
        fit_temperature(scores[:199], targets[:199], split="public")
    with pytest.raises(ArgumentError, match="scores"):
        fit_temperature(scores[0], targets, split="public")
    with pytest.raises(ArgumentError, match="NaN or infinity"):
        fit_temperature(scores / 0, targets, split="public")
    for hardly in (scores / 1e4, torch.zeros(300, 7)):
        with pytest.raises(ArgumentError, match="the scores hardly differ, of a head"):
            fit_temperature(hardly, targets, split="public")
    perfect = torch.eye(7)[targets]
    for at_a_bound in (perfect, 1000 * perfect, perfect / 10, -scores, -1000 * scores):
        with pytest.raises(ArgumentError, match=r"fit on more or harder faces .* or leave"):
            fit_temperature(at_a_bound, targets, split="public")
    assert cross_validated_ece(scores, targets, "private") is None
    assert cross_validated_ece(scores[:240], targets[:240], "public") is None


def test_calibrating_a_model(labelled, tmp_path: Path):
    faces = noise(210)
    with torch.no_grad():
        labelled.fc.weight.mul_(100)
    # Half of the faces are what the network says, so that there is something to be sure of.
    faces.targets[::2] = member_scores(labelled, faces.images)[0].argmax(1)[::2]
    with pytest.raises(SplitError):
        fer_zoo.calibrate(labelled, noise(210, split="private"))
    with pytest.raises(SplitError):
        fer_zoo.calibrate(labelled, noise(210, split="train"))
    with pytest.raises(ArgumentError, match="at least 200"):
        fer_zoo.calibrate(labelled, noise(100))
    with pytest.raises(LabelError):
        fer_zoo.calibrate(fer_zoo.create("test_tiny"), faces)
    with pytest.raises(UnknownNameError, match="thesis4"):  # one name, no row of letters
        fer_zoo.calibrate(labelled, faces, presets="thesis4")
    training = Training(
        model="test_tiny", recipe={}, faces=faces.faces, validation=faces.faces, selection="last"
    )
    labelled.evidence = Evidence(training=training)
    with pytest.raises(SplitError, match="these very faces"):
        fer_zoo.calibrate(labelled, faces)
    assert labelled.temperature == {}
    labelled.evidence = Evidence(licence="mine")
    assert set(fer_zoo.calibrate(labelled, faces, presets="thesis40")) == {"thesis40"}
    found = fer_zoo.calibrate(labelled, faces, presets=["fer40_center", "thesis40"])
    assert set(found) == {"fer40_center", "thesis40"}
    raw = fuse(labelled, member_scores(labelled, faces.images, preset="thesis40"))
    assert found["thesis40"] == fit_temperature(raw, faces.targets, split="public")
    again = fer_zoo.load(fer_zoo.save(labelled, tmp_path / "m.safetensors"))
    assert again.temperature == found
    assert again.evidence.licence == "mine"
    assert again.evidence.calibration.faces == faces.faces
    here = fer_zoo.evaluate(again, faces)
    assert here.calibration.faces == faces.faces
    assert here.temperature == found["fer40_center"]
    again.reset_classifier(3)
    assert (again.temperature, again.temperature_for("fer40_center")) == ({}, 1.0)
    assert again.evidence.calibration is None


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf, 1e9, "2", True, None])
def test_a_temperature_is_a_number_that_merges_no_scores(labelled, wrong):
    with pytest.raises(ArgumentError, match="temperature"):
        labelled.temperature = {"fer40_center": wrong}


def test_another_fusion_is_uncalibrated(tmp_path: Path):
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
    record = fer_zoo.weights.get_weights("ensemble_r18_vgg19_025")
    assert model.temperature == record.evidence["average"].calibration.temperature
    for fusion in ("weighted", "stacked"):
        other = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion=fusion)
        assert other.temperature == record.evidence[fusion].calibration.temperature
        assert other.temperature != model.temperature
    for fusion in ("vote", fer_zoo.fusion.Average(2, 7, space="logit")):
        other = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion=fusion)
        assert (other.temperature, other.evidence.calibration) == ({}, None)
    path = fer_zoo.save(model, tmp_path / "e.safetensors")
    assert resolve(path).temperature == model.temperature
    assert resolve(path, fusion="max").temperature == {}
    model.reset_classifier(3)
    assert model.temperature == {}


@pytest.mark.parametrize("wrong", [0.7, -1, 7, torch.nan])
def test_targets_that_are_no_indices_are_refused(wrong):
    """2.7 was class 2, and -100 no class at all."""
    scores, targets = torch.randn(300, 7), torch.arange(300) % 7
    odd = targets.double()
    odd[3] = odd[3] + wrong if wrong == 0.7 else wrong
    with pytest.raises(ArgumentError, match="targets must be whole numbers, 0 to 6"):
        fit_temperature(scores, odd, split="public")
    fusion = fer_zoo.fusion.create_fusion("weighted", 2, 7)
    with pytest.raises(ArgumentError, match="targets must be whole numbers, 0 to 6"):
        fusion.fit(torch.stack([scores, scores]), odd, split="public")


@pytest.mark.parametrize("odd", [torch.Tensor.to_sparse, lambda t: t.to("meta"), lambda t: t + 0j])
def test_tensors_that_hold_no_plain_values_fit_nothing(odd):
    """Sparse ones ended in an error of torch's, of complex numbers the half was taken."""
    scores, targets = torch.randn(300, 7), torch.arange(300) % 7
    fusion, logits = fer_zoo.fusion.create_fusion("weighted", 2, 7), torch.stack([scores, scores])
    for a, b in ((odd(scores), targets), (scores, odd(targets))):
        with pytest.raises(ArgumentError, match="no plain tensor"):
            fit_temperature(a, b, split="public")
    for a, b in ((odd(logits), targets), (logits, odd(targets))):
        with pytest.raises(ArgumentError, match="no plain tensor"):
            fusion.fit(a, b, split="public")


@pytest.mark.parametrize("address", fer_zoo.list_weights())
def test_bundled_weights_are_calibrated(address, tmp_path: Path):
    record = fer_zoo.weights.get_weights(*address.rsplit(".", 1))
    for known in record.evidence.values():
        assert known.calibration.faces.split == "public"
        for score in known.scores:
            assert known.calibration.temperature[score.preset] == score.temperature
            assert score.nll <= score.nll_uncalibrated + 0.002
            assert score.bootstrap_interval == pytest.approx(score.interval, abs=0.002)
    values = json.loads((records.BUNDLED / record.file).with_suffix(".json").read_text())
    path = tmp_path / "r.json"
    for known in values["evidence"].values():
        known["calibration"]["temperature"] = {"fer40_center": -1}
    path.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"r\.json: .*temperature"):
        records.read_record(path)


@pytest.mark.slow
def test_fitting_a_fusion_calibrates_it_on_held_out_scores(labelled):
    members = [labelled, fer_zoo.create("test_tiny").eval()]
    members[1].labels = LABELS
    model = fer_zoo.create_ensemble(members, fusion="stacked").eval()
    faces = noise(210)
    # Half of the faces are what the first member says, so that there is something to be sure of.
    faces.targets[::2] = member_scores(labelled, faces.images)[0].argmax(1)[::2]
    fit = fer_zoo.fit_fusion(model, faces, even_if_worse=True)
    assert model.temperature == {"fer40_center": fit.temperature}
    on_its_own = fit_temperature(
        fuse(model, member_scores(model, faces.images)), faces.targets, split="public"
    )
    assert fit.temperature > on_its_own
    assert fer_zoo.fit_fusion(model, noise(70), even_if_worse=True).temperature is None
    assert (model.temperature, model.evidence.calibration) == ({}, None)


@pytest.mark.real_data
@pytest.mark.weekly
def test_the_bundled_ensemble_on_real_faces(real_public: FER2013):
    """A temperature helps on the half it was not fitted on, and the record's is of its size."""
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
    recorded = model.temperature["fer40_center"]
    scores = fuse(model, member_scores(model, real_public.images))
    targets = real_public.targets_for(model.labels)
    assert recorded == pytest.approx(fit_temperature(scores, targets, split="public"), abs=1e-3)
    half = torch.arange(len(targets)) % 2 == 0
    fitted = fit_temperature(scores[half], targets[half], split="public")
    other = scores[~half].double(), targets[~half]
    before = torch.nn.functional.cross_entropy(*other)
    assert torch.nn.functional.cross_entropy(other[0] / fitted, other[1]) < before
    error = cross_validated_ece(scores, targets, "public")  # five parts, of all faces
    assert error < expected_calibration_error(scores.double(), targets)
    (score,) = (s for s in model.evidence.scores if s.preset == "fer40_center")
    assert error == pytest.approx(score.cross_validated_ece, abs=1e-4)
