"""Datasets in every form in which people have them."""

import bz2
import csv
import gzip
import os
import re
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import run
from fer_zoo.data import FER2013, FaceDataset, FERPlus, ImageFolder, fer2013 as module, ferplus
from fer_zoo.data.files import walk
from fer_zoo.errors import ArgumentError, DataError, InputError, LabelError, SplitError
from fer_zoo.evidence import Faces

USAGES = ("Training", "PublicTest", "PrivateTest")
RNG = np.random.default_rng(0)
ROWS = 30
IMAGES = RNG.integers(0, 256, (ROWS, 48, 48), dtype=np.uint8)
TARGETS = np.arange(ROWS) % 7
USAGE = np.repeat([0, 1, 2], [16, 8, 6])

pytestmark = pytest.mark.filterwarnings("ignore:.*not the official FER2013")
HEAD = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def write_csv(path: Path, *, icml: bool = False) -> Path:
    with path.open("w") as file:
        file.write("emotion, Usage, pixels\n" if icml else "emotion,pixels,Usage\n")
        for image, target, use in zip(IMAGES, TARGETS, USAGE, strict=True):
            pixels = " ".join(map(str, image.ravel()))
            order = (USAGES[use], pixels) if icml else (pixels, USAGES[use])
            file.write(f"{target},{order[0]},{order[1]}\n")
    return path


def write_folders(root: Path, *, prefixes: bool = True) -> Path:
    for i, (image, target, use) in enumerate(zip(IMAGES, TARGETS, USAGE, strict=True)):
        part = "train" if use == 0 else "test"
        folder = root / part / fer_zoo.labels.FER2013[target]
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{USAGES[use]}_{i:08d}" if prefixes else f"im{i}"
        Image.fromarray(image).save(folder / f"{stem}.png")
    return root


def write_votes(path: Path, votes: np.ndarray) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD.split(","))
        for row, use in zip(votes, USAGE, strict=True):
            writer.writerow([USAGES[use], "", *row])
    return path


@pytest.mark.parametrize("form", ["csv", "icml", "folder of csv", "images"])
def test_every_form_gives_the_same_faces(tmp_path: Path, form):
    root = {
        "csv": lambda: write_csv(tmp_path / "any.csv"),
        "icml": lambda: write_csv(tmp_path / "icml_face_data.csv", icml=True),
        "folder of csv": lambda: write_csv(tmp_path / "fer2013.csv").parent,
        "images": lambda: write_folders(tmp_path / "kaggle"),
    }[form]()
    for i, split in enumerate(("train", "public", "private")):
        faces = FER2013(root, split)
        assert (faces.images.dtype, faces.targets.dtype) == (torch.uint8, torch.int64)
        assert len(faces) == (USAGE == i).sum()
        assert faces.official_split == split
        expected = {IMAGES[r].tobytes(): TARGETS[r] for r in np.flatnonzero(USAGE == i)}
        pairs = zip(faces.images, faces.targets, strict=True)
        found = {im.numpy().tobytes(): int(t) for im, t in pairs}
        assert found == expected
    image, target = faces[0]
    assert image.shape == (1, 48, 48)
    assert isinstance(target, int)


def test_plain_test_folder_cannot_be_split(tmp_path: Path):
    root = write_folders(tmp_path / "kaggle", prefixes=False)
    assert len(FER2013(root, "train")) == 16
    for split in ("public", "private"):
        with pytest.raises(DataError, match="merges PublicTest and PrivateTest"):
            FER2013(root, split)


def test_counts_are_a_fingerprint(tmp_path: Path):
    path = write_csv(tmp_path / "fer2013.csv")
    with pytest.warns(UserWarning, match="angry 1 instead of 467, disgust 1 instead of 56"):
        FER2013(path, "public")


