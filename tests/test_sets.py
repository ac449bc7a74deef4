"""Data sets of others, on trees and lists of exactly the layouts in which people have them."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import ramp, run
from fer_zoo.data import (
    JAFFE,
    KDEF,
    RAFDB,
    AffectNet,
    CKPlus,
    DatasetSpec,
    ExpW,
    FaceDataset,
    FERPlus,
    data_report,
    list_datasets,
    open_dataset,
    register_dataset,
    sets,
)
from fer_zoo.errors import ArgumentError, DataError, DuplicateNameError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore:.*not the official")


def draw(path: Path, level: int = 100, size: tuple[int, int] = (48, 48), mode: str = "L") -> Path:
    """Write an image of one gray level, which tells it from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(data: FaceDataset) -> set[tuple[int, str, str | None]]:
    """What each face is: its gray level, its label, its group."""
    groups = data.groups or [None] * len(data)
    levels = data.images[:, 24, 24].tolist()
    names = (data.labels[t] for t in data.targets.tolist())
    return set(zip(levels, names, groups, strict=True))


def ckplus(root: Path) -> Path:
    """The original: every frame of a sequence, and a label for its last one or none."""
    frames = {"S005/001": (11, 3), "S010/002": (14, 7), "S010/004": (17, 1), "S052/001": (15, None)}
    for k, (at, (last, code)) in enumerate(frames.items()):
        stem = at.replace("/", "_")
        for number in (1, last - 1, last):
            level = 10 * k + 5 if number == last else 255
            name = f"{stem}_{number:08}"
            draw(root / "cohn-kanade-images" / at / f"{name}.png", level, (640, 490))
            write(root / "Landmarks" / at / f"{name}_landmarks.txt", "   2.4e+02   1.6e+02\n")
        (root / "Emotion" / at).mkdir(parents=True)
        if code is not None:
            name = f"{stem}_{last:08}_emotion.txt"
            write(root / "Emotion" / at / name, f"   {code:.7e}\n")
    (root / "cohn-kanade-images" / ".DS_Store").touch()
    (root / "Emotion" / "S005" / ".DS_Store").touch()
    return root


@pytest.mark.parametrize("below", ["", "CK+", "data/extended"])
def test_ckplus_as_it_is_given_out(tmp_path: Path, below):
    ckplus(tmp_path / below)
    data = CKPlus(tmp_path)
    assert found(data) == {(5, "disgust", "S005"), (15, "surprise", "S010"), (25, "angry", "S010")}
    assert data.labels == ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
    assert (data.official_split, data.name, data.images.shape[1:]) == (None, "CK+", (48, 48))
    assert data.files[0].name == "S005_001_00000011.png"
    rest, part = data.split(0.4)
    assert {*rest.groups} | {*part.groups} == {"S005", "S010"}
    assert not {*rest.groups} & {*part.groups}
    assert CKPlus(tmp_path, size=40).images.shape[1:] == (40, 40)


def test_ckplus_with_labels_in_a_folder_of_their_own(tmp_path: Path):
    ckplus(tmp_path)
    (tmp_path / "Emotion_labels").mkdir()
    (tmp_path / "Emotion").rename(tmp_path / "Emotion_labels" / "Emotion")
    (tmp_path / "extended-cohn-kanade-images").mkdir()
    images = tmp_path / "cohn-kanade-images"
    images.rename(tmp_path / "extended-cohn-kanade-images" / images.name)
    assert len(CKPlus(tmp_path)) == 3


@pytest.mark.parametrize("text", ["", "happy", "0.0000000e+00", "8.0", "1.5"])
def test_labels_of_ckplus_that_are_none_are_named(tmp_path: Path, text):
    path = ckplus(tmp_path) / "Emotion/S005/001/S005_001_00000011_emotion.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"S005_001_00000011_emotion.txt: .*code .*1 to 7"):
        CKPlus(tmp_path)


def test_a_frame_that_is_not_there_is_named(tmp_path: Path):
    (ckplus(tmp_path) / "cohn-kanade-images/S010/004/S010_004_00000017.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 files that CK[+] lists .*S010_004_00000017.png"):
        CKPlus(tmp_path)
    shutil.rmtree(tmp_path / "cohn-kanade-images")
    with pytest.raises(DataError, match="holds no cohn-kanade-images/ beside Emotion/"):
        CKPlus(tmp_path)


