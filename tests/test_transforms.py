"""Presets against Pillow and torchvision, and what is accepted as an image."""

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps
from torchvision.transforms import InterpolationMode, functional as TF

import fer_zoo
from fer_zoo.data import ImageFolder
from fer_zoo.errors import ArgumentError, DataError, InputError
from fer_zoo.inference import crop_faces
from fer_zoo.inference.crops import open_photograph, read_pixels
from fer_zoo.transforms import PRESETS, Augmentation, Preset, inputs, to_gray
from fer_zoo.transforms.augment import (
    _turn_matrix,
    augment,
    crop_and_flip,
    erase,
    resized_crop,
)
from fer_zoo.transforms.depth import was_deep
from fer_zoo.transforms.mix import cutmix, mix, mixup

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (50, 60), dtype=np.uint8)
RGB = RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8)
LUMA = np.asarray(Image.fromarray(RGB).convert("L"))


def chw(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GRAY, GRAY),
        (GRAY[:, :, None], GRAY),
        (GRAY[::-1], GRAY[::-1]),
        (RGB, LUMA),
        (torch.from_numpy(GRAY), GRAY),
        (torch.from_numpy(GRAY)[None], GRAY),
        (chw(RGB), LUMA),
        (Image.fromarray(GRAY), GRAY),
        (Image.fromarray(RGB), LUMA),
        (Image.fromarray(np.dstack([RGB, GRAY])), LUMA),
        (Image.fromarray(GRAY).convert("P"), GRAY),
        (Image.fromarray(GRAY).convert("LA"), GRAY),
    ],
    ids=["HW", "HW1", "flipped", "HW3", "tensor", "1HW", "3HW", "L", "RGB", "RGBA", "P", "LA"],
)
def test_uint8_forms_are_pillows_gray_exactly(image, expected):
    found = to_gray(image)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found[0].numpy(), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_float_forms(dtype):
    floats = (RGB / 255).astype(dtype)
    expected = floats.astype(np.float64) @ [0.299, 0.587, 0.114]
    found = to_gray(floats)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(found[0].numpy() * 255, LUMA, atol=0.6)


def test_sixteen_bits_keep_their_depth(tmp_path: Path):
    deep = (GRAY.astype(np.uint16) * 257) + 3
    deep[0, 0] = 65535
    path = tmp_path / "deep.png"
    Image.fromarray(deep).save(path)
    for image in (path, str(path), Image.open(path), Image.fromarray(deep.astype(np.int32))):
        np.testing.assert_allclose(to_gray(image)[0].numpy(), deep / 65535, atol=1e-6)
    with pytest.raises(InputError, match="may be 8, 10, 12 or 14 bits"):
        to_gray(Image.fromarray(GRAY.astype(np.int32)))
    with pytest.raises(InputError, match="0 to 65535"):
        to_gray(Image.fromarray(np.full((4, 4), 70_000, np.int32)))


def test_floats_that_were_divided_by_too_much_are_refused(tmp_path: Path):
    """12 bits over 65535 were nearly black: seven faces of seven `angry`."""
    dim = (GRAY / 255 * 4095 / 65535).astype(np.float32)
    Image.fromarray(dim).save(tmp_path / "dim.tif")
    for image in (
        1.1 * dim,  # as where scaling overshoots
        dim + 0.002,
        dim,
        torch.from_numpy(dim)[None],
        tmp_path / "dim.tif",
        dim / 16,
    ):
        with pytest.raises(InputError, match="nearly black: those of 12 bits are divided by 4095"):
            to_gray(image)
    np.testing.assert_allclose(to_gray(dim * 65535 / 4095)[0], GRAY / 255, atol=1e-6)
    assert not to_gray(np.zeros((48, 48))).any()  # which predictors say shows nothing
    dark = GRAY // 17  # as dark, and no mistake: in 8 bits, and as floats of them
    for floats in (dark / 255, (dark / 255).astype(np.float16), torch.from_numpy(dark)[None] / 255):
        np.testing.assert_allclose(to_gray(floats)[0].numpy(), dark / 255, atol=1e-4)


def test_dark_images_of_8_bits_are_labelled_in_every_company(labelled, tmp_path: Path):
    """A check of floats ended the whole run where it met the library's own squares of them."""
    dark = np.asarray(Image.fromarray(GRAY).resize((48, 48))) // 17
    Image.fromarray(dark).save(tmp_path / "dark.png")
    predict = fer_zoo.Predictor(labelled, batch_size=1)
    assert predict(dark).label
    assert all(face.label for face in predict([dark, GRAY, tmp_path / "dark.png", dark]))
    assert fer_zoo.inference.predict_scores(labelled, torch.from_numpy(dark)[None]).isfinite().all()


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_tiffs_are_refused(bits, tmp_path: Path):
    """Those of 8 bits are read as unsigned, those of 16 had half their brightness."""
    path, signed = tmp_path / "a.tif", np.arange(48 * 48).reshape(48, 48) % 120
    cv2.imwrite(str(path), signed.astype(np.int8 if bits == 8 else np.int16))
    with Image.open(path) as image:
        assert image.tag_v2[339] == (2,)
    with pytest.raises(
        InputError, match=r"a.tif: a TIFF with signed pixels, whose zero .*unsigned"
    ):
        to_gray(path)


