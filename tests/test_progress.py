"""What a run tells: a line an epoch wherever it runs, a bar where one can be drawn."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

import fer_zoo
import fer_zoo.__main__
import fer_zoo.cli
from conftest import stripes
from fer_zoo._progress import progress_bar
from fer_zoo.errors import TrainingError
from fer_zoo.training.history import Epoch, describe_epoch

QUICK = {"recipe": "thesis_20", "epochs": 3, "batch_size": 16, "lr": 0.05, "precision": "fp32"}


def train(folder: Path, **changes: object) -> fer_zoo.training.TrainResult:
    """Train the smallest network for an epoch or three."""
    options = {"validation": stripes(30, seed=1), "output": folder} | QUICK | changes
    return fer_zoo.train("plain_test", stripes(32), **options)


def test_each_epoch_is_a_line_wherever_it_runs(tmp_path: Path, capsys):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    result = train(tmp_path, device="cpu")
    torch.set_num_threads(before)
    shown = capsys.readouterr()
    assert shown.out == ""
    first, *lines = shown.err.splitlines()
    assert first == (
        "plain_test: 32 faces of stripes, 30 to validate on; recipe thesis_20, preset thesis40, "
        "fp32 on cpu, 2 threads"
    )
    assert [line.split(":")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    for line, epoch in zip(lines, result.history, strict=True):
        assert f"loss {epoch.train_loss:.4f}, accuracy {100 * epoch.train_accuracy:.2f} %;" in line
        assert f"loss {epoch.val_loss:.4f}, accuracy {100 * epoch.val_accuracy:.2f} %," in line
        assert re.search(r"; \d\d:\d\d, \d\d:\d\d left$", line)
    best = result.best
    assert f"best {100 * best.val_accuracy:.2f} % (epoch {best.epoch});" in lines[-1]
    assert lines[-1].endswith("00:00 left")


def test_a_line_names_the_best_epoch_and_the_time_left():
    def epoch(number: int, accuracy: float) -> Epoch:
        return Epoch(
            epoch=number, lr=0.1, train_loss=1.5, train_accuracy=0.4, val_loss=1.25,
            val_accuracy=accuracy, seconds=65.0,
        )  # fmt: skip

    assert describe_epoch(epoch(4, 0.5), epoch(2, 0.625), 9, 3725.0) == (
        "epoch 4/9: loss 1.5000, accuracy 40.00 %; validation loss 1.2500, accuracy 50.00 %, "
        "best 62.50 % (epoch 2); 01:05, 1:02:05 left"
    )


def test_going_on_and_being_finished_are_told(tmp_path: Path, capsys):
    train(tmp_path, epochs=2)
    capsys.readouterr()
    whole = train(tmp_path)
    told = capsys.readouterr().err
    assert f"goes on from epoch 3 of 3 in {tmp_path}" in told
    assert "epoch 3/3" in told
    assert "epoch 2/3" not in told
    again = train(tmp_path)
    assert capsys.readouterr().err == f"finished already, 3 epochs: loaded from {tmp_path}\n"
    assert again.history == whole.history


def test_a_run_that_ends_early_says_why(tmp_path: Path, capsys):
    for told in ("ends here: 2 epochs without a better one (stop_after=2)", "finished already, 3"):
        train(tmp_path, lr=1e-7, epochs=9, stop_after=2)
        assert told in capsys.readouterr().err.splitlines()[-1]


def test_silence_is_kept(tmp_path: Path, capsys, caplog):
    train(tmp_path, progress=False)
    shown = capsys.readouterr()
    assert shown.out + shown.err == caplog.text == ""
    with caplog.at_level(logging.INFO, "fer_zoo"):
        train(tmp_path, progress=False)
    assert "finished already" in caplog.text


def test_without_a_stderr_it_trains(tmp_path: Path, monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stderr", None)
    assert len(train(tmp_path).history) == 3


class Terminal(io.StringIO):
    """A file that says that it is a terminal, or is none."""

    def __init__(self, is_one: bool) -> None:
        super().__init__()
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


@pytest.mark.parametrize(
    ("terminal", "notebook", "show", "drawn"),
    [
        (True, False, True, True),
        (False, False, True, False),
        (False, True, True, True),
        (True, False, False, False),
        (False, True, False, False),
    ],
)
def test_bars_are_drawn_on_terminals_and_in_notebooks(monkeypatch, terminal, notebook, show, drawn):
    if notebook:
        shell = SimpleNamespace(config={"IPKernelApp": {}})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    else:
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    file = Terminal(terminal)
    assert list(progress_bar(range(3), show=show, file=file)) == [0, 1, 2]
    assert bool(file.getvalue()) == drawn


def test_in_a_notebook_lines_are_its_output(tmp_path: Path, monkeypatch, capsys):
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    train(tmp_path, epochs=1)
    assert "epoch 1/1" in capsys.readouterr().out


def test_precision_on_another_machine_is_told_with_what_keeps_it(tmp_path: Path, monkeypatch):
    auto = {"precision": "auto", "device": "cpu"}
    where = "fer_zoo.training.state.torch.cpu.get_capabilities"
    with monkeypatch.context() as patch:
        patch.setattr(where, lambda: {"avx512_bf16": True}, raising=False)
        train(tmp_path, **auto, epochs=1)
    monkeypatch.setattr(where, dict, raising=False)
    with pytest.raises(
        TrainingError,
        match=r"recipe.precision 'bf16' there, 'fp32' here.*--set precision=bf16, keeps the run's",
    ):
        train(tmp_path, **auto, epochs=2)
    kept = train(tmp_path, precision="bf16", device="cpu", epochs=2)
    assert len(kept.history) == 2
    with pytest.raises(TrainingError) as error:
        train(tmp_path, precision="fp32", device="cpu", epochs=2)
    assert "keeps the run's" not in str(error.value)  # it was asked for


@pytest.mark.parametrize("command", ["train", "predict"])
@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait(monkeypatch, command, given, expected):
    """Said before torch is imported, or it has no effect."""
    seen = []
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("fer_zoo.cli.run", lambda: seen.append(os.environ.get("OMP_WAIT_POLICY")))
    monkeypatch.setattr(sys, "argv", ["fer-zoo", command, "x"])
    fer_zoo.__main__.main()
    assert seen == [expected]


def test_nothing_imports_torch_before_the_threads_are_told():
    code = "import sys, fer_zoo.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_command_sets_the_number_of_threads(tmp_path: Path, monkeypatch):
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    arguments = ["train", "plain_test", "--data", "nowhere", "--output", str(tmp_path)]
    for threads in ([], ["--threads", "3"]):
        CliRunner().invoke(fer_zoo.cli.main, arguments + threads)
    assert counts == [3]
