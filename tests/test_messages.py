"""Messages: at most a screen, and the words of others answered with ours."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fer_zoo
from conftest import run
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.errors import (
    LONGEST,
    ArgumentError,
    CheckpointError,
    DataError,
    FerZooError,
    InputError,
    KeywordError,
    LabelError,
    shown,
)

PIXELS = " ".join(["128"] * 2304)
MANY = [f"kind {i}" for i in range(1000)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"3,{PIXELS},PublicTest\n" * 3, "has no header; FER2013's first line is emotion,pixels"),
        (f"emotion,pixels,Usage\n{PIXELS},3,PublicTest\n", "line 2: cannot be read"),
        (",".join(map(str, range(2305))) + "\n", "has no header"),
        ("label,px\n1,2\n", r"has 2 columns, \['label', 'px'\]; FER2013's first line"),
    ],
)
def test_a_csv_of_another_form_gets_a_short_message(text, says, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        FER2013(tmp_path / "a.csv", "public")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda: fer_zoo.labels.index_map(MANY, ["other"]), 800),
        (lambda: fer_zoo.labels.check_labels(["a"] * 5000), 300),
        (lambda: fer_zoo.load("x/" * 5000), 300),
        (lambda: fer_zoo.transforms.PRESETS["x" * 50_000], 300),
        (lambda: fer_zoo.create_transform("a b " * 50_000), LONGEST + 50),
        (lambda: fer_zoo.training.get_recipe("strong", {"x" * 50_000: 1}), 800),
        (lambda: FaceDataset(torch.ones(1, 1), torch.ones(9), labels=MANY, name="x"), 300),
        (lambda: FaceDataset(torch.ones(1), torch.ones(1), labels="a", name="x", split=MANY), 400),
    ],
)
def test_a_message_is_a_screen_at_most(call, most):
    with pytest.raises(FerZooError) as caught:
        call()
    assert len(str(caught.value)) <= most


def test_what_is_left_out_of_a_list_is_counted():
    said = shown(f"classes {list(range(100))} and {MANY[:60]}; {PIXELS}!")
    assert "18, 19, ... 79 more ..., 99]" in said
    assert "'kind 19', ... 39 more ..., 'kind 59']" in said
    assert "128 128 ... 2283 more ... 128!" in said
    short = f"it has {list(range(25))}, but no {'/'.join('abc' * 60)}"
    assert shown(short) == short


@pytest.mark.parametrize("split", ["test", "val", "PublicTest", 5])
def test_a_split_that_is_none_is_explained(split, tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"'public' \(PublicTest\), which validates"):
        FER2013(tmp_path, split)
    said = run("evaluate", "resnet18_025", "--data", tmp_path, "--split", split, code=2).stderr
    assert ("two test splits, 'public' (PublicTest)" in said) == (split == "test")
    assert split == "test" or "'public', 'validation'" in said


def test_a_name_of_the_hub_is_told_from_a_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: fer_zoo.load("me/faces"),
        lambda: fer_zoo.Predictor("me/faces@v1"),
        lambda: fer_zoo.create("resnet18_025", weights="me/faces"),
    ):
        with pytest.raises(CheckpointError, match="if it is on the Hub: hf-hub:me/faces"):
            call()
    Path("runs").mkdir()
    for here in ("runs/a", "/me/faces", "me/my/faces"):
        with pytest.raises(CheckpointError, match=r"no such folder$"):
            fer_zoo.load(here)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda **k: fer_zoo.create("test_tiny", pretrained=True, **k), "pass weights='default'"),
        (lambda **k: fer_zoo.create("test_tiny", in_chans=1, **k), r"in_channels=1 \(gray\)"),
        (lambda **k: fer_zoo.create("test_tiny", drop_rate=0.1, **k), "register_model"),
        (lambda **k: fer_zoo.create("test_tiny", drop_path_rate=0.1, **k), "register_model"),
        (lambda **k: fer_zoo.create("test_tiny", progress=False, **k), "leave it out"),
        (lambda **k: fer_zoo.create("test_tiny", num_clases=3, **k), "did you mean num_classes="),
        (lambda **k: fer_zoo.create("test_tiny", quite=3, **k), "it takes name, weights, fusion"),
        (lambda **k: fer_zoo.create_ensemble(["test_tiny"], in_chans=1, **k), "in_channels=1"),
        (lambda **k: fer_zoo.list_models(pretrained=True, **k), "did you mean trained="),
        (lambda **k: fer_zoo.list_models(filter="x", **k), "pass pattern="),
        (lambda **k: fer_zoo.load("a.safetensors", strict=False, **k), "does not fit is an error"),
        (lambda **k: fer_zoo.Predictor("test_tiny", pretrained=True, **k), "weights='default'"),
        (lambda **k: fer_zoo.PhotoPredictor("test_tiny", pretrained=True, **k), "'default'"),
    ],
)
def test_keywords_of_timm_and_torchvision_are_answered(call, says):
    """As the TypeError that each of them is."""
    with pytest.raises(TypeError, match=says) as caught:
        call()
    assert isinstance(caught.value, KeywordError)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("create_model", r"use fer_zoo.create\(name, weights='default'\)"),
        ("get_model", r"use fer_zoo.create\(name"),
        ("list_pretrained", r"use fer_zoo.list_models\(trained=True\)"),
        ("resnet18", r"use fer_zoo.create\('resnet18', weights='default'\)"),
        ("Predicter", "use fer_zoo.Predictor$"),
        ("zzz", "^fer_zoo has no 'zzz'$"),
    ],
)
def test_names_of_timm_and_torchvision_are_answered(name, says):
    with pytest.raises(AttributeError, match=says):
        getattr(fer_zoo, name)


def test_no_classes_at_all_is_a_question_for_features():
    for call in (
        lambda: fer_zoo.create("test_tiny", num_classes=0),
        lambda: fer_zoo.create("test_tiny").reset_classifier(0),
    ):
        with pytest.raises(ArgumentError, match=r"forward_head\(x, pre_logits=True\)"):
            call()


def test_settings_and_classes_are_answered_with_what_is_meant(labelled):
    recipe = fer_zoo.training.RECIPES["strong"]
    for wrong in ("class-weights", "class_weight"):
        with pytest.raises(ArgumentError, match=rf"'{wrong}'\]; did you mean class_weights\?"):
            recipe.updated({wrong: "balanced"})
    with pytest.raises(ArgumentError, match=r"no setting \['x'\]; it has \['augment', "):
        recipe.updated({"x": 1})
    with pytest.raises(ArgumentError, match="a weight for classes by name, got none"):
        recipe.updated({"class_weights": {}})
    with pytest.raises(LabelError, match=r"'happiness'\] name the same class, which is"):
        fer_zoo.Predictor(labelled, labels={"good": ["happy"]}, ignore=["happiness"])
    with pytest.raises(LabelError, match=r"one class is left, \('x',\): every face would have 100"):
        fer_zoo.Predictor(labelled, labels={"x": labelled.labels})
    with pytest.raises(LabelError, match=r"one class is left, \('sad',\)"):
        fer_zoo.Predictor(labelled, ignore=[name for name in labelled.labels if name != "sad"])


def test_masked_pixels_are_refused(labelled):
    """What is masked was labelled as it lay below."""
    image = np.ma.array(np.eye(48), mask=np.eye(48) > 0)
    predict = fer_zoo.Predictor(labelled)
    with pytest.raises(InputError, match=r"the array has masked pixels: fill them, image\.filled"):
        predict(image)
    assert predict(image.filled(0.5)).label == predict(np.ma.array(np.eye(48) / 2)).label