def test_the_cache_is_used_and_never_half_written(tmp_path: Path, monkeypatch):
    path = write_csv(tmp_path / "fer2013.csv")
    first = FER2013(path, "train")
    (cached,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(module, "_read_csv", lambda _: pytest.fail("the csv was parsed again"))
    assert torch.equal(FER2013(path, "train").images, first.images)
    monkeypatch.undo()
    monkeypatch.setenv("FER_ZOO_CACHE", str(tmp_path / "cache"))
    whole = cached.read_bytes()
    cached.write_bytes(whole[: len(whole) // 2])
    assert torch.equal(FER2013(path, "train").images, first.images)
    assert cached.read_bytes() == whole
    path.write_text(path.read_text().replace("Training", "PublicTest", 1))
    assert len(FER2013(path, "train")) == len(first) - 1


def test_the_content_decides_whether_the_cache_is_used(tmp_path: Path):
    """Not its time or its size: both may stay while a label is mended."""
    path = write_csv(tmp_path / "fer2013.csv")
    before, times = FER2013(path, "train"), path.stat()
    text = path.read_text().splitlines()
    text[1] = "6" + text[1][1:]
    path.write_text("\n".join(text) + "\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert (before.targets[0], FER2013(path, "train").targets[0]) == (0, 6)
    root = write_folders(tmp_path / "kaggle")
    face = root / "train" / "happy" / "Training_00000003.png"
    before = FER2013(root, "train")
    face.rename(root / "train" / "sad" / face.name)
    assert FER2013(root, "train").counts["happy"] == before.counts["happy"] - 1


def test_a_source_has_one_cache_file_and_those_of_old_versions_go(tmp_path: Path, monkeypatch):
    path, cache = write_csv(tmp_path / "fer2013.csv"), tmp_path / "cache"
    cache.mkdir()
    (cache / "fer2013-0123456789abcdef.safetensors").touch()
    (cache / "mine.safetensors").touch()
    (cache / "fer2013-best.safetensors").touch()  # a model of the user's
    for n in range(3):
        path.write_text(path.read_text().replace("Training", "PublicTest", 1))
        assert len(FER2013(path, "train")) == 15 - n
    monkeypatch.chdir(tmp_path)
    FER2013("fer2013.csv", "train")
    write_csv(tmp_path / "other.csv")
    FER2013(tmp_path / "other.csv")
    assert [p.name[:6] for p in sorted(cache.iterdir())] == ["faces-", "faces-", "fer201", "mine.s"]
    assert (cache / "fer2013-best.safetensors").exists()


def test_votes_that_are_no_shares_are_refused():
    """NaN and counts would train, and silently another network."""
    images, targets = torch.zeros(2, 48, 48).byte(), torch.zeros(2).long()
    for votes in (torch.full((2, 2), torch.nan), torch.full((2, 2), 5.0), -torch.ones(2, 2)):
        with pytest.raises(DataError, match="votes are shares from 0 to 1"):
            FaceDataset(images, targets, labels=("a", "b"), name="x", votes=votes)
    for votes in (torch.ones(2, 2), torch.zeros(2, 2)):
        with pytest.raises(DataError, match="shares that sum to 1"):
            FaceDataset(images, targets, labels=("a", "b"), name="x", votes=votes)


def test_labels_without_an_order_are_refused(tmp_path: Path):
    """Another process would number the classes otherwise."""
    model = fer_zoo.create("test_tiny")
    with pytest.raises(LabelError, match="a set has no order"):
        model.labels = {f"c{k}" for k in range(7)}
    numpy = {"c": np.int64(2), "b": np.int64(1), "a": np.int64(0)}
    for by_name in ({"c": 2, "b": 1, "a": 0}, numpy, {"0": "a", "1": "b"}):
        with pytest.raises(LabelError, match="names in the order of the classes"):
            model.labels = by_name
    for mapping in ({"a": 1, "b": 0}, {1: "a", 0: "b"}, {"1": "a", "0": "b"}):
        with pytest.raises(LabelError, match="pass") as caught:
            fer_zoo.labels.check_labels(mapping)
        assert eval(str(caught.value).rpartition(" pass ")[2], {"labels": mapping}) == ["b", "a"]
    with pytest.raises(LabelError, match="a set has no order"):
        FaceDataset(torch.zeros(2, 48, 48).byte(), torch.arange(2), labels={"a", "b"}, name="x")
    torch.save(model.state_dict(), tmp_path / "m.pth")
    for labels in ({*"abcdefg"}, "abcdefg"):
        with pytest.raises(LabelError, match=r"a set has no order|no single string"):
            fer_zoo.convert(tmp_path / "m.pth", "test_tiny", labels=labels)


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
@pytest.mark.weekly
def test_votes_beside_a_csv_of_another_order_are_refused(tmp_path: Path):
    """Two thirds of FER2013's labels win their votes, a seventh or so those of another face."""
    names = [str(n) for n in fer_zoo.labels.FER2013]
    rows, votes = [], []
    for i in range(1050):
        winner = names[i % 7] if i % 3 else names[(i + 1) % 7]
        counts = ["10" if name == winner else "0" for name in ferplus.COLUMNS]
        rows.append(f"{i % 7},{' '.join(['9'] * 2303)} {i % 251},Training")
        votes.append(f"Training,,{','.join(counts)}")
    head = ",".join(("Usage", "Image name", *ferplus.COLUMNS))
    (tmp_path / "fer2013new.csv").write_text("\n".join([head, *votes]) + "\n")
    for order, fits in ((rows, True), (sorted(rows), False)):
        (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *order]) + "\n")
        if fits:
            assert len(FERPlus(tmp_path, "train")) == 1050
        else:
            with pytest.raises(DataError, match=r"fits less than half .* needs the official csv"):
                FERPlus(tmp_path, "train")
        report = fer_zoo.data.data_report(tmp_path / "fer2013.csv", progress=False)
        assert (report.doubted is not None) == fits
        assert any("votes are left out" in note for note in report.notes) != fits


@pytest.mark.parametrize("call", [ImageFolder, FER2013, FERPlus])
def test_places_that_may_not_be_looked_at_are_told(tmp_path: Path, monkeypatch, call):
    """On Python 3.11 `Path.is_dir` raises where a parent is closed, or a name too long."""

    def closed(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.stat", closed)
    with pytest.raises(DataError):
        call(tmp_path / "a")
    monkeypatch.undo()
    with pytest.raises(DataError):
        call(tmp_path / ("a" * 300))


@pytest.mark.parametrize("groups", [{f"{i}.png": i % 3 for i in range(12)}, {*range(12)}])
def test_groups_without_an_order_are_refused(groups):
    """The keys were taken: every face was a person of its own."""
    images = torch.zeros(12, 48, 48).byte()
    faces = FaceDataset(images, torch.arange(12) % 2, labels=("a", "b"), name="x")
    with pytest.raises(ArgumentError, match="groups are one id for each face"):
        faces.split(0.25, groups=groups)
    with pytest.raises(ArgumentError, match="groups are one name for each"):
        fer_zoo.evaluation.groups.read_groups(groups, faces)


def test_an_archive_of_endless_lines_ends(tmp_path: Path):
    """29 kB of line ends took 25 s."""
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b"emotion,pixels,Usage\n" + b"\n" * 300_000)
    with pytest.raises(DataError, match="more than 200,000 lines"):
        FER2013(tmp_path / "a.csv.gz")


def test_a_folder_whose_files_may_not_be_opened_is_closed(tmp_path: Path, monkeypatch):
    """Readable and not searchable: there are names, and nothing behind them."""
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda p, how: Path(p).name != "shut" and allowed(p, how))
    found = walk(tmp_path)
    assert [*map(str, found.closed)] == [str(tmp_path / "shut")]
    assert found.images == [tmp_path / "open" / "a.png"]


def test_without_a_home_there_is_no_cache_and_that_is_told(tmp_path: Path, monkeypatch):
    """As for a user of a container without an entry in its passwd."""
    path = write_csv(tmp_path / "fer2013.csv")

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FER_ZOO_CACHE")
    monkeypatch.setattr(Path, "home", home)
    with pytest.warns(UserWarning, match="no home folder, set FER_ZOO_CACHE; parsing again"):
        assert len(FER2013(path, "train")) == 16


def pack(path: Path, kind: str) -> Path:
    """Write `path` into an archive beside it as people pack it."""
    whole = path.with_name(f"fer2013.{kind}")
    if kind == "csv.gz":
        whole.write_bytes(gzip.compress(path.read_bytes()))
    elif kind.endswith("zip"):
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, "data/fer2013.csv")
            archive.writestr("__MACOSX/._fer2013.csv", b"AppleDouble")
            archive.writestr("README.txt", b"where it is from")
    else:
        with tarfile.open(whole, f"w:{kind.partition('.')[2]}") as archive:
            archive.add(path, "fer2013/fer2013.csv")
            archive.add(__file__, "fer2013/README")
    return whole


