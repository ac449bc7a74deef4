"""Fuzzing of checkpoints, `.onnx` files and images: an error that names the file, or the truth.

A few seconds in a usual run; `FER_ZOO_FUZZ_SECONDS=3600 pytest tests/test_fuzz.py -s` gives each of
the three kinds so many. Each test prints how many cases it ran.
"""

import io
import json
import os
import resource
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from PIL import Image, features
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes

import fer_zoo
from conftest import ramp
from fer_zoo.errors import FerZooError
from fer_zoo.saving import save_repository
from fer_zoo.transforms.inputs import FORMATS, is_image
from fer_zoo.weights import checkpoint
from fer_zoo.weights.checkpoint import read_checkpoint
from fer_zoo.weights.reading import read_safetensors

SECONDS = float(os.environ.get("FER_ZOO_FUZZ_SECONDS", "4"))
"""For each of the three kinds of files."""
TESTS = 10  # of checkpoints, which share theirs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of real checkpoints: networks and an ensemble, in each kind of storage."""
    folder = tmp_path_factory.mktemp("whole")
    tiny, plain = (fer_zoo.create(n, num_classes=3) for n in ("test_tiny", "plain_test"))
    tiny.labels = plain.labels = ("a", "b", "c")
    tiny.temperature = {"fer40_center": 1.5}
    members = [fer_zoo.create("plain_test", num_classes=3) for _ in range(2)]
    models = {"tiny": tiny, "plain": plain}
    models["pair"] = fer_zoo.create_ensemble(members, fusion="stacked")
    return {
        f"{name}-{dtype}": fer_zoo.save(model, folder / "m.safetensors", dtype=dtype).read_bytes()
        for name, model in models.items()
        for dtype in (torch.float64, "float32", "float16", "int8")
    }


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw something that damages a file: in its length, its header, or anywhere."""
    kinds = ["bits", "cut", "insert", "zero", "header", "length", "move", "word"]
    kind = draw(st.sampled_from(kinds))
    # Half of all places are in the header, which is a small part of the file.
    place = draw(st.floats(0, 1, exclude_max=True))
    near = draw(st.booleans())
    size = draw(st.integers(1, 64))
    noise = draw(st.binary(min_size=size, max_size=size))
    number = draw(st.integers(0, 2**64 - 1))
    words = [b"0", b"1", b"-1", b"9" * 20, b"null", b"[]", b"{}", b'"', b"\\", b"e9"]
    word = draw(st.sampled_from(words))

    def mutate(content: bytes) -> bytes:
        # All of a text and of an image.
        header = min(8 + int.from_bytes(content[:8], "little"), len(content))
        at = int(place * (header if near or kind in ("header", "word") else len(content)))
        if kind == "bits":
            return content[:at] + bytes([content[at] ^ noise[0]]) + content[at + 1 :]
        if kind == "cut":
            return content[:at] + (b"" if near else content[at + size :])
        if kind == "insert":
            return content[:at] + noise + content[at:]
        if kind == "zero":
            return content[:at] + bytes(size) + content[at + size :]
        if kind == "length":
            return struct.pack("<Q", number) + content[8:]
        if kind == "move":
            other = number % len(content)
            return content[:at] + content[other : other + size] + content[at + size :]
        if kind == "word":
            digits = [i for i in range(8, header) if content[i : i + 1].isdigit()]
            at = digits[int(place * len(digits))] if digits else at
            return content[:at] + word + content[at + 1 :]
        return content[:at] + noise + content[at + size :]

    return mutate


def check_told(error: FerZooError, path: Path) -> None:
    """Every refusal names the file, and is short."""
    assert str(path) in str(error)
    assert len(str(error)) < 2000


def run(
    test: Callable[[object], None], strategy: st.SearchStrategy, seconds: float = SECONDS / TESTS
) -> int:
    """Give cases to a test until the time is over; return how many they were."""
    count, end = 0, time.monotonic() + seconds

    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # what fails is printed; making it smaller may take minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def cases(drawn: object) -> None:
        nonlocal count
        if time.monotonic() < end:
            count += 1
            test(drawn)

    while time.monotonic() < end:
        cases()
    return count


def values(content: bytes) -> bytes:
    """Return what comes after a file's header, of which `0e0` may be another spelling of `0.0`."""
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.parametrize("kind", ["tiny-float32", "tiny-int8", "plain-float16"])
def test_a_damaged_checkpoint_never_loads(whole, tmp_path: Path, kind):
    path, content = tmp_path / "m.safetensors", whole[kind]
    path.write_bytes(content)
    expected = read_checkpoint(path)

    def case(mutate) -> None:
        changed = mutate(content)
        path.write_bytes(changed)
        try:
            model = fer_zoo.load(path)
        except FerZooError as error:
            check_told(error, path)
            assert changed != content
        else:  # the same, or the same in another spelling
            assert read_checkpoint(path).config == expected.config
            assert values(changed) == values(content)
            assert all(torch.equal(v, expected.tensors[k]) for k, v in model.state_dict().items())

    print(f"\n{run(case, mutations())} damaged files ({kind})")


