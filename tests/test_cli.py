"""The command line as a whole: help, JSON, completion, colours, exit codes."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

import fer_zoo
from conftest import ROOT, cli, run
from fer_zoo.cli import main

FACES = ROOT / "examples/faces"


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(leaves(main))


def on_a_terminal(*arguments: object, columns: int = 120, **env: str) -> str:
    """Return what a command writes to a terminal, colours and bars included."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, columns))
    plain = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS"}}
    process = subprocess.Popen(
        cli(*arguments), stdout=slave, stderr=slave, env={**plain, "TERM": "xterm", **env}
    )
    os.close(slave)
    found = b""
    try:
        while part := os.read(master, 65536):
            found += part
    except OSError:  # the end of a terminal
        pass
    os.close(master)
    assert process.wait() == 0, found
    return found.decode()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_and_has_json(name):
    command = COMMANDS[name]
    assert f"Example: fer-zoo {name}" in (command.help or "")
    assert any(p.name == "as_json" for p in command.params) or name == "app"  # which tells nothing
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name


def test_the_commands_of_the_documentation_are_there():
    wanted = "list info predict evaluate thresholds train fuse export convert data recipes".split()
    assert {*wanted, "watch", "app"} == set(main.commands)


@pytest.mark.slow
def test_export_writes_a_file_that_gives_the_models_answers(tmp_path: Path):
    path = tmp_path / "faces.onnx"
    found = json.loads(run("export", "resnet18_025", path, "--json").stdout)
    assert found["output"] == str(path)
    assert found["bytes"] == path.stat().st_size
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    expected = fer_zoo.Predictor("resnet18_025")(face).probabilities
    assert fer_zoo.Predictor(path)(face).probabilities == pytest.approx(expected, abs=1e-4)
    assert tuple(found["labels"]) == tuple(expected)
    assert "is an exported file" in run("export", path, tmp_path / "b.onnx", code=2).stderr
    assert "ends in .onnx or .pt2" in run("export", "resnet18_025", "a.txt", code=2).stderr


def test_train_prints_json_and_nothing_else(tmp_path: Path):
    from test_training import faces_on_disk

    faces, val = faces_on_disk(tmp_path)
    options = ["--data", faces, "--validation", val, "--output", tmp_path / "run"]
    done = run("train", "test_tiny", *options, "--set", "epochs=2", "--json")
    found = json.loads(done.stdout)
    assert fer_zoo.load(found["checkpoint"]).name == "test_tiny"
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2]
    assert found["best"] in found["history"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell):
    script = run(_FER_ZOO_COMPLETE=f"{shell}_source").stdout
    assert f"_FER_ZOO_COMPLETE={shell}_complete" in script


def completed(words: str) -> list[str]:
    """Return what completes the last word, with its kind."""
    count = len(words.split(" ")) - 1
    env = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_FER_ZOO_COMPLETE": "bash_complete"}
    return run(**env).stdout.splitlines()


def test_a_command_is_completed():
    assert completed("fer-zoo ex") == ["plain,export"]
    assert completed("fer-zoo train resnet18 --recipe fi") == ["plain,finetune"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--epochs", "5"], "--epochs is no option but a setting of the recipe: --set epochs=5"),
        (["--batch-size=64"], "--set batch_size=64"),
        (["--epoch", "5"], "--set epochs=5"),
        (["--lr"], "--set lr=VALUE"),
        (["--lr", "--fresh"], "--set lr=VALUE"),
        (["--weigths", "default"], "No such option --weigths"),
    ],
    ids=str,
)
def test_a_setting_typed_as_an_option_says_how_it_is_set(typed, said):
    told = run("train", "resnet18_025", *typed, "--data", "faces", "--output", "x", code=2).stderr
    told = re.sub(r"option:? '?(--\w+)'?", r"option \1", told)  # click's words, old and new
    assert said in told.replace("\n", " ")


KINDS = {
    **dict.fromkeys(("model", "models", "members", "teacher"), ("resnet18_0", "resnet18_025")),
    "fusion": ("stack", "stacked"),
    "preset": ("thesis4", "thesis40"),
    "weights": ("fer20", "fer2013"),
    "recipe": ("thesis_20", "thesis_20"),
}


NAMED = [
    (f"{name}: {p.name}", p)
    for name, command in COMMANDS.items()
    for p in command.params
    if p.name in KINDS and not getattr(p, "is_flag", False)
] + [("info: name", next(p for p in COMMANDS["info"].params if p.name == "name"))]


@pytest.mark.parametrize(("where", "parameter"), NAMED, ids=[where for where, _ in NAMED])
def test_every_name_is_completed_and_else_a_file(where, parameter):
    """Whatever an option or argument names, by what it is called."""
    start, found = KINDS.get(parameter.name, KINDS["model"])
    assert found in [item.value for item in parameter.shell_complete(None, start)]
    (other,) = parameter.shell_complete(None, "runs/")
    assert (other.value, other.type) == ("runs/", "file")


def test_that_is_for_all_that_take_a_name():
    places = {where.partition(":")[0] for where, _ in NAMED}
    assert places == set(COMMANDS) - {"list", "data report", "recipes", "app"}
    assert len(NAMED) > 15


@pytest.mark.slow
def test_colours_respect_no_color_and_bars_need_a_terminal():
    """With NO_COLOR no escape sets a colour, and a pipe sees no escape and no bar at all."""
    command = ("predict", *sorted(FACES.glob("*.png")))
    coloured = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7]|4[0-8])(?:;[0-9;]*)?m")
    assert coloured.search(on_a_terminal(*command))
    shown = on_a_terminal(*command, NO_COLOR="1")
    assert "happy" in shown
    assert not coloured.search(shown)
    assert "0/7" in shown
    piped = run(*command)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "0/7" not in piped.stderr