@pytest.mark.parametrize("kind", ["csv.gz", "csv.zip", "zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_where_the_csv_should_be_is_read(tmp_path: Path, kind):
    path = write_csv(tmp_path / "fer2013.csv")
    plain, packed = FER2013(path, "train"), pack(path, kind)
    path.unlink()
    assert torch.equal(FER2013(packed, "train").images, plain.images)
    if kind in ("csv.gz", "csv.zip", "tar.gz"):
        assert FER2013(tmp_path, "train").fingerprint == plain.fingerprint
    else:
        with pytest.raises(DataError, match=r"holds neither fer2013.csv"):
            FER2013(tmp_path, "train")
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=rf"fer2013.{kind}.*(cannot be (unpacked|read)|nor a whole)"
    ):
        FER2013(packed, "train")


def test_an_archive_that_holds_no_csv_or_several_is_told(tmp_path: Path):
    for names in ([], ["a.csv", "b.csv"], ["fer2013.csv", "x/fer2013.csv"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "emotion,pixels,Usage\n")
        with pytest.raises(DataError, match=r"a.zip holds \[.*unpack it, and pass fer2013.csv"):
            FER2013(tmp_path / "a.zip")
    for name, content in (("a.bz2", bz2.compress(b"a,b")), ("a.7z", b"7z\xbc\xaf")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}, line 1: neither UTF-8 nor a whole gz"):
            FER2013(tmp_path / name)
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b"0" * 10_000_000)  # one line: nothing of it may be kept
    with pytest.raises(DataError, match=r"a\.csv\.gz"):
        FER2013(tmp_path / "a.csv.gz")


def test_an_interrupted_cache_leaves_nothing(tmp_path: Path, monkeypatch):
    path = write_csv(tmp_path / "fer2013.csv")

    def cut(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.numpy.save_file", cut)
    with pytest.raises(KeyboardInterrupt):
        FER2013(path, "train")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unwritable_cache_is_only_told(tmp_path: Path, monkeypatch):
    path = write_csv(tmp_path / "fer2013.csv")
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("FER_ZOO_CACHE", str(blocked))
    with pytest.warns(UserWarning, match="cannot write the cache"):
        assert len(FER2013(path, "train")) == 16


@pytest.mark.parametrize(("odd", "says"), [(",x", "more fields"), ("", "fewer fields")])
def test_rows_that_the_header_does_not_fit_are_refused(tmp_path: Path, odd, says):
    """What was beyond the header was dropped."""
    pixels = " ".join(["7"] * 2304)
    good, cut = f"3,{pixels},Training,a\n", f"3,{pixels},Training"
    (tmp_path / "fer2013.csv").write_text(
        f"emotion,pixels,Usage,note\n{good}{cut}{odd and ',a' + odd}\n"
    )
    with pytest.raises(DataError, match=f"line 3.*{says}"):
        FER2013(tmp_path)


def test_a_column_that_comes_twice_is_refused(tmp_path: Path):
    """One of the two would be taken, untold; in FER+'s votes, too."""
    path = tmp_path / "fer2013.csv"
    row = "1," + "0 " * 2304 + ",Training,2"
    path.write_text(f"emotion,pixels,Usage, Emotion\n{row}\n")
    with pytest.raises(DataError, match=r"twice: \['emotion'\]; keep one of each"):
        FER2013(path, "train")
    path.write_text(f"emotion,pixels,Usage,\n{row}\n")
    with pytest.warns(UserWarning, match="not the official"):
        assert FER2013(path, "train").targets.tolist() == [1]
    votes = tmp_path / "votes.csv"
    head = ",".join(("Usage", "Image name", *ferplus.COLUMNS))
    votes.write_text(f"{head},happy\nTraining,,1,9,0,0,0,0,0,0,0,0,3\n")
    with pytest.raises(DataError, match=r"twice: \['happy'\]"):
        ferplus.read_votes(votes, np.array([0]))
    votes.write_text(f"{head}\nTraining,,1,1_0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(DataError, match="digits alone"):
        ferplus.read_votes(votes, np.array([0]))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("9," + "0 " * 2304 + ",Training", "class 9, 2304 pixels"),
        ("1,0 1 2,Training", "3 pixels"),
        ("1," + "256 " * 2304 + ",Training", "0 to 255"),
        ("1," + "-1 " * 2304 + ",Training", "0 to 255"),
        ("1,a b,Training", "cannot be read"),
        ("1," + "0 " * 2304 + ",Validation", "usage 'Validation'"),
        ("1,1_28 " + "0 " * 2303 + ",Training", "digits alone, got '1_28"),
        ("1,\u0661 " + "0 " * 2303 + ",Training", "digits alone"),
        ("0_1," + "0 " * 2304 + ",Training", "digits alone, got '0_1"),
        ("1", "cannot be read"),
    ],
)
def test_malformed_rows_name_the_line(tmp_path: Path, row, says):
    path = tmp_path / "fer2013.csv"
    good = "0," + " ".join(["7"] * 2304) + ",Training"
    path.write_text(f"emotion,pixels,Usage\n{good}\n{row}\n")
    with pytest.raises(DataError, match=rf"line 3.*{says}"):
        FER2013(path)


def test_wrong_places_say_what_is_expected(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        FER2013(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"neither fer2013.csv nor icml_face_data.csv"):
        FER2013(tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="first line is emotion,pixels,Usage"):
        FER2013(tmp_path / "other.csv")
    with pytest.raises(ArgumentError, match="validates and chooses"):
        FER2013(tmp_path, "test")
    wrong = tmp_path / "kaggle" / "train" / "bored"
    wrong.mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(wrong / "a.png")
    with pytest.raises(LabelError, match="not one of FER2013's classes"):
        FER2013(tmp_path / "kaggle")


def test_ferplus_follows_the_papers_majority_rule(tmp_path: Path):
    write_csv(tmp_path / "fer2013.csv")
    votes = np.zeros((ROWS, 10), int)
    votes[:, 1] = 10
    votes[0] = [6, 3, 1, 0, 0, 0, 0, 0, 0, 0]
    votes[1] = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    votes[2] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]
    votes[3] = [0, 0, 0, 0, 0, 0, 0, 0, 8, 2]
    votes[4] = [0, 0, 0, 0, 1, 1, 1, 5, 1, 1]
    write_votes(tmp_path / "fer2013new.csv", votes)
    faces = FERPlus(tmp_path, "train")
    assert faces.labels == fer_zoo.labels.FERPLUS
    assert faces.rows.tolist() == [0, *range(4, 16)]
    assert faces.dropped == 3
    assert faces.targets[:3].tolist() == [0, 7, 1]
    torch.testing.assert_close(faces.votes[0, :3], torch.tensor([2 / 3, 1 / 3, 0]))
    assert faces.votes[1].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert torch.equal(faces.images[1], torch.from_numpy(IMAGES[4]))


def test_ferplus_needs_the_csv_and_the_votes(tmp_path: Path):
    with pytest.raises(DataError, match="FER\\+ maps votes by csv row"):
        FERPlus(write_folders(tmp_path / "kaggle"))
    write_csv(tmp_path / "fer2013.csv")
    with pytest.raises(DataError, match=r"fer2013new.csv is missing"):
        FERPlus(tmp_path)
    path = tmp_path / "fer2013new.csv"
    path.write_text("Usage,neutral\n")
    with pytest.raises(DataError, match="no columns"):
        FERPlus(tmp_path)
    path.write_text(HEAD + "\nTraining,," + "1," * 9 + "x\n")
    with pytest.raises(DataError, match="line 2"):
        FERPlus(tmp_path)
    path.write_text(HEAD + "\nTraining,," + "1," * 9 + "1\n")
    with pytest.raises(DataError, match="has other rows than"):
        FERPlus(tmp_path)


def test_ferplus_refuses_votes_of_other_rows(tmp_path: Path):
    """A csv cut down to one split has that split's counts, but not the vote file's rows."""
    whole = write_csv(tmp_path / "fer2013.csv").read_text().splitlines()
    write_votes(tmp_path / "fer2013new.csv", np.full((ROWS, 10), 2))
    cut = tmp_path / "cut"
    cut.mkdir()
    kept = [line for line in whole if not line.endswith("Training")]
    (cut / "fer2013.csv").write_text("\n".join(kept))
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    (shifted / "fer2013.csv").write_text("\n".join([whole[0], *whole[4:]]))
    for root, split in ((cut, "public"), (shifted, "train")):
        with pytest.raises(DataError, match="has other rows than"):
            FERPlus(root, split, votes=tmp_path / "fer2013new.csv")


def test_csv_as_other_programs_write_it(tmp_path: Path):
    plain = FER2013(write_csv(tmp_path / "fer2013.csv"), "train")
    text = (tmp_path / "fer2013.csv").read_text()
    for name, content in (
        ("bom.csv", b"\xef\xbb\xbf" + text.encode()),
        ("crlf.csv", text.replace("\n", "\r\n").encode()),
        ("blank.csv", (text + "\n\n").encode()),
    ):
        (tmp_path / name).write_bytes(content)
        assert torch.equal(FER2013(tmp_path / name, "train").images, plain.images)
    for name, content in (
        ("utf16.csv", text.encode("utf-16")),
        ("quote.csv", b'emotion,pixels,Usage\n0,"1 2' + b" 3" * 200_000),
        ("huge.csv", b"emotion,pixels,Usage\n0,1e9 99999999999999999999999,Training\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            FER2013(tmp_path / name, "train")


def test_an_image_folder_keeps_the_official_split(tmp_path: Path):
    root = write_folders(tmp_path / "kaggle")
    assert ImageFolder(root / "train").official_split == "train"
    with pytest.raises(DataError, match=r"mixes files of FER2013's splits"):
        ImageFolder(root / "test")
    for path in (root / "test").rglob("PublicTest*"):
        path.unlink()
    for folder in (root / "test").iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    assert ImageFolder(root / "test").official_split == "private"


def test_deep_kaggle_images_keep_their_grey(tmp_path: Path):
    root = write_folders(tmp_path / "kaggle")
    plain = FER2013(root, "train")
    for path in root.rglob("Training*.png"):
        with Image.open(path) as image:
            deep = np.asarray(image).astype(np.uint16) * 257
        Image.fromarray(deep).save(path)
    (root / "train" / "happy" / "._hidden.png").write_bytes(b"AppleDouble")
    assert torch.equal(FER2013(root, "train").images, plain.images)


def test_fingerprints_tell_faces_apart():
    images = torch.zeros(4, 8, 8, dtype=torch.uint8)
    a, b = (FaceDataset(images, torch.arange(4) % 2, labels=("a", "b"), name=n) for n in "xy")
    assert a.fingerprint == b.fingerprint
    for other in (
        FaceDataset(images + 1, torch.arange(4) % 2, labels=("a", "b"), name="x"),
        FaceDataset(images, torch.zeros(4), labels=("a", "b"), name="x"),
        FaceDataset(images, torch.arange(4) % 2, labels=("a", "c"), name="x"),
    ):
        assert other.fingerprint != a.fingerprint


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_is_no_dataset_is_refused():
    images, targets = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1])
    good = {"images": images, "targets": targets, "labels": ("a", "b"), "name": "x"}
    for wrong in (
        {"images": images.numpy()},
        {"targets": [0, 1, 1]},
        {"targets": targets[:, None]},
        {"targets": torch.nn.functional.one_hot(targets)},
        {"targets": torch.tensor([0, 1, 1.5])},
        {"targets": torch.tensor([0, 1, 2.7]), "labels": ("a", "b", "c")},
        {"targets": torch.tensor([0, 1, torch.nan])},
        {"targets": torch.tensor([0, 1, torch.inf])},
        {"targets": torch.tensor([0, 1, 1j])},
        {"targets": torch.tensor([0, -1, 1])},
        {"targets": targets.to_sparse()},
        {"targets": targets.to("meta")},
        {"targets": torch.quantize_per_tensor(targets.float(), 1.0, 0, torch.quint8)},
        {"images": torch.zeros(3, 48, 48, dtype=torch.uint8, device="meta")},
        {"images": torch.zeros(3, 48, 48, dtype=torch.uint8).to_sparse()},
        {"votes": torch.eye(2)[targets].to_sparse()},
        {"votes": torch.eye(2)[targets].to("meta")},
        {"votes": torch.eye(2)[targets] * 1j},
        {"votes": [[1, 0]] * 3},
        {"labels": 5},
        {"name": None},
        {"split": 5},
    ):
        with pytest.raises(fer_zoo.errors.FerZooError):
            FaceDataset(**(good | wrong))
    with pytest.raises(
        DataError, match=r"one-hot rows pass targets.argmax\(1\), of one number each"
    ):
        FaceDataset(**good | {"targets": torch.eye(3)})
    three = {"labels": ("a", "b", "c")}
    with pytest.raises(DataError, match="targets are bools, as a mask is, and there are 3 classes"):
        FaceDataset(**good | three | {"targets": torch.tensor([True, False, True])})
    with pytest.raises(DataError, match=r"whole numbers, 0 to 2, got 0\.999999"):
        FaceDataset(**good | three | {"targets": torch.tensor([0, 1, 1 - 1e-7])})
    with pytest.raises(DataError, match=r"whole numbers, 0 to 2, got 2\.7"):
        FaceDataset(**good | {"targets": torch.tensor([0, 1, 2.7]), "labels": ("a", "b", "c")})
    narrow = FaceDataset(**good | {"targets": targets.to(torch.uint16)})
    assert narrow.targets.tolist() == [0, 1, 1]
    faces = FaceDataset(**good)
    for size in (0, "3", 1.5, True):
        with pytest.raises(ArgumentError, match="at least one face"):
            faces.subset(size)
    for opener in (FER2013, FERPlus, ImageFolder, fer_zoo.data.data_report):
        with pytest.raises(ArgumentError, match="expected a path, got 5"):
            opener(5)
    assert faces.faces == Faces(name="x", n=3, fingerprint=faces.fingerprint)


def test_shared_faces_are_counted():
    images = torch.arange(6).view(6, 1, 1).expand(6, 8, 8).byte()
    faces, other = (
        FaceDataset(part, torch.zeros(len(part)), labels=("a",), name="x")
        for part in (images[[0, 1, 2, 2]], images[2:])
    )
    assert (faces.shared_with(other), other.shared_with(faces)) == (2, 1)


def test_image_folder_takes_ones_own_labels(tmp_path: Path):
    for name, value in (("calm", 40), ("tense", 200)):
        (tmp_path / name / "deep").mkdir(parents=True)
        Image.new("RGB", (64, 80), (value,) * 3).save(tmp_path / name / "a.jpg")
        Image.new("L", (48, 48), value).save(tmp_path / name / "deep" / "b.PNG")
    (tmp_path / ".hidden").mkdir()
    faces = ImageFolder(tmp_path)
    assert faces.labels == ("calm", "tense")
    assert faces.counts == {"calm": 2, "tense": 2}
    assert faces.images.shape == (4, 48, 48)
    assert faces.images.float().mean((1, 2)).round().tolist() == [40, 40, 200, 200]
    (tmp_path / "calm" / "broken.png").write_bytes(b"no image")
    (tmp_path / "tense" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)2 of 6 images.*broken.png.*empty.png"):
        ImageFolder(tmp_path)


def test_image_folder_names_what_is_missing(tmp_path: Path):
    with pytest.raises(DataError, match="not a folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no folder"):
        ImageFolder(tmp_path)
    for name in ("full", "void"):
        (tmp_path / name).mkdir()
    Image.new("L", (48, 48)).save(tmp_path / "full" / "a.png")
    with pytest.raises(DataError, match=r"no image in \['void'\]"):
        ImageFolder(tmp_path)


def test_targets_are_mapped_by_name():
    images = torch.zeros(3, 8, 8, dtype=torch.uint8)
    faces = FaceDataset(images, torch.tensor([0, 1, 2]), labels=("sad", "happy", "fear"), name="x")
    assert faces.targets_for(("happiness", "fear", "sadness")).tolist() == [2, 0, 1]
    with pytest.raises(LabelError):
        faces.targets_for(("happy", "fear", "calm"))
    with pytest.raises(DataError, match="0 to 2, got 3"):
        FaceDataset(images, torch.tensor([0, 1, 3]), labels=faces.labels, name="x")
    with pytest.raises(ArgumentError, match="split must be"):
        FaceDataset(images, torch.zeros(3), labels=faces.labels, name="x", split="PrivateTest")
    with pytest.raises(DataError, match="uint8"):
        FaceDataset(images.float(), torch.tensor([0, 1, 2]), labels=faces.labels, name="x")


def test_subset_is_spread_and_repeatable():
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1)
    faces = FaceDataset(images, torch.arange(100) % 2, labels=("a", "b"), name="x", split="train")
    part = faces.subset(10)
    assert part.images.flatten().tolist() == list(range(0, 100, 10))
    assert (part.official_split, part.name) == ("train", "x[10]")
    assert faces.subset(1000) is faces
    with pytest.raises(ArgumentError):
        faces.subset(0)