def test_ck48_is_told_by_its_file_names(tmp_path: Path, caplog):
    frames = ("anger/S010_004_00000017", "anger/S010_004_00000018", "sadness/S011_002_00000021")
    for level, frame in enumerate(frames):
        draw(tmp_path / "CK+48" / f"{frame}.png", level)
    draw(tmp_path / "CK+48" / "anger" / "mine.png")
    data = CKPlus(tmp_path)
    assert found(data) == {(0, "angry", "S010"), (1, "angry", "S010"), (2, "sad", "S011")}
    assert "left out 1 images by their names: ['mine.png']" in caplog.text
    draw(tmp_path / "CK+48" / "bored" / "S011_002_00000022.png")
    with pytest.raises(DataError, match=r"'bored' is not one of CK[+]'s classes"):
        CKPlus(tmp_path)


def test_ckextended_csv_has_its_own_order(tmp_path: Path):
    rows = [f"{k},{' '.join([str(k)] * 2304)},Training" for k in range(8)]
    path = write(tmp_path / "ckextended.csv", "\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    names = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"]
    for root in (path, tmp_path):
        data = CKPlus(root)
        assert found(data) == {(k, name, None) for k, name in enumerate(names)}
    assert data.rows.tolist() == list(range(8))
    path.write_text(path.read_text().replace("\n7,", "\n8,"))
    with pytest.raises(DataError, match=r"line 9: .*a class from 0 to 7"):
        CKPlus(path)


def test_jaffe_is_told_by_its_file_names(tmp_path: Path, caplog):
    names = "KA.AN1.39 KA.DI3.44 KL.FE2.175 NA.HA1.202 NM.NE3.95 TM.SA2.185 UY.SU1.143".split()
    for level, name in enumerate(names):
        draw(tmp_path / "jaffedbase" / f"{name}.tiff", level, (256, 256))
    draw(tmp_path / "jaffedbase" / "montage.tiff")
    write(tmp_path / "jaffedbase" / "README", "terms of use")
    data = JAFFE(tmp_path)
    expressions = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert found(data) == {(k, e, names[k][:2]) for k, e in enumerate(expressions)}
    assert "montage.tiff" in caplog.text


def test_kdef_is_told_by_its_file_names(tmp_path: Path, caplog):
    codes = {"AF": "fear", "AN": "angry", "DI": "disgust", "HA": "happy", "NE": "neutral"}
    codes |= {"SA": "sad", "SU": "surprise"}
    for level, code in enumerate(codes):
        for angle in ("FL", "HL", "S", "HR", "FR"):
            name = f"AF01{code}{angle}.JPG"
            draw(tmp_path / "AF01" / name, 10 * level if angle == "S" else 255, (562, 762), "RGB")
    draw(tmp_path / "BM31" / "BM31HAS.JPG", 90, (562, 762), "RGB")
    draw(tmp_path / "AF31" / "AF31V.JPG")
    data = KDEF(tmp_path)
    straight = {(10 * k, name, "F01") for k, name in enumerate(codes.values())}
    assert found(data) == straight | {(90, "happy", "M31")}
    assert "AF31V.JPG" in caplog.text
    assert len(KDEF(tmp_path, angles=["FL", "FR"])) == 14
    for wrong in ("S", ["left"], []):
        with pytest.raises(ArgumentError, match="angles are some of"):
            KDEF(tmp_path, angles=wrong)


RAF = "surprise fear disgust happy sad angry neutral".split()


def rafdb(root: Path) -> Path:
    rows = [("train_00001", 5), ("train_00002", 4), ("test_0001", 1), ("test_0002", 7)]
    for level, (name, _) in enumerate(rows):
        draw(root / "Image/aligned" / f"{name}_aligned.jpg", 10 * level, (100, 100), "RGB")
        draw(root / "Image/original" / f"{name}.jpg", 255, (300, 200), "RGB")
    lines = "".join(f"{name}.jpg {code}\n" for name, code in rows)
    write(root / "EmoLabel/list_patition_label.txt", lines)
    return root


