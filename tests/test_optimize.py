"""Faster forms of a model give its answers: folding, engines, memory, exported files."""

import dataclasses
import hashlib
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fer_zoo
from conftest import NETWORKS, ROOT, TIMM, ramp
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    LabelError,
    OptimizeError,
    WeightsError,
)
from fer_zoo.inference import engines, member_scores, predict_scores, programs, runtime
from fer_zoo.inference.fold import PackedConv2d, fold
from fer_zoo.inference.scoring import in_parts
from fer_zoo.transforms import PRESETS

FACES = sorted((ROOT / "examples" / "faces").glob("*.png"))
NAMES = ("resnet18_025", "vgg19_025")
QUICK = [n for n in NETWORKS if n not in ("vgg19_fc",)]


def shaken(model: fer_zoo.models.Classifier) -> fer_zoo.models.Classifier:
    """Give batch norm something to do: random statistics, scales and shifts."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.3)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def gray() -> torch.Tensor:
    """The example faces, uint8 `(N, 1, 48, 48)`."""
    square = PRESETS["fer40_center"].square
    faces = [square(fer_zoo.transforms.to_gray(path)[None]) for path in FACES]
    return torch.cat(faces).mul(255).round().byte()


@pytest.fixture
def pair() -> fer_zoo.models.Ensemble:
    """The bundled ensemble under its fitted stacked head."""
    return fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")


@pytest.mark.parametrize("name", [*QUICK, *TIMM])
def test_a_folded_network_gives_the_same_logits(name):
    """At the batch size it was folded for and at another, and nothing of batch norm is left."""
    model = shaken(fer_zoo.create(name, num_classes=5))
    x = torch.rand(3, 1, 40, 40)
    other = fold(model, x)
    with torch.inference_mode():
        for rows in (x, x[:1], x.repeat(2, 1, 1, 1)):
            own = model(rows)
            assert (other(rows) - own).abs().max() < 2e-5 * max(1, own.abs().max())
    kinds = [type(m) for m in other.modules()]
    if name.startswith(("resnet", "vgg", "test_tiny")):
        assert nn.BatchNorm2d not in kinds
        if torch.backends.mkldnn.is_available():
            assert nn.Conv2d not in kinds
            assert kinds.count(PackedConv2d) == len(
                [m for m in model.modules() if isinstance(m, nn.Conv2d)]
            )
            left = {str(node.target) for node in other.graph.nodes}
            assert not [name for name in left if "relu" in name or "add" in name]


def test_a_network_that_cannot_be_traced_is_copied():
    class Odd(fer_zoo.models.ResNet):
        def forward_features(self, x):
            if float(x.mean()) > 1e9:
                return x
            return super().forward_features(x)

    model = shaken(Odd(num_classes=7, width=12))
    x = torch.rand(2, 1, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(fold(model, x)(x), model(x))


def test_a_convolution_that_feeds_two_is_left_alone():
    """Batch norm is folded only where nothing else reads the convolution's output."""

    class Two(fer_zoo.models.ResNet):
        def forward_features(self, x):
            raw = self.conv1(x)
            return torch.relu(self.bn1(raw)) + raw

        def forward_head(self, x, pre_logits=False):
            return x.mean((2, 3))

    model = shaken(Two(num_classes=8, width=12))
    x = torch.rand(2, 1, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(fold(model, x)(x), model(x))


def test_optimized_answers_are_the_models(pair, gray):
    """Under its own preset and another, on any number of faces, gray or with a channel."""
    fast = fer_zoo.optimize(pair, example=gray)
    for name in ("fer40_center", "fer40_tencrop"):
        own = predict_scores(pair, gray, preset=name).softmax(1)
        found = fast.predict_scores(gray, preset=PRESETS[name]).softmax(1)
        assert (found - own).abs().max() < 1e-5
    own = predict_scores(pair, gray).softmax(1)
    for rows in (gray, gray[:, 0], gray[:1], gray.repeat(9, 1, 1, 1)):
        again = own.repeat(9, 1)[: len(rows)].float()
        assert (fast(rows) - again).abs().max() < 1e-5
    assert fast(gray).dtype == torch.float32
    assert fast.labels == pair.labels
    assert fast.report["max_difference"] < 1e-5
    assert fast.report["agreement"] == 1
    assert pair.training is False
    # It is a snapshot.
    before = fast(gray)
    pair.temperature = {"fer40_center": 9.0}
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.zero_()
    assert torch.equal(fast(gray), before)


def test_members_in_another_order_of_labels(gray):
    members = [fer_zoo.create(n, weights="default") for n in NAMES]
    order = [2, 0, 1, 6, 5, 4, 3]
    with torch.no_grad():
        for parameter in members[1].classifier.parameters():
            parameter.copy_(parameter[order])
    members[1].labels = tuple(members[1].labels[i] for i in order)
    mixed = fer_zoo.create_ensemble(members)
    expected = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="average")
    expected.temperature = {}
    own = predict_scores(expected, gray).softmax(1).float()
    assert (fer_zoo.optimize(mixed, example=gray)(gray) - own).abs().max() < 1e-5


