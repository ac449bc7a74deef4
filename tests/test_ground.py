"""The ground floor: names, files, presets from other processes."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.errors import ArgumentError, LabelError, UnknownNameError
from fer_zoo.models import MODELS
from fer_zoo.plain import to_plain
from fer_zoo.transforms import PRESETS, Augmentation, Preset
from fer_zoo.transforms.presets import restore


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
        ({"preset": "fer41_center"}, "unknown preset 'fer41_center'"),
        ({"fusion": "stackd"}, "unknown fusion 'stackd'"),
        ({"members": "test_tiny"}, "must be a tuple of names"),
        ({"members": ("ensemble_r18_vgg19",)}, "has ensembles as members"),
    ],
)
def test_what_a_spec_names_must_be_there(changes, says):
    values = {"name": "misspelt", "description": "", "source": "", "members": ("test_tiny",)}
    with pytest.raises((ArgumentError, UnknownNameError), match=says):
        fer_zoo.register_model(fer_zoo.ModelSpec(**(values | changes)))
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
        for _ in range(200):
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


def test_a_preset_of_ones_own_is_in_the_file(tmp_path: Path):
    """Another process, which never registered it, gives the same answers."""
    script = """
import sys, torch, fer_zoo
model = fer_zoo.load(sys.argv[1])
print(fer_zoo.transforms.PRESETS[model.preset].training.rotate)
print(fer_zoo.Predictor(model)(torch.zeros(1, 48, 48)).label)
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
    with pytest.raises(ArgumentError, match=r"(?s)'ground_test' is .*mean=0.5.*mean=0.25"):
        restore(known | {"mean": 0.25})
    for wrong in ({"resize": 10**9}, {"size": "40"}, {"what": 1}, {"training": {"spin": 1}}):
        with pytest.raises(ArgumentError):
            restore(known | wrong)


def test_labels_are_names():
    for wrong in (5, "happy", ["happy", 5], None):
        with pytest.raises(LabelError):
            fer_zoo.labels.check_labels(wrong)
