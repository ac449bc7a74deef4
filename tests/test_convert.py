"""Pickles become checkpoints without being run; labels and heads are changed on request only."""

import bz2
import enum
import gzip
import io
import json
import lzma
import os
import pickle
import re
import tarfile
import time
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional as F

import fer_zoo
from conftest import cli, in_this_process
from fer_zoo.errors import ArgumentError, CheckpointError, LabelError, StateDictError
from fer_zoo.evidence import Evidence
from fer_zoo.labels import FER2013, FERPLUS, align


def same(one, other) -> bool:
    x = torch.rand(2, one.in_channels, 40, 40)
    with torch.no_grad():
        return torch.equal(one.eval()(x), other.eval()(x))


def lightning(state):
    return {
        "state_dict": {f"model.{k}": v for k, v in state.items()},
        "epoch": 3,
        "global_step": 900,
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
    }


STYLES = {
    "plain": (lambda s: s, []),
    "DataParallel": (lambda s: {f"module.{k}": v for k, v in s.items()}, ["removed 'module.'"]),
    "compiled, in parallel": (
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        ["removed 'module._orig_mod.'"],
    ),
    "Lightning": (lightning, ["took 'state_dict', left epoch", "removed 'model.'"]),
    "a training script": (
        lambda s: {"net": s, "best_PublicTest_acc": torch.tensor(71.5), "epoch": 249},
        ["took 'net', left best_PublicTest_acc, epoch"],
    ),
    "timm's trainer": (
        lambda s: {"state_dict": s, "state_dict_ema": s, "arch": "resnet18"},
        ["took 'state_dict', left arch, state_dict_ema"],
    ),
    "before batch norm counted": (
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        ["counters of batch norm to 0"],
    ),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["resnet18_025", "vgg19_025", "timm/resnet10t"])
def test_common_key_styles_convert(tmp_path: Path, style, name):
    wrap, says = STYLES[style]
    model = fer_zoo.create(name, num_classes=5)
    state = model.model.state_dict() if name.startswith("timm/") else model.state_dict()
    path = tmp_path / "old.pth"
    torch.save(wrap(state), path)
    made = fer_zoo.convert(path, name, labels=["a", "b", "c", "d", "e"], preset="fer44_tencrop")
    assert same(made.model, model)
    assert (made.model.labels, made.model.preset) == (("a", "b", "c", "d", "e"), "fer44_tencrop")
    assert re.match(
        r"old\.pth \(sha256 [0-9a-f]{64}\), converted", made.model.evidence.started_from
    )
    told = "\n".join(made.notes)
    assert all(text in told for text in says), told
    assert len(made.notes) == len(says), told