def write_deep(path: Path, bits: int, colours: int) -> np.ndarray:
    """Write 16-bit pixels that hold `bits`, and return them."""
    pixels = RNG.integers(0, 2**bits, (50, 60, colours)).astype(np.uint16)
    pixels[0, 0] = 2**bits - 1
    if path.suffix == ".ppm":
        kind = b"P5" if colours == 1 else b"P6"
        path.write_bytes(kind + b" 60 50 65535\n" + pixels.astype(">u2").tobytes())
    else:
        compression = [cv2.IMWRITE_TIFF_COMPRESSION, 5 if path.stem == "lzw" else 1]
        options = compression if path.suffix == ".tif" else []
        assert cv2.imwrite(str(path), pixels[..., ::-1], options)
    return pixels


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "lzw.tif", "a.ppm", "a.jp2"])
def test_sixteen_bits_that_may_be_fewer_are_refused(name, colours, tmp_path: Path):
    """Read as they are they would be nearly black: depth, infrared and medical cameras."""
    path = tmp_path / "calm" / name
    path.parent.mkdir()
    for bits in (8, 10, 12, 14):
        write_deep(path, bits, colours)
        says = rf"{name}: 16 bits that go up to .* pixels / {2**bits - 1}.*, or 8 bits"
        for read in (to_gray, lambda path: crop_faces(path, lambda rgb: [])):
            with pytest.raises(InputError, match=says):
                read(path)
        with Image.open(path) as image, pytest.raises(InputError, match="16 bits that go up to"):
            to_gray(image)
        with pytest.raises(DataError, match=rf"(?s)1 of 1 images are unusable.*{says}"):
            ImageFolder(tmp_path)
    pixels = write_deep(path, 16, colours) / 65535
    weights = [1.0] if colours == 1 else [0.299, 0.587, 0.114]
    found = to_gray(path)
    found = found / 255 if found.dtype == torch.uint8 else found
    expected, found = pixels @ weights, found[0].numpy()
    if path.suffix == ".jp2":  # it loses noise
        expected, found = expected.mean(), found.mean()
    atol = 5 / 255 if path.suffix == ".jp2" else 1.5 / 255
    np.testing.assert_allclose(found, expected, atol=atol)