@pytest.mark.real_data
@pytest.mark.slow
def test_real_counts_and_pixels(fer2013_root: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, public = FER2013(fer2013_root, "train"), FER2013(fer2013_root, "public")
    assert tuple(train.counts.values()) == module.COUNTS["train"]
    assert tuple(public.counts.values()) == module.COUNTS["public"]
    assert public.shared_with(train) == 280
    pixels = train.images.double() / 255
    assert float(pixels.mean()) == pytest.approx(0.5077, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.2550, abs=5e-5)
    with pytest.raises(DataError, match="no 'private' faces, only \\['train', 'public'\\]"):
        FER2013(fer2013_root, "private")


@pytest.mark.real_data
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.weekly
def test_the_real_csv_loads_under_a_gigabyte(fer2013_root: Path, tmp_path: Path):
    code = (
        "import sys, torch, fer_zoo;"
        "fer_zoo.data.FER2013(sys.argv[1]);"
        "status = open('/proc/self/status').read().split();"
        "print(status[status.index('VmHWM:') + 1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(fer2013_root)],
        env={**os.environ, "FER_ZOO_CACHE": str(tmp_path / "none yet")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 1_000_000


@pytest.mark.real_data
def test_real_ferplus(fer2013_root: Path):
    plus, faces = FERPlus(fer2013_root, "public"), FER2013(fer2013_root, "public")
    assert len(plus) + plus.dropped == len(faces) == 3589
    own = dict(zip(faces.rows.tolist(), faces.targets.tolist(), strict=True))
    names = [faces.labels[own[row]] for row in plus.rows.tolist()]
    agree = np.mean(
        [plus.labels[t] == n for t, n in zip(plus.targets.tolist(), names, strict=True)]
    )
    assert 0.6 < agree < 0.95


def test_private_is_never_trained_or_chosen_on(tmp_path: Path):
    from conftest import stripes

    for data, judge in (
        ("private", "public"),
        ("public", "train"),
        ("train", "private"),
        ("train", "train"),
        (None, None),
    ):
        with pytest.raises(SplitError):
            fer_zoo.train(
                "test_tiny",
                stripes(30, split=data),
                validation=stripes(30, split=judge),
                output=tmp_path,
            )


def test_what_a_folder_leaves_out_is_told(tmp_path: Path, caplog):
    """Not what programs put there, hidden: that is no face and no mistake."""
    face = Image.fromarray(IMAGES[0])
    for name in ("calm/0.png", "tense/0.png", "calm/.ipynb_checkpoints/0.png", "__MACOSX/x/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        face.save(tmp_path / name)
    faces = ImageFolder(tmp_path)
    assert (faces.labels, len(faces), caplog.text) == (("calm", "tense"), 2, "")
    (tmp_path / "calm/notes.txt").touch()
    (tmp_path / "calm/phone.HEIC").touch()
    (tmp_path / "calm/dangling.png").symlink_to(tmp_path / "nowhere.png")
    face.save(tmp_path / "stray.png")
    assert len(ImageFolder(tmp_path)) == 2
    assert (
        "left out 1 .heic, 1 outside of the classes' folders, files without an image: 2 ("
        in caplog.text
    )
    assert ": 2 ('dangling.png', 'notes.txt')" in caplog.text


SYSTEM = (
    "@eaDir",
    "$RECYCLE.BIN",
    ".ipynb_checkpoints",
    "__MACOSX",
    "Thumbs",
    "#recycle",
    "@Recycle",
    "@__thumb",
    "RECYCLER",
    "found.000",
    "RECYCLED",
    "~snapshot",
    "_gsdata_",
    "Icon\r",
    "CVS",
    "node_modules",
    "venv",
    "wandb",
)


def test_folders_of_systems_are_no_classes(tmp_path: Path, caplog):
    face = Image.fromarray(IMAGES[0])
    for folder in ("calm", "tense", *SYSTEM, *(f"calm/{name}" for name in SYSTEM)):
        (tmp_path / folder).mkdir(parents=True)
        face.save(tmp_path / folder / "0.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "calm" / name).touch()
    faces = ImageFolder(tmp_path)
    assert (faces.labels, len(faces), caplog.text) == (("calm", "tense"), 2, "")
    assert [p.name for p in fer_zoo.data.image_files(tmp_path)] == ["0.png"] * 2
    kaggle = write_folders(tmp_path / "kaggle")
    (kaggle / "train" / "@eaDir").mkdir()
    face.save(kaggle / "train" / "@eaDir" / "0.png")
    assert len(FER2013(kaggle)) == 16


def test_images_are_known_by_their_content(tmp_path: Path, caplog):
    """Whatever they are called; what is none is counted and named."""
    face = Image.fromarray(IMAGES[0])
    (tmp_path / "happy").mkdir()
    for name, form in (
        ("a.mpo", "mpo"), ("b.apng", "png"), ("c.jpg_large", "jpeg"), ("no_suffix", "png"),
        ("d.download", "webp"), ("e.tmp", "bmp"),
    ):  # fmt: skip
        face.save(tmp_path / "happy" / name, form)
    files = fer_zoo.data.image_files(tmp_path)
    assert len(files) == len(ImageFolder(tmp_path)) == 6
    assert caplog.text == ""
    face.save(tmp_path / "happy" / "f.ico")
    texts = {"notes.txt": "P6 is no image", "Python": "Py", "a.npy": "BM", "x.db": "\0" * 40}
    for name, text in texts.items():
        (tmp_path / "happy" / name).write_text(text)
    assert fer_zoo.data.image_files(tmp_path) == files
    said = "left out 1 .ico, files without an image: 4 ('Python', 'a.npy', 'notes.txt', 'x.db')"
    assert said in caplog.text
    caplog.clear()
    for n in range(6):
        (tmp_path / "happy" / f"{n}\x1b[31m.txt").touch()
    assert len(ImageFolder(tmp_path)) == 6
    assert "files without an image: 10 (" in caplog.text
    assert ", ...)" in caplog.text
    assert "\x1b" not in caplog.text


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path, caplog):
    face, real = Image.new("L", (48, 48), 90), tmp_path / "real"
    for folder in (tmp_path / "mine/calm", tmp_path / "mine/tense", real / "deep"):
        folder.mkdir(parents=True)
        face.save(folder / "0.png")
    face.save(real / "1.png")
    (tmp_path / "mine/calm/more").symlink_to(real)
    (real / "up").symlink_to(tmp_path / "mine")
    (tmp_path / "mine/tense/2.png").symlink_to(real / "1.png")
    faces = ImageFolder(tmp_path / "mine")
    assert faces.counts == {"calm": 3, "tense": 2}
    shown = [path.relative_to(tmp_path / "mine").as_posix() for path in faces.files]
    assert shown == [
        "calm/0.png", "calm/more/1.png", "calm/more/deep/0.png", "tense/0.png", "tense/2.png"
    ]  # fmt: skip
    assert "links to folders read already: 1 (" in caplog.text
    assert fer_zoo.data.image_files(tmp_path / "mine") == faces.files
    (tmp_path / "linked").symlink_to(tmp_path / "mine")
    assert ImageFolder(tmp_path / "linked").counts == faces.counts


def test_a_folder_without_permission_is_told(tmp_path: Path, monkeypatch, caplog):
    """By a stand-in, for those who may read everything."""
    for folder in ("calm", "calm/closed", "tense"):
        (tmp_path / folder).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / folder / "0.png")
    real = os.listdir

    def listdir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    said = r"folders without permission: 1 \('.*calm/closed'\)"
    assert len(ImageFolder(tmp_path)) == 2
    assert re.search(said, caplog.text)
    done = run("predict", tmp_path, "--model", "resnet18_025", "--json", code=1)
    assert len(done.stdout.splitlines()) == 2
    assert re.search(said, done.stderr)
    (tmp_path / "calm/0.png").unlink()
    with pytest.raises(DataError, match=rf"no image in \['calm'\]; left out {said}"):
        ImageFolder(tmp_path)
    with pytest.raises(InputError, match=f"no image in .*left out {said}"):
        fer_zoo.data.image_files(tmp_path / "calm")
    with pytest.raises(DataError, match="closed may not be read"):
        ImageFolder(tmp_path / "calm" / "closed")


LAYOUTS = {
    "splits": (
        ("training/happy", "training/sad", "testing/happy", "testing/sad"),
        r"holds splits, \['testing', 'training'\], not classes: pass one, '.*testing'",
    ),
    "one split": (("Train/calm", "Train/tense"), r"not classes: pass one, '.*Train'"),
    "splits and more": (
        ("train/calm", "train/tense", "labels"),
        r"splits, \['train'\], not classes: pass one, '.*train'",
    ),
    "FER+": (
        ("FER2013Train", "FER2013Valid", "FER2013Test"),
        "holds splits, .*not classes: each class needs a folder of its own in them",
    ),
    "persons": (
        ("anna/happy", "anna/sad", "ben/happy", "ben/sad"),
        r"folders of classes, \['happy', 'sad'\]: pass one, '.*anna', or let .*: '.*happy/anna'",
    ),
    "persons, some images beside": (
        ("anna/Joy", "anna", "ben/Joy"),
        r"folders of classes, \['Joy'\]: pass one, '.*anna'",
    ),
    "splits in classes": (
        ("happy/train", "happy/test", "sad/train"),
        r"splits in its classes, \['test', 'train'\], .*'.*test/happy', and pass one, '.*test'",
    ),
    "splits in classes of one's own, below": (
        ("calm/a/train", "calm/a/val", "tense/a/train"),
        r"splits in its classes, \['train', 'val'\]",
    ),
    "persons, and their sessions": (
        ("anna/s1/happy", "anna/s1/sad", "ben/s1/happy"),
        r"folders of classes, \['happy', 'sad'\]: pass one, '.*anna/s1', or .*'.*happy/anna/s1'",
    ),
    "Roboflow": (
        ("train/images", "valid/images"),
        r"holds splits, \['train', 'valid'\].*: each class needs a folder of its own in them",
    ),
    "images alone": (("images",), r"holds \['images'\], not classes: .*such as '.*happy'"),
    "folds": (
        ("fold_1/happy", "fold_2/happy"),
        r"holds splits, \['fold_1', .* pass one, '.*fold_1'",
    ),
    "a class in another": (
        ("happy", "sad", "happy/sad"),
        "in the folder of happy, and sad is anoth",
    ),
    "and deeper": (("happy/a/Sadness", "Sad"), "in the folder of happy, and sad is another class"),
    "splits one too high": (
        ("images/train/calm", "images/val/calm"),
        r"/images holds splits, \['train', 'val'\], not classes: pass one, '.*/images/train'",
    ),
    "and two, of several data sets": (
        ("a/b/train/happy", "a/b/test/happy", "c/b/train/happy"),
        r"/a/b holds splits, \['test', 'train'\], not classes: pass one, '.*/a/b/test'",
    ),
    "one too high, without classes": (
        ("images/train", "images/val"),
        "/images holds splits, .*: each class needs a folder of its own in them",
    ),
    "short for splits": (("trn", "tst"), "holds splits, .*: each class needs a folder"),
    "splits of arrays": (("X_train/calm", "x_test/calm"), r"pass one, '.*X_train'"),
    "splits in Spanish": (("entrenamiento", "Validación"), "holds splits, .*: each class needs"),
    "splits in German": (("Trainingsdaten/calm", "Testdaten/calm"), "pass one, '.*Testdaten'"),
    "splits in Chinese": (("训练集/x", "测试集/x"), "holds splits, .*: pass one, '.*测试集'"),
    "one too high": (("faces/calm", "faces/tense"), r"folders of classes, .*pass one, '.*faces'"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_folders_that_are_no_classes_are_told_with_what_to_pass(tmp_path: Path, kind):
    folders, says = LAYOUTS[kind]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / folder / "0.png")
    with pytest.raises(DataError, match=says):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("folders", [("calm/anna", "calm/ben", "tense/anna"), ("p1/x", "p2/y")])
def test_folders_that_may_be_persons_are_told(tmp_path: Path, folders, caplog):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / folder / "0.png")
    first, second = sorted({folder.split("/")[0] for folder in folders})
    assert ImageFolder(tmp_path).labels == (first, second)
    assert f"they are the classes: ['{first}', '{second}']; if they are persons" in caplog.text
    caplog.clear()
    for old, new in ((first, "happy"), (second, "sad")):
        (tmp_path / old).rename(tmp_path / new)
    assert ImageFolder(tmp_path).labels == ("happy", "sad")
    assert caplog.text == ""


NO_CLASSES = (
    *("evaluation", "holdout", "hold-out", "fold1", "split_1", "subset1", "none", "uncertain"),
    *(
        "non-face",
        "No-Face",
        "NF",
        "unknown",
        "happy - Copy",
        "sad copy",
        "Happy (1)",
        "New folder",
    ),
    *("untitled folder 2", "rejected", "duplicates", "to_sort", "cropped", "aligned", "resized"),
    *("discarded", "blurry", "to_review", "ambiguous", "excluded", "archive", "checkpoints"),
    *("low_quality", "Low-Res", "corrupted", "unsure", "frames", "validate", "测试集"),
    *("augmented_data", "raw images", "unlabeled-images", "train_dataset", "plots", "val split"),
    *("thumbnails", "Copy of sad", "Sadness - Kopie (2)", "happy copy 2"),
)


@pytest.mark.parametrize(
    ("folders", "odd"),
    [
        (("train", "unlabeled"), "are ['train', 'unlabeled'];"),
        (("train", "extra"), "are ['train'], too;"),
        (("faces", "masks"), "are ['faces', 'masks'];"),
        (("calm", "calm - Copy"), "are ['calm - Copy'], too;"),
        (("calm",), "are ['calm'];"),
        (("AF01", "AM02"), "are ['AF01', 'AM02'];"),
        (("subject01", "subject02"), "are ['subject01', 'subject02'];"),
        (("person_1", "person_2"), "are ['person_1', 'person_2'];"),
        (("class_1", "class_2"), ""),
        (("1", "2"), ""),
        (("happy",), ""),
        (("calm", "tense"), ""),
    ],
)
def test_folders_that_are_probably_no_classes_are_told_without_expressions(
    tmp_path: Path, folders, odd, caplog
):
    for name in folders:
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    assert sorted(ImageFolder(tmp_path).labels) == sorted(folders)
    assert f"taken for classes {odd}" in caplog.text if odd else not caplog.text


def test_a_linked_folder_of_classes_in_a_class_is_refused(tmp_path: Path):
    for name in ("ours/happy", "ours/sad", "ext/happy", "ext/sad"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    (tmp_path / "ours/happy/ext").symlink_to(tmp_path / "ext")
    with pytest.raises(DataError, match="ext/sad' is in the folder of happy"):
        ImageFolder(tmp_path / "ours")


@pytest.mark.parametrize(
    "odd", ["happy\u200b", "\u200fhappy", "\ufeffhappy", "happy\ufe0f", "happy."]
)
def test_what_cannot_be_seen_makes_no_other_class(tmp_path: Path, odd):
    for name in ("happy", odd, "sad"):
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    with pytest.raises(LabelError, match="name the same class"):
        ImageFolder(tmp_path)
    assert fer_zoo.labels.canonical(odd) == "happy"
    with pytest.raises(LabelError, match="non-empty"):
        fer_zoo.labels.check_labels(["\u200b", "a"])


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("val", r"taken for classes are \['val'\], too"),
        ("Un-labeled", r"taken for classes are \['Un-labeled'\], too"),
        ("augmented/happy", r"taken for classes are \['augmented'\], too"),
        ("more/sad", r"taken for classes are \['more'\], too"),
        ("anna/s1/happy", r"taken for classes are \['anna'\], too"),
        *((name, r"taken for classes are \['.*'\], too") for name in NO_CLASSES),
        ("sad/test", "the faces in test are taken with those beside"),
        ("sad/fear", r"is of that class, in \['.*sad/fear'\] too"),
        *(
            (f"sad/{name}", rf"is of that class, in \['.*sad/{name}'\] too; move it out")
            for name in ("rejected", "_bad", "masks", "unlabeled", "not_sad", "thumbnails", "a/old")
        ),
        ("hapy", r"taken for classes are \['hapy'\], too"),
        ("angery", None),
        ("happy_old", r"taken for classes are \['happy_old'\], too"),
        ("very sad", r"taken for classes are \['very sad'\], too"),
        ("not_happy", None),
        ("happily surprised", None),
        ("happy surprise", None),
        ("to_delete", r"taken for classes are \['to_delete'\], too"),
        ("not_a_face", r"taken for classes are \['not_a_face'\], too"),
        ("sad/maybe", r"is of that class, in \['.*sad/maybe'\] too; move it out"),
        ("bored", None),
        ("sad/anna", None),
        ("sad/sadness/Sad", None),
        ("sad/fold1", None),
        ("photocopy", None),
    ],
)
def test_folders_beside_classes_that_are_probably_none_are_told(
    tmp_path: Path, folder, says, caplog
):
    for name in ("happy", "sad", folder):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    ImageFolder(tmp_path)
    assert re.search(says, caplog.text) if says else not caplog.text


def test_forms_of_the_same_faces_in_a_class_are_told(tmp_path: Path, caplog):
    """RAF-DB comes so, and each face counted twice, on both sides of a split."""
    for name in ("happy/aligned", "happy/original", "sad/aligned", "sad/aligned/new"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    ImageFolder(tmp_path)
    assert "happy/aligned" in caplog.text
    assert "happy/original" in caplog.text
    assert "sad/aligned" not in caplog.text


def test_folders_beside_those_of_fer2013_are_told(tmp_path: Path, caplog):
    root = write_folders(tmp_path)
    assert len(FER2013(root)) == 16
    assert not caplog.text
    for name in ("val/happy", "notes"):
        (root / name).mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(root / "val/happy/0.png")
    assert len(FER2013(root)) == 16
    assert "only train, test and validation are read, not ['val']" in caplog.text


def test_official_names_count_among_official_classes_alone(tmp_path: Path):
    for name in ("calm/Training_1.png", "tense/PublicTest_2.png", "tense/training_3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    assert ImageFolder(tmp_path).official_split is None
    for old, new in (("calm", "happy"), ("tense", "Sadness")):
        (tmp_path / old).rename(tmp_path / new)
    with pytest.raises(DataError, match="mixes files of FER2013's splits"):
        ImageFolder(tmp_path)


def test_names_in_every_writing_are_classes(tmp_path: Path):
    """Composed and decomposed are one class; what is no UTF-8 is written with escapes."""
    composed, decomposed = "fr\u00f6hlich", "fro\u0308hlich"
    for name in (composed, decomposed, os.fsdecode(b"m\xfcde")):
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    faces = ImageFolder(tmp_path)
    assert faces.counts == {composed: 2, r"m\xfcde": 1}
    assert "".join(faces.labels).encode()
    labels = (decomposed, r"m\xfcde")
    assert FaceDataset(
        faces.images, faces.targets, labels=labels, name="x"
    ).targets_for(faces.labels).tolist() == faces.targets.tolist()  # fmt: skip
    with pytest.raises(LabelError, match="the same class"):
        fer_zoo.labels.check_labels([composed, decomposed])


def test_reports_are_written_of_names_that_are_not_utf8(tmp_path: Path):
    """One of two equal faces under different names is a mistake, whose file is named."""
    root = tmp_path / os.fsdecode(b"donn\xe9es")
    for name in (b"caf\xe9", b"th\xe9"):
        (root / os.fsdecode(name)).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(root / os.fsdecode(name) / "0.png")
    faces = ImageFolder(root)
    model = fer_zoo.create("test_tiny", num_classes=2).eval()
    model.labels = faces.labels
    card = fer_zoo.evaluation.write_report(tmp_path, fer_zoo.evaluation.measure(model, faces))
    assert r"donn\xe9es" in card.read_text("utf-8")
    assert r"\xe9" in (tmp_path / "errors.csv").read_text("utf-8")
    run("data", "report", root, "--output", tmp_path / "data")
    assert r"caf\xe9/0.png" in (tmp_path / "data" / "report.md").read_text("utf-8")


def test_the_folder_above_ones_own_classes_says_which_to_pass(tmp_path: Path):
    for part in ("train", "val"):
        (tmp_path / part / "amused").mkdir(parents=True)
        Image.new("L", (64, 60)).save(tmp_path / part / "amused" / "0.png")
    with pytest.raises(LabelError, match=r"--data '.*train' --validation '.*val'"):
        FER2013(tmp_path, "train")


@pytest.mark.parametrize(
    ("parts", "side", "classes", "share", "options"),
    [
        ("train test", 48, 7, (), "--data '{}/train' --validation '{}/test'"),
        ("train test", 112, 7, (), "--data '{}/train' --validation '{}/test'"),
        ("train test val", 48, 7, (), "--data '{}/train' --validation '{}/val'"),
        ("train test", 48, 3, ("--validation", "0.3"), "--data '{}/train' --validation '{}/test'"),
        ("Train Test", 48, 3, (), "--data '{}/Train' --validation '{}/Test'"),
        (
            "Test Training",
            48,
            3,
            ("--validation", "0.2"),
            "--data '{}/Training' --validation '{}/T",
        ),
        ("train", 48, 7, (), "--data '{}/train' --validation 0.2"),
    ],
)
def test_training_on_splits_of_ones_own_says_the_options(
    tmp_path: Path, parts, side, classes, share, options
):
    for part in parts.split():
        for name in fer_zoo.labels.FER2013[-classes:]:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (side, side)).save(tmp_path / part / name / "0.png")
    done = run("train", "test_tiny", "--data", tmp_path, "--output", tmp_path / "o", *share, code=2)
    assert options.format(tmp_path, tmp_path) in done.stderr


def test_no_options_are_given_where_no_split_is(tmp_path: Path):
    (tmp_path / "a" / "amused").mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(tmp_path / "a" / "amused" / "0.png")
    with pytest.raises((DataError, LabelError)) as error:
        FER2013(tmp_path, "train")
    assert "by split" not in str(error.value)


def test_a_class_folder_in_one_of_its_name_keeps_its_split(tmp_path: Path):
    """A zip in a zip makes `train/happy/happy`, whose faces were those of `test`."""
    for name in ("train/happy/happy", "train/sad", "test/sad/sad"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    counts = {**dict.fromkeys(fer_zoo.labels.FER2013, 0), "happy": 1, "sad": 1}
    assert FER2013(tmp_path, "train").counts == counts


def test_a_row_that_lacks_moves_the_votes_after_it():
    """They fit half of all the faces, as the others are in order."""
    names = fer_zoo.labels.FER2013
    emotions = [names[i * i % 7] for i in range(6001)]
    table = np.zeros((6001, 10), int)
    table[range(6001), [ferplus.COLUMNS.index(name) for name in emotions]] = 10
    assert ferplus.in_order(table, emotions)
    for row in (0, 3000, 4900):
        assert not ferplus.in_order(table[:-1], [*emotions[:row], *emotions[row + 1 :]])


@pytest.mark.real_data
def test_a_real_row_that_lacks_is_noticed(fer2013_root: Path):
    arrays = fer_zoo.data.fer2013.load_arrays(fer2013_root)
    table = ferplus.read_votes(fer2013_root / "fer2013new.csv", arrays["usage"])
    emotions = [fer_zoo.labels.FER2013[k] for k in arrays["targets"][:28_709]]
    assert ferplus.in_order(table[:28_709], emotions)
    for row in (5000, 20_000, 24_000):
        assert not ferplus.in_order(table[:28_708], [*emotions[:row], *emotions[row + 1 :]])


@pytest.mark.parametrize(
    "names", ["happy_train happy_test angry_train", "train_happy test_happy", "happy-train sad-val"]
)
def test_splits_and_classes_in_one_name_are_refused(tmp_path: Path, names):
    """They were twice as many classes."""
    for name in names.split():
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=r"splits and classes in one name, .*train/happy', and"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("happy_1", "happy_2", "sad"), "['happy_1', 'happy_2'], too"),
        (("happy", "not_happy"), None),
        (("smile", "non-smile"), None),
        (("1_happy", "2_sad"), None),
        (("surprise", "happily surprised", "sadly surprised", "sad"), None),
        (("1", "01", "2"), "['01', '1'], too"),
        (("1", "10", "0"), None),
        (("0", "00", "1"), "['0', '00'], too"),
        (("happy", "unhappy"), None),
        (("fear", "happy", "not_happy", "sad"), "['not_happy'], too"),
        (("neutral", "nicht_neutral"), None),
        (("sad_low", "sad_high", "happy_low", "happy_high"), None),
        (("contempt", "content", "disgust", "distrust"), None),
        (("angry", "angery"), "['angery'], too"),
    ],
)
def test_folders_of_one_expression_are_told(tmp_path: Path, folders, told, caplog):
    for name in folders:
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "0.png")
    ImageFolder(tmp_path)
    assert f"taken for classes are {told}" in caplog.text if told else not caplog.text