def test_the_classic_fer2013_code_converts(tmp_path: Path):
    """WuJie1010's names: `net`, `linear`, `shortcut`, RGB, and VGG19 as `features`/`classifier`.

    Its head averages the top left 4x4 of a 6x6 map: that network, or none.
    """
    model = fer_zoo.create("resnet18", in_channels=3).eval()
    theirs = {
        k.replace("downsample", "shortcut").replace("fc.", "linear."): v
        for k, v in model.state_dict().items()
    }
    assert {"linear.weight", "layer2.0.shortcut.0.weight"} <= set(theirs)
    path = tmp_path / "PrivateTest_model.t7"
    torch.save({"net": theirs, "best_PrivateTest_acc": 73.1}, path)
    made = fer_zoo.convert(path, "resnet18_pool4", labels=FER2013)
    x = torch.rand(2, 3, 44, 44)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape[2:] == (6, 6)
        classic = model.fc(F.avg_pool2d(features, 4).flatten(1))
        torch.testing.assert_close(made.model(x), classic)
        assert (model(x) - classic).abs().max() > 0.01
    assert made.notes == [
        "took 'net', left best_PrivateTest_acc",
        "renamed '.shortcut.' to '.downsample.'",
        "renamed the head 'linear' to 'fc'",
        "3 input channels: predictors feed it gray three times, so where it was trained on colours "
        "its answers differ from those it gave",
        "no preset: the usual one of resnet18_pool4 is taken, fer44_tencrop (preset=, --preset)",
    ]
    again = fer_zoo.load(fer_zoo.save(made.model, tmp_path / "classic.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(x), classic)
    with pytest.raises(CheckpointError, match=r"resnet18 all 6x6 .* --model resnet18_pool4"):
        fer_zoo.convert(path, "resnet18", labels=FER2013, preset="fer44_tencrop")
    name = fer_zoo.register_preset(
        fer_zoo.transforms.Preset(name="small_test", resize=32, size=32, views="plain")
    ).name
    assert fer_zoo.convert(path, "resnet18", preset=name).model.preset == name
    vgg = fer_zoo.create("vgg19_025", in_channels=3)
    assert {k.partition(".")[0] for k in vgg.state_dict()} == {"features", "classifier"}


def test_torchvisions_own_file_is_strict(tmp_path: Path):
    """Its stem and head are other ones: said, not dropped."""
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=7).state_dict(), tmp_path / "tv.pth")
    made = fer_zoo.convert(tmp_path / "tv.pth", "resnet18_7x7", labels=FER2013)
    assert made.model.in_channels == 3
    with pytest.raises(StateDictError, match=r"conv1.weight has shape \(64, 3, 7, 7\)"):
        fer_zoo.convert(tmp_path / "tv.pth", "resnet18")
    with pytest.raises(StateDictError, match="missing features"):
        fer_zoo.convert(tmp_path / "tv.pth", "vgg19")
    state = resnet18(num_classes=7).state_dict() | {"extra.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "tv.pth")
    with pytest.raises(StateDictError, match=r"unexpected extra\.weight"):
        fer_zoo.convert(tmp_path / "tv.pth", "resnet18_7x7")


@pytest.mark.parametrize("before", ["", "module.", "model.net."])
@pytest.mark.parametrize("extra", ["criterion.weight", "n_averaged", "teacher.conv1.weight"])
def test_what_is_beside_the_network_is_named(tmp_path: Path, before, extra):
    state = fer_zoo.create("test_tiny").state_dict()
    held = {extra: torch.zeros(1)} | {before + k: v for k, v in state.items()}
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(StateDictError) as caught:
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")
    assert str(caught.value) == (
        f"{tmp_path}/a.pth: the tensors do not fit test_tiny:\n  unexpected {extra}\n"
        "save the state dict of the network alone, or name another model"
    )


def test_a_part_that_was_in_data_parallel(tmp_path: Path):
    model = fer_zoo.create("vgg19_025")
    theirs = {k.replace("features.", "features.module."): v for k, v in model.state_dict().items()}
    torch.save(theirs, tmp_path / "a.pth")
    made = fer_zoo.convert(tmp_path / "a.pth", "vgg19_025", preset="fer40_center")
    assert same(made.model, model)
    assert made.notes[0] == "renamed '.module.' to '.'"


def test_tensors_are_not_merged(tmp_path: Path):
    state = fer_zoo.create("test_tiny").state_dict()
    held = {f"m.{k}": v for k, v in state.items()} | {"bn1.weight": state["bn1.weight"] + 1}
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"would have one name \(removed 'm.' from the names"):
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")


def test_long_names_take_no_time(tmp_path: Path):
    """Each part of them was taken off by itself: minutes for these."""
    held = {f"{'a.' * 1_000_000}{k}": torch.zeros(1) for k in ("conv1.weight", "b")}
    torch.save(held, tmp_path / "a.pth")
    began = time.process_time()
    with pytest.raises(StateDictError, match="missing bn1") as caught:
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")
    assert time.process_time() - began < 10
    assert len(str(caught.value)) < 2000


