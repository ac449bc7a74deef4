"""Weights by name and by address: records, storage, and ImageNet as a start."""

import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import fer_zoo
from fer_zoo.errors import ArgumentError, CheckpointError, UnknownNameError, WeightsError
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.saving import save_repository
from fer_zoo.weights.address import GRAMMAR, Address, is_address, parse_address
from fer_zoo.weights.records import WeightsRecord, read_record
from fer_zoo.weights.storage import pack, unpack

PIN = "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", Address("tag", "default")),
        ("fer2013", Address("tag", "fer2013")),
        ("vgg19_025.fer2013", Address("record", "vgg19_025.fer2013")),
        ("m.safetensors", Address("file", "m.safetensors")),
        (f"a/m.safetensors#sha256={PIN}", Address("file", "a/m.safetensors", sha256=PIN)),
        ("old.pth", Address("file", "old.pth")),
        ("./folder", Address("folder", "./folder")),
        ("runs/mine", Address("folder", "runs/mine")),
        ("hf-hub:me/faces", Address("hub", "me/faces")),
        ("hf-hub:me/faces@refs/pr/1", Address("hub", "me/faces", "refs/pr/1")),
        (f"hf-hub:me/f.1@{'0' * 40}#sha256={PIN}", Address("hub", "me/f.1", "0" * 40, PIN)),
        ("imagenet", Address("imagenet", "imagenet")),
    ],
)
def test_the_grammar(text, expected):
    assert parse_address(text) == expected
    assert str(expected) == text
    assert is_address(text) == (expected.kind not in ("tag", "imagenet"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a\0b",
        3,
        None,
        "hf-hub:",
        "hf-hub:faces",
        "hf-hub:me/",
        "hf-hub:me/a/b",
        "hf-hub:../x",
        "hf-hub:me/..",
        "hf-hub:me/a@",
        "hf-hub:me/a@../../x",
        "hf-hub:me/a b",
        "hf-hub:me/tiny.git",
        "hf-hub:me/tiny-",
        "hf-hub:me/tiny.",
        "hf-hub:m\u00e9/tiny",
        "hf-hub:me/" + "a" * 94,
        "hf-hub:me/a#sha256=12",
        "hf-hub:me/a#sha256=" + "A" * 64,
        "https://example.org/m",
        "hf_hub:me/faces",
        f"fer2013#sha256={PIN}",
    ],
)
def test_what_is_no_address_is_told_the_grammar(text):
    with pytest.raises(ArgumentError) as caught:
        parse_address(text)
    assert "is no address of weights" in str(caught.value)
    assert str(caught.value).endswith(GRAMMAR)


def test_one_grammar_everywhere(tmp_path: Path):
    for use in (fer_zoo.load, partial(fer_zoo.create, "resnet18_025", weights="xy:z")):
        with pytest.raises(ArgumentError, match=r"write one of\n  default"):
            use("hf-hub:none") if use is fer_zoo.load else use()
    with pytest.raises(ArgumentError, match="a tag needs its model"):
        fer_zoo.load("fer2013")
    with pytest.raises(ArgumentError, match="a tag needs its model"):
        fer_zoo.load("imagenet")
    folder = tmp_path / "repo"
    folder.mkdir()
    model = fer_zoo.create("resnet18_025", weights="default")
    save_repository(model, folder)
    file = fer_zoo.save(model, tmp_path / "m.safetensors")
    pins = [
        hashlib.sha256(p.read_bytes()).hexdigest() for p in (file, folder / "model.safetensors")
    ]
    for where in (
        "resnet18_025.fer2013",
        str(file),
        file,
        str(folder),
        folder,
        f"{file}#sha256={pins[0]}",
        f"{folder}#sha256={pins[1]}",
    ):
        for again in (fer_zoo.load(where), fer_zoo.create("resnet18_025", weights=where)):
            assert torch.equal(again.fc.weight, model.fc.weight)
            assert again.labels == model.labels
            assert again.evidence.weights == "resnet18_025.fer2013"
    with pytest.raises(WeightsError, match="is not the recorded"):
        fer_zoo.load(f"{folder}#sha256={PIN}")
    with pytest.raises(CheckpointError, match="no such folder"):
        fer_zoo.load(str(tmp_path / "none" / "x"))
    with pytest.raises(CheckpointError, match="no such file"):
        fer_zoo.load(tmp_path / "none" / "x")
    with pytest.raises(ArgumentError, match="holds 'resnet18_025', not 'vgg19_025'"):
        fer_zoo.create("vgg19_025", weights="resnet18_025.fer2013")
    assert fer_zoo.Predictor("resnet18_025.fer2013").labels == model.labels


# By tag and whether of a quarter of the width: faces, and what int8 was compared with.
FACES = {"fer2013": 3589, "ferplus": 3199}