def test_bfloat16_is_asked_for_and_stays_near(pair, gray):
    fast = fer_zoo.optimize(pair, example=gray, dtype=torch.bfloat16)
    own = predict_scores(pair, gray).softmax(1).float()
    assert 0 < (fast(gray) - own).abs().max() < 0.05
    assert (fast(gray).argmax(1) == own.argmax(1)).all()
    assert fast.engine == "torch"
    with pytest.raises(ArgumentError, match=r"torch\.int16"):
        fer_zoo.optimize(pair, dtype=torch.int16)
    with pytest.raises(ArgumentError, match="faces are gray"):
        fer_zoo.optimize(pair, example=torch.zeros(48, 48))
    with pytest.raises(ArgumentError, match="expected a model"):
        fer_zoo.optimize(nn.Linear(1, 1))


@pytest.mark.parametrize("preset", ["fer40_center", "fer40_tencrop"])
@pytest.mark.slow
def test_less_memory_means_smaller_batches(labelled, monkeypatch, preset):
    """The same scores in halves; one image must fit."""
    images, seen, room = torch.randint(0, 256, (150, 48, 48), dtype=torch.uint8), [], [40]
    own = predict_scores(labelled, images, preset=preset)
    forward = labelled.forward

    def run(views):
        seen.append(len(views))
        if len(views) > room[0]:
            raise torch.OutOfMemoryError("no room")
        return forward(views)

    monkeypatch.setattr(labelled, "forward", run)
    found = predict_scores(labelled, images, preset=preset)
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
    assert max(seen) > 40 >= seen[-1]
    room[0] = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict_scores(labelled, images, preset=preset)


def test_a_predictor_reads_files_ahead_in_order(labelled, tmp_path: Path):
    """What cannot be read keeps its place."""
    from PIL import Image

    paths = []
    for i in range(23):
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(ramp(9 * i)).save(paths[-1])
    paths[5].write_bytes(b"no image")
    predict = fer_zoo.Predictor(labelled, batch_size=4)
    found = list(predict.stream(paths))
    assert [p.source for p in found] == list(map(str, paths))
    assert [p.error is not None for p in found] == [i == 5 for i in range(23)]
    for i in (0, 6, 22):
        assert predict(paths[i]).probabilities == pytest.approx(found[i].probabilities, abs=1e-6)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.slow
def test_a_wrong_engine_is_not_used(labelled, monkeypatch, engine):
    """By its probabilities, or by its winners where probabilities are flat."""

    def answer(value):
        monkeypatch.setattr(engines.TorchEngine, "scores", lambda self, x, *_, **__: value(x))
        monkeypatch.setattr(programs.Program, "scores", lambda self, x, *_, **__: value(x))

    own = predict_scores(labelled, runtime.smooth_faces(64))
    for value in (1.5 * own, own * float("nan"), own.flip(1)):
        answer(lambda x, value=value: value[: len(x)])
        with pytest.raises(OptimizeError, match=f"{engine} does not give the answers"):
            fer_zoo.optimize(labelled, engine=engine)
    flat = fer_zoo.create("resnet18_025", weights="default")
    flat.temperature = {flat.preset: 8.0}
    answer(lambda x: torch.zeros(len(x), 7))
    with pytest.raises(OptimizeError, match=r"'agreement': 0\.[0-3]"):
        fer_zoo.optimize(flat, engine=engine)