def test_a_damaged_jpeg2000_without_a_component_may_have_sixteen_bits():
    """Pillow 11 opens one: the largest of no depths was an error of our own."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(file, "JPEG2000")
    content = bytearray(file.getvalue())
    for count, deep in ((1, False), (0, True)):
        at = content.find(b"\xff\x4f\xff\x51") + 40
        content[at : at + 2] = count.to_bytes(2, "big")
        told = SimpleNamespace(format="JPEG2000", tile=[("jpeg2k", ())], fp=io.BytesIO(content))
        assert was_deep(told) is deep


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG2000"])
def test_an_image_that_was_closed_is_that_images_error(kind, labelled, tmp_path: Path):
    """One of JPEG 2000 ended the call for all."""
    path = tmp_path / "a"
    Image.fromarray(GRAY).save(path, kind)
    predict = fer_zoo.Predictor(labelled)
    for close in (lambda image: image.close(), lambda image: image.fp.close()):
        image = Image.open(path)
        close(image)
        with pytest.raises(InputError, match="cannot be read as an image"):
            to_gray(image)
        good, closed = predict([RGB, image])
        assert good.error is None
        assert "cannot be read as an image" in closed.error


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("hot", [16384, 65535])
def test_hot_pixels_and_lines_make_no_sixteen_bits(hot, colours, tmp_path: Path):
    """Nor would they in a photograph of several strips; what is bright and has a place does."""
    path = tmp_path / "a.png"
    spots = {
        "pixel": (slice(7, 8), slice(9, 10)),
        "line": (slice(None), slice(9, 10)),
        "in the corner": (slice(0, 1), slice(0, 1)),
        "at the end": (slice(-1, None), slice(-1, None)),
    }
    for place in spots.values():
        pixels = RNG.integers(0, 2**12, (600, 300, colours)).astype(np.uint16)
        pixels[place] = hot
        cv2.imwrite(str(path), pixels)
        says = "16 bits that go up to .*, but for single pixels, may be .* / 4095, or / 65535"
        for read in (to_gray, lambda path: crop_faces(path, lambda rgb: [])):
            with pytest.raises(InputError, match=says):
                read(path)
    for corner in ((0, 0), (255, 9), (597, 297)):  # a lamp at night, of 180,000 px
        pixels[:] = np.minimum(pixels, 4095)
        top, left = corner
        pixels[top : top + 3, left : left + 3] = 40_000
        cv2.imwrite(str(path), pixels)
        assert to_gray(path).shape == (1, 600, 300)
        assert crop_faces(path, lambda rgb: []) == []


def tiff(pixels: np.ndarray, **tags: int) -> bytes:
    """Return an uncompressed TIFF of planes `(C, H, W)`, or one with a tile, as tags say."""
    count, height, width = pixels.shape
    bits, size = pixels.dtype.itemsize * 8, pixels[0].nbytes
    entries = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [1], 277: [count]}
    entries |= {278: [height], 279: [size] * count, 273: []}
    entries |= {int(name[1:]): [value] for name, value in tags.items()}
    if 322 in entries:
        entries = {k: v for k, v in entries.items() if k not in (273, 278, 279)}
        entries |= {324: [0], 325: [size]}
    places = 273 if 273 in entries else 324
    extra, start = b"", 8 + 2 + 12 * len(entries) + 4
    data = start + 4 * sum(len(v) for k, v in entries.items() if len(v) > 1 or k == places) + 64
    entries[places] = [data + i * size for i in range(count)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, extra = struct.pack("<I", start + len(extra)), extra + packed
        head += struct.pack("<HHI", tag, 4, len(values)) + packed
    return (head + bytes(4) + extra).ljust(data, b"\0") + pixels.tobytes()


@pytest.mark.parametrize(
    ("colours", "tags", "says"),
    [
        (1, {"t262": 0}, "0 as white"),
        (3, {"t262": 2, "t284": 2}, "uncompressed planes"),
        (1, {"t322": 30_000, "t323": 30_000}, "tiles of"),
    ],
)
def test_a_tiff_that_pillow_reads_wrongly_or_at_length_is_refused(colours, tags, says):
    """White as black, halves of numbers as pixels, and 900 MB for one tile of a small image."""
    deep = np.broadcast_to(np.linspace(0, 65535, 48).astype("<u2"), (colours, 48, 48))
    with pytest.raises(InputError, match=f"a TIFF with .*{says}"):
        to_gray(tiff(np.ascontiguousarray(deep), **tags))
    plain = to_gray(tiff(np.ascontiguousarray(deep[:1])))
    np.testing.assert_allclose(plain[0].numpy(), deep[0] / 65535, atol=1e-6)


def test_blue_alone_is_bright_enough(tmp_path: Path):
    """Its luma is a tenth: 16 bits are told by the brightest colour."""
    blue = np.zeros((50, 60, 3), np.uint16)
    blue[..., 0] = RNG.integers(0, 2**16, (50, 60))  # OpenCV's first colour
    cv2.imwrite(str(tmp_path / "a.png"), blue)
    assert to_gray(tmp_path / "a.png").max() > 20


@pytest.mark.parametrize("size", [(600_000, 1), (2_000_000, 1), (1, 600_000), (201, 10)])
def test_what_is_longer_than_any_face_is_refused(size, tmp_path: Path):
    path = tmp_path / "calm" / "long.png"
    path.parent.mkdir()
    Image.new("L", size, 90).save(path)
    assert path.stat().st_size < 10_000
    says = rf"{size[0]}x{size[1]} px; one side may be 20 times the other at most"
    for image in (path, np.zeros(size[::-1], np.uint8), torch.zeros(size[::-1])):
        for read in (to_gray, lambda image: crop_faces(image, lambda rgb: [])):
            with pytest.raises(InputError, match=says):
                read(image)
    with pytest.raises(DataError, match=rf"(?s)1 of 1 images are unusable.*{says}"):
        ImageFolder(tmp_path)
    assert to_gray(np.zeros((10, 200), np.uint8)).shape == (1, 10, 200)


def test_more_pixels_than_a_face_has_are_not_decoded(tmp_path: Path, monkeypatch):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    monkeypatch.setattr(inputs, "MOST_PIXELS", 2999)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
        with pytest.raises(InputError, match=r"60x50 px.*PhotoPredictor.*raise .*MOST_PIXELS"):
            to_gray(tmp_path / "a.png")
    monkeypatch.setattr(inputs, "MOST_PIXELS", 3000)
    assert to_gray(tmp_path / "a.png").shape == (1, 50, 60)
    Image.fromarray(GRAY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="half of it with 16 bits"):
        to_gray(tmp_path / "deep.png")


def test_sixteen_bits_of_three_colours_count_double_too(tmp_path: Path, monkeypatch):
    """Pillow calls them RGB, of 8 bits."""
    for name in ("a.png", "a.ppm", "a.tif"):
        write_deep(tmp_path / name, 16, 3)
        monkeypatch.setattr(inputs, "MOST_PIXELS", 2 * 3000 - 1)
        with pytest.raises(InputError, match=rf"{name}: 60x50 px .*half of it with 16 bits"):
            to_gray(tmp_path / name)
        monkeypatch.setattr(inputs, "MOST_PIXELS", 2 * 3000)
        assert to_gray(tmp_path / name).shape == (1, 50, 60)


def test_a_pil_image_that_is_not_decoded_has_the_same_bounds(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(inputs, "MOST_PIXELS", 2999)
    for form in ("png", "jpeg", "webp", "tiff", "gif"):
        Image.fromarray(GRAY).save(tmp_path / "a", form)
        with Image.open(tmp_path / "a") as image:
            with pytest.raises(InputError, match=r"a: 60x50 px.*raise .*MOST_PIXELS"):
                to_gray(image)
            image.load()  # the caller's: not closed, and what it costs is paid
            assert to_gray(image).shape == (1, 50, 60)
    assert to_gray(Image.fromarray(GRAY)).shape == (1, 50, 60)
    white_is_0 = np.zeros((1, 48, 48), "<u2")
    with pytest.raises(InputError, match=r"a TIFF with .*0 as white"):
        to_gray(Image.open(io.BytesIO(tiff(white_is_0, t262=0))))


def test_a_file_of_more_bytes_than_an_image_has_is_not_opened(tmp_path: Path, monkeypatch):
    """WebP and AVIF are read whole before they tell a size, and a sparse file costs its maker 0."""
    Image.fromarray(GRAY).save(tmp_path / "a.webp")
    size = (tmp_path / "a.webp").stat().st_size
    (tmp_path / "bare").write_bytes((tmp_path / "a.webp").read_bytes())
    data = (tmp_path / "a.webp").read_bytes()
    assert inputs.is_image(tmp_path / "bare")
    Image.fromarray(GRAY).save(tmp_path / "a.bmp")
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * size - 1)
    assert to_gray(tmp_path / "a.bmp").shape == (1, 50, 60)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
        for image in (tmp_path / "a.webp", data, bytearray(data), io.BytesIO(data)):
            for read in (to_gray, lambda image: crop_faces(image, lambda rgb: [])):
                with pytest.raises(InputError, match=r"MB are more than .*raise .*MOST_BYTES"):
                    read(image)
        assert not inputs.is_image(tmp_path / "bare")
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * size)
    assert to_gray(tmp_path / "a.webp").shape == (1, 50, 60)
    monkeypatch.setattr(inputs, "MOST_BYTES", (tmp_path / "a.bmp").stat().st_size - 1)
    with pytest.raises(InputError, match=r"a.bmp: .*raise .*MOST_BYTES"):
        to_gray(tmp_path / "a.bmp")


@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_every_orientation_of_exif_is_pillows_own(mode, turn, tmp_path: Path):
    image = Image.fromarray(RGB) if mode == "RGB" else Image.fromarray(GRAY)
    if mode == "I;16":
        image = Image.fromarray(257 * GRAY.astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as file:
        expected = to_gray(ImageOps.exif_transpose(file))
    height, width = expected.shape[1:]
    found = to_gray(tmp_path / "a.png")
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    rgb, gray = read_pixels(open_photograph(tmp_path / "a.png"), tmp_path / "a.png")
    torch.testing.assert_close(gray, expected, atol=0, rtol=0)
    assert rgb.shape == (height, width, 3)
    torch.testing.assert_close(to_gray(rgb).float(), expected * (255 if mode == "I;16" else 1.0))


# The peak of a program in MiB; ru_maxrss would also be that of whoever started it.
PEAK = """
def peak():
    status = open("/proc/self/status").read().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.slow
