"""Faster forms of a model give its answers: folding, engines, memory, exported files."""

import copy
import dataclasses
import json
import logging
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import fer_zoo
from conftest import NETWORKS, ROOT, TIMM
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    InputError,
    LabelError,
    OptimizeError,
)
from fer_zoo.inference import engines, exported, predict_scores, runtime
from fer_zoo.inference.fold import PackedConv2d, fold
from fer_zoo.inference.scoring import BatchSize, in_parts, scores_by
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
    with pytest.raises(ArgumentError, match="model of the zoo"):
        fer_zoo.optimize(nn.Linear(1, 1))


def test_int8_is_scaled_for_the_faces_it_is_given(gray):
    model = fer_zoo.create("resnet18_025", weights="default")
    with pytest.raises(ArgumentError, match="pass example= with 32"):
        fer_zoo.optimize(model, dtype=torch.int8)
    with pytest.raises(ArgumentError, match="pass example= with 32"):
        fer_zoo.optimize(model, dtype=torch.int8, example=gray)
    shifted = torch.cat([gray.roll((dy, dx), (2, 3)) for dy in (-2, 0, 2) for dx in (-2, 2)])
    fast = fer_zoo.optimize(model, dtype=torch.int8, example=shifted)
    assert fast.engine == "onnxruntime"
    assert fast.report["agreement"] >= 0.95
    own = predict_scores(model, gray).softmax(1).float()
    assert 1e-4 < (fast(gray) - own).abs().max() < 0.25


@pytest.mark.real_data
def test_int8_costs_little_on_real_faces(real_public, fer2013_root):
    """No more than 0.3 points on PublicTest, scaled on Training."""
    train = fer_zoo.data.FER2013(fer2013_root, "train").subset(512)
    for name in NAMES:
        model = fer_zoo.create(name, weights="default")
        fast = fer_zoo.optimize(model, dtype=torch.int8, example=train.images)
        right = fast(real_public.images).argmax(1) == real_public.targets_for(model.labels)
        own = predict_scores(model, real_public.images).argmax(1)
        before = (own == real_public.targets_for(model.labels)).float().mean()
        assert right.float().mean() > before - 0.003


def test_a_wrong_engine_is_not_used(labelled, monkeypatch, caplog):
    """Where one of two is wrong the other is taken; where all are, nothing is returned."""
    right = engines.TorchEngine._run
    monkeypatch.setattr(engines.TorchEngine, "_run", lambda self, x: right(self, x) * 1.5)
    fast = fer_zoo.optimize(labelled)
    assert fast.engine == "onnxruntime"
    assert "torch differs from the model by" in caplog.text
    monkeypatch.setattr(runtime, "_onnx_installed", lambda: False)
    with pytest.raises(OptimizeError, match="no engine gives the answers of 'test_tiny'"):
        fer_zoo.optimize(labelled)
    monkeypatch.setattr(engines.TorchEngine, "_run", lambda self, x: right(self, x) * float("nan"))
    with pytest.raises(OptimizeError):
        fer_zoo.optimize(labelled)
    # A predictor then takes the model as it is.
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    found = fer_zoo.Predictor(labelled)(face).probabilities
    own = predict_scores(labelled, torch.from_numpy(face)[None]).softmax(1)[0]
    assert list(found.values()) == pytest.approx(own.tolist())


def test_the_faster_engine_is_chosen_by_the_size_of_the_batch(labelled, monkeypatch):
    """Measured, not believed: one engine that is slow for one face, one that is slow for many."""
    monkeypatch.setattr(runtime, "TRIAL", 0.02)

    def slowed(cls, slow):
        right = cls.scores

        def scores(self, images, *how):
            if slow(len(images)):
                time.sleep(0.05)
            return right(self, images, *how)

        monkeypatch.setattr(cls, "scores", scores)

    slowed(engines.TorchEngine, lambda n: n < 8)
    slowed(engines.OnnxEngine, lambda n: n >= 8)
    fast = fer_zoo.optimize(labelled, example=torch.zeros(16, 48, 48, dtype=torch.uint8))
    assert {n: engine.name for n, engine in fast._engines.items()} == {
        1: "onnxruntime",
        16: "torch",
    }
    assert fast._engine_for(2).name == "onnxruntime"
    assert fast._engine_for(9).name == fast._engine_for(500).name == fast.engine == "torch"
    assert set(fast.report["milliseconds"]) == {1, 16}