TUPLES = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40)) + b"h\x28"
LISTS = b"]q\0(" + b"K\1" * 20_000 + b"e" + b"ccollections\nCounter\nq\1" + b"h\1h\0\x85R" * 20_000
ENDLESS = {  # pickles of hours, of up to a megabyte
    "a tuple of 2**40 as key": b"}" + TUPLES + b"K\1s",
    "and in a call": b"ctorch\ndevice\n" + TUPLES + b"\x85R",
    "a list as key of ordered pairs": b"ccollections\nOrderedDict\n](" + TUPLES + b"K\1\x86e\x85R",
    "depth": b"}" + b")" + b"\x85" * 100_000 + b"K\1s",
    "a list that is in itself": b"]q\0h\0a",
    "a list counted often": b"](" + LISTS + b"e",
    "bytes without end": b"cbuiltins\nset\n(cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85Rt\x85R",
    "storages as arguments": (
        b"ccollections\nOrderedDict\n((X\7\0\0\0storagectorch\nByteStorage\nX\1\0\0\0aX\3\0\0\0cpu"
        b"J\xff\xff\xff\x7fNtQtR"
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_takes_hours_is_refused(tmp_path: Path, kind, legacy):
    """Before torch reads it: it could not be stopped any more."""
    path, content = tmp_path / "a.pth", b"\x80\2" + ENDLESS[kind] + b"."
    assert len(content) < 1_500_000
    if legacy:
        magic = torch.serialization.MAGIC_NUMBER
        head, tail = (magic, 1001, {"little_endian": True}), pickle.dumps([], 2)
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + content + tail)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/version", "3\n")
    began = time.process_time()
    with pytest.raises(CheckpointError, match="not a pickle of tensors"):
        fer_zoo.convert(path, "test_tiny")
    assert time.process_time() - began < 10


def test_an_ordered_dict_of_python_2_is_read(tmp_path: Path):
    """As a call with lists of a name and a value."""
    content = b"\x80\2ccollections\nOrderedDict\n(](](U\5epochK\1eetR."
    head = (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True})
    parts = [*(pickle.dumps(part, 2) for part in head), content, pickle.dumps([], 2)]
    (tmp_path / "a.t7").write_bytes(b"".join(parts))
    with pytest.raises(CheckpointError, match=r"holds no state dict.*\['epoch'\]"):
        fer_zoo.convert(tmp_path / "a.t7", "test_tiny")