def test_images_made_to_cost_memory_cost_little_and_the_rest_goes_on(tmp_path: Path):
    """Files of kilobytes: lines of millions of pixels, and squares of 169 megapixels."""
    Image.fromarray(GRAY).save(tmp_path / "good.png")
    for size in ((600_000, 1), (2_000_000, 1), (1, 2_000_000)):
        Image.new("L", size, 90).save(tmp_path / f"{size[0]}.png")
    Image.new("1", (13_000, 13_000)).save(tmp_path / "huge.png")
    for n in range(7):
        (tmp_path / f"huge{n}.png").write_bytes((tmp_path / "huge.png").read_bytes())
    script = f"""
import json, sys, fer_zoo
{PEAK}
predict = fer_zoo.Predictor("resnet18_025")
predict(sys.argv[1] + "/good.png")
before = peak()
found = predict(sys.argv[1])
after = peak()
print(json.dumps([{{p.source: p.error for p in found}}, after - before]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    errors, megabytes = json.loads(done.stdout)
    assert [Path(name).name for name, error in errors.items() if error is None] == ["good.png"]
    assert len(errors) == 12
    assert megabytes < 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.weekly
def test_a_folder_of_the_largest_faces_costs_little_more_than_one(tmp_path: Path):
    """Turned, and with alpha: 2.4 GB in all, when four were decoded at once."""
    image = Image.linear_gradient("L").resize((5000, 5000)).convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "0.png", exif=exif, compress_level=1)
    for n in range(1, 8):
        (tmp_path / f"{n}.png").write_bytes((tmp_path / "0.png").read_bytes())
    script = f"""
import sys, fer_zoo
{PEAK}
found = fer_zoo.Predictor("resnet18_025")(sys.argv[1])
assert [p.error for p in found] == [None] * 8
print(peak())
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1300


