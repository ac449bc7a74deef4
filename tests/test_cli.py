"""The command line as a whole: help, JSON, completion, colours, exit codes."""

import json
import os
import pty
import re
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

import fer_zoo
from conftest import ROOT, cli
from fer_zoo.cli import main

FACES = ROOT / "examples/faces"


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(leaves(main))


def run(*arguments: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        cli(*arguments), capture_output=True, text=True, timeout=120, env={**os.environ, **env}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def on_a_terminal(*arguments: object, **env: str) -> str:
    """Return what a command writes to a terminal, colours and bars included."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    process = subprocess.Popen(
        cli(*arguments), stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", **env}
    )
    os.close(slave)
    found = b""
    try:
        while part := os.read(master, 65536):
            found += part
    except OSError:  # the end of a terminal
        pass
    os.close(master)
    assert process.wait(60) == 0, found
    return found.decode()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_and_has_json(name):
    command = COMMANDS[name]
    assert f"Example: fer-zoo {name}" in (command.help or "")
    assert any(p.name == "as_json" for p in command.params)
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name


def test_the_commands_of_the_documentation_are_there():
    wanted = "list info predict evaluate train fuse export data recipes".split()
    assert set(wanted) <= set(main.commands)


def test_export_writes_a_file_that_gives_the_models_answers(tmp_path: Path):
    path = tmp_path / "faces.onnx"
    found = json.loads(run("export", "resnet18_025", path, "--json").stdout)
    assert found["output"] == str(path)
    assert found["bytes"] == path.stat().st_size
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    expected = fer_zoo.Predictor("resnet18_025")(face).probabilities
    assert fer_zoo.Predictor(path)(face).probabilities == pytest.approx(expected, abs=1e-4)
    assert tuple(found["labels"]) == tuple(expected)
    assert "exported already" in run("export", path, tmp_path / "b.onnx", code=2).stderr
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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fer-zoo ex", "export"),
        ("fer-zoo export resnet18_0", "resnet18_025"),
        ("fer-zoo predict --fusion st", "stacked"),
        ("fer-zoo predict --preset thes", "thesis40"),
    ],
)
def test_names_are_completed(words, found):
    """The last word is what the cursor stands behind."""
    count = len(words.split()) - 1
    env = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_FER_ZOO_COMPLETE": "bash_complete"}
    assert run(**env).stdout.splitlines() == [f"plain,{found}"]


def test_colours_respect_no_color_and_bars_need_a_terminal():
    """With NO_COLOR no escape sets a colour, and a pipe sees no escape and no bar at all."""
    command = ("predict", *sorted(FACES.glob("*.png")))
    coloured = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|9[0-7]|4[0-8])(?:;[0-9;]*)?m")
    shown = on_a_terminal(*command, NO_COLOR="1")
    assert "happy" in shown
    assert not coloured.search(shown)
    assert "0/7" in shown
    piped = run(*command)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "0/7" not in piped.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("list",), 0),
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


def test_the_names_that_are_completed_are_the_libraries():
    from fer_zoo.cli.options import names

    assert names(fer_zoo.list_models)(None, None, "vgg") == fer_zoo.list_models("vgg*")