def forged(content: bytes) -> bytes:
    """Return a file with the right digest, as one who means harm would write it."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        config = json.loads(header["__metadata__"]["fer_zoo"])
        old = config.pop("digest")
        del config["format"]
        new = checkpoint._digest(load_bytes(content), config)
        return content.replace(old.encode(), new.encode(), 1)
    except Exception:  # it is damaged beyond that
        return content


@pytest.mark.parametrize(
    "kind", ["tiny-float32", "pair-float32", "plain-int8", "plain-torch.float64"]
)
def test_a_forged_checkpoint_is_refused_or_is_what_it_says(whole, tmp_path: Path, kind):
    """Its digest is right, so that does not help: then the numbers are those in the file.

    The independent reader is safetensors' own.
    """
    path, content = tmp_path / "m.safetensors", whole[kind]

    def case(mutate) -> None:
        path.write_bytes(forged(mutate(content)))
        try:
            model = fer_zoo.load(path)
        except FerZooError as error:
            check_told(error, path)
            return
        theirs = load_bytes(path.read_bytes())
        state = model.state_dict()
        assert {k for k in theirs if not k.endswith(":scale")} == set(state)
        for name, value in state.items():
            assert value.isfinite().all() or not value.is_floating_point()
            if f"{name}:scale" in theirs:
                scale = theirs[f"{name}:scale"].reshape(-1, *[1] * (value.ndim - 1))
                assert torch.equal(value, theirs[name].float() * scale)
            else:
                assert torch.equal(value, theirs[name].to(value.dtype))
        with torch.no_grad():
            assert model(torch.zeros(1, model.in_channels, 40, 40)).shape == (1, model.num_classes)

    print(f"\n{run(case, mutations())} forged files ({kind})")


def test_any_bytes_are_refused_or_read_as_safetensors_reads_them(tmp_path: Path):
    """Small files made from nothing: a header that is almost right, and some data."""
    path = tmp_path / "m.safetensors"
    odd = st.one_of(st.just(2**63), st.none(), st.floats(), st.text(max_size=2))
    sizes = st.one_of(st.integers(-1, 9), odd)
    entries = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "I8", "BOOL", "U8", "F64", "I64", "F8", None]),
            "shape": st.lists(sizes, max_size=3),
            "data_offsets": st.lists(sizes, min_size=1, max_size=3),
        }
    )
    names = st.sampled_from(["a", "b", "a:scale", "__metadata__", ""])
    headers = st.dictionaries(names, st.one_of(entries, sizes), max_size=3)
    pieces = st.tuples(headers, st.binary(max_size=40), st.integers(-3, 3))

    def case(drawn) -> None:
        header, data, off = drawn
        raw = json.dumps(header).encode()
        path.write_bytes(struct.pack("<q", max(0, len(raw) + off)) + raw + data)
        try:
            ours, _ = read_safetensors(path)
        except FerZooError as error:
            check_told(error, path)
            return
        try:
            theirs = load_bytes(path.read_bytes())
        except SafetensorError as error:
            pytest.fail(f"read what safetensors refuses: {error}")
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            same = ours[name].view(torch.uint8) if tensor.numel() and tensor.ndim else ours[name]
            other = tensor.view(torch.uint8) if tensor.numel() and tensor.ndim else tensor
            assert torch.equal(same, other) or tensor.isnan().any()

    print(f"\n{run(case, pieces)} small files")


def test_a_damaged_repository_never_loads_other_numbers(tmp_path: Path):
    """Any file of a repository, damaged."""
    model = fer_zoo.create("test_tiny", num_classes=3)
    model.labels = ("a", "b", "c")
    save_repository(model, tmp_path)
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    expected = fer_zoo.load(tmp_path)
    kinds = st.tuples(st.sampled_from(sorted(files)), mutations())

    def case(drawn) -> None:
        name, mutate = drawn
        content = mutate(files[name])
        (tmp_path / name).write_bytes(content)
        try:
            again = fer_zoo.load(tmp_path)
        except FerZooError as error:
            check_told(error, tmp_path)
        else:
            assert content == files[name] or name.endswith(".json")  # what only others read
            assert again.labels == expected.labels
            state = expected.state_dict()
            assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())
        finally:
            (tmp_path / name).write_bytes(files[name])

    print(f"\n{run(case, kinds)} damaged repositories")


def test_a_damaged_onnx_file_is_refused_or_opened_at_once(tmp_path: Path, capfd):
    """Without a word but the error's; nothing of the file is run."""
    from test_onnx_file import program

    path, content = tmp_path / "m.onnx", program().SerializeToString()

    def case(mutate) -> None:
        path.write_bytes(mutate(content))
        began = time.process_time()
        try:
            assert fer_zoo.Predictor(path).labels
        except FerZooError as error:
            check_told(error, path)
        assert time.process_time() - began < 5

    count = run(case, mutations(), SECONDS)
    assert capfd.readouterr() == ("", "")
    print(f"\n{count} damaged .onnx files")