@pytest.mark.parametrize("highest", [4095, 65534])
def test_what_a_ppm_says_of_its_depth(tmp_path: Path, highest):
    """Of 12 bits that it states it is scaled by them; of nearly 16 they may be fewer."""
    pixels = write_deep(tmp_path / "a.ppm", 12, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6 60 50 %d\n" % highest + pixels.astype(">u2").tobytes())
    if highest > 5000:
        with pytest.raises(InputError, match=r"a\.ppm: 16 bits that go up to"):
            to_gray(tmp_path / "a.ppm")
    else:
        expected = (pixels / 4095 @ [0.299, 0.587, 0.114]).mean()
        assert float(to_gray(tmp_path / "a.ppm").float().mean()) / 255 == pytest.approx(
            expected, abs=0.01
        )


def test_tensors_that_are_not_plain_are_refused():
    face = torch.rand(1, 48, 48)
    nested = torch.nested.nested_tensor([face[0], face[0]], layout=torch.jagged)
    for odd in (face.to_sparse(), face.to("meta"), nested, face * 1j):
        with pytest.raises(InputError, match="is no plain tensor"):
            to_gray(odd)
    learning = torch.nn.Parameter(face.expand(3, -1, -1))
    for same in (learning, learning.bfloat16()):
        assert crop_faces(same, lambda rgb: [(0, 0, 48, 48)])[0].face.shape == (1, 48, 48)


def test_only_listed_formats_are_opened(tmp_path: Path, monkeypatch):
    """Whatever a file is called: EPS would reach Ghostscript, ICO be decoded before any check."""
    monkeypatch.setattr(
        "PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("another program was run")
    )
    for form in ("eps", "pcx", "sgi", "ico", "pdf"):
        Image.fromarray(GRAY).save(tmp_path / "a.png", form)
        for read in (to_gray, lambda path: crop_faces(path, lambda rgb: [])):
            with pytest.raises(InputError, match=r"a.png: cannot be read as an image"):
                read(tmp_path / "a.png")
    for form in ("png", "bmp", "dib", "gif", "tiff", "webp", "tga", "ppm", "jpeg2000", "mpo"):
        Image.fromarray(GRAY).save(tmp_path / "a.jpg", form)
        assert to_gray(tmp_path / "a.jpg").shape == (1, 50, 60)


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    for name in "abc":
        for read in (to_gray, lambda path: crop_faces(path, lambda rgb: [])):
            with pytest.raises(InputError, match=rf"{name}.png: cannot be read .*not a regular"):
                read(tmp_path / f"{name}.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_all_over_shows_nothing(mode, tmp_path: Path):
    """Whatever colours lie below; what is transparent in part is as before."""
    for alpha, says in ((0, "shows nothing: it is transparent all over"), (1, None)):
        below = Image.fromarray(RGB)
        below.putalpha(Image.new("L", below.size, 0))
        below.putpixel((5, 5), (200, 9, 9, alpha))
        image = below.quantize(200) if mode == "P" else below.convert(mode)
        image.save(tmp_path / "a.png")
        for read in (to_gray, lambda path: crop_faces(path, lambda rgb: [])):
            if says:
                with pytest.raises(InputError, match=rf"a.png: {says}"):
                    read(tmp_path / "a.png")
            elif mode != "P":
                read(tmp_path / "a.png")


def test_files_palettes_and_rotation(tmp_path: Path):
    Image.fromarray(RGB).quantize(256).save(tmp_path / "p.png")
    via_pillow = np.asarray(Image.open(tmp_path / "p.png").convert("RGB").convert("L"))
    np.testing.assert_array_equal(to_gray(tmp_path / "p.png")[0].numpy(), via_pillow)
    turned = Image.fromarray(GRAY)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(GRAY, -1)
    np.testing.assert_array_equal(to_gray(tmp_path / "turned.png")[0].numpy(), expected)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((0, 5), np.uint8), "empty"),
        (torch.zeros(1, 0, 4), "empty"),
        (np.full((4, 4), 100.0), r"from 100 to 100; expected 0 to 1 \(divide by 255"),
        (np.full((4, 4), -0.5), "from -0.5"),
        (np.full((4, 4), np.nan), "NaN"),
        (torch.full((1, 4, 4), torch.inf), "infinity"),
        (np.zeros((4, 4), np.int64), "int64; expected uint8"),
        (np.zeros((4, 4), bool), "bool"),
        (torch.zeros(1, 4, 4, dtype=torch.int32), "int32"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((7, 48, 48), np.uint8), r"\(7, 48, 48\)"),
        (torch.zeros(48), r"shape \(48,\)"),
        (torch.zeros(48, 48, 3), "48 channels"),
        (np.zeros(4, np.uint8), "shape"),
        (17, "int; expected a path"),
        (None, "NoneType"),
        ("no/such/file.png", "no such file"),
        (Path(__file__), "cannot be read as an image"),
        (Path(__file__).parent, "is a folder"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)
def test_ambiguous_input_says_what_was_seen(image, says):
    with pytest.raises(InputError, match=says):
        to_gray(image)


def test_truncated_file_is_refused(tmp_path: Path):
    whole = tmp_path / "whole.png"
    Image.fromarray(GRAY).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:900])
    with pytest.raises(InputError, match=r"half.png: cannot be read"):
        to_gray(tmp_path / "half.png")