@pytest.mark.parametrize("address", fer_zoo.list_weights())
def test_records_are_whole(address):
    record = fer_zoo.weights.get_weights(address)
    assert record == fer_zoo.weights.get_weights(record.model, record.tag)
    content = record.path.read_bytes()
    assert (record.size, record.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (record.source, record.revision) == ("bundled", "")
    json.dumps(record.to_dict())
    for known in record.evidence.values():
        assert known.licence
        assert known.calibration
        assert known.training or record.members
    scores = {s.preset: s.accuracy for s in record.scores if s.fusion in ("", "average")}
    storage = record.evidence[record.fusion].storage
    costs = {(cost.dtype, cost.preset): cost for cost in storage.costs}
    for preset in ("fer40_center", "fer44_mirror", "fer40_tencrop"):
        cost = costs["int8", preset]
        assert (cost.faces.split, cost.faces.n) == ("public", FACES[record.tag])
        assert cost.against == "float32"
        stored = costs[storage.dtype, preset]
        assert stored.accuracy == pytest.approx(scores[preset], abs=2e-5)  # of these very bytes
        before = stored.accuracy - stored.gain
        assert cost.accuracy - cost.gain == pytest.approx(before, abs=2e-5)


def test_what_is_unknown_is_said():
    with pytest.raises(UnknownNameError, match="no weights 'fer2014', only"):
        fer_zoo.weights.get_weights("vgg19_025", "fer2014")
    with pytest.raises(WeightsError, match="has no trained weights here"):
        fer_zoo.weights.get_weights("vgg19_025.fer2014")
    for pattern in ("*", "vgg*"):
        with pytest.raises(WeightsError, match="has no trained weights here"):
            fer_zoo.weights.get_weights(pattern)
    with pytest.raises(UnknownNameError, match="timm has no 'resnet10t' tagged 'foo', only"):
        fer_zoo.create("timm/resnet10t.foo")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": "12"}, "'12' is no sha256"),
        ({"file": "../x.safetensors"}, "is no file"),
        ({"revision": "main"}, "'main' is no revision"),
        ({"surprise": 1}, "has no 'surprise'"),
        ({"labels": ["a", "a"]}, "name the same class"),
        ({"evidence": {"": {"calibration": {"temperature": {"x": 0}}}}}, "a temperature is"),
    ],
)
def test_a_record_that_is_wrong_is_refused(tmp_path: Path, change, says):
    record = fer_zoo.weights.get_weights("vgg19_025.fer2013")
    values = json.loads(record.path.with_suffix(".json").read_text())
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values))
    assert read_record(path) == record
    path.write_text(json.dumps(values | change))
    with pytest.raises(fer_zoo.errors.FerZooError, match=says):
        read_record(path)


def test_bundled_records_come_first():
    bundled = fer_zoo.weights.get_weights("vgg19_025.fer2013")
    values = {f: getattr(bundled, f) for f in bundled.__dataclass_fields__}
    hub = {"tag": "a", "source": "hf-hub:me/x", "revision": "0" * 40}
    other = WeightsRecord(**values | hub)
    from fer_zoo.weights.records import WEIGHTS

    WEIGHTS.register(other.address, other)
    try:
        assert fer_zoo.weights.get_weights("vgg19_025") == bundled
        assert other.location == f"hf-hub:me/x@{'0' * 40}#sha256={bundled.sha256}"
    finally:
        del WEIGHTS._entries[other.address]


# Storage


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", torch.float16])
def test_storage_restores_float32(tmp_path: Path, dtype):
    model = fer_zoo.create("vgg19_025", weights="default")
    path = fer_zoo.save(model, tmp_path / "m.safetensors", dtype=dtype)
    again = fer_zoo.load(path)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    x = torch.rand(16, 1, 40, 40)
    with torch.no_grad():
        one, other = model(x).softmax(1), again(x).softmax(1)
    # 8 bits of mantissa in bfloat16, about 8 bits of range in int8.
    assert (one - other).abs().max() < {"float32": 1e-7, "bfloat16": 0.03, "int8": 0.05}.get(
        str(dtype), 1e-4
    )
    whole = 4 * sum(t.numel() for t in model.state_dict().values())
    share = {"float32": 1.02, "int8": 0.27}.get(str(dtype), 0.52)
    assert path.stat().st_size < share * whole
    # What was stored once is stored again without loss.
    twice = fer_zoo.load(fer_zoo.save(again, tmp_path / "n.safetensors", dtype=dtype))
    for key, value in again.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[key], value, atol=1e-7, rtol=1e-6)


def test_int8_is_exact_to_half_a_step():
    """Against the definition in numpy: one scale for each output channel."""
    weight = torch.randn(6, 4, 3, 3)
    weight[2] = 0
    weight[3] *= 1e-30
    stored = pack({"w": weight, "b": torch.randn(6), "n": torch.tensor(3)}, torch.int8)
    assert stored["w"].dtype == torch.int8
    assert stored["w:scale"].dtype == torch.float32
    assert (stored["b"].dtype, stored["n"].dtype) == (torch.float32, torch.int64)
    again = unpack(stored)["w"]
    step = weight.abs().amax((1, 2, 3)) / 127
    assert ((again - weight).abs().amax((1, 2, 3)) <= step * 0.5001).all()
    assert (again[2] == 0).all()


