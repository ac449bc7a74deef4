"""Checkpoints: one file that rebuilds everything, or an error that says why not."""

import shlex
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fer_zoo
from conftest import NETWORKS, TIMM, cli, in_this_process
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    LabelError,
    StateDictError,
    UnknownNameError,
    WeightsError,
)
from fer_zoo.evidence import Evidence
from fer_zoo.weights import records
from fer_zoo.weights.checkpoint import give_tensors, read_checkpoint, write_checkpoint

LABELS = ("calm", "tense", "odd")


@pytest.mark.parametrize("name", [*NETWORKS, TIMM[0]])
def test_round_trip_is_exact(tmp_path: Path, name):
    if name in ("vgg19_fc", "vgg19"):
        pytest.skip("150 MB; the narrow network has the same layers")
    model = fer_zoo.create(name, num_classes=3).eval()
    model.labels, model.preset = LABELS, "fer44_tencrop"
    model.evidence = Evidence(licence="mine", started_from="nothing")
    again = fer_zoo.load(fer_zoo.save(model, tmp_path / "m.safetensors"))
    assert (again.name, again.labels, again.preset) == (name, LABELS, "fer44_tencrop")
    assert again.evidence == model.evidence
    assert not again.training
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))
    assert list(tmp_path.iterdir()) == [tmp_path / "m.safetensors"]


@pytest.mark.parametrize(
    ("fusion", "options"),
    [
        ("average", {"space": "logit"}),
        ("weighted", {"space": "logit", "per_class": True}),
        ("stacked", {"l2": 0.5}),
        ("vote", {}),
        ("max", {}),
    ],
)
def test_an_ensemble_is_one_file(tmp_path: Path, fusion, options):
    from fer_zoo.fusion import create_fusion

    members = [fer_zoo.create(n, num_classes=3) for n in ("test_tiny", "resnet18_025", "test_tiny")]
    for member in members:
        member.labels = LABELS
    members[1].labels = LABELS[::-1]
    model = fer_zoo.create_ensemble(members, fusion=create_fusion(fusion, 3, 3, **options)).eval()
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(torch.randn_like(parameter))
    again = fer_zoo.load(fer_zoo.save(model, tmp_path / "e.safetensors"))
    assert again.fusion.options() == options
    assert again.labels == LABELS
    assert again.members[1].labels == LABELS[::-1]
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_half_precision_storage(tmp_path: Path):
    model = fer_zoo.create("test_tiny").eval()
    half = fer_zoo.save(model, tmp_path / "half.safetensors", dtype=torch.float16)
    whole = fer_zoo.save(model, tmp_path / "whole.safetensors")
    assert half.stat().st_size < 0.65 * whole.stat().st_size
    again = fer_zoo.load(half)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x), again(x), atol=1e-3, rtol=1e-2)


def test_loading_is_strict():
    model = fer_zoo.create("test_tiny")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = model.state_dict()
    wrong = {k: torch.ones_like(v) for k, v in state.items() if k != "fc.bias"}
    wrong["fc.weight"], wrong["extra"] = torch.zeros(8, 128), torch.zeros(1)
    wrong["bn1.num_batches_tracked"] = torch.tensor(0.0)
    with pytest.raises(StateDictError) as caught:
        fer_zoo.load_state_dict(model, wrong)
    shapes = "(8, 128), the model's is (7, 128)"
    for says in ("missing fc.bias", "unexpected extra", shapes, "int64"):
        assert says in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_create_from_a_path(tmp_path: Path):
    path = str(fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "tiny.safetensors"))
    assert not fer_zoo.create("test_tiny", weights=path).training
    with pytest.raises(ArgumentError, match="holds 'test_tiny', not 'resnet18'"):
        fer_zoo.create("resnet18", weights=path)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path):
    model = fer_zoo.create("resnet18_025").eval()
    path = tmp_path / "old.pth"
    torch.save(model.state_dict(), path)
    for use in (
        lambda: fer_zoo.load(path),
        lambda: fer_zoo.create("resnet18_025", weights=str(path)),
        lambda: fer_zoo.Predictor(str(path)),
    ):
        with pytest.raises(CheckpointError, match="is a pickle") as caught:
            use()
    with pytest.raises(CheckpointError, match="is a pickle") as caught:
        fer_zoo.create("resnet18_025", weights=str(path))
    command = shlex.split(str(caught.value).splitlines()[1])
    assert command[0] == "fer-zoo"
    done = in_this_process(cli(*command[1:]))
    assert done.returncode == 0, done.stderr
    again = fer_zoo.load(path.with_suffix(".safetensors"))
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_what_is_not_ours_is_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="does not say which fer_zoo model"):
        fer_zoo.load(path)
    with pytest.raises(CheckpointError, match="no such file"):
        fer_zoo.load(tmp_path / "missing.safetensors")


