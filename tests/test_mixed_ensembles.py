"""Ensembles whose members each see their own view of a face: other sizes, crops, or colours."""

import json
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import run, stripes
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.inference import fuse, member_scores, predict_scores
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import PRESETS, Preset, counterparts
from fer_zoo.transforms.presets import OfFile
from small_transformers import save

NEAR = 1e-6
WHOLE = Preset(name="whole_test", resize=24, size=24, views="plain")
TEN = Preset(name="ten_test", resize=30, size=24, views="tencrop")
COLOURS = Preset(
    name="colours_test", resize=37, size=28, views="mirror", color=True, interpolation="bicubic",
    mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4),
)  # fmt: skip
BY_OWN = "each see their own view"


def network(seed: int, preset: str | Preset, channels: int = 1) -> Classifier:
    """Return a tiny network with labels, a temperature, and answers that are not all alike."""
    torch.manual_seed(seed)
    model = fer_zoo.create("plain_test", in_channels=channels).eval()
    x = torch.nn.functional.interpolate(torch.rand(40, channels, 6, 6), (36, 36), mode="bilinear")
    with torch.no_grad():  # logits that differ from face to face, around 0
        model.fc.weight.mul_(2 / model(x).std(0).mean())
        model.fc.bias.sub_(model(x).mean(0))
    model.preset = preset if isinstance(preset, str) else OfFile(preset)
    model.labels = fer_zoo.labels.FER2013
    model.temperature = {model.preset: 2.5}
    return model


@pytest.fixture
def members() -> list[Classifier]:
    """A gray one, one with ten views of another size, and one that sees colours."""
    found = [network(0, WHOLE), network(1, TEN), network(2, COLOURS, 3)]
    order = [3, 0, 6, 1, 2, 5, 4]
    found[1].labels = tuple(fer_zoo.labels.FER2013[i] for i in order)
    found[1].temperature = {"ten_test": 0.5}
    return found


@pytest.fixture
def mixed(members: list[Classifier]) -> Ensemble:
    return fer_zoo.create_ensemble(members)


@pytest.fixture
def faces() -> FaceDataset:
    rough = torch.rand(210, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(rough, (48, 48), mode="bilinear")
    images = (255 * smooth[:, 0]).byte()
    return FaceDataset(images, torch.arange(210) % 7, labels=fer_zoo.labels.FER2013, name="smooth")


def pictures() -> list[Any]:
    """Images of every kind, in colour and not, square and not."""
    rng = np.random.default_rng(0)
    rough = [Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)) for _ in range(5)]
    sizes = [(48, 48), (37, 37), (130, 90), (44, 60), (300, 200)]
    images: list[Any] = [p.resize(size, 3) for p, size in zip(rough, sizes, strict=True)]
    arrays = [np.array(images[2]), np.array(images[3]) / np.float32(255)]
    return [*images, *arrays, images[4].convert("L"), torch.from_numpy(arrays[0]).permute(2, 0, 1)]


def alone(member: Classifier, images: list[Any]) -> torch.Tensor:
    """Return the probabilities of a member's own predictor, uncalibrated, in FER2013's order."""
    kept, member.temperature = member.temperature, {}
    told = fer_zoo.Predictor(member)(images)
    member.temperature = kept
    rows = [[p.probabilities[name] for name in fer_zoo.labels.FER2013] for p in told]
    return torch.tensor(rows, dtype=torch.float64)


def of(told: Any) -> torch.Tensor:
    assert {p.error for p in told} == {None}
    return torch.tensor([[*p.probabilities.values()] for p in told], dtype=torch.float64)


def test_each_member_sees_what_it_sees_alone(mixed: Ensemble, members: list[Classifier]):
    """Its own size, views, crop, interpolation and colours, of the image itself."""
    assert mixed.mixed
    assert PRESETS[mixed.preset].views == "members"
    assert "preset='members' (gray and RGB)" in repr(mixed)
    images, single = pictures(), [alone(m, pictures()) for m in members]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert float((single[i] - single[j]).abs().max()) > 0.05
        assert float(single[i].std(0).max()) > 0.01
    found = of(fer_zoo.Predictor(mixed)(images))
    torch.testing.assert_close(found, torch.stack(single).mean(0), atol=NEAR, rtol=0)
    parts = [fer_zoo.Predictor(mixed, batch_size=size)(images) for size in (1, 11, 30)]
    for part in parts:
        torch.testing.assert_close(of(part), found, atol=NEAR, rtol=0)
    stream = [*fer_zoo.Predictor(mixed).stream(iter(images))]
    torch.testing.assert_close(of(stream), found, atol=NEAR, rtol=0)
    only = fer_zoo.create_ensemble(members[2:])
    assert not only.mixed
    torch.testing.assert_close(of(fer_zoo.Predictor(only)(images)), single[2], atol=NEAR, rtol=0)