def reference_views(image: Image.Image, preset: Preset) -> np.ndarray:
    """The same views by Pillow and torchvision, in uint8."""
    square = TF.center_crop(image, min(image.size))
    square = TF.resize(square, preset.resize, InterpolationMode.BILINEAR)
    if preset.views == "tencrop":
        crops = TF.ten_crop(square, preset.size)
    else:
        crops = [TF.center_crop(square, preset.size)]
        crops += [TF.hflip(crops[0])] if preset.views == "mirror" else []
    return np.stack([np.asarray(c) for c in crops])


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(48, 48), (100, 75), (30, 41)])
def test_evaluation_views_are_torchvisions(name, shape):
    preset = PRESETS[name]
    y, x = np.mgrid[: shape[0], : shape[1]]
    face = (127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)).astype(np.uint8)
    expected = reference_views(Image.fromarray(face), preset)
    views = preset.evaluation_views(to_gray(face)[None])
    assert views.shape == (1, preset.num_views, 1, preset.size, preset.size)
    found = views[0, :, 0].numpy() * preset.std + preset.mean
    tolerance = 1e-6 if shape[0] == preset.resize else 1.6 / 255
    np.testing.assert_allclose(found, expected / 255, atol=tolerance)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_views_are_averaged_as_the_preset_says(average):
    preset = Preset(name="x", resize=48, size=40, views="tencrop", average=average)
    logits = torch.randn(4, 10, 7, dtype=torch.float64)
    found = preset.combine(logits).softmax(-1)
    if average == "logits":
        torch.testing.assert_close(found, logits.mean(1).softmax(-1))
    else:
        torch.testing.assert_close(found, logits.softmax(-1).mean(1))


def test_the_ten_views_run_as_one_batch(labelled):
    predict, seen = fer_zoo.Predictor(labelled, preset="fer40_tencrop"), []
    (network,) = predict._runner._scoring.networks
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    predict([GRAY] * 3)
    assert seen == [(30, 1, 40, 40)]


def test_create_transform_shapes():
    for source in ("fer40_tencrop", PRESETS["fer40_tencrop"]):
        transform = fer_zoo.create_transform(source)
        assert transform(GRAY).shape == (10, 1, 40, 40)
        assert transform(torch.zeros(2, 1, 48, 48)).shape == (2, 10, 1, 40, 40)
    for source in ("resnet18", fer_zoo.create("test_tiny"), "timm/resnet10t"):
        assert fer_zoo.create_transform(source)(GRAY).shape == (1, 40, 40)
    training = fer_zoo.create_transform("fer40_center", training=True)
    a, b = training(GRAY), training(GRAY)
    assert a.shape == (1, 40, 40)
    assert not torch.equal(a, b)
    torch.manual_seed(3)
    c = training(torch.zeros(2, 3, 48, 48, dtype=torch.uint8))
    assert c.shape == (2, 1, 40, 40)


def test_the_thesis_training_counterpart():
    """Scale to 40, pad by 4, crop 40 at random, flip half of the time, divide by 255."""
    preset = PRESETS["thesis40"]
    image = torch.arange(48 * 48).remainder(256).byte().view(1, 1, 48, 48)
    small = preset.square(image)
    padded = torch.nn.functional.pad(small, (4,) * 4)
    windows = [
        padded[0, 0, y : y + 40, x : x + 40].flip(-1)
        if flip
        else padded[0, 0, y : y + 40, x : x + 40]
        for y in range(9)
        for x in range(9)
        for flip in (False, True)
    ]
    batch = preset.training_batch(image.repeat(400, 1, 1, 1), torch.Generator().manual_seed(0))
    matches = [[torch.equal(crop[0], w) for w in windows].index(True) for crop in batch]
    assert len(set(matches)) > 120
    assert 150 < sum(m % 2 for m in matches) < 250


def affine(images: torch.Tensor, *turn: torch.Tensor) -> torch.Tensor:
    """Turn alone what `resized_crop` turns and cuts in one sampling."""
    rows = _turn_matrix(*turn, images.shape[-2] / images.shape[-1])
    grid = torch.nn.functional.affine_grid(rows, images.shape, align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)