@pytest.mark.parametrize("below", ["", "basic", "RAF-DB/basic"])
def test_rafdb_as_it_is_given_out(tmp_path: Path, below):
    rafdb(tmp_path / below)
    train, test = RAFDB(tmp_path, "train"), RAFDB(tmp_path, "test")
    assert found(train) == {(0, "sad", None), (10, "happy", None)}
    assert found(test) == {(20, "surprise", None), (30, "neutral", None)}
    assert (train.official_split, test.official_split) == ("train", "test")
    with pytest.raises(ArgumentError, match="split must be one of"):
        RAFDB(tmp_path, "public")


@pytest.mark.parametrize("line", ["train_00003.jpg 8", "train_00003.jpg", "face.jpg 3", "0 1 2"])
def test_lines_of_rafdb_that_are_none_are_named(tmp_path: Path, line):
    path = rafdb(tmp_path) / "EmoLabel/list_patition_label.txt"
    path.write_text(f"{path.read_text()}\n{line}\n")
    with pytest.raises(DataError, match=r"list_patition_label.txt, line 6: needs"):
        RAFDB(tmp_path)


def test_rafdb_as_on_kaggle(tmp_path: Path):
    for code in range(1, 8):
        draw(tmp_path / f"DATASET/train/{code}/train_{code:05}_aligned.jpg", 20 * code)
        draw(tmp_path / f"DATASET/test/{code}/test_{code:04}_aligned.jpg", 20 * code + 10)
    write(tmp_path / "train_labels.csv", "image,label\n")
    levels = {(20 * k, name, None) for k, name in enumerate(RAF, 1)}
    assert found(RAFDB(tmp_path, "train")) == levels
    assert found(RAFDB(tmp_path, "test")) == {(k + 10, name, None) for k, name, _ in levels}
    with pytest.raises(DataError, match=r"no EmoLabel/list_patition_label.txt or test/1 to test/7"):
        RAFDB(tmp_path / "DATASET/train", "test")


AFFECT = "neutral happy sad surprise fear disgust angry contempt".split()


def affectnet_arrays(root: Path, part: str = "val_set") -> Path:
    for code in range(11):
        draw(root / part / "images" / f"{code}.jpg", 20 * code, (224, 224), "RGB")
        folder = root / part / "annotations"
        folder.mkdir(exist_ok=True)
        # As text in an array without dimensions, which is how they are given out; or as a number.
        np.save(folder / f"{code}_exp.npy", str(code) if code % 2 else code)
        np.save(folder / f"{code}_lnd.npy", np.zeros(136))
    return root


def test_affectnet_as_arrays(tmp_path: Path, caplog):
    affectnet_arrays(tmp_path)
    data = AffectNet(tmp_path, "validation")
    assert found(data) == {(20 * k, name, None) for k, name in enumerate(AFFECT)}
    assert data.official_split == "validation"
    assert "labelled 1 none, 1 uncertain, 1 no face" in caplog.text
    with pytest.raises(DataError, match=r"no train_set/annotations, training.csv or train/0 to 7"):
        AffectNet(tmp_path, "train")


def test_affectnets_annotations_are_never_unpickled(tmp_path: Path):
    path = affectnet_arrays(tmp_path) / "val_set/annotations/3_exp.npy"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"3_exp.npy: no annotation of AffectNet.*allow_pickle"):
        AffectNet(tmp_path, "validation")
    assert not (tmp_path / "exploded").exists()
    odd = (3.7, np.inf, 1j, np.datetime64("2026"), [b"x" * 5000])
    for value in (11, -1, "x", [1, 2], *odd):
        np.save(path, value)
        with pytest.raises(DataError, match=r"3_exp.npy"):
            AffectNet(tmp_path, "validation")
    path.unlink()
    with pytest.raises(DataError, match=r"3_exp.npy is not there, the annotation of .*3.jpg"):
        AffectNet(tmp_path, "validation")


HEAD = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal\n"
)