def test_many_faces_at_once(mixed: Ensemble, members: list[Classifier], faces: FaceDataset):
    images = faces.images[:9]
    scores = member_scores(mixed, images, batch_size=13)
    for i, member in enumerate(members):
        expected = member_scores(member, images)[0].softmax(1)
        order = fer_zoo.labels.index_map(member.labels, mixed.labels)
        torch.testing.assert_close(scores[i].softmax(1), expected[:, order], atol=NEAR, rtol=0)
    told = of(fer_zoo.Predictor(mixed)([*images.numpy()]))
    found = predict_scores(mixed, images).softmax(1)
    torch.testing.assert_close(told, found, atol=NEAR, rtol=0)
    assert torch.equal(fuse(mixed, scores).argmax(1), found.argmax(1))
    colours = torch.randint(0, 256, (4, 3, 60, 60)).byte()
    told = of(fer_zoo.Predictor(mixed)(colours))
    torch.testing.assert_close(told, predict_scores(mixed, colours).softmax(1), atol=NEAR, rtol=0)
    with pytest.raises(ArgumentError, match="faces are gray"):
        member_scores(members[0], colours)
    with pytest.raises(ArgumentError, match="or RGB"):
        member_scores(members[2], torch.zeros(4, 2, 60, 60))


def test_the_ensembles_own_temperature_counts(mixed: Ensemble, faces: FaceDataset):
    images = pictures()
    before = of(fer_zoo.Predictor(mixed)(images)).log()
    mixed.temperature = {"members": 2.0}
    after = of(fer_zoo.Predictor(mixed)(images))
    torch.testing.assert_close((before / 2).softmax(1), after, atol=NEAR, rtol=0)
    mixed.temperature = {}
    targets = predict_scores(mixed, faces.images).argmax(1)
    targets[::3] = torch.arange(70) % 7
    known = FaceDataset(faces.images, targets, labels=faces.labels, name="known")
    fitted = fer_zoo.calibrate(mixed, known)
    assert {*fitted} == {"members"} == {*mixed.temperature}
    assert fer_zoo.evaluate(mixed, known).temperature == fitted["members"]