def test_a_network_that_cannot_be_folded_is_used_as_it_is(labelled, gray, monkeypatch):
    class Wrong(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 7)

    own = predict_scores(labelled, gray).softmax(1)
    monkeypatch.setattr(engines, "fold", lambda network, x: Wrong())
    found = fer_zoo.Predictor(labelled)(gray)
    assert [[*p.probabilities.values()] for p in found] == [
        pytest.approx(row) for row in own.tolist()
    ]


def test_operators_that_are_not_public_may_be_gone_or_fail(labelled, monkeypatch):
    x = torch.rand(2, 1, 40, 40)

    def broken(*_):
        raise RuntimeError("gone")

    with torch.inference_mode():
        own = labelled(x)
        for name in ("_pack", "forward"):
            with monkeypatch.context() as patch:
                patch.setattr(PackedConv2d, name, broken)
                other = fold(labelled, x)
                assert PackedConv2d not in [type(m) for m in other.modules()]
                torch.testing.assert_close(other(x), own)


def test_a_network_that_cannot_be_exported(labelled, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(programs, "to_onnx", broken)
    with pytest.raises(OptimizeError, match="no such operator; use engine='torch'"):
        fer_zoo.optimize(labelled, engine="onnxruntime")


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.slow
def test_the_transform_is_chosen_and_told_apart_by_what_it_does(labelled, gray, engine):
    """onnxruntime has it inside, so it refuses another, even one of the same name."""
    ten = fer_zoo.optimize(labelled, example=gray, preset="fer40_tencrop", engine=engine)
    own = predict_scores(labelled, gray, preset="fer40_tencrop")
    torch.testing.assert_close(ten.predict_scores(gray), own, atol=1e-4, rtol=1e-4)
    other = dataclasses.replace(ten.preset, mean=0.1)
    if engine == "torch":
        own = predict_scores(labelled, gray, preset=other)
        found = ten.predict_scores(gray, preset=other)
        torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)
    else:
        with pytest.raises(ArgumentError, match=r"has the preset .* inside"):
            ten.predict_scores(gray, preset=other)
    for wrong in ({"engine": "tensorrt"}, {"engine": "onnxruntime", "compile": True}):
        with pytest.raises(ArgumentError):
            fer_zoo.optimize(labelled, **wrong)


@pytest.mark.slow
def test_what_is_asked_of_a_model_in_training_mode_leaves_the_mode_alone(gray, tmp_path: Path):
    """Even while other threads ask, and answers are those of evaluation every time."""
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
    own = predict_scores(model, gray)
    model.train()
    model.members[0].bn1.eval()
    modes = [module.training for module in model.modules()]
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: predict_scores(model, gray), range(12)):
            torch.testing.assert_close(found, own)
    member_scores(model, gray)
    fer_zoo.Predictor(model)
    fer_zoo.optimize(model)
    fer_zoo.export(model, tmp_path / "m.onnx")
    assert [module.training for module in model.modules()] == modes
    found = fer_zoo.Predictor(model)._runner.predict_scores(gray)
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


MEMORY = """
import gc, os, sys, torch, fer_zoo

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

warm = fer_zoo.create("resnet18_025", weights="default")
fer_zoo.Predictor(warm)
before = resident()
model = fer_zoo.create("vgg19")
model.labels = fer_zoo.labels.FER2013
size = sum(p.numel() for p in model.parameters()) * 4 / 1e6
predict = fer_zoo.Predictor(model)
both = resident() - before
del model
print((both - size) / size, (resident() - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.slow
def test_a_predictor_has_one_copy_of_the_weights():
    """Beside the caller's model; and alone once that is gone."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    beside, alone = map(float, done.stdout.split())
    assert 0.5 < beside < 1.8, done.stdout
    assert 0.5 < alone < 1.8, done.stdout


