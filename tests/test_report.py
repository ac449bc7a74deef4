"""The data report finds what was planted, names it, and finds nothing else."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torchvision.transforms.v2 import functional

import fer_zoo
from conftest import cli, in_this_process
from fer_zoo._install import install_command
from fer_zoo.cli import main
from fer_zoo.cli.data import OWN
from fer_zoo.data import FER2013, near, report as module
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.ferplus import COLUMNS
from fer_zoo.data.report import Face, data_report
from fer_zoo.errors import ArgumentError, DataError, MissingDependencyError

pytestmark = pytest.mark.filterwarnings("ignore:.*not the official FER2013")
LABELS = fer_zoo.labels.FER2013
USAGES = ("Training", "PublicTest", "PrivateTest")
ROWS = 60
USAGE = np.repeat([0, 1, 2], [40, 12, 8])


def pictures(n: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures: as unlike each other as photographs, and as fine."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 1, 12, 12, generator=rng)
    fine = functional.resize(coarse, [54, 54]) + 0.1 * torch.randn(n, 1, 54, 54, generator=rng)
    return (128 + 60 * fine[:, 0]).clamp(0, 255).byte().numpy()


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Faces with odd ones: see `test_everything_planted_is_found`."""
    wide = pictures(ROWS)
    images, targets = wide[:, 3:-3, 3:-3].copy(), np.arange(ROWS) % 7
    images[[3, 41]] = [[[0]], [[77]]]
    images[20], targets[20] = images[5], targets[5]
    images[45], targets[45] = images[6], (targets[6] + 1) % 7
    images[22] = wide[7, 2:-4, 4:-2]
    images[46], targets[46] = np.clip(images[8] * 0.7 + 20, 0, 255), (targets[8] + 1) % 7
    rng = np.random.default_rng(0)
    images[53] = np.clip(images[42] + rng.normal(0, 6, (48, 48)), 0, 255)
    targets[53] = targets[42]
    return images, targets