@pytest.mark.parametrize("preset", ["fer40_center", "fer40_tencrop"])
def test_less_memory_means_smaller_batches(labelled, preset):
    """The same scores in halves; twice as many are tried again later; one image must fit."""
    images, seen, room = torch.randint(0, 256, (150, 48, 48), dtype=torch.uint8), [], [40]
    own = predict_scores(labelled, images, preset=preset)

    def run(views):
        seen.append(len(views))
        if len(views) > room[0]:
            raise torch.OutOfMemoryError("no room")
        return labelled(views)[None]

    how = {"channels": 1, "device": torch.device("cpu")}
    size = BatchSize(256)
    with torch.inference_mode():
        found = scores_by(run, images, PRESETS[preset], size=size, **how)
    torch.testing.assert_close(found[0].double(), own, atol=1e-5, rtol=1e-5)
    assert max(seen) > 40
    assert size.now <= 64
    room[0] = 10_000
    with torch.inference_mode():
        for _ in range(8):
            if size.now < 256:
                scores_by(run, images, PRESETS[preset], size=size, **how)
    assert size.now == 256
    room[0] = 0
    with pytest.raises(torch.OutOfMemoryError), torch.inference_mode():
        scores_by(run, images, PRESETS[preset], size=size, **how)


def test_a_predictor_reads_files_ahead_in_order(labelled, tmp_path: Path):
    """Fewer than three batches are ever open, and what cannot be read keeps its place."""
    from PIL import Image

    paths = []
    for i in range(23):
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(np.full((48, 48), 10 * i, np.uint8)).save(paths[-1])
    paths[5].write_bytes(b"no image")
    taken = []

    def files():
        for path in paths:
            taken.append(path)
            yield path

    predict = fer_zoo.Predictor(labelled, batch_size=4)
    stream = predict.stream(files())
    first = next(stream)
    assert len(taken) == 8
    found = [first, *stream]
    assert [p.source for p in found] == list(map(str, paths))
    assert [p.error is not None for p in found] == [i == 5 for i in range(23)]
    for i in (0, 6, 22):
        assert predict(paths[i]).probabilities == pytest.approx(found[i].probabilities, abs=1e-6)


