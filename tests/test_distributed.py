"""Several processes as one run, started by torchrun over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fer_zoo
from fer_zoo.errors import ArgumentError
from fer_zoo.training.distributed import Workers, joined
from fer_zoo.weights.checkpoint import read_checkpoint

SCRIPT = """
import json, os, sys
from pathlib import Path
import fer_zoo
sys.path.insert(0, {tests!r})
from conftest import stripes
from fer_zoo.training.run import Run

step, calls = Run._step, []

def killed(self, *args):
    calls.append(1)
    if len(calls) == 13:  # in the third epoch of five steps
        os.kill(os.getpid(), 9)
    return step(self, *args)

if os.environ.get("RANK") == os.environ.get("KILLED", "none"):
    Run._step = killed
result = fer_zoo.train(
    sys.argv[2],
    stripes(70, split="train"),
    validation=stripes(31, seed=1, split="public"),
    output=sys.argv[1],
    recipe="strong",
    precision="fp32",
    epochs=int(sys.argv[3]),
    batch_size=16,
    lr=0.02,
    augment={{"mixup": 0.4, "rotate": 10.0}},
)
rank = os.environ.get("RANK", "0")
Path(sys.argv[1], f"rank{{rank}}.json").write_text(json.dumps([vars(e) for e in result.history]))
"""


def command(tmp_path: Path, output: Path, model: str, *, processes: int, epochs: int) -> list[str]:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return [*launch, str(script), str(output), model, str(epochs)]


def histories(folder: Path, rank: int = 0) -> list[dict[str, float]]:
    rows = json.loads((folder / f"rank{rank}.json").read_text())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


QUIET = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path):
    """Same order, same augmentation, same mixing; unequal shares of the last batch count right."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((one, 1), (two, 2)):
        done = subprocess.run(
            command(tmp_path, folder, "plain_test", processes=processes, epochs=3),
            capture_output=True,
            text=True,
            env=QUIET,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 3/3") <= 1  # one process speaks
    assert histories(two, 0) == histories(two, 1)
    for a, b in zip(histories(one), histories(two), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    first, second = (read_checkpoint(f / "last.safetensors")[0] for f in (one, two))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, atol=1e-5, rtol=1e-3)
    assert read_checkpoint(two / "last.safetensors")[1]["run"]["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_run_can_go_on(tmp_path: Path):
    output = tmp_path / "run"
    line = command(tmp_path, output, "test_tiny", processes=2, epochs=4)
    options = {"capture_output": True, "text": True, "timeout": 250}
    cut = subprocess.run(line, env=QUIET | {"KILLED": "1"}, **options)
    assert cut.returncode != 0
    assert "best.safetensors holds the best model so far" in cut.stderr
    assert "goes on after epoch 2" in cut.stderr
    config = read_checkpoint(output / "last.safetensors")[1]
    assert len(config["history"]) == 2
    assert fer_zoo.load(output / "best.safetensors").labels == ("upright", "flat", "slanted")
    again = subprocess.run(line, env=QUIET, **options)
    assert again.returncode == 0, again.stderr
    history = json.loads((output / "rank0.json").read_text())
    assert (history[:2], len(history)) == (config["history"], 4)


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ArgumentError, match="torchrun"), joined("cpu"):
        pass


def test_shares_are_the_whole():
    for rows in (0, 1, 2, 7, 128, 131):
        for count in (1, 2, 3, 8):
            parts = [Workers(r, count).share(rows) for r in range(count)]
            taken = [i for part in parts for i in range(rows)[part]]
            assert taken == list(range(rows))
            sizes = [len(range(rows)[part]) for part in parts]
            assert max(sizes) - min(sizes) <= 1