def test_affine_is_torchvisions():
    images = torch.rand(5, 1, 48, 48)
    zoom, angle = torch.tensor([1, 1.2, 0.8, 1, 0.9]), torch.tensor([0.0, 10, -15, 30, 7])
    dx, dy = torch.tensor([0.0, 2, -3, 5, 0]), torch.tensor([0.0, -4, 1, 0, 6])
    found = affine(images, zoom, angle, dx / 48, dy / 48)
    for i in range(5):
        expected = TF.affine(
            images[i],
            angle=float(angle[i]),
            translate=[float(dx[i]), float(dy[i])],
            scale=float(zoom[i]),
            shear=[0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(found[i], expected, atol=2e-4, rtol=0)


def test_crop_flip_and_erase_are_torchvisions():
    images = torch.rand(4, 1, 48, 44)
    top, left = torch.tensor([0.0, 0.5, 0.99, 0.3]), torch.tensor([0.0, 0.99, 0.5, 0.7])
    flip = torch.tensor([False, True, False, True])
    found = crop_and_flip(images, 40, top, left, flip)
    for i in range(4):
        y, x = int(top[i] * 9), int(left[i] * 5)
        expected = TF.crop(images[i], y, x, 40, 40)
        assert torch.equal(found[i], TF.hflip(expected) if flip[i] else expected)
    height, width = torch.tensor([0.0, 10, 7, 40]), torch.tensor([5.0, 10, 3, 40])
    gone = erase(found, height, width, top, left)
    assert torch.equal(gone[0], found[0])
    assert gone[3].sum() == 0
    for i in (1, 2):
        h, w = int(height[i]), int(width[i])
        y, x = int(top[i] * (40 - h + 1)), int(left[i] * (40 - w + 1))
        assert torch.equal(gone[i], TF.erase(found[i], y, x, h, w, torch.zeros(1)))


def test_brightness_and_contrast_are_torchvisions():
    images = torch.rand(64, 1, 48, 48)
    generator = torch.Generator().manual_seed(5)
    how = Augmentation(flip=0, brightness=0.3)
    found = augment(images, 48, how, generator)
    factors = (found / images).nan_to_num(0).flatten(1).median(1).values
    assert 0.69 < factors.min() < 0.8
    assert 1.2 < factors.max() < 1.31
    for i in range(8):
        expected = TF.adjust_brightness(images[i], float(factors[i]))
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=0)
    flat = images * 0.4 + 0.3
    found = augment(flat, 48, Augmentation(flip=0, contrast=0.3), generator)
    factors = (found.std((1, 2, 3)) / flat.std((1, 2, 3))).tolist()
    for i in range(8):
        expected = TF.adjust_contrast(flat[i].expand(3, -1, -1), factors[i])[:1]
        torch.testing.assert_close(found[i], expected, atol=1e-3, rtol=0)


def test_augmentation_is_repeatable_and_in_range():
    how = Augmentation(
        padding=4, flip=0.5, scale=(0.8, 1.2), shift=0.1, rotate=15, affine=0.9, brightness=0.2,
        contrast=0.2, erase=0.5,
    )  # fmt: skip
    images = torch.rand(16, 1, 48, 48)
    a, b = (augment(images, 40, how, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (16, 1, 40, 40)
    assert 0 <= a.min() <= a.max() <= 1
    assert not torch.equal(a, augment(images, 40, how, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"scale": (0, 1)},
        {"scale": (2.0, 1.0)},
        {"padding": -1},
        {"erase": -0.1},
        {"rotate": (1.0, 2.0)},
        {"mixup": float("nan")},
    ],
)
def test_impossible_augmentation_is_refused(wrong):
    with pytest.raises(ArgumentError):
        Augmentation(**wrong)
    for changes in ({"zoom": 2}, {1: 2, "flip": 0.1}, None):
        with pytest.raises(ArgumentError, match=r"no setting|settings by name"):
            Augmentation().updated(changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 60},
        {"size": 0},
        {"resize": "48"},
        {"resize": 10**9},
        {"views": "five"},
        {"average": "median"},
        {"views": "plain", "size": 40},
        {"std": 0.0},
        {"mean": None},
        {"training": {"flip": 0.5}},
    ],
    ids=str,
)
def test_impossible_presets_are_refused(wrong):
    values = {"name": "x", "resize": 48, "size": 40, "views": "center"} | wrong
    with pytest.raises(ArgumentError):
        Preset(**values)