def test_a_whole_training_state_converts(tmp_path: Path):
    """Shared tuples, numbers as keys, Counters and histories are in it, in both forms of files."""
    model = fer_zoo.create("test_tiny")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 1, 40, 40)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 9])
    held = {
        "state_dict": {k: torch.nn.Parameter(v, False) for k, v in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "seed": torch.initial_seed(),
        "history": [0.5] * 100_000,
    }
    for new in (True, False):
        torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        found = fer_zoo.convert(tmp_path / "a.pth", "test_tiny").model
        assert found.state == model.state


def test_what_torch_says_of_a_pickle_is_not_told_by_half(tmp_path: Path):
    torch.save({"fc.weight": Evil()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as caught:
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")
    assert re.search(r"nothing else is read \(it names \w+\.mkdir\)", str(caught.value))
    assert "two options" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


PLAIN = {
    "without values": ("fc.bias", lambda t: t.to("meta")),
    "a counter without value": ("bn1.num_batches_tracked", lambda t: t.to("meta")),
    "float8": ("fc.weight", lambda t: t.to(torch.float8_e4m3fn)),
    "complex": ("bn1.num_batches_tracked", lambda t: t.to(torch.complex64)),
}
HEADS = {"a head of nothing": (10**8, 0), "an endless head of nothing": (2**61, 0)}


def hostile(kind: str, path: Path) -> str:
    """Write a hostile pickle, and return what is said of it."""
    if kind == "code":
        path.write_bytes(pickle.dumps({"fc.weight": Evil()}))
        return "not a pickle of tensors"
    if kind == "code in a zip":
        torch.save({"fc.weight": Evil()}, path)
        return "not a pickle of tensors"
    if kind == "truncated":
        torch.save(fer_zoo.create("test_tiny").state_dict(), path)
        path.write_bytes(path.read_bytes()[:10_000])
        return "a zip file, but damaged"
    if kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * 10**8)
        return "bytes that would unpack to 100,000,000"
    if kind == "strides":
        torch.save({"fc.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
        return "fc.weight is larger than the file"
    if kind == "sparse":
        torch.save({"fc.weight": torch.zeros(7, 128).to_sparse()}, path)
        return "is no plain tensor of numbers|not a pickle"
    if kind in PLAIN:
        state = fer_zoo.create("test_tiny").state_dict()
        torch.save(state | {name: change(state[name]) for name, change in [PLAIN[kind]]}, path)
        return f"{PLAIN[kind][0]} is no plain tensor of numbers"
    if kind in HEADS:
        torch.save({"fc.weight": torch.zeros(*HEADS[kind])}, path)
        return "the tensors do not fit test_tiny"
    if kind == "no tensors":
        torch.save({"epoch": 3, "model": "resnet"}, path)
        return r"holds no state dict.*\['epoch', 'model'\]"
    if kind == "a list":
        torch.save([torch.zeros(1)], path)
        return "holds no state dict.* but list"
    if kind == "empty":
        path.write_bytes(b"")
        return "not a pickle of tensors"
    path.write_bytes(b"hello world")
    return "not a pickle of tensors"


KINDS = ["code", "code in a zip", "truncated", "bomb", "strides", "sparse", "no tensors", "a list"]


@pytest.mark.parametrize("kind", [*KINDS, *PLAIN, *HEADS, "empty", "text"])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old.pth"
    says = hostile(kind, path)
    with pytest.raises(CheckpointError, match=says) as caught:
        fer_zoo.convert(path, "test_tiny")
    assert str(path) in str(caught.value) or kind in HEADS
    assert [p.name for p in tmp_path.iterdir()] == ["old.pth"]


def test_convert_on_the_command_line(tmp_path: Path):
    model = fer_zoo.create("vgg19_025")
    path = tmp_path / "old model.pth"
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, path)
    names = ",".join(FER2013)
    command = cli("convert", path, "--model", "vgg19_025", "--labels", names)
    done = in_this_process(command)
    assert done.returncode == 0, done.stderr
    assert "removed 'module.' from the names" in done.stderr
    again = fer_zoo.load(done.stdout.strip())
    assert again.labels == FER2013
    assert same(again, model)
    done = in_this_process(command)
    assert done.returncode == 2
    assert "exists: name another with --output" in done.stderr


def test_an_ensemble_is_converted_by_its_members(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"convert its members .* one by one"):
        fer_zoo.convert(tmp_path / "x.pth", "ensemble_r18_vgg19")


# Heads


def test_other_classes_than_the_weights_need_the_explicit_call():
    with pytest.raises(ArgumentError, match="num_classes=8 contradicts") as caught:
        fer_zoo.create("resnet18_025", weights="default", num_classes=8)
    call = re.search(r"fer_zoo\.create\(.*?\)", str(caught.value))[0]
    assert call == (
        "fer_zoo.create('resnet18_025', weights='default', num_classes=8, head=\"reset\")"
    )
    model, whole = eval(call), fer_zoo.create("resnet18_025", weights="default")
    assert (model.num_classes, model.labels, model.temperature) == (8, None, {})
    assert model.evidence == Evidence(started_from="resnet18_025.fer2013")
    assert torch.equal(model.layer4[1].conv2.weight, whole.layer4[1].conv2.weight)
    same_width = fer_zoo.create("resnet18_025", weights="default", head="reset")
    assert not torch.equal(same_width.fc.weight, whole.fc.weight)
    ensemble = fer_zoo.create(
        "ensemble_r18_vgg19_025", weights="default", num_classes=3, head="reset"
    )
    assert ensemble(torch.zeros(1, 1, 40, 40)).shape == (1, 3)
    with pytest.raises(ArgumentError, match="is for weights"):
        fer_zoo.create("resnet18_025", head="reset")
    with pytest.raises(ArgumentError, match="head is 'reset'"):
        fer_zoo.create("resnet18_025", weights="default", head="new")
    with pytest.raises(ArgumentError, match="in_channels=3 contradicts"):
        fer_zoo.create("resnet18_025", weights="default", in_channels=3)


# Labels


def test_align_reorders_by_name():
    scores = torch.randn(4, 5, 7)
    order = ("Happiness", "ANGER", "neutral", "fear", "sadness", "disgusted", "surprised")
    found = align(scores, FER2013, order)
    index = {name: i for i, name in enumerate(FER2013)}
    for i, name in enumerate(("happy", "angry", "neutral", "fear", "sad", "disgust", "surprise")):
        assert torch.equal(found[..., i], scores[..., index[name]])
    assert torch.equal(align(found, order, FER2013), scores)


def test_align_to_fewer_classes_is_conditional():
    scores = torch.randn(6, 8).double()
    found = align(scores, FERPLUS, FER2013).softmax(1)
    whole = scores.softmax(1)
    kept = [FERPLUS.index(name) for name in FER2013]
    expected = whole[:, kept] / (1 - whole[:, [FERPLUS.index("contempt")]])
    torch.testing.assert_close(found, expected)


def test_align_to_coarser_classes_adds_probabilities():
    scores = torch.randn(6, 7).double()
    rest = ["angry", "disgust", "fear", "sadness"]
    groups = {"positive": ["joy"], "negative": rest, "other": ["surprise", "neutral"]}
    found, whole = align(scores, FER2013, groups).softmax(1), scores.softmax(1)
    torch.testing.assert_close(found[:, 0], whole[:, 3])
    torch.testing.assert_close(found[:, 1], whole[:, [0, 1, 2, 4]].sum(1))
    torch.testing.assert_close(found[:, 2], whole[:, [5, 6]].sum(1))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (FERPLUS, r"\['contempt'\] have no counterpart"),
        ({"a": ["happy"], "b": ["happiness"]}, "the same class"),
        ({"a": []}, "non-empty names"),
        (["happy", "joy"], "the same class"),
        ("happy", "single string"),
        ([], "non-empty names"),
    ],
)
def test_align_refuses_what_has_no_mapping(target, says):
    with pytest.raises(LabelError, match=says):
        align(torch.zeros(2, 7), FER2013, target)


def test_align_checks_the_width():
    with pytest.raises(LabelError, match="8 classes need 8 labels"):
        align(torch.zeros(2, 8), FER2013, FER2013)


def test_a_head_of_one_output_is_refused(tmp_path: Path):
    torch.save(fer_zoo.create("test_tiny", num_classes=1).state_dict(), tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="its head has one output"):
        fer_zoo.convert(tmp_path / "m.pth", "test_tiny", labels=["valence"])


ALPHABETICAL = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
BESIDE = {
    "class_to_idx": {name: i for i, name in enumerate(ALPHABETICAL)},
    "idx_to_class": dict(enumerate(ALPHABETICAL)),
    "id2label": {str(i): name for i, name in enumerate(ALPHABETICAL)},
    "classes": [*ALPHABETICAL],
    "class_names": ALPHABETICAL,
    "idx2class": {i + 1: name for i, name in enumerate(ALPHABETICAL)},
    "class2idx": {name: float(i) for i, name in enumerate(ALPHABETICAL)},
    "label2idx": {name: torch.tensor(i + 1) for i, name in enumerate(ALPHABETICAL)},
    "emotions": [*ALPHABETICAL],
    "classes as one text": ", ".join(ALPHABETICAL),
    "names": {str(i): name for i, name in enumerate(ALPHABETICAL)},
    "emotion_names": [(i, name) for i, name in enumerate(ALPHABETICAL)],
    "emotion_text": "; ".join(ALPHABETICAL),
    "label_text": " ".join(ALPHABETICAL),
    "label_json": json.dumps({name: i for i, name in enumerate(ALPHABETICAL)}),
    "folders": [f"{i}_{name}" for i, name in enumerate(ALPHABETICAL)],
    "emotion_dict": {i: f"{name.title()} \U0001f620" for i, name in enumerate(ALPHABETICAL)},
    "config with them": {"data": {"train": {"CLASSES": [*ALPHABETICAL]}}},
    "meta and id": {"dataset_meta": {"class_list": ALPHABETICAL}},
    "hyper_parameters": {"lr": 0.1, "classes": [*ALPHABETICAL]},
}

INNER = {"config with them": "CLASSES", "meta and id": "class_list", "hyper_parameters": "classes"}


@pytest.mark.parametrize("word", BESIDE)
def test_names_beside_the_tensors_are_not_contradicted(tmp_path: Path, word):
    """The head was bound to FER2013's order, and happy became neutral."""
    path, state = tmp_path / "a.pth", fer_zoo.create("test_tiny").state_dict()
    torch.save({"state_dict": state, word: BESIDE[word]}, path)
    with pytest.raises(LabelError, match=r"says that the classes are .*'angry'.*leave labels out"):
        fer_zoo.convert(path, "test_tiny", labels=FER2013)
    with pytest.raises(LabelError, match="says that the classes are"):
        fer_zoo.convert(path, "test_tiny", labels=FERPLUS)
    made = fer_zoo.convert(path, "test_tiny")
    assert made.model.labels == ALPHABETICAL
    key = INNER.get(word, word)
    assert any(note.startswith(f"took the labels of {key!r}: ") for note in made.notes)
    for ours in (("anger", *ALPHABETICAL[1:]), [*"abcdefg"]):
        assert fer_zoo.convert(path, "test_tiny", labels=ours).model.labels == tuple(ours)


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({"classes": ["a", "b"]}, "left 'classes': 2 names, and its head has 7 outputs"),
        ({"num_classes": 8}, "'num_classes' says 8, and its head has 7 outputs"),
        ({"args": {"num_classes": 8}}, "'num_classes' says 8, and its head has 7 outputs"),
        ({"classes": ["0", "1", "2", "3", "4", "5", "6"]}, ""),
        ({"epochs": {1: "a", 3: "b"}, "best": {"angry": 0.5, "happy": 0.25}}, ""),
        ({"dropped": ["disgust", "fear"], "class_to_idx": {"happy": 0, "joy": 0, "sad": 1}}, ""),
        ({"history": {i: i / 7 for i in range(10_000)}}, ""),
        ({"classes": 7, "labels": torch.arange(7), "class_to_idx": {"a": 5}}, ""),
    ],
)
def test_what_a_file_says_of_its_classes_is_told(tmp_path: Path, beside, says):
    torch.save(
        {"state_dict": fer_zoo.create("test_tiny").state_dict(), **beside}, tmp_path / "a.pt"
    )
    made = fer_zoo.convert(tmp_path / "a.pt", "test_tiny")
    assert made.model.labels is None
    assert "no labels: predictions need them (labels=, --labels)" in made.notes
    assert says in made.notes or not says


