"""Text, numbers and files of others: shown as what they are, never obeyed, never written over."""

import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import ramp, run
from fer_zoo._files import alone_in, replacing
from fer_zoo._tables import markdown, safe
from fer_zoo.cli import commands
from fer_zoo.data import FaceDataset
from fer_zoo.errors import LONGEST, ArgumentError, InputError, UnknownNameError
from fer_zoo.evaluation import measure, write_comparison, write_report
from fer_zoo.evaluation.card import REPORT
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.evidence import Evidence, Faces, Storage, Training
from fer_zoo.inference import Prediction
from fer_zoo.inference.prediction import CROP_COLUMNS

EVIL = "<script>alert(1)</script>[x](javascript:y)\n\n# \x1b[31m|`$\\frac{$" + os.fsdecode(b"\xff")
LABELS = (EVIL, "x" * 5000, "_", "<b>", "$a$", "&lt;", "neutral")


# Messages


@pytest.mark.parametrize("kind", [ArgumentError, UnknownNameError])
def test_a_message_is_a_screen_without_escapes_and_secrets(kind):
    text = "a: https://me:p%2Fw@host/a?sig=SECRET, \x1b[2J" + "\0" * 3_000_000
    said = str(kind(text + "\n type 'https://me:pw@host?token=SECRET'"))
    assert said.startswith(r"a: https://host/a, \x1b[2J\x00")
    assert said.endswith("\n type 'https://host'")
    assert len(said) < LONGEST + 100
    assert not {"SECRET", "pw", "\x1b"} & {
        word for word in ("SECRET", "pw", "\x1b") if word in said
    }
    assert str(kind("short: http://host/a b")) == "short: http://host/a b"
    for secret in (
        "https://u:p'SECRET@host/a",
        "https://host/a?a=b)SECRET'SECRET",
        "https://host/a#access_token=SECRET",
        "https://host/a?a=https://host/SECRET",
    ):
        assert str(kind(f"in ('{secret}'), told")) == "in ('https://host/a'), told"
    assert str(kind("(url: /a?token=SECRET)")) == "(url: /a)"
    assert "SECRET" not in str(kind("x" * 49_990 + " https://host/?a=" + "SECRET" * 10_000))


def test_a_message_of_many_addresses_takes_no_time():
    """Labels of a file come into messages; the time was the square of how many `://` they hold."""
    began = time.monotonic()
    for text in ("://" * 100_000, "@://" * 100_000, "?" * 300_000):
        assert "SECRET" not in str(ArgumentError(f"://{text}a?SECRET" + ")'" * 100_000 + "SECRET"))
    told = str(ArgumentError("x " * 40_000 + f"https://h/?{'s=' * 30_000}SECRET"))
    assert told.endswith("https://h/")
    assert time.monotonic() - began < 5


LOGGED = """
import logging, sys, warnings
import fer_zoo
from fer_zoo.cli import run

def told(*_, **__):
    import huggingface_hub
    url = "https://me:PW@host/x?sig=SECRET"
    for name in ("httpx", "huggingface_hub.utils._http", "root"):
        logging.getLogger(name).warning("GET %s", url)
    warnings.warn(url)
    warnings.warn_explicit(f"moved \\x1b {url}", UserWarning, fer_zoo.__file__, 1)
    logging.getLogger("fer_zoo.x").info(f"ours {url}")
    return []

fer_zoo.list_models = told
sys.argv[1:] = ["list"]
run()
"""


def test_the_command_logs_ours_only():
    done = subprocess.run([sys.executable, "-c", LOGGED], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [r"moved \x1b https://host/x", "ours https://host/x"]
    assert not any(secret in done.stderr for secret in ("PW", "SECRET", "GET"))


# Text


def test_what_others_wrote_is_one_line_of_text():
    assert safe("<b>[a](b)&\n# c") == "&lt;b&gt;[a]\\(b)&amp; # c"
    assert safe("https://a.b WWW.c.d w.e") == r"https\://a.b WWW\.c.d w.e"
    table = markdown([["a|b", "<i>"], ["[c][d]", "\x1b\udcff"]])
    assert table == "| a\\|b | &lt;i&gt; |\n| --- | --- |\n| [c]\\[d] | \\x1b\\udcff |"


@pytest.fixture
def evil() -> fer_zoo.models.Classifier:
    """A network whose labels and whose whole evidence are hostile."""
    model = fer_zoo.create("test_tiny").eval()
    model.labels = LABELS
    faces = Faces(name=EVIL, n=7, split=EVIL)
    run = {"model": EVIL, "recipe": {EVIL: EVIL}, "selection": EVIL, "start": EVIL, "teacher": EVIL}
    model.evidence = Evidence(
        weights=EVIL,
        training=Training(faces=faces, validation=faces, epoch=1, val_accuracy=0.5, **run),
        licence=EVIL,
        started_from=EVIL,
        storage=Storage(dtype=EVIL),
    )
    return model


def test_reports_are_written_for_any_text(evil, tmp_path: Path):
    faces = FaceDataset(
        torch.randint(256, (14, 48, 48), dtype=torch.uint8),
        torch.arange(14) % 7,
        labels=LABELS,
        name=EVIL,
    )
    faces.files = [Path(f"{i}{EVIL}.png") for i in range(14)]
    report = measure(evil, faces, source=EVIL, corruptions=True)
    card = write_report(tmp_path, report, command=f"fer-zoo\n```\n{EVIL}").read_text()
    both = write_comparison(tmp_path, [report, report]).read_text()
    hub = make_model_card(evil, "hf-hub:me/tiny", results=report.results)
    for text in (card.partition("## Measured again by")[0], both, hub.split("---\n")[2]):
        assert "<" not in text.replace("<br", "")
        assert "](javascript" not in text
        assert "\x1b" not in text
        assert "\n# \\x1b" not in text
    assert sum(line.startswith("```") for line in card.splitlines()) == 2
    assert {*REPORT, "comparison.md"} == {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "evaluation.json").read_text())["results"][0]["faces"]["n"] == 14
    assert r"\udcff" in (tmp_path / "errors.csv").read_text()