def test_saving_never_harms_the_old_file(tmp_path: Path, monkeypatch):
    path = fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "m.safetensors")
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        fer_zoo.save(fer_zoo.create("test_tiny"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "m.pth")


def test_a_reader_never_sees_half_a_file(tmp_path: Path):
    """While one thread replaces the file again and again, every read is whole."""
    path = fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "m.safetensors")
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            fer_zoo.save(fer_zoo.create("test_tiny"), path)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(30):
            fer_zoo.load(path)
    finally:
        stop.set()
        writer.join()


def test_no_header_length_makes_a_checkpoint_look_like_a_pickle(tmp_path: Path):
    """19280 is b"PK", as a zip begins."""
    path = tmp_path / "m.safetensors"

    def length(padding: int) -> int:
        write_checkpoint(path, {"a": torch.ones(1)}, {"note": "x" * padding})
        return int.from_bytes(path.read_bytes()[:8], "little")

    assert length(19280 - length(0)) == 19280
    assert path.read_bytes()[:2] == b"PK"
    assert read_checkpoint(path).tensors["a"] == 1


def test_the_same_model_is_the_same_bytes(tmp_path: Path):
    model = fer_zoo.create("test_tiny")
    files = [fer_zoo.save(model, tmp_path / f"{i}.safetensors") for i in range(12)]
    assert len({file.read_bytes() for file in files}) == 1


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    model = fer_zoo.create("test_tiny")
    with pytest.raises(LabelError, match="7 classes need 7 labels"):
        model.labels = ("a", "b")
    model.preset = "typo"
    with pytest.raises(UnknownNameError, match="typo"):
        fer_zoo.save(model, path)
    model.preset = "fer40_center"
    for odd in (object(), float("nan"), {(1, 2): 3}):
        with pytest.raises(CheckpointError, match="plain values"):
            write_checkpoint(path, {}, {"when": odd})
    with torch.no_grad():
        model.bn1.running_var.fill_(1e6)
    with pytest.raises(ArgumentError, match=r"cannot hold the values of \['bn1.running_var'\]"):
        fer_zoo.save(model, path, dtype=torch.float16)

    class Private(fer_zoo.fusion.Average):
        pass

    ensemble = fer_zoo.create_ensemble(["test_tiny"], fusion=Private(1, 7))
    with pytest.raises(ArgumentError, match="register_fusion"):
        fer_zoo.save(ensemble, path)
    assert not path.exists()


def test_labels_set_on_an_ensemble_last(tmp_path: Path):
    members = [fer_zoo.create("test_tiny", num_classes=3) for _ in range(2)]
    for member, labels in zip(members, (LABELS, LABELS[::-1]), strict=True):
        member.labels = labels
    model = fer_zoo.create_ensemble(members).eval()
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        before = model(x)
    model.labels = ("one", "two", "three")
    assert members[1].labels == ("three", "two", "one")
    again = fer_zoo.load(fer_zoo.save(model, tmp_path / "e.safetensors"))
    assert again.labels == ("one", "two", "three")
    with torch.no_grad():
        assert torch.equal(again(x), before)
    members[1].labels = ("one", "two", "three")
    with torch.no_grad():
        renamed = model(x)
        assert not torch.equal(renamed, before)
        again = fer_zoo.load(fer_zoo.save(model, tmp_path / "e.safetensors"))
        assert torch.equal(again(x), renamed)