def test_the_whole_ensemble_in_int8_is_small(tmp_path: Path):
    model = fer_zoo.create("ensemble_r18_vgg19")
    path = fer_zoo.save(model, tmp_path / "m.safetensors", dtype="int8")
    assert path.stat().st_size < 36e6
    assert fer_zoo.load(path).name == "ensemble_r18_vgg19"


@pytest.mark.parametrize("dtype", ["int4", "float8", torch.int32, torch.float8_e4m3fn, 8])
def test_unknown_storage_is_refused(tmp_path: Path, dtype):
    with pytest.raises(ArgumentError, match="one of float32, float16, bfloat16, int8"):
        fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "m.safetensors", dtype=dtype)


def test_the_card_states_the_cost():
    model = fer_zoo.create("vgg19_025", weights="default")
    card = make_model_card(model, "hf-hub:me/faces", stored="int8")
    costs = fer_zoo.weights.get_weights("vgg19_025.fer2013").evidence[""].storage.costs
    for cost in (cost for cost in costs if cost.dtype == "int8"):
        assert f"int8: {100 * cost.gain:+.2f} points of accuracy against float32" in card
    assert "stored as bfloat16; its cost: not measured" in make_model_card(
        model, "hf-hub:me/faces", stored="bfloat16"
    )
    plain = fer_zoo.create("test_tiny")
    assert "No figures are recorded" in make_model_card(plain, "hf-hub:me/faces")
    assert "model-index" not in make_model_card(plain, "hf-hub:me/faces")


# ImageNet


@pytest.fixture
def files(tmp_path: Path):
    """A folder that is served over HTTP, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["resnet18_7x7", "vgg19"])
def test_imagenet_by_torchvision(files, tmp_path: Path, monkeypatch, name):
    """Its own download: the file is held against the sha256 in its name, and only tensors read."""
    from torchvision import models

    folder, url = files
    network, enum = {
        "resnet18_7x7": ("resnet18", "ResNet18_Weights"),
        "vgg19": ("vgg19_bn", "VGG19_BN_Weights"),
    }[name]
    state = getattr(models, network)(weights=None).state_dict()
    state = {k: v for k, v in state.items() if v.numel() < 10**7}  # but for the largest of its head
    path = folder / "new.pth"
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path.rename(folder / f"net-{digest}.pth")
    entry = getattr(models, enum).IMAGENET1K_V1
    old = entry.value.url
    object.__setattr__(entry.value, "url", f"{url}/net-{digest}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    try:
        model = fer_zoo.create(name, weights="imagenet", num_classes=5)
        key = fer_zoo.models.get_spec(name).first_conv
        stem = model.state_dict()[key]
        torch.testing.assert_close(stem, state[key].sum(1, keepdim=True))
        assert model.num_classes == 5
        assert model.labels is None
        assert (
            f"torchvision {enum}.IMAGENET1K_V1 (stem summed to gray" in model.evidence.started_from
        )
        rgb = fer_zoo.create(name, weights="imagenet", in_channels=3)
        assert torch.equal(rgb.state_dict()[key], state[key])
        object.__setattr__(entry.value, "url", f"{url}/net-00000000.pth")
        (folder / "net-00000000.pth").write_bytes((folder / f"net-{digest}.pth").read_bytes())
        with pytest.raises(WeightsError, match="invalid hash value"):
            fer_zoo.create(name, weights="imagenet")
        object.__setattr__(entry.value, "url", f"{url}/none-00000000.pth")
        with pytest.raises(WeightsError, match=r"torchvision's .* cannot be had from .*404"):
            fer_zoo.create(name, weights="imagenet")
    finally:
        object.__setattr__(entry.value, "url", old)


def test_imagenet_by_timm(tmp_path: Path, monkeypatch):
    """Its own download, from a stand-in for the Hub."""
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save as to_bytes

    from hub_server import Hub, Repo

    state = timm.create_model("resnet10t").state_dict()
    with Hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        pattern = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", pattern)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        repo = hub.repos[timm.get_pretrained_cfg("resnet10t").hf_hub_id] = Repo()
        repo.commit({"model.safetensors": to_bytes(state)})
        model = fer_zoo.create("timm/resnet10t", weights="imagenet", num_classes=3)
        assert hub.gets("/cdn/")
    ours = model.model.state_dict()
    stem = timm.get_pretrained_cfg("resnet10t").first_conv + ".weight"
    torch.testing.assert_close(ours[stem], state[stem].sum(1, keepdim=True))
    for key, value in state.items():
        if key != stem and not key.startswith("fc."):
            assert torch.equal(ours[key], value)
    assert model.num_classes == 3
    assert "ImageNet: timm resnet10t" in model.evidence.started_from


def test_imagenet_where_there_is_none():
    with pytest.raises(ArgumentError, match="no ImageNet weights are published for 'resnet18'"):
        fer_zoo.create("resnet18", weights="imagenet")
    with pytest.raises(ArgumentError, match="start its members from ImageNet one by one"):
        fer_zoo.create("ensemble_r18_vgg19", weights="imagenet")
    with pytest.raises(ArgumentError, match="timm publishes no weights"):
        fer_zoo.create("timm/test_vit4", weights="imagenet")
