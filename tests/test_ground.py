"""The ground floor: names, files, presets from other processes."""

import contextlib
import copy
import inspect
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.data import FaceDataset
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    DuplicateNameError,
    LabelError,
    StateDictError,
    UnknownNameError,
)
from fer_zoo.fusion import create_fusion
from fer_zoo.models import MODELS
from fer_zoo.plain import to_plain
from fer_zoo.training import get_recipe, read_history
from fer_zoo.transforms import PRESETS, Augmentation, Preset
from fer_zoo.transforms.presets import OfFile, restore
from fer_zoo.weights.checkpoint import load_state_dict


def test_a_registry_is_a_mapping():
    assert MODELS.get("nope") is None
    assert MODELS.get("nope", 5) == 5
    assert "nope" not in MODELS
    assert [] not in MODELS
    assert {**MODELS}.keys() == set(MODELS.names())
    with pytest.raises(KeyError) as caught:
        MODELS["resnet81"]
    assert str(caught.value).startswith("unknown model 'resnet81'. Did you mean")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    for patterns in ({"pattern": 5}, {"exclude": [5]}):
        with pytest.raises(ArgumentError, match="patterns are text"):
            fer_zoo.list_models(**patterns)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"members": ("test_tinny",)}, "unknown model 'test_tinny'. Did you mean 'test_tiny'"),
        ({"members": (5,)}, "unknown model 5"),
        ({"preset": "fer40_zentrum"}, "unknown preset 'fer40_zentrum'"),
        ({"fusion": "stackd"}, "unknown fusion 'stackd'"),
        ({"members": "test_tiny"}, "must be a tuple of names"),
        ({"members": ("ensemble_r18_vgg19",)}, "has ensembles as members"),
    ],
)
def test_what_a_spec_names_must_be_there(changes, says):
    values = {"name": "misspelt", "description": "", "source": "", "members": ("test_tiny",)}
    with pytest.raises((ArgumentError, UnknownNameError), match=says):
        fer_zoo.register_model(fer_zoo.models.ModelSpec(**(values | changes)))
    assert "misspelt" not in MODELS


def test_a_file_has_the_mode_that_the_umask_gives(tmp_path: Path):
    """Other threads' files, too, at any moment: the umask is the process's."""
    before, modes, done = os.umask(0o027), set(), threading.Event()

    def other():
        while not done.is_set():
            modes.add(os.umask(0o027))

    thread = threading.Thread(target=other)
    try:
        thread.start()
        for _ in range(50):
            with replacing(tmp_path / "a.txt") as path:
                path.write_text("x")
    finally:
        done.set()
        thread.join()
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert modes == {0o027}
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(ArgumentError, match="expected a path, got 5"), replacing(5):
        pass