@pytest.mark.weekly
def test_no_name_is_cut_on_a_narrow_terminal_nor_in_a_pipe(tmp_path: Path):
    """Every image and label is whole; the classes are shown where there is room."""
    folder = tmp_path / ("a_long_name_of_a_folder" * 4)
    folder.mkdir()
    files = sorted(FACES.glob("drawn_*.png"))
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    names = [str(folder / file.name) for file in files]
    narrow, piped = on_a_terminal("predict", folder, columns=60), run("predict", folder).stdout
    for shown, heads in ((narrow, ["label"]), (piped, fer_zoo.labels.FER2013)):
        plain = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]|\r", "", shown)
        assert all(name in plain for name in [*names, *heads])
        assert "disgust" in piped
        assert "disgust" not in narrow
    boxed = on_a_terminal("predict", ROOT / "examples/photographs", "--detect", columns=130)
    assert "disgust" not in boxed  # a box stands behind each name
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", boxed).splitlines())) <= 130
    sha256 = fer_zoo.weights.get_weights("resnet18_025").sha256
    assert sha256 in on_a_terminal("info", "resnet18_025", columns=60)


def test_the_columns_of_predictions_are_even():
    lines = run("predict", FACES).stdout.splitlines()
    assert len(lines) == 1 + len(list(FACES.glob("*.png")))
    assert lines[0].index("probability") + len("probability") == lines[1].index("%") + 1
    where = lines[0].index("image")
    assert all(line[where:].startswith(str(FACES)) for line in lines[1:])


def test_odd_file_names_are_shown_harmlessly(tmp_path: Path):
    face = (FACES / "drawn_sad.png").read_bytes()
    (tmp_path / "naïve \x1b[31m.png").write_bytes(face)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).write_bytes(face)
    for encoding in ("utf-8", "ascii"):
        shown = run("predict", tmp_path, PYTHONIOENCODING=f"{encoding}:strict").stdout
        assert r"bad\udcff.png" in shown
        assert "\x1b" not in shown
        assert r"\x1b[31m.png" in shown
    found = [json.loads(line) for line in run("predict", tmp_path, "--json").stdout.splitlines()]
    assert len(found) == 2
    assert {row["label"] for row in found} == {"sad"}


@pytest.mark.parametrize("arguments", [("list", "--json"), ("--help",)])
def test_a_reader_that_leaves_early_is_no_error_of_the_files(arguments):
    process = subprocess.Popen(
        cli(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (141, "")
    process.stderr.close()


@pytest.mark.parametrize("delay", [0.1, 0.6, 1.2])
def test_an_interrupt_is_130_from_the_start(delay):
    """Also while torch is imported."""
    code = "import signal, threading, sys; from fer_zoo.__main__ import main; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's & ignores it
    code += f"threading.Timer({delay}, signal.raise_signal, [signal.SIGINT]).start(); "
    code += "sys.argv = ['fer-zoo', 'predict', *[sys.argv[1]] * 20_000]; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(FACES / "drawn_sad.png")], capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr[-500:]
    assert "Traceback" not in done.stderr


def test_no_import_swallows_an_interrupt():
    """As some do that try what may not be installed."""
    code = """
import signal, sys
from fer_zoo.__main__ import main

class Swallow:
    def find_spec(self, name, *_):
        try:
            if name == "fer_zoo.cli":
                signal.raise_signal(signal.SIGINT)
        except BaseException:
            pass

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Swallow())
sys.argv = ["fer-zoo", "list"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("list",), 0),
        (("list", "nothing*"), 2),
        (("data", "report", "no_such_folder"), 2),
        (("predict", "no_such_file.png"), 1),
        (("predict", FACES, "--model", "resnet81"), 2),
        (("no_such_command",), 2),
        (("predict",), 2),
    ],
)
def test_exit_codes(arguments, code):
    """0 is success, 1 that some files could not be used, 2 an error."""
    done = run(*arguments, code=code)
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("info", "resnet81"), "or 'resnet18_025'? `fer-zoo list` lists all."),
        (("predict", FACES, "--model", "vgg19_fc"), "`fer-zoo list --trained` lists the models"),
        (("list", "vgg19_fc", "--trained"), "no model has weights and matches 'vgg19_fc'"),
    ],
)
def test_errors_name_the_commands(arguments, said):
    assert said in run(*arguments, code=2).stderr


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path: Path):
    model = fer_zoo.create("test_tiny", num_classes=2)
    model.labels = ("a\x1b[31mb", "[red]c")
    shown = run("info", fer_zoo.save(model, tmp_path / "a.safetensors")).stdout
    assert r"a\x1b[31mb, [red]c" in shown
    said = run("data", "report", tmp_path / "\x1b[31m", code=2).stderr
    assert (r"\x1b[31m does not exist" in said, "\x1b" in said) == (True, False)


def test_the_help_says_every_command_whole():
    assert "..." not in run("--help").stdout.partition("Commands:")[2]


TERMINATED = """
import os, signal, sys, time
import fer_zoo
from fer_zoo.cli import run

def terminated(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)

fer_zoo.list_models = terminated
sys.argv[1:] = ["list"]
run()
"""


def test_a_sigterm_ends_a_command_quietly():
    done = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_errors(closed):
    line = f"{shlex.join(cli('list'))} {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 0
    assert ("resnet18_025" in done.stdout) == (">&-" not in closed.split())
    assert done.stderr == ""