@pytest.mark.parametrize("head", [HEAD, ""])
def test_affectnet_as_lists_with_boxes(tmp_path: Path, head):
    """A face is cut out of its photograph by its box; what has no face has no box either."""
    image = Image.new("RGB", (300, 200), "white")
    image.paste((70, 70, 70), (30, 40, 130, 140))
    photo = tmp_path / "Manually_Annotated/Manually_Annotated_Images/689/face.jpg"
    photo.parent.mkdir(parents=True)
    image.save(photo)
    rows = "689/face.jpg,30,40,100,100,1.5;2.5,1,0.7,-0.1\n"
    rows += "689/gone.jpg,NULL,NULL,NULL,NULL,,10,-2,-2\n"
    path = write(tmp_path / "Manually_Annotated_file_lists/validation.csv", head + rows)
    data = AffectNet(tmp_path, "validation")
    assert found(data) == {(70, "happy", None)}
    assert int(data.images.float().std()) <= 2
    for wrong in ("689/face.jpg,30,40,100,100,,12,0,0", "689/face.jpg,30,40", "a,b,c,d,e,f,1,h,i"):
        path.write_text(f"{head}{rows}{wrong}\n")
        with pytest.raises(DataError, match=r"validation.csv, line [34]"):
            AffectNet(tmp_path, "validation")
    path.write_text(f"{head}689/face.jpg,300,40,100,100,,1,0,0\n")
    with pytest.raises(DataError, match=r"the box .* is outside of the picture"):
        AffectNet(tmp_path, "validation")


@pytest.mark.parametrize("part", ["val", "valid", "validation"])
def test_affectnet_as_folders_by_code(tmp_path: Path, part):
    for code in range(8):
        draw(tmp_path / "train" / str(code) / "a.jpg", 20 * code)
        draw(tmp_path / part / str(code) / "a.jpg", 20 * code + 10)
    assert found(AffectNet(tmp_path)) == {(20 * k, name, None) for k, name in enumerate(AFFECT)}
    assert len(AffectNet(tmp_path, "validation")) == 8


def test_expw_is_cut_by_its_boxes(tmp_path: Path):
    """Their edges are top, left, right, bottom."""
    image = Image.new("L", (400, 300), 255)
    for code in range(4):
        image.paste(20 * code, (100 * code, 50, 100 * code + 100, 150))
    (tmp_path / "image/origin").mkdir(parents=True)
    image.save(tmp_path / "image/origin/angry man_12.jpg", quality=100)
    image.save(tmp_path / "image/origin/b.jpg", quality=100)
    rows = [f"angry man_12.jpg {k} 50 {100 * k} {100 * k + 100} 150 54.3 {k}" for k in range(4)]
    rows += [f"b.jpg 0 50 300 400 150 9.8 {k}" for k in (4, 5, 6)]
    path = write(tmp_path / "label/label.lst", "\n".join(rows) + "\n")
    data = ExpW(tmp_path)
    levels = [0, 20, 40, 60, 60, 60, 60]
    labels = fer_zoo.labels.FER2013
    assert found(data) == {(level, labels[k], None) for k, level in enumerate(levels)}
    for wrong in ("b.jpg 0 50 300 400 150 9.8 7", "b.jpg 0 50 300 400 150 9.8 12", "b.jpg 0 50"):
        path.write_text("\n".join([*rows, wrong]))
        with pytest.raises(DataError, match=r"label.lst, line 8: needs"):
            ExpW(tmp_path)
    with pytest.raises(DataError, match=r"holds no label/label.lst of ExpW"):
        ExpW(tmp_path / "image")
    with pytest.raises(DataError, match="does not exist"):
        ExpW(tmp_path / "nowhere")