def encoded() -> dict[str, bytes]:
    """Small images, one or more in each format that is opened."""
    gray = Image.fromarray(ramp())
    colours = Image.merge(
        "RGB", [gray, gray.rotate(90), gray.transpose(Image.Transpose.ROTATE_180)]
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(ramp().astype("uint16") * 1300)
    kinds = {
        "PNG": [(gray, {}), (colours.quantize(9), {"transparency": 1}), (deep, {})],
        "JPEG": [(gray, {}), (colours, {"exif": turned, "progressive": True})],
        "GIF": [(colours, {"save_all": True, "append_images": [gray, colours]})],
        "TIFF": [(gray, {}), (colours, {"compression": "tiff_lzw"}), (deep, {})],
        "TGA": [(colours, {"compression": "tga_rle"})],
        "WEBP": [(colours, {"lossless": True}), (colours, {"exif": turned})],
        "PPM": [(gray, {}), (colours, {}), (deep, {})],
    }
    kinds["JPEG"].append((colours.convert("CMYK"), {}))
    kinds["TIFF"].append((colours, {"compression": "jpeg", "save_all": True}))
    kinds["PNG"].append((colours.convert("RGBA"), {"save_all": True, "append_images": [colours]}))
    contents = {}
    for form in FORMATS:
        if form == "AVIF" and not features.check("avif"):
            continue
        for k, (image, options) in enumerate(kinds.get(form, [(colours, {})])):
            file = io.BytesIO()
            image.save(file, form, **options)
            contents[f"{form}-{k}"] = file.getvalue()
    return contents


def sealed(content: bytes) -> bytes:
    """Return a PNG whose checksums are right, as one who means harm would write it."""
    if not content.startswith(b"\x89PNG"):
        return content
    at, made = 8, content[:8]
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4])
        chunk = content[at + 4 : at + 8 + size]
        made += content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + size
    return made


def test_a_damaged_image_is_an_error_or_a_face(labelled, tmp_path: Path, capfd):
    """In bounded time and memory."""
    contents = encoded()
    predict = fer_zoo.Predictor(labelled)
    look = fer_zoo.PhotoPredictor(labelled, detector=lambda rgb: [(0, 0, 30, 30)])
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert [is_image(path), predict(path).error] == [not name.startswith(("TGA", "DIB")), None]
    names = st.sampled_from(sorted(contents))
    drawn = st.tuples(names, st.lists(mutations(), min_size=1, max_size=3), st.booleans())
    capfd.readouterr()

    def case(drawn) -> None:
        name, changes, seal = drawn
        content = contents[name]
        for change in changes:
            content = change(content) or b"\0"
        path = tmp_path / name
        path.write_bytes(sealed(content) if seal else content)
        began, before = time.process_time(), peak()
        is_image(path)
        for result in (*predict([path]), *look([path])):
            if result.error is not None:
                assert str(path) in result.error
                assert len(result.error) < 2000
            elif isinstance(result, fer_zoo.inference.Prediction):
                assert result.label in labelled.labels
        assert time.process_time() - began < 5
        assert peak() - before < 1.5e9

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of damage and of large images
        count = run(case, drawn, SECONDS)
    assert capfd.readouterr().out == ""  # libtiff has words of its own
    print(f"\n{count} damaged images")


def peak() -> int:
    """Return the most bytes that this process had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Anything:
    """A digest that equals any other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_the_fuzzer_notices_what_it_looks_for(whole, tmp_path: Path, monkeypatch):
    """Without the digest, damage in the data would load: the fuzzer must find that."""
    path, content = tmp_path / "m.safetensors", whole["plain-float32"]
    monkeypatch.setattr(checkpoint, "_digest", lambda *args: Anything())
    path.write_bytes(content)
    expected = read_checkpoint(path)[0]

    def case(mutate) -> None:
        path.write_bytes(mutate(content))
        try:
            state = fer_zoo.load(path).state_dict()
        except FerZooError:
            return
        assert all(torch.equal(v, expected[k]) for k, v in state.items())

    with pytest.raises(AssertionError):
        run(case, mutations(), 60)
