"""Hostile files: one error that names the file and the reason, bounded memory, no crash."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_bytes, save_file

import fer_zoo
from conftest import ROOT
from fer_zoo.errors import CheckpointError, StateDictError, WeightsError
from fer_zoo.evidence import Evidence
from fer_zoo.saving import save_repository
from fer_zoo.weights.checkpoint import (
    is_finite,
    read_checkpoint,
    read_config,
    write_checkpoint,
)
from fer_zoo.weights.reading import MAX_HEADER, read_safetensors


def container(header: object, data: bytes = b"") -> bytes:
    """Return the bytes of a file with any header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(start: object, end: object, dtype: object = "F32", shape: object = (1,)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


MALFORMED = {
    "empty": (b"", "it is empty"),
    "a few bytes": (b"abc", "it has 3 bytes"),
    "header beyond the file": (container({"a": entry(0, 4)})[:20], "would take 61 bytes, and 12"),
    "header of petabytes": ((2**50).to_bytes(8, "little") + b"{}", "1,125,899,906,842,624 bytes"),
    "longest length": (b"\xff" * 8 + b"{}", "18,446,744,073,709,551,615 bytes"),
    "no JSON": (container(b"\x00\x01\x02\x03"), "is not JSON"),
    "not UTF-8": (container(b'{"\xff": 1}'), "is not JSON"),
    "a list": (container([1]), "no JSON object"),
    "nested": (container(b"[" * 100_000), "is nested too deep"),
    "nested objects": (container(b'{"a":' * 100_000), "is nested too deep"),
    "a long number": (container(b'{"a": ' + b"9" * 10_000 + b"}"), "is not JSON"),
    "a name twice": (container(b'{"a": 1, "a": 2}'), "names 'a' twice"),
    "metadata of numbers": (container({"__metadata__": {"a": 1}}), "metadata is not text"),
    "metadata no object": (container({"__metadata__": [1]}), "metadata is not text"),
    "an entry of text": (container({"a": "b"}), "not described by"),
    "an entry too rich": (container({"a": entry(0, 4) | {"x": 1}}, b"1234"), "not described by"),
    "unknown type": (container({"a": entry(0, 4, "X")}, b"1234"), "unknown variant `X`"),
    "a type of others": (container({"a": entry(0, 4, "F8_E4M3", [4])}, b"1234"), "'F8_E4M3', not"),
    "type no text": (container({"a": entry(0, 4, ["F32"])}, b"1234"), "expected string or map"),
    "negative shape": (container({"a": entry(0, 4, shape=[-1])}, b"1234"), "integer `-1`"),
    "boolean shape": (container({"a": entry(0, 4, shape=[True])}, b"1234"), "boolean `true`"),
    "huge shape": (container({"a": entry(0, 4, shape=[2**70])}, b"1234"), "invalid type"),
    "overflowing shape": (container({"a": entry(0, 4, shape=[2**62] * 3)}, b"1234"), "overflow"),
    "overflowing rows": (container({"a": entry(0, 0, shape=[0, 2**62, 2**62])}), "of no size"),
    "many dimensions": (container({"a": entry(0, 4, shape=[1] * 99)}, b"1234"), "99 dimensions"),
    "endless dimensions": (
        container({"a": entry(0, 0, shape=[0] + [2**62] * 150_000)}),
        "150,001 dimensions, and 32 are allowed",
    ),
    "three offsets": (
        container({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"1234"),
        "invalid length 3",
    ),
    "offsets reversed": (container({"a": entry(4, 0)}, b"1234"), "invalid offset for tensor `a`"),
    "offsets beyond": (container({"a": entry(0, 4000, shape=[1000])}, b"12"), "not fully covered"),
    "a shape of others": (
        container({"a": entry(0, 4, shape=[2])}, b"1234"),
        "invalid shape, data type, or",
    ),
    "overlap": (
        container({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"),
        "invalid offset for tensor",
    ),
    "half overlap": (
        container({"a": entry(0, 8, shape=[2]), "b": entry(4, 12, shape=[2])}, b"1" * 12),
        "invalid offset for tensor `b`",
    ),
    "gap": (
        container({"a": entry(0, 4), "b": entry(8, 12)}, b"1" * 12),
        "invalid offset for tensor",
    ),
    "bytes left over": (container({"a": entry(0, 4)}, b"12345"), "not fully covered"),
    "no boolean": (container({"a": entry(0, 2, "BOOL", [2])}, b"\x01\x02"), "a is boolean but"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle"),
    "text": (b"hello world, this is no checkpoint", "not a safetensors file"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, kind):
    content, says = MALFORMED[kind]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    for read in (fer_zoo.load, read_checkpoint):
        with pytest.raises(CheckpointError, match=says) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_a_zip_named_safetensors_is_refused(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match=r"m\.safetensors --model .*m-converted\.safeten"):
        fer_zoo.load(path)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path):
    """The file is as long as its header says, but sparse: it takes no disk."""
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((4 * 2**30).to_bytes(8, "little") + b'{"a')
        file.truncate(4 * 2**30 + 8)
    with pytest.raises(CheckpointError, match=f"4,294,967,296 bytes, and {MAX_HEADER:,} are all"):
        fer_zoo.load(path)


def test_links_are_followed_and_only_regular_files_are_read(tmp_path: Path):
    """Caches are made of links; pipes and devices would keep a reader waiting."""
    real = fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "real.safetensors")
    link, other = tmp_path / "link.safetensors", tmp_path / "other.safetensors"
    link.symlink_to(real.name)
    assert fer_zoo.load(link).name == "test_tiny"
    os.mkfifo(other)
    for target, says in (
        (other, "not a regular"),
        ("/dev/zero", "not a regular"),
        ("x", "no such"),
    ):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(CheckpointError, match=rf"link\.safetensors: {says} file"):
            fer_zoo.load(link)
    with pytest.raises(CheckpointError, match="not a regular file"):
        fer_zoo.load(other)
    other.unlink()
    other.mkdir()
    with pytest.raises(CheckpointError, match=r"not a regular file|cannot be read"):
        fer_zoo.load(str(other))


def test_a_file_cut_short_while_it_is_read_is_an_error(tiny: Path, monkeypatch):
    """Mapped into memory, it would end the process."""
    before = tiny.stat()

    def cut(descriptor: int) -> os.stat_result:
        os.truncate(tiny, before.st_size - 1000)
        return before

    monkeypatch.setattr(os, "fstat", cut)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors: .*not fully covered"):
        fer_zoo.load(tiny)


def changed(path: Path, **changes: object) -> Path:
    """Write the checkpoint at `path` again with another config and the right digest."""
    tensors, config = read_checkpoint(path)
    write_checkpoint(path, tensors, config | changes)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    model = fer_zoo.create("test_tiny")
    model.labels = fer_zoo.labels.FER2013
    return fer_zoo.save(model, tmp_path / "tiny.safetensors")


CONFIGS = {
    "unknown model": ({"name": "resnet81"}, r"unknown model 'resnet81'\. Did you mean"),
    "unknown timm model": ({"name": "timm/nothing"}, "timm has no model 'nothing'"),
    "path as a model": ({"name": "../../etc/passwd"}, "unknown model '../../etc/passwd'"),
    "path as a timm model": ({"name": "timm/../x"}, "timm has no model '../x'"),
    "name no text": ({"name": ["resnet18"]}, r"unknown model \['resnet18'\]"),
    "name an object": ({"name": {"a": 1}}, "unknown model {'a': 1}"),
    "name a number": ({"name": 7}, "unknown model 7"),
    "no name": ({"name": None}, "unknown model None"),
    "preset a path": ({"preset": "../x"}, "unknown preset '../x'"),
    "preset no text": ({"preset": ["fer40_center"]}, "preset must be Preset"),
    "a million classes": ({"num_classes": 10**6}, "more than .* values, twice what the file holds"),
    "quintillions of classes": ({"num_classes": 10**18}, "config cannot be built"),
    "no classes": ({"num_classes": 0}, "at least 1"),
    "classes no number": ({"num_classes": "7"}, "whole number"),
    "another class": ({"num_classes": 8, "labels": None}, r"\(7, 128\), the model's is \(8, 128\)"),
    "a giant network": ({"name": "timm/vit_giant_patch14_224"}, "more than .* values, twice what"),
    "channels": ({"in_channels": 2}, "in_channels must be 1"),
    "labels a number": ({"labels": 5}, "cannot be built"),
    "labels of numbers": ({"labels": [1, 2, 3, 4, 5, 6, 7]}, "non-empty names"),
    "labels too few": ({"labels": ["a"]}, "7 classes need 7 labels"),
    "labels doubled": ({"labels": ["happy", "happiness", *"abcde"]}, "the same class"),
    "evidence a list": ({"evidence": [1]}, "evidence must be Evidence"),
    "evidence odd": ({"evidence": {"scores": [1]}}, r"scores\[0\] must be Score"),
    "evidence of more": ({"evidence": {"surprise": 1}}, "evidence has no 'surprise'"),
    "temperature": (
        {"evidence": {"calibration": {"temperature": {"fer40_center": 0}}}},
        "from 0.001 to 1000",
    ),
    "no members": ({"members": [], "fusion": {}}, "cannot be built"),
    "members no list": ({"members": 7}, "cannot be built"),
    "prefix no text": ({"prefix": 7}, "prefix is no text"),
    "prefix without end": ({"prefix": "x" * 65}, "prefix is no text of 64 letters at most"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_lies_is_refused(tiny: Path, kind):
    changes, says = CONFIGS[kind]
    before = torch.random.get_rng_state()
    with pytest.raises(CheckpointError, match=says) as caught:
        fer_zoo.load(changed(tiny, **changes))
    assert str(tiny) in str(caught.value)
    assert len(str(caught.value)) < 1200
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_cannot_pose_as_another_model(tmp_path: Path):
    model = fer_zoo.create_ensemble(["test_tiny", "test_tiny"])
    path = fer_zoo.save(model, tmp_path / "m.safetensors")
    for name in ("resnet18", "ensemble_r18_vgg19", "timm/resnet10t"):
        with pytest.raises(CheckpointError, match=f"is not '{name}', which is"):
            fer_zoo.load(changed(path, name=name))
        model.name = name
        with pytest.raises(fer_zoo.errors.ArgumentError, match=f"is not '{name}'"):
            fer_zoo.save(model, path)
    heads = fer_zoo.weights.get_weights("ensemble_r18_vgg19_025").path
    with pytest.raises(CheckpointError, match="names no model but holds heads of an ensemble"):
        fer_zoo.load(heads)


def test_a_name_that_no_file_has_is_no_file(tmp_path: Path):
    for name in ("a" * 300 + ".safetensors", "./" + "a" * 300, "x/" * 3000 + "m.safetensors"):
        with pytest.raises(CheckpointError, match=r"cannot be read|no such"):
            fer_zoo.load(name)


def test_members_without_end_are_refused(tiny: Path):
    config = read_checkpoint(tiny)[1]
    head = {"name": "average", "options": {}}
    many = {"members": [config] * 2000, "fusion": head}
    with pytest.raises(CheckpointError, match="twice what the file holds"):
        fer_zoo.load(changed(tiny, **many))
    nested = {"members": [{"members": [config], "fusion": head}], "fusion": head}
    with pytest.raises(CheckpointError, match="an ensemble in an ensemble"):
        fer_zoo.load(changed(tiny, **nested))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": 1, "format": 1}',
        "[]",
        "{}",
        '{"format": "2"}',
        '{"format": 4}',
        '{"format": 3}',
        '{"format": 1, "digest": "0"}',
        '{"format": 3, "digest": 7}',
    ],
)
def test_metadata_that_says_nothing_is_refused(tmp_path: Path, text):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"fer_zoo": text})
    with pytest.raises(CheckpointError, match=r"m\.safetensors: safetensors, but its metadata"):
        fer_zoo.load(path)


@pytest.mark.parametrize("value", ["NaN", "1e999", "[" * 900 + "]" * 900])
def test_a_config_without_a_digest_of_its_own_is_refused(tmp_path: Path, value):
    path = tmp_path / "m.safetensors"
    text = f'{{"format": 3, "digest": "", "name": {value}}}'
    save_file({"a": torch.zeros(1)}, path, metadata={"fer_zoo": text})
    with pytest.raises(CheckpointError, match=r"m\.safetensors: damaged or changed"):
        fer_zoo.load(path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("fc.bias", None, "missing fc.bias"),
        ("extra", torch.zeros(1), "unexpected extra"),
        ("fc.bias", torch.zeros(8), r"fc.bias has shape \(8,\), the model's is \(7,\)"),
        ("fc.bias", torch.zeros(7, dtype=torch.int64), "fc.bias is torch.int64"),
        ("fc.bias", torch.zeros(7, dtype=torch.bool), "fc.bias is torch.bool"),
        ("fc.bias", torch.zeros(7, dtype=torch.int8), "fc.bias is torch.int8"),
        ("fc.bias", torch.full((7,), torch.nan), "fc.bias holds NaN"),
        ("fc.bias", torch.full((7,), -torch.inf), "fc.bias holds NaN or infinity"),
        ("bn1.running_var", torch.full((16,), torch.nan), "bn1.running_var holds NaN"),
        ("fc.bias", torch.full((7,), 1e300, dtype=torch.float64), "fc.bias holds NaN or infinity"),
        ("bn1.num_batches_tracked", torch.tensor(True), "is torch.bool, the model's is torch.int"),
        ("bn1.num_batches_tracked", torch.tensor(1, dtype=torch.int32), "is torch.int32, the mod"),
        ("bn1.num_batches_tracked", torch.tensor(0.0), "is torch.float32, the model's is torch.i"),
        ("fc.weight:scale", torch.ones(7), "fc.weight:scale fits no int8 weight"),
        ("nothing:scale", torch.ones(7), "nothing:scale fits no int8 weight"),
        ("bn1.num_batches_tracked:scale", torch.tensor(1.0), "tracked:scale fits no int8 weight"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tiny: Path, name, value, says):
    tensors, config = read_checkpoint(tiny)
    tensors = {k: v for k, v in tensors.items() if k != name}
    tensors |= {} if value is None else {name: value}
    write_checkpoint(tiny, tensors, config)
    with pytest.raises(CheckpointError, match=says) as caught:
        fer_zoo.load(tiny)
    assert str(tiny) in str(caught.value)
    with pytest.raises(CheckpointError, match=says):
        fer_zoo.create("test_tiny", weights=str(tiny))


def test_scales_that_are_none_are_refused(tmp_path: Path):
    path = fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "m.safetensors", dtype="int8")
    tensors, _ = read_safetensors(path)
    config = read_checkpoint(path).config
    for scale, says in (
        (torch.zeros(7), "holds what is no scale"),
        (torch.full((7,), torch.nan), "holds what is no scale"),
        (-torch.ones(7), "holds what is no scale"),
        (torch.ones(8), "fits no int8 weight"),
        (torch.ones(7).double(), "fits no int8 weight"),
    ):
        write_checkpoint(path, tensors | {"fc.weight:scale": scale}, config)
        with pytest.raises(CheckpointError, match=f"fc.weight:scale {says}"):
            fer_zoo.load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_no_number_is_found_in_every_type(dtype):
    largest = torch.finfo(dtype).max
    numbers = torch.tensor(
        [0.0, -0.0, 1.5, largest, -largest, torch.finfo(dtype).tiny], dtype=dtype
    )
    assert is_finite(numbers)
    assert is_finite(numbers[:0])
    assert is_finite(numbers[2])
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert not is_finite(torch.cat([numbers, torch.tensor([bad], dtype=dtype)]))


def test_a_refused_state_dict_leaves_the_model_as_it_was():
    model = fer_zoo.create("test_tiny")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ones = {k: torch.ones_like(v) for k, v in before.items()}
    with pytest.raises(StateDictError, match=r"fc\.weight holds NaN"):
        fer_zoo.load_state_dict(model, ones | {"fc.weight": torch.full((7, 128), torch.nan)})
    large = torch.full((7, 128), 1e300, dtype=torch.float64)
    with pytest.raises(StateDictError, match=r"fc\.weight holds NaN or infinity"):
        fer_zoo.load_state_dict(model, ones | {"fc.weight": large})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path: Path):
    model = fer_zoo.create("test_tiny")
    with torch.no_grad():
        model.fc.bias.fill_(torch.nan)
    with pytest.raises(fer_zoo.errors.ArgumentError, match=r"\['fc.bias'\] hold NaN"):
        fer_zoo.save(model, tmp_path / "m.safetensors")
    with torch.no_grad():
        model.fc.bias.fill_(torch.inf)
    for dtype in (None, "int8", "float16"):
        with pytest.raises(fer_zoo.errors.ArgumentError, match=r"\['fc.bias'\] hold NaN or inf"):
            fer_zoo.save(model, tmp_path / "m.safetensors", dtype=dtype)
    model = fer_zoo.create("test_tiny")
    model.evidence = Evidence(started_from="x" * MAX_HEADER)
    with pytest.raises(CheckpointError, match="header would take"):
        fer_zoo.save(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_every_byte_that_is_read_is_in_the_digest(tmp_path: Path):
    """Other numbers, other labels, another temperature: whatever changes is noticed."""
    model = fer_zoo.create("test_tiny")
    model.labels, model.temperature = fer_zoo.labels.FER2013, {"fer40_center": 1.25}
    path = fer_zoo.save(model, tmp_path / "m.safetensors")
    whole = path.read_bytes()
    places = [whole.index(b"happy"), whole.index(b"1.25"), len(whole) // 2, len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert load_bytes(path.read_bytes())  # safetensors itself sees nothing wrong
        with pytest.raises(CheckpointError, match=r"m\.safetensors: damaged or changed after"):
            fer_zoo.load(path)


def spelt(content: bytes, respell: Callable[[dict], str]) -> bytes:
    """Return a file whose JSON, and the JSON in it, is spelt otherwise."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    config = json.loads(header["__metadata__"]["fer_zoo"])
    header["__metadata__"] = {"fer_zoo": respell(config), "tool": "another"}
    raw = respell(header).encode()
    return len(raw).to_bytes(8, "little") + raw + content[8 + length :]


@pytest.mark.parametrize(
    "respell",
    [
        lambda value: json.dumps(value, indent=4),
        lambda value: json.dumps(value, sort_keys=True, separators=(",", ":")),
        lambda value: json.dumps(dict(reversed(value.items())), ensure_ascii=False),
    ],
    ids=["indented", "sorted", "reversed"],
)
@pytest.mark.parametrize("damage", [False, True])
def test_the_digest_is_not_of_how_json_is_spelt(tiny: Path, respell, damage):
    """What other tools write again still loads, and damage is noticed all the same."""
    expected = fer_zoo.load(tiny)
    content = spelt(tiny.read_bytes(), respell)
    tiny.write_bytes(content[:-1] + b"\x01" if damage else content)
    if damage:
        with pytest.raises(CheckpointError, match="damaged or changed after"):
            fer_zoo.load(tiny)
    else:
        assert fer_zoo.load(tiny).state == expected.state


@pytest.mark.parametrize("head", [{"format": 1}, {"format": 2, "sha256": "0" * 64}])
def test_files_of_older_formats_load(tiny: Path, head):
    """Runs that began with them go on; nothing in them is checked but what pins say."""
    tensors, config = read_checkpoint(tiny)
    save_file(tensors, tiny, metadata={"fer_zoo": json.dumps(head | config)})
    assert fer_zoo.load(tiny).labels == fer_zoo.labels.FER2013
    assert read_config(tiny) == config


def test_a_pinned_file_is_checked_before_it_is_parsed(tiny: Path):
    import hashlib

    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert fer_zoo.load(f"{tiny}#sha256={digest}").name == "test_tiny"
    tiny.write_bytes(b"not even a header")
    with pytest.raises(WeightsError, match=f"sha256 [0-9a-f]{{64}} is not the recorded {digest}"):
        fer_zoo.load(f"{tiny}#sha256={digest}")


def test_ours_and_safetensors_own_reader_agree(tmp_path: Path):
    """An independent reader gives the same bytes for every type we store."""
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
    kinds += [torch.int16, torch.int8, torch.uint8, torch.bool]
    tensors = {str(k): (9 * torch.randn(3, 5)).to(k) for k in kinds}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "one": torch.ones(1)}
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, tensors, {})
    ours, theirs = read_checkpoint(path)[0], load_bytes(path.read_bytes())
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    model = fer_zoo.create("test_tiny")
    model.labels = fer_zoo.labels.FER2013
    save_repository(model, folder)
    return folder


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


FOLDERS = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config not ours": (lambda f: (f / "config.json").write_text("{}"), "does not say which"),
    "config no object": (lambda f: (f / "config.json").write_text("[1]"), "does not say which"),
    "config bomb": (lambda f: (f / "config.json").write_text("[" * 10**5), "nested too deep"),
    "config long": (
        lambda f: (f / "config.json").write_bytes(b" " * (MAX_HEADER + 1)),
        "longer than the",
    ),
    "config of another": (
        lambda f: edit(f / "config.json", lambda c: c["fer_zoo"].update(preset="thesis40")),
        "of another checkpoint than the config.json",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "weights a link to nothing": (
        lambda f: (w := f / "model.safetensors", w.unlink(), w.symlink_to("nowhere")),
        "no such file",
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_damaged_folder_is_refused(repository: Path, kind):
    change, says = FOLDERS[kind]
    assert fer_zoo.load(repository).labels == fer_zoo.labels.FER2013
    change(repository)
    with pytest.raises((CheckpointError, WeightsError), match=says) as caught:
        fer_zoo.load(repository)
    assert str(repository) in str(caught.value)


LIMITED = """
import resource, sys
import fer_zoo, timm, torch  # timm's first import alone takes 335 MB of addresses
fer_zoo.load(sys.argv[1])  # whatever is imported and allocated once
for path, extra in zip(sys.argv[2::2], sys.argv[3::2]):
    pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + int(extra), resource.RLIM_INFINITY))
    try:
        said = f"loaded {fer_zoo.load(path).name}"
    except fer_zoo.errors.FerZooError as error:
        said = f"{type(error).__name__} {error}"[:300].replace(chr(10), " ")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(said)
"""
EMPTY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def greedy(folder: Path) -> dict[str, Path]:
    """Write files that ask for gigabytes, or for minutes."""
    tiny = fer_zoo.save(fer_zoo.create("test_tiny"), folder / "tiny.safetensors")
    many = b",".join(b'"%d":%b' % (i, EMPTY) for i in range(40_000))
    config = json.dumps({"format": 1, "prefix": "x" * 1_500_000})
    metadata = json.dumps({"fer_zoo": config}).encode()
    files = {
        "bomb": container(b'{"a":[' + b"[]," * ((MAX_HEADER - 20) // 3) + b"[]]}"),
        "strings": container(b"{" + b",".join(b'"%d":{}' % i for i in range(300_000)) + b"}"),
        "tensor": container({"a": entry(0, 4 * 10**12, shape=[10**12])}, b"1234"),
        "names": container(b'{"__metadata__":%b,%b}' % (metadata, many)),
        "shape": container({"a": entry(0, 4, shape=[2**62] * 180_000)}, b"1234"),
        "ones": container({"a": entry(0, 4, shape=[1] * 1_300_000)}, b"1234"),
        "zeros": container({"a": entry(0, 0, shape=[0, *[2**62] * 180_000])}),
    }
    paths = {kind: folder / f"{kind}.safetensors" for kind in files}
    for kind, content in files.items():
        paths[kind].write_bytes(content)
    for kind, changes in {
        "classes": {"num_classes": 10**7, "labels": None},
        "giant": {"name": "timm/vit_giant_patch14_224"},
    }.items():
        paths[kind] = folder / f"{kind}.safetensors"
        paths[kind].write_bytes(tiny.read_bytes())
        changed(paths[kind], **changes)
    paths["header"] = folder / "header.safetensors"
    with paths["header"].open("wb") as file:
        file.write((3 * 2**30).to_bytes(8, "little") + b'{"a')
        file.truncate(3 * 2**30 + 8)
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
@pytest.mark.slow
def test_memory_and_time_are_bounded_by_the_file(tmp_path: Path):
    """Hostile files may take 200 MB beside theirs three times; vgg19's 80 MB are held twice."""
    paths = greedy(tmp_path)
    limits = {kind: 200 * 2**20 + 3 * min(p.stat().st_size, 10**7) for kind, p in paths.items()}
    large = fer_zoo.create("vgg19")
    for dtype in ("float32", "int8"):
        path = fer_zoo.save(large, tmp_path / f"vgg19-{dtype}.safetensors", dtype=dtype)
        paths[f"vgg19 {dtype}"], limits[f"vgg19 {dtype}"] = path, int(2.2 * 80.1e6)
    arguments = [str(part) for kind in paths for part in (paths[kind], limits[kind])]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "tiny.safetensors"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1"
        },  # one of these once ran for 400 s alone; they take 20 s together
    )
    assert done.returncode == 0, done.stderr
    for kind, said in zip(paths, done.stdout.splitlines(), strict=True):
        if kind.startswith("vgg19"):
            assert said == "loaded vgg19", f"{kind}: {said}"
        else:
            assert said.startswith("CheckpointError"), f"{kind}: {said}"
            assert f"{kind}.safetensors" in said
            assert "MemoryError" not in said
            assert "allocate" not in said


def test_a_teacher_may_be_pinned(tiny: Path):
    import hashlib

    from conftest import stripes
    from fer_zoo.training.objective import read_teacher

    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert read_teacher(f"{tiny}#sha256={digest}", stripes(3)).name == "test_tiny"
    with pytest.raises(WeightsError, match="is not the recorded"):
        read_teacher(f"{tiny}#sha256={'0' * 64}", stripes(3))