def test_variances_below_zero_are_refused(tmp_path: Path):
    """Their square roots are NaN, and so was every answer."""
    state = fer_zoo.create("test_tiny").state_dict()
    state["bn1.running_var"][3] = -0.5
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(StateDictError, match=r"bn1\.running_var holds variances below 0"):
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")


def test_labels_that_one_of_several_lists_has_are_taken(tmp_path: Path):
    """A report's order is none of the head's."""
    state = fer_zoo.create("test_tiny").state_dict()
    held = {"report": [*ALPHABETICAL], "emotions": [*FER2013], "state_dict": state}
    torch.save(held, tmp_path / "a.pth")
    for labels in (FER2013, ALPHABETICAL):
        assert (
            fer_zoo.convert(tmp_path / "a.pth", "test_tiny", labels=labels).model.labels == labels
        )
    with pytest.raises(LabelError, match="'report' says"):
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny", labels=[*reversed(FER2013)])
    torch.save(held | {"classes": [*FER2013[::-1]]}, tmp_path / "a.pth")
    assert fer_zoo.convert(tmp_path / "a.pth", "test_tiny").model.labels == FER2013[::-1]


def test_what_a_state_dict_does_not_tell_is_told(tmp_path: Path):
    """torchvision's ResNet18 with a new conv1 fits, and pools where ours does not."""
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=7).eval()
    theirs.conv1 = torch.nn.Conv2d(1, 64, 3, 1, 1, bias=False)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    made, x = (
        fer_zoo.convert(tmp_path / "a.pth", "resnet18", labels=FER2013),
        torch.rand(2, 1, 40, 40),
    )
    assert (
        "strides and pooling are not in the file: resnet18 is ResNet18 with a 3x3" in made.notes[-1]
    )
    assert "no max-pool" in made.notes[-1]
    torch.save(fer_zoo.create("vgg19").state_dict(), tmp_path / "b.pth")
    wide = fer_zoo.convert(tmp_path / "b.pth", "vgg19", labels=FER2013, preset="fer40_center")
    assert wide.notes == [
        "pooling and activation are not in the file: vgg19 is VGG19 with batch norm and a pooled "
        "linear head; where the original's are others (average pooling, LeakyReLU) so are its "
        "labels"
    ]
    with torch.no_grad():
        assert not torch.allclose(made.model(x), theirs(x), atol=0.01)
        theirs.maxpool = torch.nn.Identity()
        torch.testing.assert_close(made.model(x), theirs(x))