@pytest.mark.parametrize("flip", [False, True])
def test_resized_crop_is_torchvisions(flip):
    """The same windows, scaled bilinearly without antialiasing; all images in one call."""
    images = torch.rand(5, 1, 48, 48)
    windows = torch.tensor(
        [[0, 0, 48, 48], [3, 5, 40, 41], [8, 0, 30, 48], [10, 12, 20, 24], [7, 1, 41, 33]]
    )
    top, left, height, width = (windows.T / 48).unbind()
    found = resized_crop(images, 40, top, left, height, width, torch.full((5,), flip))
    for image, window, one in zip(images, windows.tolist(), found, strict=True):
        expected = TF.resized_crop(image, *window, [40, 40], antialias=False)
        # At the edge of a window torchvision repeats its last pixel, where ours sees the image.
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(one[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_a_resized_crop_after_a_turn_is_one_sampling():
    """Composed, the two give what one after the other give, without the blur of the second."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 48), indexing="ij")
    images = (0.5 + 0.3 * torch.sin(6 * x + 4 * y))[None, None].repeat(3, 1, 1, 1)
    turn = (
        torch.full((3,), 1.1),
        torch.tensor([0.0, 10, -5]),
        torch.full((3,), 0.03),
        torch.zeros(3),
    )
    window = [torch.full((3,), v) for v in (0.2, 0.25, 0.6, 0.55)]
    flip = torch.tensor([False, True, False])
    found = resized_crop(images, 40, *window, flip, turn)
    expected = resized_crop(affine(images, *turn), 40, *window, flip)
    assert (found - expected).abs().max() < 0.01


def test_random_resized_crops_stay_within_their_settings():
    ramp = torch.linspace(0, 1, 48).expand(400, 1, 48, 48)
    how = Augmentation(crop_area=(0.5, 0.8), crop_ratio=(0.75, 1.33), flip=0.0)
    found = augment(ramp, 40, how, torch.Generator().manual_seed(0))
    spans = (found[..., -1] - found[..., 0])[:, 0, 0] * 47 / 48 * 40 / 39
    assert 0.58 < spans.min() < 0.65
    assert 0.95 < spans.max() <= 1.01
    for wrong in ({"crop_area": (0.5, 1.2)}, {"crop_ratio": (0, 1)}, {"mixup": -1.0}):
        with pytest.raises(ArgumentError):
            Augmentation(**wrong)


def test_everything_at_once():
    how = Augmentation(
        padding=4, flip=0.5, scale=(0.8, 1.2), shift=0.1, rotate=15, affine=0.9, brightness=0.2,
        contrast=0.2, erase=0.5, crop_area=(0.6, 1.0), crop_ratio=(0.8, 1.2), mixup=0.3, cutmix=0.3,
    )  # fmt: skip
    assert all(getattr(how, name) for name in vars(how))
    rng = torch.Generator().manual_seed(0)
    found = augment(torch.rand(16, 1, 48, 48), 40, how, rng)
    assert found.shape == (16, 1, 40, 40)
    assert 0 <= found.min() <= found.max() <= 1
    with pytest.raises(ArgumentError, match="whole number of px"):
        Augmentation(padding=0.5)


def fixed(monkeypatch, transform, share: float, corner: list[int]) -> None:
    """Make torchvision's mixing transform draw `share`, and its rectangle's centre `corner`."""
    monkeypatch.setattr(torch, "_sample_dirichlet", lambda *_: torch.tensor([share, 1 - share]))
    values = iter(corner)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([next(values)]))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.83])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_is_torchvisions(monkeypatch, kind, share):
    from torchvision.transforms import v2

    images, targets = torch.rand(6, 1, 40, 40), torch.arange(6)
    ours, theirs = (mixup, v2.MixUp) if kind == "mixup" else (cutmix, v2.CutMix)
    found, (shares,) = ours(images, [torch.eye(6)[targets]], share, x=7 / 40, y=30 / 40)
    fixed(monkeypatch, theirs, share, [7, 30])
    expected, expected_shares = theirs(num_classes=6)(images.clone(), targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(shares, expected_shares)


def test_mix_draws_from_its_generator_alone():
    images, shares = torch.rand(4, 1, 8, 8), torch.eye(4)
    both = Augmentation(mixup=0.5, cutmix=0.5)
    kinds = set()
    for seed in range(20):
        one, other = (
            mix(images, [shares], both, torch.Generator().manual_seed(seed)) for _ in "ab"
        )
        assert torch.equal(one[0], other[0])
        torch.testing.assert_close(one[1][0].sum(1), torch.ones(4))
        kinds.add(bool(torch.isin(one[0], images).all()))
    assert kinds == {True, False}  # CutMix only moves pixels, mixup makes new ones
    same, (untouched,) = mix(images, [shares], Augmentation(), torch.Generator())
    assert same is images
    assert untouched is shares


@pytest.mark.parametrize("padding", [0, 4])
def test_a_turn_and_a_crop_are_one_sampling(monkeypatch, padding):
    """`augment` composes the two; the pixels are those of one after the other."""
    import fer_zoo.transforms.augment as module

    images = torch.rand(16, 1, 48, 48)
    how = Augmentation(padding=padding, scale=(0.9, 1.2), shift=0.1, rotate=20, affine=0.7)
    seen = {}
    real = module.resized_crop

    def spy(images, size, top, left, height, width, flip, turn):
        seen.update(top=top, left=left, flip=flip, turn=turn)
        return real(images, size, top, left, height, width, flip, turn)

    monkeypatch.setattr(module, "resized_crop", spy)
    found = augment(images, 40, how, torch.Generator().manual_seed(0))
    turned = torch.nn.functional.pad(affine(images, *seen["turn"]), (padding,) * 4)
    canvas = torch.nn.functional.pad(torch.ones(16, 1, 48, 48), (padding,) * 4)
    for i in range(16):
        top, left = (round(float(seen[k][i]) * 48) + padding for k in ("top", "left"))
        cut = (i, slice(None), slice(top, top + 40), slice(left, left + 40))
        expected, inside = turned[cut], canvas[cut]  # a turned face may reach into the padding
        if seen["flip"][i]:
            expected, inside = expected.flip(-1), inside.flip(-1)
        torch.testing.assert_close(found[i] * inside, expected, atol=2e-5, rtol=0)
    assert seen["flip"].any()


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_broken_exif_says_nothing(form, tmp_path: Path):
    """Where it can be read that the image is turned, the rest of it does not matter."""
    path = tmp_path / f"face.{form}"
    face = Image.new("L", (30, 20), 90)
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "a text where a width is due"
    odd = turned.tobytes().replace(b"\x01\x0e\x00\x02", b"\x01\x00\x00\x02")
    assert odd != turned.tobytes()
    for exif, shape in ((b"Exif\0\0garbage", (1, 20, 30)), (odd, (1, 30, 20))):
        face.save(path, exif=exif)
        assert to_gray(path).shape == shape
        with Image.open(path) as image:
            assert to_gray(image).shape == shape


@pytest.mark.parametrize("orientation", range(10))
def test_the_exif_rotation_is_pillows_own(orientation, tmp_path: Path):
    from PIL import ImageOps

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "face.png", exif=exif)
    with Image.open(tmp_path / "face.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(to_gray(tmp_path / "face.png")[0].numpy(), expected)