@pytest.mark.slow
def test_a_preset_of_ones_own_is_in_the_file(tmp_path: Path):
    """Another process, which never registered it, gives the same answers."""
    script = """
import sys, torch, fer_zoo
model = fer_zoo.load(sys.argv[1])
print(fer_zoo.transforms.PRESETS[model.preset].training.rotate)
print(fer_zoo.Predictor(model)(torch.eye(48)).label)
"""
    fer_zoo.register_preset(
        Preset(
            name="ground_test",
            resize=44,
            size=40,
            views="tencrop",
            mean=0.5,
            training=Augmentation(rotate=7.0, scale=(0.9, 1.1)),
        )
    )
    model = fer_zoo.create("resnet18_025", weights="default")
    model.preset = "ground_test"
    path = fer_zoo.save(model, tmp_path / "a.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "7.0"
    assert done.stdout.split()[1] in model.labels
    known = to_plain(PRESETS["ground_test"])
    assert restore(known) is PRESETS["ground_test"]
    mine = replace(PRESETS["ground_test"])
    assert fer_zoo.register_preset(mine) is PRESETS["ground_test"]  # whoever was first
    with pytest.raises(DuplicateNameError):
        fer_zoo.register_preset(replace(mine, mean=0.25))
    with pytest.raises(ArgumentError, match=r"'ground_test' is .*'mean': 0.5.*'mean': 0.25"):
        restore(known | {"mean": 0.25})
    for wrong in ({"resize": 10**9}, {"size": "40"}, {"what": 1}, {"training": {"spin": 1}}):
        with pytest.raises(ArgumentError):
            restore(known | wrong)


@pytest.mark.parametrize(
    "copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_preset_of_a_file_yields_to_the_users(tmp_path: Path, copied):
    """Whoever wrote the file took the name for the whole process, and the user's was refused."""
    theirs = Preset(name="yielding_test", resize=60, size=48, views="center")
    mine, model = replace(theirs, mean=0.5), fer_zoo.create("test_tiny")
    for preset in (mine, theirs):
        model.preset = OfFile(preset)
        fer_zoo.save(model, tmp_path / f"{preset.mean}.safetensors")
    PRESETS.disputed.clear()  # saving has read them back
    stranger = copied(fer_zoo.load(tmp_path / "0.0.safetensors"))
    assert PRESETS["yielding_test"] == PRESETS[stranger.preset] == theirs  # as long as it is free
    own = copied(fer_zoo.load(tmp_path / "0.5.safetensors"))
    with pytest.raises(UnknownNameError, match=r"two files bring .*fer_zoo.register_preset"):
        PRESETS["yielding_test"]  # which of the two?
    assert (PRESETS[own.preset], PRESETS[stranger.preset]) == (mine, theirs)
    both = fer_zoo.create_ensemble([own, stranger])
    assert both.mixed
    assert [PRESETS[m.preset] for m in both.members] == [mine, theirs]
    try:
        assert fer_zoo.register_preset(mine) is PRESETS["yielding_test"]
        assert (PRESETS[own.preset], PRESETS[stranger.preset]) == (mine, theirs)
        assert fer_zoo.create_transform(stranger).preset == theirs
        with pytest.raises(CheckpointError, match=r"'yielding_test' is .* here"):
            fer_zoo.load(tmp_path / "0.0.safetensors")
        assert fer_zoo.load(tmp_path / "0.5.safetensors").preset == "yielding_test"
    finally:
        del PRESETS._entries["yielding_test"]
        PRESETS.disputed.clear()


def test_labels_are_names():
    for wrong in (5, "happy", ["happy", 5], None):
        with pytest.raises(LabelError):
            fer_zoo.labels.check_labels(wrong)


ODD = [
    None,
    5,
    "",
    "nope",
    b"x",
    True,
    1.5,
    float("nan"),
    (),
    [],
    {},
    [None],
    object(),
    torch.ones(2),
]
IMAGES = torch.arange(12 * 48 * 48).view(12, 48, 48).byte()
DATA, JUDGE = (
    FaceDataset(images, torch.arange(12) % 2, labels=("a", "b"), name="x", split=split)
    for images, split in ((IMAGES, "train"), (IMAGES + 1, "public"))
)
MODEL = fer_zoo.create("test_tiny", num_classes=2).eval()
MODEL.labels = DATA.labels
TRAIN = {"data": DATA, "validation": JUDGE, "resume": False}
ONE = TRAIN | {"model": "plain_test"}
SPEC = {"name": "odd_test", "description": "", "source": "", "members": ("test_tiny",)}
PRESET = {"name": "odd_test", "resize": 48, "size": 40, "views": "center"}
ALIGN = {"scores": torch.zeros(3, 2), "source": ["a", "b"], "target": ["b"]}
FIT = {"member_logits": torch.zeros(2, 12, 2), "targets": DATA.targets, "split": "public"}
SETTINGS = "epochs augment freeze distill_on"
CALLS = [
    (fer_zoo.train, ONE, f"model data validation output recipe teacher device {SETTINGS}"),
    (
        fer_zoo.train_ensemble,
        TRAIN | {"model": "ensemble_r18_vgg19_025"},
        "model data validation output recipe fusion",
    ),
    (fer_zoo.fit_fusion, {"model": None, "data": JUDGE}, "model data folds"),
    (get_recipe, {"recipe": "strong"}, "recipe changes"),
    (fer_zoo.training.Recipe, {"name": "x"}, "name preset augment lr schedule targets epochs"),
    (read_history, {}, "path"),
    (FaceDataset, vars(DATA) | {"votes": None}, "images targets labels name split votes"),
    (fer_zoo.data.FER2013, {}, "root"),
    (fer_zoo.data.FERPlus, {}, "root"),
    (fer_zoo.data.ImageFolder, {}, "root"),
    (fer_zoo.data.data_report, {}, "root"),
    (create_fusion, {"name": "stacked", "num_members": 2, "num_classes": 2}, "name num_members l2"),
    (create_fusion, {"name": "weighted", "num_members": 2, "num_classes": 2}, "space per_class"),
    (create_fusion("stacked", 2, 2).fit, FIT, "member_logits targets split"),
    (fer_zoo.labels.check_labels, {}, "names"),
    (fer_zoo.labels.align, ALIGN, "scores source target"),
    (fer_zoo.labels.index_map, {"source": ["a"], "target": ["a"]}, "source target"),
    (Preset, PRESET, "resize size views average mean std training"),
    (Augmentation, {}, "padding flip scale shift crop_area mixup"),
    (fer_zoo.register_preset, {}, "preset"),
    (fer_zoo.register_model, {}, "spec"),
    (DATA.shared_with, {}, "other"),
    (DATA.targets_for, {}, "labels"),
    (DATA.subset, {}, "size"),
    (fer_zoo.evaluate, {"model": MODEL, "data": DATA}, "model data preset batch_size"),
    (fer_zoo.calibrate, {"model": MODEL, "data": JUDGE}, "model data presets batch_size"),
    (
        fer_zoo.evaluation.robustness,
        {"model": MODEL, "data": DATA, "corruptions": "blur", "severities": [1]},
        "model data preset corruptions severities batch_size",
    ),
    (fer_zoo.evaluation.CORRUPTIONS["blur"], {"images": IMAGES, "severity": 1}, "images severity"),
    (fer_zoo.evaluation.compare, {"first": None, "second": None}, "first second"),
    (fer_zoo.evaluation.find_mistakes, {"evaluation": None, "data": DATA}, "evaluation data"),
    (
        fer_zoo.inference.predict_scores,
        {"model": MODEL, "images": IMAGES},
        "model images batch_size",
    ),
    (
        fer_zoo.inference.fit_temperature,
        {"scores": torch.zeros(200, 2), "targets": torch.zeros(200), "split": "public"},
        "scores targets split",
    ),
    (fer_zoo.optimize, {"model": MODEL, "example": IMAGES}, "model engine example dtype preset"),
    (load_state_dict, {"model": MODEL, "tensors": MODEL.state_dict()}, "model tensors"),
    (load_state_dict, {"model": MODEL}, "tensors"),
    (fer_zoo.save, {"model": MODEL, "path": "x.safetensors"}, "model path dtype"),
    (fer_zoo.push_to_hub, {"model": MODEL, "repo_id": "me/it"}, "model repo_id results dtype"),
]
CASES = [(call, good, name) for call, good, names in CALLS for name in names.split()]


@pytest.mark.parametrize(
    ("call", "good", "name"),
    CASES,
    ids=[f"{getattr(c, '__name__', c)!s:.20}-{name}" for c, _, name in CASES],
)
def test_odd_arguments_raise_errors_of_ours(call, good, name, tmp_path: Path, monkeypatch):
    """Or none, where they mean something; never what some line far below makes of them."""

    def begun(*_, **__):
        raise fer_zoo.errors.TrainingError("it begins")

    monkeypatch.setattr("fer_zoo.training.run.Run._epoch", begun)
    monkeypatch.setattr("fer_zoo.publishing.upload", begun)
    monkeypatch.chdir(tmp_path)
    good = {k: v for k, v in good.items() if k in inspect.signature(call).parameters}
    if "validation" in good:
        good["output"] = tmp_path / "run"
    for odd in ODD:
        with contextlib.suppress(fer_zoo.errors.FerZooError):
            call(**(good | {name: odd}))


def test_what_is_wrong_is_said():
    """Arguments that once meant something else, or nothing."""
    evaluate, robustness = fer_zoo.evaluate, fer_zoo.evaluation.robustness
    for call, error, says in (
        (lambda: fer_zoo.evaluation.compare("a", "b"), ArgumentError, "fer_zoo.evaluate"),
        (lambda: evaluate(MODEL, "x"), ArgumentError, "fer_zoo.data dataset, got 'x'"),
        (lambda: evaluate(MODEL, DATA, batch_size=0), ArgumentError, "batch_size must be a whole"),
        (
            lambda: evaluate(MODEL, DATA, batch_size="a"),
            ArgumentError,
            "batch_size must be a whole",
        ),
        (lambda: fer_zoo.calibrate(MODEL, "x"), ArgumentError, "fer_zoo.data dataset, got 'x'"),
        (lambda: fer_zoo.calibrate(MODEL, JUDGE, presets=5), ArgumentError, "list_presets.* 5"),
        (
            lambda: fer_zoo.calibrate(MODEL, JUDGE, presets=[]),
            ArgumentError,
            r"list_presets.* \[\]",
        ),
        (lambda: load_state_dict(MODEL, [1]), ArgumentError, "tensors by name"),
        (
            lambda: load_state_dict(MODEL, MODEL.state_dict() | {"head.weight": 1, 2: 3}),
            StateDictError,
            "(?s)unexpected (head.weight|2)",
        ),
        (lambda: fer_zoo.save(MODEL, 5), ArgumentError, "expected a path, got 5"),
        (lambda: fer_zoo.push_to_hub(MODEL, 5), ArgumentError, "org/name, got 5"),
        (lambda: fer_zoo.optimize(MODEL, example="x"), ArgumentError, "faces are gray"),
        (lambda: robustness(MODEL, DATA, corruptions="nope"), UnknownNameError, "'nope'"),
        (lambda: robustness(MODEL, DATA, severities=5), ArgumentError, "1 to 5, got 5"),
    ):
        with pytest.raises(error, match=says):
            call()
    one = robustness(MODEL, DATA, corruptions="blur", severities=[2])
    assert [*one.accuracy] == ["blur"]