@pytest.mark.parametrize(
    "fusion",
    [*(pytest.param(f, marks=pytest.mark.weekly) for f in ("average", "weighted")), "stacked"],
)
def test_files_hold_all_of_it(fusion: str, members: list[Classifier], faces, tmp_path: Path):
    model = fer_zoo.create_ensemble(members, fusion=fusion)
    if any(True for _ in model.fusion.parameters()):
        fit = fer_zoo.fit_fusion(model, faces[:70], even_if_worse=True)
        assert fit.report.fusion == fusion
    images = pictures()
    expected = of(fer_zoo.Predictor(model)(images))
    for path in (tmp_path / "a.safetensors", tmp_path / "folder"):
        again = fer_zoo.load(fer_zoo.save(model, path))
        assert isinstance(again, Ensemble)
        assert (again.mixed, again.state) == (True, model.state)
        assert [PRESETS[m.preset] for m in again.members] == [PRESETS[m.preset] for m in members]
        assert again.temperature == model.temperature
        assert torch.equal(of(fer_zoo.Predictor(again)(images)), expected)
    assert {p.name for p in path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    card = (path / "README.md").read_text()
    assert "gray and RGB face crops" in card
    assert "pipeline(" not in card
    assert "model_type" not in json.loads((path / "config.json").read_text())
    other = fer_zoo.models.ensemble.with_fusion(again, "average")
    assert other.mixed
    again.reset_classifier(3)
    assert (again.mixed, again.num_classes) == (True, 3)


def test_what_has_no_view_for_all_is_refused(mixed: Ensemble, members, tmp_path: Path):
    x = torch.zeros(2, 1, 40, 40)
    uses: list[Any] = [
        lambda: mixed(x),
        lambda: mixed.forward_members(x),
        lambda: mixed.forward_features(x),
        lambda: mixed.pretrained_cfg,
        lambda: fer_zoo.create_transform(mixed)(torch.zeros(1, 48, 48)),
        lambda: fer_zoo.export(mixed, tmp_path / "a.onnx"),
        lambda: fer_zoo.Predictor(mixed, preset="fer40_center"),
        lambda: fer_zoo.PhotoPredictor(mixed, preset="thesis40", detector=lambda rgb: []),
        lambda: fer_zoo.optimize(mixed, preset="fer40_center"),
        lambda: predict_scores(mixed, x, preset="fer40_center"),
        lambda: fer_zoo.Predictor(members[0], preset=mixed.preset),
    ]
    if find_spec("transformers"):  # without which such a folder is made for no model
        uses.append(lambda: fer_zoo.save(mixed, tmp_path / "folder", onnx=True))
    for use in uses:
        with pytest.raises(ArgumentError, match=rf"(?s){BY_OWN}.*create_ensemble"):
            use()
    assert not (tmp_path / "folder" / "model.safetensors").exists()
    assert counterparts(mixed.preset) == []
    for preset in PRESETS.values():
        assert "members" not in {p.views for p in counterparts(preset)}
    with pytest.raises(ArgumentError, match="have \\[1\\] views"):
        fer_zoo.Predictor(mixed, views=10)
    with pytest.raises(ArgumentError, match=r"all members see: they take \[1, 1, 3\] channels"):
        fer_zoo.create_ensemble(members, preset="fer40_center")
    with pytest.raises(ArgumentError, match="members are trained one by one"):
        fer_zoo.train(mixed, _some(0), validation=_some(1), output=tmp_path / "run")
    with pytest.raises(ArgumentError, match="itself an ensemble"):
        fer_zoo.create_ensemble([mixed, network(5, WHOLE)])
    hf = pytest.importorskip("fer_zoo.hf", reason="no fer-zoo[hf]", exc_type=ImportError)
    with pytest.raises(ArgumentError, match=BY_OWN):
        hf.FerZooForImageClassification.of(mixed)


def _some(seed: int) -> FaceDataset:
    found = stripes(14, seed=seed)
    labels = fer_zoo.labels.FER2013
    return FaceDataset(found.images, torch.arange(14) % 7, labels=labels, name="stripes")


def test_one_preset_for_all_is_as_before(members: list[Classifier], tmp_path: Path):
    gray = members[:2]
    both = fer_zoo.create_ensemble(gray, preset="fer48_plain")
    assert (both.mixed, both.preset) == (False, "fer48_plain")
    assert both(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    image = pictures()[2]
    single = []
    for member in gray:
        member.temperature = {}
        told = fer_zoo.Predictor(member, preset="fer48_plain")(image)
        single.append(told.probabilities["happy"])
    told = fer_zoo.Predictor(both)(image)
    assert told.probabilities["happy"] == pytest.approx(sum(single) / 2, abs=NEAR)
    same = fer_zoo.create_ensemble([network(0, "fer40_center"), network(1, "fer40_center")])
    assert (same.mixed, same.preset) == (False, "fer40_center")
    both.preset = fer_zoo.create_ensemble(gray).preset  # and changes with it
    assert both.mixed


def test_what_fails_is_told_for_each_image(mixed: Ensemble, tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    told = fer_zoo.Predictor(mixed)(
        [pictures()[0], np.zeros((50, 50, 3), np.uint8), np.zeros((5, 5)), tmp_path / "text.png"]
    )
    assert told[0].error is None
    assert "shows nothing" in told[1].error
    assert "10 px at least" in told[2].error
    assert "cannot be read" in told[3].error
    assert fer_zoo.Predictor(mixed)([]) == []


def test_photographs(mixed: Ensemble):
    whole = np.zeros((200, 300, 3), np.uint8)
    face = np.array(pictures()[2].crop((0, 0, 90, 90)))
    whole[50:140, 80:170] = face
    photo = fer_zoo.PhotoPredictor(mixed, detector=lambda rgb: [(80, 50, 170, 140)])(whole)
    told = fer_zoo.Predictor(mixed)(face).probabilities
    assert photo.faces[0].probabilities == pytest.approx(told, abs=NEAR)
    assert photo.faces[0].face.shape == (24, 24)


def test_a_report_of_it(mixed: Ensemble, faces: FaceDataset, tmp_path: Path):
    part = faces[:42]
    result = fer_zoo.evaluate(mixed, part)
    expected = predict_scores(mixed, part.images).softmax(1)
    torch.testing.assert_close(result.probabilities(), expected, atol=NEAR, rtol=0)
    assert (result.preset, result.views) == ("members", 10)
    report = fer_zoo.evaluation.measure(mixed, part)
    assert len(report.results) == 1
    card = fer_zoo.evaluation.write_report(tmp_path / "report", report).read_text()
    assert "plain_test+plain_test+plain_test" in card
    place = fer_zoo.save(mixed, tmp_path / "a.safetensors")
    again = fer_zoo.evaluate(place, part)
    assert torch.equal(again.scores, result.scores)


def test_engines(mixed: Ensemble, faces: FaceDataset):
    images = faces.images[:6]
    expected = predict_scores(mixed, images).softmax(1)
    mixed.temperature = {"members": 1.0}
    fast = fer_zoo.optimize(mixed, example=images)
    torch.testing.assert_close(fast(images).double(), expected, atol=1e-5, rtol=0)
    assert fast.report["max_difference"] < 1e-4
    told = of(fer_zoo.Predictor(fast)(pictures()))
    torch.testing.assert_close(told, of(fer_zoo.Predictor(mixed)(pictures())), atol=1e-5, rtol=0)
    copied = pickle.loads(pickle.dumps(fer_zoo.Predictor(mixed)))
    assert torch.equal(of(copied(pictures())), of(fer_zoo.Predictor(mixed)(pictures())))


def test_engines_know_whose_answers_they_give(mixed: Ensemble):
    """So that thresholds of another ensemble, or of another temperature, are refused."""
    for temperature in (1.0, 2.5):
        mixed.temperature = {mixed.preset: temperature}
        fast = fer_zoo.optimize(mixed)
        assert (fast.state, fast.temperature_for(mixed.preset)) == (mixed.state, temperature)


@pytest.mark.weekly
def test_onnxruntime_runs_each_member(mixed: Ensemble):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    told = of(fer_zoo.Predictor(mixed, engine="onnxruntime")(pictures()))
    torch.testing.assert_close(told, of(fer_zoo.Predictor(mixed)(pictures())), atol=1e-4, rtol=0)


@pytest.mark.weekly
@pytest.mark.filterwarnings("default")
def test_beside_one_of_transformers(tmp_path: Path, faces: FaceDataset):
    """The whole way on the command line: an ensemble of ours and theirs, fused, saved, used."""
    pytest.importorskip("transformers", reason="fer-zoo[hf] is not installed")
    theirs = f"transformers/{save('vit', tmp_path / 'vit')}"
    model = fer_zoo.create_ensemble(["resnet18_025.fer2013", theirs])
    images = pictures()
    single = [alone(member, images) for member in model.members]
    found = of(fer_zoo.Predictor(model)(images))
    torch.testing.assert_close(found, torch.stack(single).mean(0), atol=NEAR, rtol=0)
    for name, image in zip(("a", "b"), images, strict=False):
        image.save(tmp_path / f"{name}.png")
    for label in faces.labels:
        (tmp_path / "faces" / label).mkdir(parents=True)
    for i, (image, k) in enumerate(zip(faces.images[:42], faces.targets, strict=False)):
        place = tmp_path / "faces" / faces.labels[k] / f"{i}.png"
        Image.fromarray(image.numpy()).save(place)
    out = tmp_path / "both.safetensors"
    run("fuse", "resnet18_025.fer2013", theirs, "--fusion", "weighted", "--data",
        tmp_path / "faces", "--output", out, "--even-if-worse")  # fmt: skip
    both = fer_zoo.load(out)
    assert isinstance(both, Ensemble)
    assert both.mixed
    said = json.loads(run("predict", "--model", out, "--json", tmp_path / "a.png").stdout)
    told = fer_zoo.Predictor(both)(tmp_path / "a.png")
    assert told.label in json.dumps(said)
    run("evaluate", out, theirs, "--data", tmp_path / "faces", "--report", tmp_path / "cards")
    assert len([*(tmp_path / "cards").rglob("card.md")]) == 2


def test_a_file_that_says_nonsense(mixed: Ensemble, tmp_path: Path):
    """A preset of members for a single network is no way around its own."""
    from fer_zoo.config import build_model, model_config

    config = model_config(mixed.members[0]) | {"preset": model_config(mixed)["preset"]}
    model = build_model(config, 10**6)
    model.labels = fer_zoo.labels.FER2013
    with pytest.raises(ArgumentError, match=BY_OWN):
        fer_zoo.Predictor(model)
    config = model_config(mixed)
    config["preset"] = model_config(mixed.members[0])["preset"]
    with pytest.raises(CheckpointError, match="cannot be what all members see"):
        build_model(config, 10**6)
    with pytest.raises(CheckpointError, match="views must be one of"):
        build_model(model_config(mixed) | {"preset": {**config["preset"], "views": "own"}}, 10**6)