@pytest.mark.slow
def test_as_many_faces_as_the_example_are_one_batch(labelled, monkeypatch):
    fast = fer_zoo.optimize(labelled, example=torch.zeros(300, 48, 48, dtype=torch.uint8))
    seen = []
    monkeypatch.setattr(
        fast._scoring, "scores", lambda x, preset: seen.append(len(x)) or torch.zeros(len(x), 7)
    )
    fast(torch.zeros(300, 48, 48, dtype=torch.uint8))
    assert seen == [300]


def test_a_predictor_of_what_optimize_returned(pair):
    own, fast = fer_zoo.Predictor(pair)(list(FACES)), fer_zoo.optimize(pair)
    for a, b in zip(own, fer_zoo.Predictor(fast)(list(FACES)), strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
    with pytest.raises(ArgumentError, match=r"\['fusion'\] cannot be changed"):
        fer_zoo.Predictor(fast, fusion="average")
    with pytest.raises(LabelError, match="was not trained"):
        fer_zoo.Predictor(fer_zoo.optimize(fer_zoo.create("test_tiny")))


@pytest.mark.parametrize(
    "preset", [pytest.param("fer40_center", marks=pytest.mark.weekly), "fer40_tencrop"]
)
def test_an_onnx_file_gives_the_models_probabilities(pair, gray, tmp_path: Path, preset):
    """For any batch, with its preset inside; onnxruntime alone runs it, and so does a predictor."""
    import onnxruntime

    pair.preset = preset
    path = fer_zoo.export(pair, tmp_path / "pair.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    own = predict_scores(pair, gray).softmax(1).float()
    for n in (1, 3, 7):
        (found,) = session.run(None, {"images": gray[:n].numpy()})
        assert np.abs(found - own[:n].numpy()).max() < 1e-5
    about = json.loads(session.get_modelmeta().custom_metadata_map["fer_zoo"])
    assert tuple(about["labels"]) == pair.labels
    assert about["preset"]["name"] == preset
    assert about["shape"] == ["batch", 1, 48, 48]
    predict = fer_zoo.Predictor(path)
    assert predict.labels == pair.labels
    one = fer_zoo.Predictor(pair)(gray[0])
    assert predict(gray[0]).probabilities == pytest.approx(one.probabilities, abs=1e-5)
    with pytest.raises(ArgumentError, match=r"has the preset .* inside"):
        fer_zoo.Predictor(path, preset="fer48_plain")(gray[0])
    with pytest.raises(ArgumentError, match=r"\['fusion'\]"):
        fer_zoo.Predictor(path, fusion="average")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_an_onnx_file_without_the_transform(gray, tmp_path: Path, channels, capfd, caplog):
    caplog.set_level(logging.INFO)
    model = shaken(fer_zoo.create("test_tiny", in_channels=channels))
    model.labels = fer_zoo.labels.FER2013
    own = predict_scores(model, gray).softmax(1)
    path = fer_zoo.export(model, tmp_path / "M.ONNX", transform=False)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("onnx")]
    found = fer_zoo.Predictor(path)(gray)
    expected = pytest.approx(own.max(1).values.tolist(), abs=1e-5)
    assert [p.probability for p in found] == expected
    session = programs.Session(path.read_bytes)
    views = fer_zoo.create_transform(model)(gray)
    assert (session(views) - own).abs().max() < 1e-5
    threads = session.session.get_session_options().intra_op_num_threads
    assert threads == torch.get_num_threads()
    again = path.read_bytes()
    with pytest.raises(WeightsError, match="sha256"):
        fer_zoo.Predictor(f"{path}#sha256={'0' * 64}")
    pinned = fer_zoo.Predictor(f"{path}#sha256={hashlib.sha256(again).hexdigest()}")
    assert pinned(gray[0]).label == found[0].label


@pytest.mark.slow
def test_a_preset_of_ones_own_comes_with_the_file(labelled, gray, tmp_path: Path):
    """A process that never registered it labels by the file alone."""
    fer_zoo.register_preset(
        fer_zoo.transforms.Preset(
            name="own44", resize=46, size=44, views="center", mean=0.5, std=0.25
        )
    )
    labelled.preset = "own44"
    path = fer_zoo.export(labelled, tmp_path / "own.onnx")
    code = (
        "import sys, torch, fer_zoo\n"
        "print([p.probability for p in fer_zoo.Predictor(sys.argv[1])(torch.load(sys.argv[2]))])"
    )
    torch.save(gray, tmp_path / "gray.pt")
    line = [sys.executable, "-W", "ignore", "-c", code, path, tmp_path / "gray.pt"]
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    own = predict_scores(labelled, gray).softmax(1).max(1).values
    assert json.loads(printed) == pytest.approx(own.tolist(), abs=0.01)


def test_what_cannot_be_exported(labelled, tmp_path: Path, monkeypatch):
    for path, why in (("m.pt", "ends in .onnx or .pt2"), ("m", "ends in")):
        with pytest.raises(ArgumentError, match=why):
            fer_zoo.export(labelled, tmp_path / path)
    with pytest.raises(ArgumentError, match="expected a model"):
        fer_zoo.export(nn.Linear(1, 1), tmp_path / "m.onnx")
    with pytest.raises(ArgumentError, match="whether it is part of the file"):
        fer_zoo.export(labelled, tmp_path / "m.onnx", transform="inside")
    labelled.preset = "fer40_tencrop"  # fused and calibrated in the file, averaged outside
    with pytest.raises(ArgumentError, match=r"10 views of a face, .* export with transform=True"):
        fer_zoo.export(labelled, tmp_path / "m.onnx", transform=False)
    labelled.preset = "fer40_center"
    with pytest.raises(ArgumentError, match=r"model\.cpu\(\)\.float\(\)"):
        fer_zoo.export(labelled.bfloat16(), tmp_path / "m.onnx")
    with pytest.raises(LabelError, match="not trained"):
        fer_zoo.export(fer_zoo.create("test_tiny"), tmp_path / "m.onnx")
    monkeypatch.setattr(programs.Session, "__call__", lambda self, x: torch.zeros(len(x), 7))
    with pytest.raises(OptimizeError, match="so it was not written"):
        fer_zoo.export(labelled.float(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_export_did_not_write(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such file"):
        fer_zoo.Predictor(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="did not write this file"):
        fer_zoo.Predictor(tmp_path / "bad.onnx")
    foreign = programs.to_onnx(nn.ReLU().eval(), torch.rand(2, 3), names=("x", "y"))
    (tmp_path / "foreign.onnx").write_bytes(foreign)
    with pytest.raises(CheckpointError, match=r"is not JSON: .* did not write this file"):
        fer_zoo.Predictor(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_taken_as_it_is(gray, dtype):
    model = fer_zoo.create("resnet18_025", weights="default", dtype=dtype)
    own = predict_scores(model, gray).softmax(1)
    fast = fer_zoo.optimize(model, example=gray)
    assert (fast(gray) - own).abs().max() < runtime.TOLERANCE[dtype]
    assert fer_zoo.Predictor(model)(gray[0, 0].numpy()).label in model.labels


def test_faces_have_one_channel(labelled):
    fast = fer_zoo.optimize(labelled)
    for wrong in (torch.zeros(48, 48), torch.zeros(2, 3, 48, 48)):
        with pytest.raises(ArgumentError, match="faces are gray"):
            fast(wrong)
        with pytest.raises(ArgumentError, match="faces are gray"):
            fer_zoo.optimize(labelled, example=wrong)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_memory_that_ends_on_a_cpu_halves_the_batch(error):
    seen = []

    def run(part):
        seen.append(len(part))
        if len(part) > 3:
            raise error
        return part

    found = in_parts(torch.arange(10), run, batch_size=8, views=1)
    assert torch.cat(found).tolist() == list(range(10))
    assert seen[:3] == [8, 4, 2]
    with pytest.raises(ZeroDivisionError):
        in_parts(torch.arange(10), lambda part: 1 / 0, batch_size=8, views=1)