def test_an_unregistered_network_cannot_be_saved(tmp_path: Path):
    with pytest.raises(ArgumentError, match="register_model"):
        fer_zoo.save(fer_zoo.models.ResNet(num_classes=3, width=4), tmp_path / "m.safetensors")


TAGS = {"fer2013": (fer_zoo.labels.FER2013, 3589), "ferplus": (fer_zoo.labels.FERPLUS, 3199)}


@pytest.mark.parametrize("address", fer_zoo.list_weights())
def test_bundled_weights_are_the_recorded_ones(address):
    record = fer_zoo.weights.get_weights(*address.rsplit(".", 1))
    model = fer_zoo.create(record.model, weights=record.tag)
    labels, n = TAGS[record.tag]
    assert model.labels == record.labels == labels
    assert model.preset == record.preset
    assert not model.training
    assert model.evidence.weights == address
    assert record.scores
    for known in record.evidence.values():
        assert known.licence
    for score in record.scores:
        assert (score.split, score.n) == ("public", n)
        assert score.interval[0] < score.accuracy < score.interval[1]
        assert score.selection


@pytest.mark.parametrize("fusion", ["average", "weighted", "stacked", "vote", "max"])
def test_the_bundled_ensemble_under_each_fusion(fusion):
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion=fusion)
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.fusion(model.forward_members(x)))
    if fusion in ("weighted", "stacked"):
        fresh = fer_zoo.fusion.create_fusion(fusion, 2, 7)
        pairs = zip(model.fusion.parameters(), fresh.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)


def test_other_bytes_than_recorded_are_refused(tmp_path: Path, monkeypatch):
    record = fer_zoo.weights.get_weights("resnet18_025")
    copy = tmp_path / record.file
    content = bytearray(record.path.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert load_file(copy)
    monkeypatch.setattr(records, "BUNDLED", tmp_path)
    with pytest.raises(WeightsError, match="is not the recorded"):
        fer_zoo.create("resnet18_025", weights="default")
    copy.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        fer_zoo.create("resnet18_025", weights="default")


def test_weights_that_do_not_exist():
    with pytest.raises(WeightsError, match=r"list_models\(trained=True\)"):
        fer_zoo.create("test_tiny", weights="default")
    with pytest.raises(UnknownNameError, match=r"only \['fer2013', 'ferplus'\]"):
        fer_zoo.create("resnet18_025", weights="fer2014")
    fer_zoo.register_fusion("unfitted_for_test")(
        type("Other", (fer_zoo.fusion.Stacked,), {"__doc__": "x"})
    )
    with pytest.raises(ArgumentError, match="none for 'unfitted_for_test'"):
        fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="unfitted_for_test")


def test_what_a_file_gives_is_the_models_own(tmp_path: Path):
    """Without a copy where the types are the same; two models of one file share nothing."""
    path = fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "a.safetensors")
    tensors = read_checkpoint(path).tensors
    model, other = fer_zoo.create("test_tiny"), fer_zoo.create("test_tiny").half()
    give_tensors(model, tensors)
    assert model.fc.weight.data_ptr() == tensors["fc.weight"].data_ptr()
    give_tensors(other, tensors)
    assert other.fc.weight.dtype == torch.float16
    assert torch.equal(other.fc.weight, model.fc.weight.half())
    one, two = fer_zoo.load(path), fer_zoo.load(path)
    with torch.no_grad():
        one.fc.weight.zero_()
    assert two.fc.weight.any()
    with pytest.raises(StateDictError, match=r"missing fc\.weight"):
        give_tensors(two, {k: t for k, t in tensors.items() if k != "fc.weight"})