def test_a_predictor_of_what_optimize_returned(pair):
    own, fast = fer_zoo.Predictor(pair)(list(FACES)), fer_zoo.optimize(pair)
    for a, b in zip(own, fer_zoo.Predictor(fast)(list(FACES)), strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
    with pytest.raises(ArgumentError, match=r"\['fusion'\] cannot be changed"):
        fer_zoo.Predictor(fast, fusion="average")
    with pytest.raises(LabelError, match="was not trained"):
        fer_zoo.Predictor(fer_zoo.optimize(fer_zoo.create("test_tiny")))


@pytest.mark.parametrize("preset", ["fer40_center", "fer40_tencrop"])
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
    assert about["preset"] == preset
    assert about["shape"] == ["batch", 1, 48, 48]
    predict = fer_zoo.Predictor(path)
    assert predict.labels == pair.labels
    one = fer_zoo.Predictor(pair)(gray[0])
    assert predict(gray[0]).probabilities == pytest.approx(one.probabilities, abs=1e-5)
    with pytest.raises(ArgumentError, match="exported with the preset"):
        fer_zoo.Predictor(path, preset="fer48_plain")(gray[0])
    with pytest.raises(ArgumentError, match=r"\['fusion'\]"):
        fer_zoo.Predictor(path, fusion="average")


def test_an_onnx_file_with_the_preset_outside(pair, gray, tmp_path: Path):
    path = fer_zoo.export(pair, tmp_path / "pair.onnx", preset="outside")
    own = predict_scores(pair, gray).softmax(1).float()
    views = fer_zoo.create_transform(pair)(gray)
    assert (exported.Exported(path).run(views) - own).abs().max() < 1e-5
    predictions = fer_zoo.Predictor(path)(gray)
    assert [p.score for p in predictions] == pytest.approx(own.max(1).values.tolist(), abs=1e-5)


def test_an_rgb_model_is_exported_for_gray_faces(gray, tmp_path: Path):
    model = shaken(fer_zoo.create("test_tiny", in_channels=3))
    model.labels = fer_zoo.labels.FER2013
    own = predict_scores(model, gray).softmax(1)
    for where in ("inside", "outside"):
        path = fer_zoo.export(model, tmp_path / f"{where}.onnx", preset=where)
        found = fer_zoo.Predictor(path)(gray)
        assert [p.score for p in found] == pytest.approx(own.max(1).values.tolist(), abs=1e-5)


def test_an_aotinductor_package(gray, tmp_path: Path):
    """Compiled to machine code, with its labels, run in a process of its own."""
    model = fer_zoo.create("plain_test").eval()
    model.labels = fer_zoo.labels.FER2013
    path = fer_zoo.export(model, tmp_path / "plain.pt2")
    own = predict_scores(model, gray).softmax(1)
    code = (
        "import sys, torch, fer_zoo\n"
        "found = fer_zoo.Predictor(sys.argv[1])(torch.load(sys.argv[2], weights_only=True))\n"
        "print([p.score for p in found], found[0].label)"
    )
    torch.save(gray, tmp_path / "gray.pt")
    line = [sys.executable, "-W", "ignore", "-c", code, path, tmp_path / "gray.pt"]
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    scores = json.loads(printed[: printed.index("]") + 1])
    assert scores == pytest.approx(own.max(1).values.tolist(), abs=1e-5)
    assert model.labels[int(own[0].argmax())] in printed


def test_what_cannot_be_exported(labelled, tmp_path: Path, monkeypatch):
    for path, why in (("m.pt", "ends in .onnx or .pt2"), ("m", "ends in")):
        with pytest.raises(ArgumentError, match=why):
            fer_zoo.export(labelled, tmp_path / path)
    with pytest.raises(ArgumentError, match="model of the zoo"):
        fer_zoo.export(nn.Linear(1, 1), tmp_path / "m.onnx")
    with pytest.raises(ArgumentError, match="'inside' or 'outside'"):
        fer_zoo.export(labelled, tmp_path / "m.onnx", preset="none")
    with pytest.raises(ArgumentError, match=r"model\.cpu\(\)\.float\(\)"):
        fer_zoo.export(labelled.bfloat16(), tmp_path / "m.onnx")
    with pytest.raises(LabelError, match="not trained"):
        fer_zoo.export(fer_zoo.create("test_tiny"), tmp_path / "m.onnx")
    monkeypatch.setattr(exported.Exported, "run", lambda self, x: torch.zeros(len(x), 7))
    with pytest.raises(OptimizeError, match="so it was not written"):
        fer_zoo.export(labelled.float(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_export_did_not_write(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such file"):
        fer_zoo.Predictor(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises((CheckpointError, ArgumentError), match="cannot read"):
        fer_zoo.Predictor(tmp_path / "bad.onnx")
    foreign = engines.to_onnx(nn.ReLU(), torch.rand(2, 3), names=("x", "y"))
    (tmp_path / "foreign.onnx").write_bytes(foreign)
    with pytest.raises(CheckpointError, match="did not write this file"):
        fer_zoo.Predictor(tmp_path / "foreign.onnx")


def test_threads_are_torchs(labelled):
    """onnxruntime takes as many threads as torch was told to."""
    program = engines.to_onnx(labelled, torch.rand(2, 1, 40, 40), names=("x", "y"))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        options = engines.session(program).get_session_options()
        assert options.intra_op_num_threads == 1
    finally:
        torch.set_num_threads(before)


def test_graphs_are_kept_for_the_last_few_sizes(monkeypatch):
    """One recording per shape; the one that was not used for longest goes."""

    class Recording:
        def __init__(self, x):
            self.x, self.out = x, torch.empty(len(x))

        def replay(self):
            self.out.copy_(self.x.sum(1))

    made = []

    def capture(self, x):
        made.append(len(x))
        recording = Recording(x.clone())
        return recording, recording.x, recording.out

    monkeypatch.setattr(engines.Graphs, "_capture", capture)
    graphs = engines.Graphs(None)
    for n in (1, 2, 1, *range(3, engines.GRAPH_SIZES + 2), 1, 2):
        x = torch.rand(n, 4)
        torch.testing.assert_close(graphs(x), x.sum(1))
    assert made == [*range(1, engines.GRAPH_SIZES + 2), 2]


def test_no_image_gives_no_prediction(labelled):
    predict = fer_zoo.Predictor(labelled)
    assert predict([]) == []
    with pytest.raises(InputError):
        predict(ROOT / "nothing.png")


def test_export_is_quiet(labelled, tmp_path: Path, capfd, caplog):
    caplog.set_level(logging.INFO)
    fer_zoo.export(labelled, tmp_path / "quiet.onnx")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("onnx")]


def test_a_predictor_looks_for_a_faster_engine_once_it_has_worked_for_a_while(
    gray, monkeypatch, caplog
):
    """Not for a few faces; then once, and only for an engine that gives the same answers."""
    caplog.set_level("INFO", logger="fer_zoo")
    monkeypatch.setattr(runtime, "TRIAL", 0.01)
    right = engines.TorchEngine.scores

    def slow(self, *how):
        time.sleep(0.03)
        return right(self, *how)

    monkeypatch.setattr(engines.TorchEngine, "scores", slow)
    model = fer_zoo.create("resnet18_025", weights="default")
    faces = list(gray[:, 0].numpy())
    quick = fer_zoo.Predictor(model)
    before = [quick(faces) for _ in range(3)][-1]
    assert quick._runner.engine == "torch"
    monkeypatch.setattr(runtime, "PATIENCE", 0.05)
    predict, changed = fer_zoo.Predictor(model), fer_zoo.Predictor(model)
    for _ in range(3):
        found = predict(faces)
    assert predict._runner.engine == "onnxruntime"
    assert caplog.text.count("goes on with onnxruntime") == 1
    for one, other in zip(before, found, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    with torch.no_grad():  # a snapshot stays one
        model.get_classifier().weight.mul_(2)
    for _ in range(3):
        later = changed(faces)
    assert changed._runner.engine == "onnxruntime"
    assert [p.probabilities for p in later] == [
        pytest.approx(p.probabilities, abs=1e-5) for p in before
    ]


def test_a_network_that_cannot_be_exported_runs_in_torch(labelled, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(engines, "to_onnx", broken)
    fast = fer_zoo.optimize(labelled)
    assert fast.engine == "torch"
    assert "has no onnxruntime engine: no such operator" in caplog.text


def test_a_wrong_winner_is_refused_where_probabilities_are_flat(monkeypatch):
    """An engine that says the same of every face is near in probability and no engine."""
    model = fer_zoo.create("resnet18_025", weights="default")
    model.temperature = {model.preset: 8.0}

    def flat(self, views):
        return torch.zeros(1, len(views), 7)

    monkeypatch.setattr(engines.TorchEngine, "member_logits", flat)
    with pytest.raises(OptimizeError, match=r"'agreement': 0\.[0-3]"):
        fer_zoo.optimize(model, dtype=torch.bfloat16)


def test_what_a_predictor_does_leaves_the_model_alone(gray, monkeypatch):
    """Frozen parts stay frozen, and a model that is changed meanwhile changes no answer."""
    monkeypatch.setattr(runtime, "PATIENCE", 0.0)
    monkeypatch.setattr(runtime, "TRIAL", 0.01)
    model = fer_zoo.create("resnet18_025", weights="default").train()
    model.bn1.eval()
    faces = list(gray[:, 0].numpy())
    predict = fer_zoo.Predictor(model)
    model.train()
    model.bn1.eval()
    model.reset_classifier(5)
    found = [predict(faces) for _ in range(3)]
    assert len({tuple(p.label for p in one) for one in found}) == 1
    assert not model.bn1.training
    assert model.layer1.training
    predict_scores(model, gray)
    assert not model.bn1.training
    assert model.layer1.training


def test_a_search_that_fails_costs_no_answer(gray, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "PATIENCE", 0.0)

    def broken(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(runtime, "_in_onnx", broken)
    predict = fer_zoo.Predictor("resnet18_025")
    assert len(predict(list(gray[:, 0].numpy()))) == len(gray)
    assert "stays with torch: no" in caplog.text


def test_predictors_and_optimized_models_can_be_copied_and_pickled(gray):
    """As worker processes need it; oneDNN's memory itself cannot."""
    face = gray[0, 0].numpy()
    predict = fer_zoo.Predictor("resnet18_025")
    for other in (copy.deepcopy(predict), pickle.loads(pickle.dumps(predict))):
        assert other(face).probabilities == pytest.approx(predict(face).probabilities, abs=1e-6)
    model = fer_zoo.create("resnet18_025", weights="default")
    fast = fer_zoo.optimize(model, dtype=torch.bfloat16, example=gray)
    again = pickle.loads(pickle.dumps(fast))
    torch.testing.assert_close(again(gray), fast(gray))


def test_another_transform_of_the_same_name_is_another_transform(labelled, gray):
    """onnxruntime has the transform inside; a file says that it has."""
    fast = fer_zoo.optimize(labelled, example=gray)
    other = dataclasses.replace(fast.preset, mean=0.1)
    own = predict_scores(labelled, gray, preset=other)
    torch.testing.assert_close(fast.predict_scores(gray, preset=other), own, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(fast.predict_scores(gray), own, atol=1e-3)


def test_the_transform_is_chosen_by_name(labelled, gray):
    ten = fer_zoo.optimize(labelled, example=gray, preset="fer40_tencrop")
    own = predict_scores(labelled, gray, preset="fer40_tencrop")
    torch.testing.assert_close(ten.predict_scores(gray), own, atol=1e-4, rtol=1e-4)
    assert set(ten.report["milliseconds"]) == {10, 10 * len(gray)}
    # Faces are counted by their views.
    slow, quick = ten._engines[10], ten._engines[10 * len(gray)]
    assert ten._engine_for(10) is slow
    assert ten._engine_for(9 * len(gray)) is quick


def test_an_engine_that_was_wrong_answers_for_no_transform(labelled, gray, monkeypatch):
    right = engines.TorchEngine.member_logits
    monkeypatch.setattr(engines.TorchEngine, "member_logits", lambda self, x: right(self, x) * 1.5)
    fast = fer_zoo.optimize(labelled, example=gray)
    assert fast.engine == "onnxruntime"
    own = predict_scores(labelled, gray, preset="fer40_tencrop")
    labelled.temperature = {"fer40_tencrop": 3.0}  # a snapshot stays one
    found = fast.predict_scores(gray, preset=PRESETS["fer40_tencrop"])
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


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

    found = in_parts(torch.arange(10), run, size=BatchSize(8), views=1)
    assert torch.cat(found).tolist() == list(range(10))
    assert seen[:3] == [8, 4, 2]
    with pytest.raises(ZeroDivisionError):
        in_parts(torch.arange(10), lambda part: 1 / 0, size=BatchSize(8), views=1)


def test_tf32_is_no_wrong_answer(monkeypatch):
    """Convolutions of GPUs keep ten bits of each factor, in the model's own answers as in ours."""
    model = fer_zoo.create("resnet18_025", weights="default")
    like = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.float32)
    monkeypatch.setattr(model, "parameters", lambda: iter([like]))
    assert runtime._near(model, torch.float32) == runtime.TF32
    assert runtime._near(model, torch.bfloat16) == runtime.TOLERANCE[torch.bfloat16]


def test_as_many_faces_as_the_example_are_one_batch(labelled, monkeypatch):
    fast = fer_zoo.optimize(labelled, example=torch.zeros(300, 48, 48, dtype=torch.uint8))
    seen = []
    for engine in {id(e): e for e in [*fast._engines.values(), fast._plain]}.values():
        monkeypatch.setattr(
            engine, "scores", lambda x, p, size: seen.append(size.now) or torch.zeros(len(x), 7)
        )
    fast(torch.zeros(300, 48, 48, dtype=torch.uint8))
    assert seen == [300]


def test_graphs_of_several_threads_do_not_mix(monkeypatch):
    """Each size has one place for what comes in and what goes out."""

    def capture(self, x):
        inputs, outputs = x.clone(), torch.empty(len(x))
        graph = SimpleNamespace()

        def replay():
            time.sleep(0.0005)
            outputs.copy_(inputs.sum(1))

        graph.replay = replay
        return graph, inputs, outputs

    monkeypatch.setattr(engines.Graphs, "_capture", capture)
    graphs = engines.Graphs(None)

    def ask(value):
        x = torch.full((2, 3), float(value))
        return all(torch.equal(graphs(x), x.sum(1)) for _ in range(30))

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(ask, range(3)))
    first = graphs(torch.ones(2, 3))
    graphs(torch.zeros(2, 3))
    assert first.tolist() == [3.0, 3.0]  # an answer is kept apart from the next