def test_ferplus_as_its_script_writes_it(tmp_path: Path):
    rows = [[6, 3, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 10], [0] * 7 + [9, 1, 0]]
    for folder, first in (("FER2013Train", 0), ("FER2013Valid", 28638)):
        lines = []
        for i, votes in enumerate(rows):
            name = f"fer{first + i:07}.png"
            draw(tmp_path / "data" / folder / name, 10 * i)
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}')
        write(tmp_path / "data" / folder / "label.csv", "\n".join(lines) + "\n")
    for root in (tmp_path, tmp_path / "data"):
        data = FERPlus(root, "public")
        assert found(data) == {(0, "neutral", None), (20, "contempt", None)}
        assert (data.rows.tolist(), data.dropped) == ([28638, 28640], 1)
    torch.testing.assert_close(data.votes[0, :2], torch.tensor([2 / 3, 1 / 3]))
    path = tmp_path / "data/FER2013Valid/label.csv"
    path.write_text(f'{path.read_text()}fer0028641.png,"(0, 0, 48, 48)",1,2\n')
    with pytest.raises(DataError, match=r"label.csv, line 4: needs fer0000000.png, a box, 10"):
        FERPlus(tmp_path, "public")
    good = "fer0000000.png,box,1,1,1,1,1,1,1,1,1,1\n"
    for odd in (
        good.replace(",1,", ",40000,").encode(),
        good.encode("utf-16"),
        b"\xff" + good.encode(),
        good.replace("box", "b" * 200_000).encode(),
    ):
        path.write_bytes(odd)
        with pytest.raises(DataError, match=r"label.csv, line 1: needs"):
            FERPlus(tmp_path, "public")
    path.write_text(good.replace("fer", "f" * 5000))
    with pytest.raises(DataError, match=r"label.csv"):
        FERPlus(tmp_path, "public")


@pytest.mark.parametrize(
    ("data", "labels", "counts"),
    [
        (sets.RAFDB, "RAF-DB", "12,271"),
        (sets.JAFFE, "JAFFE", "213"),
    ],
)
def test_counts_that_are_not_the_official_ones_are_told(tmp_path: Path, data, labels, counts):
    draw(tmp_path / "KA.AN1.39.tiff")
    rafdb(tmp_path)
    with pytest.warns(
        UserWarning, match=f"not the official {labels}: .* faces instead of {counts}"
    ):
        data(tmp_path)


def test_every_data_set_says_its_source_and_its_licence():
    for kind in (CKPlus, JAFFE, KDEF, RAFDB, AffectNet, ExpW):
        assert re.search(r"Source: .*Licence: .*research", kind.__doc__, re.DOTALL), kind


def test_a_data_set_is_opened_by_name(tmp_path: Path):
    rafdb(tmp_path / "raf")
    ckplus(tmp_path / "ck")
    test = open_dataset(f"rafdb.test:{tmp_path / 'raf'}")
    assert test.fingerprint == RAFDB(tmp_path / "raf", "test").fingerprint
    assert open_dataset(f"rafdb:{tmp_path / 'raf'}", split="train", size=40).images.shape[1] == 40
    assert len(open_dataset(f"ckplus:{tmp_path / 'ck'}")) == 3
    for address, split, says in (
        ("rafdb:raf", None, "has the splits train, test: say which, as in rafdb.train:raf"),
        ("rafdb.public:raf", None, "rafdb has only train, test, no 'public'"),
        ("rafdb.test:raf", "train", "name one of them"),
        ("kdef.test:raf", None, "kdef has no official splits, no 'test'"),
        ("raf", None, r"is NAME:PATH with one of the names \['affectnet'"),
    ):
        with pytest.raises(ArgumentError, match=says):
            open_dataset(address, split=split)
    with pytest.raises(UnknownNameError, match=r"unknown data set 'rafbd'. Did you mean 'rafdb'"):
        open_dataset("rafbd:raf")


def test_a_third_partys_data_set_is_one_entry(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sets.DATASETS, "_entries", {**sets.DATASETS})
    spec = DatasetSpec(name="theirs", load=theirs, splits=("train", "public"), description="x")
    register_dataset(spec)
    assert "theirs" in list_datasets()
    assert open_dataset(f"theirs.public:{tmp_path}").official_split == "public"
    assert "theirs" in json.loads(run("list", "--json").stdout)["data"]
    found = json.loads(run("data", "report", f"theirs:{tmp_path}", "--json").stdout)
    assert found["counts"]["public"]["happy"] == 2
    done = run("evaluate", "resnet18_025", "--data", f"theirs.public:{tmp_path}", "--json")
    assert json.loads(done.stdout)["results"][0]["faces"]["n"] == 14
    with pytest.raises(DuplicateNameError):
        register_dataset(spec)
    with pytest.raises(ArgumentError, match=r"expected a fer_zoo.data.DatasetSpec"):
        register_dataset(theirs)
    with pytest.raises(ArgumentError, match="a data set has a load and splits of"):
        DatasetSpec(name="x", load=theirs, splits=("dev",), description="x")