def test_images_that_no_predictor_labels_are_told(tmp_path: Path, caplog):
    """They trained, and counted in an evaluation, without a word."""
    framed = np.full((60, 60), 99, np.uint8)
    framed[:3] = 255
    odd = [Image.new("L", (48, 48), 90), Image.fromarray(framed)]
    odd.append(Image.fromarray(IMAGES[0]).resize((9, 48)))
    for i, image in enumerate([*odd, Image.fromarray(IMAGES[0])]):
        for name in ("happy", "sad"):
            (tmp_path / name).mkdir(exist_ok=True)
            image.save(tmp_path / name / f"{i}.png")
    faces = ImageFolder(tmp_path)
    said = (
        f"6 of 8 images show nothing or are under 10 px, which predictors do not label: {tmp_path}"
    )
    assert said in caplog.text
    told = fer_zoo.Predictor("resnet18_025")(faces.files)
    assert [face.error is None for face in told] == [False, False, False, True] * 2


def test_names_are_compared_without_accents_and_widths(tmp_path: Path):
    for odd in ("\uff48\uff41\uff50\uff50\uff59", "h\u00e1ppy", "HAPPY", "Happine\u017fs"):
        assert fer_zoo.labels.canonical(odd) == "happy"
        with pytest.raises(LabelError, match="name the same class"):
            fer_zoo.labels.check_labels(["happy", odd, "sad"])