@pytest.mark.parametrize("text", ["{}", "[{}]", "['{}']", '("{}")', " {} "])
def test_labels_may_be_pasted_from_python(tmp_path: Path, text):
    """The first one was called `['angry'`."""
    torch.save(fer_zoo.create("test_tiny").state_dict(), tmp_path / "a.pth")
    between = "', '" if "'" in text else '", "' if '"' in text else ","
    names = text.format(between.join(FER2013))
    done = in_this_process(
        cli("convert", tmp_path / "a.pth", "--model", "test_tiny", "--labels", names)
    )
    assert done.returncode == 0, done.stderr
    assert fer_zoo.load(tmp_path / "a.safetensors").labels == FER2013


@pytest.mark.parametrize("between", [";", "|", " ", "/"])
def test_labels_are_between_commas(tmp_path: Path, between):
    torch.save(fer_zoo.create("test_tiny").state_dict(), tmp_path / "a.pth")
    names = between.join(FER2013)
    done = in_this_process(
        cli("convert", tmp_path / "a.pth", "--model", "test_tiny", "--labels", names)
    )
    assert "--labels are names between commas, angry,disgust, got 'angry" in done.stderr


@pytest.mark.parametrize("by", ["{k}: '{name}'", "'{name}': {k}", "{k}:{name}", "{k}={name}"])
def test_labels_with_numbers_are_no_names(tmp_path: Path, by):
    """A mapping pasted from Python became names such as `{0: 'angry`."""
    torch.save(fer_zoo.create("test_tiny").state_dict(), tmp_path / "a.pth")
    text = ",".join(by.format(k=k, name=name) for k, name in enumerate(FER2013))
    for names in (text, f"{{{text}}}", f"dict_keys({[*FER2013]})"):
        done = in_this_process(
            cli("convert", tmp_path / "a.pth", "--model", "test_tiny", "--labels", names)
        )
        assert done.returncode == 2
        assert "--labels are names in the order of the classes" in done.stderr
        assert not (tmp_path / "a.safetensors").exists()


