"""One resolver: whatever takes a model takes names, addresses, files, run folders and models."""

import copy
from pathlib import Path

import pytest

import fer_zoo
from conftest import cli, in_this_process, stripes
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    FerZooError,
    LabelError,
    UnknownNameError,
    WeightsError,
)
from fer_zoo.factory import resolve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run in it, and one that is named without a slash."""
    folder = tmp_path_factory.mktemp("work")
    model = fer_zoo.create("test_tiny", num_classes=3).eval()
    model.labels = stripes(3).labels
    fer_zoo.save(model, folder / "runs" / "a" / "best.safetensors")
    fer_zoo.save(model, folder / "mine" / "best.safetensors")
    return folder


NAMED = ["runs/a", "./runs/a", "mine", "runs/a/best.safetensors", Path("mine"), Path("runs/a")]


@pytest.mark.parametrize("name", NAMED, ids=str)
def test_everything_that_takes_a_model_takes_a_run(name, run, monkeypatch):
    monkeypatch.chdir(run)
    data = stripes(12)
    wanted = resolve("runs/a").state
    assert resolve(name).state == fer_zoo.load(name).state == wanted
    assert fer_zoo.create_ensemble([name, "mine"]).members[0].state == wanted
    assert fer_zoo.create("test_tiny", weights=str(name)).state == wanted
    assert fer_zoo.evaluate(name, data).n == 12
    assert fer_zoo.inference.predict_scores(name, data.images).shape == (12, 3)
    assert fer_zoo.Predictor(name).labels == data.labels
    assert fer_zoo.create_transform(str(name)).preset.name == "fer40_center"
    done = in_this_process(cli("info", str(name), "--json"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_can_be_trained_on_and_can_teach(run, monkeypatch, tmp_path):
    monkeypatch.chdir(run)
    how = {"validation": stripes(9, seed=1), "epochs": 1, "lr": 0.01}
    found = fer_zoo.train("mine", stripes(16), output=tmp_path / "a", **how)
    assert found.model.num_classes == 3
    more = {"teacher": "mine", "distill": 0.5, "preset": "fer40_center"}
    fer_zoo.train("test_tiny", stripes(16), output=tmp_path / "b", **how, **more)


def test_a_model_stays_as_it_is(labelled):
    assert resolve(labelled) is labelled
    with pytest.raises(ArgumentError, match="weights='x' is for a model given by name"):
        resolve(labelled, weights="x")
    copied = copy.deepcopy(labelled)
    assert resolve(copied, device="cpu") is copied


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("resnt18", UnknownNameError, r"Did you mean 'resnet18'"),
        ("resnet34", UnknownNameError, r"timm knows it: 'timm/resnet34' builds it"),
        ("resnet18_7x7", WeightsError, r"the nearest name that has is 'resnet18'"),
        ("timm/resnet34", WeightsError, r"has no trained weights here"),
        ("no/folder", CheckpointError, r"no such folder"),
        ("empty", CheckpointError, r"empty"),
        ("a.onnx", ArgumentError, r"is an exported file, which fer_zoo.Predictor runs"),
        (Path("a.ONNX"), ArgumentError, r"is an exported file, which fer_zoo.Predictor runs"),
        ("b.pt2#sha256=00", ArgumentError, r"is an exported file"),
        (3, ArgumentError, r"expected a model, a name or an address, got 3"),
        (None, ArgumentError, r"expected a model, a name or an address, got None"),
    ],
)
def test_what_cannot_be_resolved_says_what_to_type(name, kind, message, run, monkeypatch):
    monkeypatch.chdir(run)
    (run / "empty").mkdir(exist_ok=True)
    with pytest.raises(kind, match=message):
        resolve(name)
    with pytest.raises(FerZooError):
        fer_zoo.evaluate(name, stripes(6))


def test_a_name_is_no_address():
    with pytest.raises(ArgumentError, match=r"fer_zoo\.create\('resnet18'\)"):
        fer_zoo.load("resnet18")


def test_names_beside_trained_members_are_untrained_and_that_is_told(run, monkeypatch):
    monkeypatch.chdir(run)
    with pytest.raises(LabelError, match=r"unless weights='default' says otherwise"):
        fer_zoo.create_ensemble(["resnet18_025.fer2013", "vgg19_025"])
    both = fer_zoo.create_ensemble(["resnet18_025.fer2013", "vgg19_025"], weights="default")
    assert both.members[1].evidence.weights == "vgg19_025.fer2013"


def test_a_model_of_that_name_comes_before_a_folder(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18_025").mkdir()
    assert resolve("resnet18_025").evidence.weights == "resnet18_025.fer2013"
    (tmp_path / "fer2013").mkdir()
    assert fer_zoo.create("resnet18_025", weights="fer2013").evidence.claims