# Numbers


@pytest.fixture
def overflowing(labelled) -> fer_zoo.models.Classifier:
    """Every weight is a number, and no answer is."""
    labelled.fc.weight.data.fill_(3e38)
    return labelled


def test_an_answer_that_is_no_number_is_an_error(overflowing, tmp_path: Path, caplog):
    caplog.set_level(logging.ERROR)
    path, white = tmp_path / "a.png", ramp(200)
    Image.fromarray(white).save(path)
    predict = fer_zoo.Predictor(overflowing)
    [found] = predict([str(path)])
    assert (
        found.error == f"{path}: the model's answer is no number (NaN): its weights are no good, "
        "load others"
    )
    assert (found.label, found.probability, found.probabilities) == (None, None, {})
    with pytest.raises(InputError, match="the image: the model's answer is no number"):
        predict(white)
    assert "no number" in found._repr_html_()
    photo = fer_zoo.PhotoPredictor(overflowing, detector=lambda rgb: [(4, 4, 40, 40)])
    [shown] = photo([str(path)])
    assert shown.error == found.error
    assert [face.label for face in shown.faces] == [None]
    json.dumps([found.to_dict(), shown.to_dict()], allow_nan=False)
    faces = FaceDataset(
        torch.full((7, 48, 48), 255, dtype=torch.uint8),
        torch.arange(7),
        labels=overflowing.labels,
        name="white",
    )
    with pytest.raises(ArgumentError, match="answers 7 of 7 faces with what is no number"):
        fer_zoo.evaluate(overflowing, faces)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_obeys_no_name_on_a_terminal(monkeypatch, terminal):
    """In a file or a pipe names are as they are."""
    to = io.StringIO()
    to.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", to)
    tell = commands._csv_teller([*CROP_COLUMNS], ("a\x1b[2J",))
    tell(Prediction(source="\x1b[31m.png", error="none"))
    assert ("\x1b" in to.getvalue()) is not terminal
    assert (r"\x1b[31m.png" in to.getvalue()) is terminal
    assert len(to.getvalue().splitlines()) == 2


@pytest.mark.parametrize("how", [(), ("--json",), ("--csv",)])
def test_the_command_tells_of_answers_that_are_no_numbers(overflowing, tmp_path: Path, how):
    Image.fromarray(ramp(200)).save(tmp_path / "a.png")
    model = fer_zoo.save(overflowing, tmp_path / "m.safetensors")
    done = run("predict", tmp_path / "a.png", "--model", model, *how, code=1)
    assert "1 of 1 files could not be used" in done.stderr
    assert "no number (NaN)" in done.stdout + done.stderr
    assert "nan" not in done.stdout.lower().replace("(nan)", "")
    if how == ("--json",):
        assert json.loads(done.stdout, parse_constant=pytest.fail)["label"] is None


# Files


def test_only_our_own_temporaries_are_removed(tmp_path: Path):
    """A date has eight digits, too."""
    kept = [".notes.20261126.txt", ".env.deadbeef.bak"]
    for name in [*kept, ".last.safetensors.0badf00d.safetensors"]:
        (tmp_path / name).touch()
    (tmp_path / ".cache.d.deadbeef.d").mkdir()
    with alone_in(tmp_path):
        found = {path.name for path in tmp_path.iterdir()}
    assert found == {*kept, ".cache.d.deadbeef.d", ".lock", ".owner"}


def test_a_new_file_replaces_none(tmp_path: Path):
    path = tmp_path / "a"

    def late() -> None:
        with replacing(path, new=True) as temporary:
            temporary.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(FileExistsError):
        late()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "theirs")]


@pytest.mark.parametrize("command", ["fuse", "convert"])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch, command):
    output, save = tmp_path / "out.safetensors", fer_zoo.save
    torch.save(fer_zoo.create("test_tiny").state_dict(), tmp_path / "a.pth")
    member = save(fer_zoo.create("test_tiny"), tmp_path / "m.safetensors")
    before = {path.name for path in tmp_path.iterdir()}

    def late(model, path, **how):
        output.write_text("theirs")
        return save(model, path, **how)

    monkeypatch.setattr(fer_zoo, "save", late)
    lines = {
        "fuse": ("fuse", member, member, "--output", output),
        "convert": ("convert", tmp_path / "a.pth", "--model", "test_tiny", "--output", output),
    }
    said = run(*lines[command], code=2).stderr
    assert f"{output} exists: name another with --output" in said
    assert output.read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == before | {output.name}
    assert "must end in .safetensors" in run(*lines[command][:-1], tmp_path / "a.pt", code=2).stderr


@pytest.mark.parametrize("name", [*REPORT, "comparison.md"])
def test_a_report_is_written_over_reports_only(tmp_path: Path, name):
    """Said before the models are loaded."""
    (tmp_path / name).write_text("mine")
    models = ["none", "none"] if name == "comparison.md" else ["none"]
    line = ("evaluate", *models, "--data", tmp_path / "no.csv", "--report", tmp_path)
    said = run(*line, code=2).stderr
    assert f"{tmp_path / name} would be written over" in said
    assert (tmp_path / name).read_text() == "mine"
    if name == "evaluation.json":
        (tmp_path / name).write_text('{\n "results": []}')
        assert "unknown model 'none'" in run(*line, code=2).stderr