def test_names_of_an_enum_are_its_text():
    """`str` of a member is `Emotion.ANGRY`, which no data set has."""
    emotion = enum.Enum("Emotion", [(name.upper(), name) for name in FER2013], type=str)
    assert fer_zoo.labels.check_labels([*emotion]) == FER2013
    assert {*map(type, fer_zoo.labels.check_labels([*emotion]))} == {str}


PACKED = {
    "gzip, packed: unpack it": lambda content: gzip.compress(content),
    "bzip2, packed": lambda content: bz2.compress(content),
    "xz, packed": lambda content: lzma.compress(content),
    "a tar archive: unpack it": lambda content: tarred(content),
    "a web page, not the file": lambda content: (
        b"\n<!DOCTYPE html><title>Virus scan warning</title>"
    ),
    "a pointer of Git LFS.*git lfs pull": lambda content: (
        b"version https://git-lfs.github.com/spec/v1"
    ),
    "an array of numpy's": lambda content: b"\x93NUMPY\1\0" + content,
    "7z, packed": lambda content: b"7z\xbc\xaf\x27\x1c" + content,
}


def tarred(content: bytes) -> bytes:
    packed, entry = io.BytesIO(), tarfile.TarInfo("model.pth")
    entry.size = len(content)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("says", PACKED)