def theirs(root: Path, split: str | None, size: int) -> FaceDataset:
    images = torch.from_numpy(np.stack([ramp(i) for i in range(14)]))
    labels = fer_zoo.labels.FER2013
    return FaceDataset(images, torch.arange(14) % 7, labels=labels, name="theirs", split=split)


def test_the_data_report_takes_a_name_and_a_data_set(tmp_path: Path):
    for split in ("train", "test"):
        for code in range(1, 8):
            path = tmp_path / split / str(code) / f"{split}_{code:05}_aligned.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(ramp(code)).save(path)
    report = data_report(f"rafdb:{tmp_path}", progress=False)
    assert {split: sum(n.values()) for split, n in report.counts.items()} == {"train": 7, "test": 7}
    assert report.name == "RAF-DB"
    assert report.exact[0].faces[0].file == "train/1/train_00001_aligned.jpg"
    assert all(group.splits == ("train", "test") for group in report.exact)
    one = data_report(RAFDB(tmp_path, "test")[:3], progress=False)
    assert len(one.images) == 3
    shutil.rmtree(tmp_path / "test")
    assert [*data_report(f"rafdb:{tmp_path}", progress=False).counts] == ["train"]
    with pytest.raises(DataError, match="test/1 to test/7"):
        data_report(f"rafdb.test:{tmp_path}")


def test_a_run_trains_on_a_named_data_set(tmp_path: Path, caplog):
    for split, n in (("train", 3), ("val", 2)):
        for code in range(8):
            for i in range(n):
                path = tmp_path / "affect" / split / str(code) / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.roll(ramp(8 * code + i), i + len(split), 1)).save(path)
    rafdb(tmp_path / "raf")
    root = f"affectnet:{tmp_path / 'affect'}"
    options = ("--output", tmp_path / "run", "--set", "epochs=1", "--json")
    with caplog.at_level(logging.INFO):
        run("train", "test_tiny", "--data", root, *options)
    known = fer_zoo.load(str(tmp_path / "run/best.safetensors")).evidence.training
    assert (known.faces.name, known.faces.split) == ("AffectNet", "train")
    assert (known.validation.split, known.validation.n) == ("validation", 16)
    for data in (f"rafdb:{tmp_path / 'raf'}", f"affectnet.train:{tmp_path / 'affect'}"):
        done = run("train", "test_tiny", "--data", data, *options, code=2)
        assert "pass --validation" in done.stderr


@pytest.mark.parametrize(
    ("read", "codes", "says"),
    [
        (
            RAFDB,
            range(7),
            "numbered from 0, the data set's from 1: call them 1 to 7 if 0 holds surprise",
        ),
        (
            AffectNet,
            range(1, 9),
            "numbered from 1, the data set's from 0: call them 0 to 7 if 1 holds neutral",
        ),
        (RAFDB, range(8), ""),
        (AffectNet, range(11), ""),
    ],
)
def test_folders_numbered_from_elsewhere_are_refused(tmp_path: Path, read, codes, says):
    """Every label was that of the next class."""
    for code in codes:
        draw(tmp_path / "train" / str(code) / "a.jpg", 20 * code)
    if says:
        with pytest.raises(DataError, match=says):
            read(tmp_path)
    else:
        assert len(read(tmp_path)) == len(read(tmp_path).labels)


def test_affectnets_columns_are_read_by_their_names(tmp_path: Path):
    """They were read by place, and the box was another part of the photograph."""
    image = Image.new("RGB", (300, 200), "white")
    image.paste((70, 70, 70), (30, 40, 130, 160))
    (tmp_path / "Manually_Annotated_Images").mkdir()
    image.save(tmp_path / "Manually_Annotated_Images/a.png")
    head = "expression,subDirectory_filePath,face_width,face_height,face_x,face_y"
    path = write(tmp_path / "validation.csv", f"{head}\n1,a.png,100,120,30,40\n")
    assert found(AffectNet(tmp_path, "validation")) == {(70, "happy", None)}
    path.write_text(f"{head[:-7]}\n1,a.png,100,120,30\n")
    with pytest.raises(DataError, match=r"no columns \['face_y'\], as AffectNet has them"):
        AffectNet(tmp_path, "validation")