def write_csv(path: Path, images: np.ndarray, targets: np.ndarray) -> Path:
    lines = ["emotion,pixels,Usage"]
    for image, target, use in zip(images, targets, USAGE, strict=True):
        lines.append(f"{target},{' '.join(map(str, image.ravel()))},{USAGES[use]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_votes(path: Path, no_face: dict[int, int]) -> None:
    lines = [",".join(("Usage", "Image name", *COLUMNS))]
    for row, use in enumerate(USAGE):
        votes = [10 - no_face.get(row, 0), *[0] * 8, no_face.get(row, 0)]
        lines.append(",".join([USAGES[use], "", *map(str, votes)]))
    path.write_text("\n".join(lines) + "\n")


def write_folders(root: Path, images: np.ndarray, targets: np.ndarray) -> Path:
    for i, (image, target, use) in enumerate(zip(images, targets, USAGE, strict=True)):
        folder = root / ("train" if use == 0 else "test") / LABELS[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{USAGES[use]}_{i:08d}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_csv(folder / "fer2013.csv", *planted())
    write_votes(folder / "fer2013new.csv", {3: 10, 50: 6, 9: 1, 10: 5})
    return folder


def run(*arguments: object) -> Result:
    """Run a command in this process, which saves the seconds that torch takes to start."""
    return CliRunner().invoke(
        main, [*map(str, arguments)], standalone_mode=False, catch_exceptions=False
    )


def rows(groups: tuple[module.Group, ...]) -> list[list[int]]:
    return sorted([face.row for face in group.faces] for group in groups)


def test_everything_planted_is_found_and_nothing_else(root: Path):
    """A shift, a change of contrast and noise are near; other faces are not."""
    found = data_report(root, progress=False)
    _, targets = planted()
    assert found.constant == (
        Face(row=3, split="train", label=LABELS[targets[3]]),
        Face(row=41, split="public", label=LABELS[targets[41]]),
    )
    assert rows(found.exact) == [[5, 20], [6, 45]]
    assert rows(found.near) == [[7, 22], [8, 46], [42, 53]]
    assert [group.labels for group in found.exact if len(group.labels) > 1] == [
        (LABELS[6], LABELS[0])
    ]
    assert [group.splits for group in found.exact] == [("train", "public"), ("train",)]
    assert {(a, b) for a, b, *_ in found.links} == {(7, 22), (8, 46), (42, 53)}
    assert all(bits <= 8 and r >= 0.9 for *_, bits, r in found.links)
    assert [face.row for face in found.non_faces] == [3, 50]
    assert [face.row for face in found.doubted] == [3, 9, 10, 50]


def test_tables_count_by_split(root: Path):
    tables = data_report(root, progress=False).tables()
    _, targets = planted()
    assert tables["Faces"][0][2:] == list(LABELS)
    assert tables["Faces"][2][2:] == list(map(str, np.bincount(targets[40:52], minlength=7)))
    assert [row[:2] for row in tables["Faces"][1:]] == [
        ["train", "40"],
        ["public", "12"],
        ["private", "8"],
    ]
    assert [row[1:] for row in tables["Images without a face"][1:]] == [
        ["1", "1", "0"],
        ["1", "1", "0"],
        ["3", "1", "0"],
    ]
    assert tables["Exact duplicates"][1:] == [
        ["train", "1", "2", "0", "0"],
        ["train and public", "1", "2", "1", "2"],
    ]
    shared = {(row[0], row[1]): row[2:] for row in tables["Faces that another split holds too"]}
    assert shared["public", "train"] == ["1", "1", "2", "2"]
    assert shared["private", "public"] == ["0", "0", "1", "0"]
    assert shared["private", "train"] == ["0"] * 4


def test_folders_give_the_same_groups_by_file(root: Path, tmp_path: Path):
    by_row = data_report(root, progress=False)
    by_file = data_report(write_folders(tmp_path / "kaggle", *planted()), progress=False)
    for kind in ("exact", "near"):
        named = [[int(f.file[-12:-4]) for f in group.faces] for group in getattr(by_file, kind)]
        assert sorted(map(sorted, named)) == rows(getattr(by_row, kind))
    assert (tmp_path / "kaggle" / by_file.constant[0].name).is_file()
    assert by_file.non_faces is None
    for group in by_file.exact:
        first, second = (by_file.images[face.row] for face in group.faces)
        assert torch.equal(first, second)


def test_ones_own_classes(tmp_path: Path):
    faces = pictures(3)
    for name, k in (("calm/a", 0), ("calm/b", 1), ("tense/c", 0), ("tense/d", 2)):
        path = tmp_path / "mine" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces[k]).save(path)
    found = data_report(tmp_path / "mine", progress=False)
    assert found.counts == {"all": {"calm": 2, "tense": 2}}
    assert [[face.name for face in group.faces] for group in found.exact] == [
        ["calm/a.png", "tense/c.png"]
    ]
    assert found.near == ()


def test_near_groups_hold_exact_copies_too(tmp_path: Path):
    images, targets = planted()
    images[30] = images[22]
    found = data_report(write_csv(tmp_path / "fer2013.csv", images, targets), progress=False)
    assert [7, 22, 30] in rows(found.near)
    assert [22, 30] in rows(found.exact)
    strict = data_report(tmp_path / "fer2013.csv", near_bits=0, progress=False)
    assert len(strict.links) < len(found.links)


def test_pairs_do_not_depend_on_the_order_of_comparison():
    """Every pair is compared, also those in different chunks."""
    images = pictures(700)[:, :48, :48]
    images[[1, 300, 699]] = np.clip(images[0].astype(int) + 5, 0, 255)
    images[[300, 699], 0, 0] = [0, 255]
    hashes = np.random.default_rng(0).integers(0, 2**64, 700, dtype=np.uint64)
    hashes[[1, 300, 699]] = hashes[0] ^ np.uint64(0b11)
    i, j, bits, alike = near.near_pairs(images, hashes, 8, False)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [
        (0, 1), (0, 300), (0, 699), (1, 300), (1, 699), (300, 699)
    ]  # fmt: skip
    assert bits.tolist() == [2, 2, 2, 0, 0, 0]
    core = slice(3, -3)
    expected = np.corrcoef(images[0, core, core].ravel(), images[1, core, core].ravel())[0, 1]
    assert alike[0] == pytest.approx(expected, abs=1e-5)


def test_frames_of_a_film_are_one_group_after_few_pairs(monkeypatch):
    """500 took over 100 s: all pairs were compared."""
    rng, compared, plain = np.random.default_rng(0), [], near._likeness
    monkeypatch.setattr(near, "_likeness", lambda *a: compared.append(len(a[1])) or plain(*a))
    film = np.clip(
        pictures(1)[:, :48, :48].astype(int) + rng.integers(-3, 4, (400, 48, 48)), 0, 255
    )
    data = FaceDataset(
        torch.from_numpy(film.astype(np.uint8)),
        torch.zeros(400).long(),
        labels=("calm", "tense"),
        name="film",
    )
    found = data_report(data, progress=False)
    assert [len(group.faces) for group in found.near] == [400]
    assert sum(compared) < 25 * 400  # of 79,800 pairs


def test_votes_of_other_rows_are_left_out_and_told(root: Path):
    path = root / "fer2013new.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[-20:]]))
    found = data_report(root, progress=False)
    assert found.non_faces is found.doubted is None
    assert any("votes are left out" in note for note in found.notes)


def test_json_and_markdown_name_the_rows(root: Path):
    found = data_report(root, progress=False)
    plain = json.loads(json.dumps(found.to_dict()))
    assert "images" not in plain
    assert [face["row"] for face in plain["exact"][0]["faces"]] == [6, 45]
    assert plain["constant"][0] == {"row": 3, "split": "train", "label": LABELS[3], "file": ""}
    text = found.to_markdown()
    assert "- row 6 (train, neutral); row 45 (public, angry)" in text
    assert "- row 50 (public, " in text


def test_the_command_writes_whole_files(root: Path, tmp_path: Path):
    output = tmp_path / "out"
    done = run("data", "report", root, "--output", output)
    assert "Faces that another split holds too" in done.stdout
    sheets = ["conflicts.png", "constant.png", "near_across_splits.png", "non_faces.png"]
    assert sorted(p.name for p in output.iterdir()) == [*sheets, "report.json", "report.md"]
    for name in sheets:
        with Image.open(output / name) as image:
            assert image.width > 100
    (output / "conflicts.png").write_bytes(b"of an earlier report")
    run("data", "report", root, "--output", output)
    with Image.open(output / "conflicts.png") as image:
        assert image.width > 100
    printed = run("data", "report", root, "--json")
    assert json.loads(printed.stdout) == json.loads((output / "report.json").read_text())


def test_sheets_of_what_is_gone_are_removed(tmp_path: Path):
    images, targets = pictures(ROWS)[:, :48, :48], np.zeros(ROWS, int)
    clean = data_report(write_csv(tmp_path / "fer2013.csv", images, targets), progress=False)
    output = tmp_path / "out"
    run("data", "report", tmp_path / "fer2013.csv", "--output", output)
    (output / "constant.png").write_bytes(b"of an earlier report")
    assert not clean.tables().keys() & {"Exact duplicates", "Near duplicates"}
    run("data", "report", tmp_path / "fer2013.csv", "--output", output)
    assert sorted(p.name for p in output.iterdir()) == ["report.json", "report.md"]


def test_files_of_others_are_never_written_over(tmp_path: Path, monkeypatch):
    """Told before the work; a report of ours, even half of one, is replaced."""
    root = write_csv(tmp_path / "fer2013.csv", pictures(ROWS)[:, :48, :48], np.zeros(ROWS, int))
    output = tmp_path / "out"
    found = data_report(root, progress=False)
    monkeypatch.setattr("fer_zoo.cli.data.data_report", None)
    assert {f"{name}.png" for name in found.worst()} == {n for n in OWN if n.endswith("png")}
    for name in OWN:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        (output / name).write_text('{"mine": 1}')
        with pytest.raises(ArgumentError, match=rf"{name} would be written over.*another folder"):
            run("data", "report", root, "--output", output)
        assert [(p.name, p.read_text()) for p in output.iterdir()] == [(name, '{"mine": 1}')]


ODD = "<script>x</script>"


def test_names_of_others_are_text_in_a_report(tmp_path: Path):
    """In no form are they HTML, links or lines, and one that is not UTF-8 is no error."""
    for folder, k in ((f"{ODD.replace('/', '')}", 0), (os.fsdecode(b"caf\xe9"), 1)):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for name in ("a|b](javascript:x).png", os.fsdecode(b"\xff$\\frac{.png")):
            Image.fromarray(pictures(2)[k, :48, :48]).save(tmp_path / "mine" / folder / name)
    done = run("data", "report", tmp_path / "mine", "--output", tmp_path / "out")
    assert done.exit_code == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "<" not in text
    assert "](" not in text
    assert "caf\\xe9" in text
    assert json.loads((tmp_path / "out" / "report.json").read_text())["near_bits"] == 8


def test_errors_say_what_to_do(root: Path, tmp_path: Path, monkeypatch):
    with pytest.raises(DataError, match="not a folder"):
        data_report(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="near_bits must be 0 to 16"):
        data_report(root, near_bits=17)
    (tmp_path / "file").write_text("")
    done = in_this_process(cli("data", "report", tmp_path))
    assert done.returncode == 2
    assert "must hold one folder of images per class" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ArgumentError, match=r"file.* cannot be written to"):
        run("data", "report", root, "--output", tmp_path / "file" / "x")
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("train"))):
        data_report(root)


@pytest.mark.real_data
@pytest.mark.weekly
def test_the_real_report_in_the_rows_that_are_known(fer2013_root: Path):
    """Counts of equal pixels by another way, and a known photograph that occurs 23 times."""
    found = data_report(fer2013_root, progress=False)
    train, public = (FER2013(fer2013_root, split) for split in ("train", "public"))
    blank = [face.row for face in found.constant if face.split == "public"]
    blank_bytes = {found.images[row].numpy().tobytes() for row in blank}
    held = {image.numpy().tobytes() for image in train.images}
    shared = [im for im in public.images if im.numpy().tobytes() in held]
    expected = sum(im.numpy().tobytes() not in blank_bytes for im in shared)
    table = found.tables()["Faces that another split holds too"]
    (row,) = [line for line in table if line[:2] == ["public", "train"]]
    assert int(row[2]) == expected == 279
    assert int(row[4]) > expected
    assert max(len(group.faces) for group in found.near) == 23
    assert len(found.non_faces) == 160