def test_what_a_download_may_be_instead_is_named(tmp_path: Path, says):
    whole = io.BytesIO()
    torch.save(fer_zoo.create("test_tiny").state_dict(), whole)
    (tmp_path / "a.pth.tar").write_bytes(PACKED[says](whole.getvalue()))
    with pytest.raises(CheckpointError, match=f"a.pth.tar is {says}"):
        fer_zoo.convert(tmp_path / "a.pth.tar", "test_tiny")


def test_what_is_no_tensor_in_a_state_dict_is_named(tmp_path: Path):
    state = fer_zoo.create("test_tiny").state_dict()
    torch.save({**state, "epoch": 3, "acc": 0.7}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"tensors beside others, \['acc', 'epoch'\]: leave"):
        fer_zoo.convert(tmp_path / "a.pth", "test_tiny")


@pytest.mark.parametrize("kind", [torch.int32, torch.float32, torch.float64, torch.uint8])
def test_counters_of_batch_norm_are_numbers_of_any_kind(tmp_path: Path, kind):
    state = fer_zoo.create("test_tiny").state_dict()
    name = "bn1.num_batches_tracked"
    torch.save(state | {name: torch.tensor(7).to(kind)}, tmp_path / "a.pth")
    found = fer_zoo.convert(tmp_path / "a.pth", "test_tiny").model.state_dict()[name]
    assert (found.dtype, int(found)) == (torch.int64, 7)
    for wrong in (7.5, float("nan")):
        torch.save(state | {name: torch.tensor(wrong)}, tmp_path / "a.pth")
        with pytest.raises(StateDictError, match=r"num_batches_tracked is torch\.float32"):
            fer_zoo.convert(tmp_path / "a.pth", "test_tiny")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_files_of_other_kinds_are_named(tmp_path: Path):
    model = fer_zoo.create("test_tiny").eval()
    fer_zoo.save(model, tmp_path / "a.safetensors")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10_000))
    torch.save(model.state_dict(), tmp_path / "a.pth", pickle_protocol=4)
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), tmp_path / "a.onnx")
    for name, says in {
        "a.safetensors": "is a safetensors file, which needs no conversion: fer_zoo.load",
        "a.h5": "is an HDF5 file",
        "a.pt": r"is a TorchScript program, .* torch.jit.load\(path\).state_dict\(\)",
        "a.keras": r"is a zip file of something else, \['model.weights.h5'\]",
        "a.onnx": "is an ONNX program",
        "a.pth": "of pickle's protocol 4, torch.save without pickle_protocol= writes 2",
    }.items():
        with pytest.raises(CheckpointError, match=says):
            fer_zoo.convert(tmp_path / name, "test_tiny")


def test_a_preset_may_be_given_itself(tmp_path: Path):
    torch.save(fer_zoo.create("test_tiny").state_dict(), tmp_path / "a.pth")
    own = fer_zoo.transforms.Preset(name="mine_itself", resize=40, size=40, views="plain")
    made = fer_zoo.convert(tmp_path / "a.pth", "test_tiny", preset=own, labels=FER2013)
    fer_zoo.save(made.model, tmp_path / "b.safetensors")
    assert fer_zoo.load(tmp_path / "b.safetensors").preset == "mine_itself"


def test_names_in_two_orders_are_asked_about(tmp_path: Path):
    """The first was taken without a word."""
    path, state = tmp_path / "a.pth", fer_zoo.create("test_tiny").state_dict()
    index = {name: i for i, name in enumerate(FER2013)}
    torch.save({"state_dict": state, "classes": sorted(FER2013), "class_to_idx": index}, path)
    with pytest.raises(LabelError, match=r"its 'classes' says .*, its 'class_to_idx' .*--labels"):
        fer_zoo.convert(path, "test_tiny")
    for own in (FER2013, tuple(sorted(FER2013))):
        assert fer_zoo.convert(path, "test_tiny", labels=own).model.labels == own
    same = {"state_dict": state, "classes": [*FER2013], "names": [n.title() for n in FER2013]}
    torch.save(same | {"class_to_idx": index}, path)
    assert fer_zoo.convert(path, "test_tiny").model.labels == FER2013
