"""The benchmark harness: parity before speed, failures as results, files that stay whole."""

import doctest
import importlib.util
import json
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch

import fer_zoo
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import compare
import harness
import inference
import measuring
import modes
import speed
import tables
from harness import TimeIsUp, deadline
from peers import NotAvailableError, torchvision_network

CPU = torch.device("cpu")


def wrong(case):
    """A mode that is quick and mistaken: the probabilities stand in reversed order."""
    right = modes.eager(case)
    return measuring.Runner(right.call, finish=lambda scores: right.finish(scores).flip(1))


def full(case):
    """A mode whose memory is not enough, in the words of torch on a CPU."""
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def late(case):
    """A mode that answers rightly at first and runs out of memory while it is timed."""
    right, calls = modes.eager(case), []

    def call(images):
        calls.append(1)
        if len(calls) > 35:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return right.call(images)

    return measuring.Runner(call, finish=right.finish)


def missing(case):
    """A mode that is not there."""
    raise NotAvailableError("this machine has no such thing")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for mode in (wrong, full, late, missing):
        monkeypatch.setitem(modes.MODES, mode.__name__, mode)


def run(output: Path, *names: str, sizes: tuple[str, ...] = ("1",)) -> int:
    """Measure `test_tiny` in some modes with tiny settings."""
    line = ["--models", "test_tiny", "--device", "cpu", "--repeats", "3", "--budget", "0.1"]
    line += ["--output", str(output), "--batch-sizes", *sizes, "--modes", *names]
    return inference.main(line)


@pytest.mark.slow
def test_cells_are_timed_in_turns_and_tell_all(tmp_path: Path, capsys):
    output = tmp_path / "new" / "cpu.jsonl"
    assert run(output, "torchvision", "compiled", "eager", sizes=("1", "3")) == 0
    rows = harness.read_rows(output)
    assert [(r["batch_size"], r["mode"]) for r in rows] == [
        (size, mode) for size in (1, 3) for mode in ("torchvision", "compiled", "eager")
    ]
    for row in rows:
        assert row["status"] == "ok", row
        assert row["max_difference"] < 1e-4
        assert row["agreement"] == 1
        assert row["faces_compared"] >= 32
        assert row["repeats"] >= 3
        assert row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["images_per_s"] == pytest.approx(row["batch_size"] / row["median_s"], rel=1e-3)
        assert row["peak_memory_bytes"] is None
        assert row["environment"]["packages"]["torch"]
    assert len(rows[0]["environment"]) >= 10
    assert set(rows[-1]["ratios"]) == {"torchvision", "compiled"}
    low, median, high = rows[-1]["ratios"]["torchvision"]
    assert low <= median <= high
    printed = capsys.readouterr().out
    assert printed.count("| `test_tiny` |") == 6


def test_a_ratio_says_how_many_times_as_fast_a_cell_is():
    """Two times the speed of a baseline is 2, and only float32 is a baseline."""
    times = {
        ("torchvision", "float32"): [2.0, 4.0, 6.0],
        ("eager", "float32"): [1.0, 2.0, 3.0],
        ("eager", "bfloat16"): [4.0, 8.0, 12.0],
    }
    found = inference.ratios(("eager", "float32"), times)
    assert found == {"torchvision": [2.0, 2.0, 2.0]}
    slower = inference.ratios(("eager", "bfloat16"), times)
    assert slower == {"torchvision": [0.5, 0.5, 0.5], "eager": [0.25, 0.25, 0.25]}


def test_batches_rotate_and_all_cells_get_the_same_one():
    """A cell that sees one batch again and again is timed with it in the cache."""
    seen: dict[str, list[int]] = {"a": [], "b": []}
    runners = {key: measuring.Runner(lambda x, k=key: seen[k].append(int(x[0]))) for key in seen}
    batches = [torch.full((1,), i) for i in range(3)]
    measuring.take_turns(runners, batches, CPU, repeats=6, budget=0.01)
    assert seen["a"] == seen["b"]
    # A quick call is made twice in its round, once untimed.
    assert seen["a"][:10] == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]


def test_a_wrong_answer_has_no_speed(tmp_path: Path, capsys):
    run(tmp_path / "a.jsonl", "eager", "wrong")
    right, mistaken = harness.read_rows(tmp_path / "a.jsonl")
    assert right["status"] == "ok"
    assert "wrong" not in right["ratios"]
    assert mistaken["status"] == "failed"
    assert "probabilities differ" in mistaken["reason"]
    assert not {"median_s", "images_per_s", "ratios"} & set(mistaken)
    assert "failed: probabilities differ" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [float("nan"), 0.2, 0.102])
def test_parity_sees_nan_and_small_errors(answer):
    truth = torch.tensor([[0.5, 0.5], [0.1, 0.9]])
    other = truth.clone()
    other[1, 0] = answer
    limit = measuring.allowed(torch.float32, CPU)
    assert measuring.parity(truth, other, limit)["status"] == "failed"
    assert measuring.parity(truth, truth, limit)["status"] == "ok"
    assert "(1, 2) instead of (2, 2)" in measuring.parity(truth, truth[:1], limit)["reason"]


def test_parity_lets_only_near_ties_change_their_winner():
    truth = torch.tensor([[0.51, 0.49], [0.57, 0.43]])
    tie = torch.tensor([[0.49, 0.51], [0.57, 0.43]])
    decided = torch.tensor([[0.51, 0.49], [0.495, 0.505]])
    assert measuring.parity(truth, tie, 0.1) == {
        "status": "ok",
        "max_difference": 0.02,
        "agreement": 0.5,
        "faces_compared": 2,
    }
    assert measuring.parity(truth, decided, 0.1)["status"] == "failed"


def test_no_memory_and_no_such_mode_are_results(tmp_path: Path):
    assert run(tmp_path / "a.jsonl", "full", "missing", "late", "eager") == 0
    found = {r["mode"]: r for r in harness.read_rows(tmp_path / "a.jsonl")}
    statuses = {mode: row["status"] for mode, row in found.items()}
    assert statuses == {
        "full": "out of memory",
        "missing": "not available",
        "late": "out of memory",
        "eager": "ok",
    }
    assert found["missing"]["reason"] == "this machine has no such thing"
    assert "median_s" not in found["late"]


def test_an_interrupt_keeps_the_finished_cells(tmp_path: Path, monkeypatch, capsys):
    def stop(case):
        if len(case.images) == 3:
            raise KeyboardInterrupt
        return modes.eager(case)

    monkeypatch.setitem(modes.MODES, "stop", stop)
    output = tmp_path / "a.jsonl"
    assert run(output, "eager", "stop", sizes=("1", "3")) == 130
    lines = output.read_text().splitlines()
    assert [json.loads(line)["batch_size"] for line in lines] == [1, 1]
    assert "interrupted: 2 of 4 cells are done" in capsys.readouterr().err
    run(output, "eager")  # measured again: the later row counts
    assert len(harness.read_rows(output)) == 2
    output.write_text(output.read_text() + '{"kind": "infer')
    with pytest.raises(SystemExit, match=r"a\.jsonl, line 4: not a row"):
        harness.read_rows(output)


@pytest.mark.weekly
def test_our_own_modes_run_or_say_what_is_missing(tmp_path: Path):
    run(tmp_path / "a.jsonl", "eager", "optimized", "onnxruntime")
    rows = {row["mode"]: row for row in harness.read_rows(tmp_path / "a.jsonl")}
    absent = importlib.util.find_spec("onnxruntime") is None
    assert rows["onnxruntime"]["status"] == ("not available" if absent else "ok")
    assert rows["optimized"]["status"] == rows["eager"]["status"] == "ok"


@pytest.mark.parametrize("name", ["resnet18_7x7", "resnet18", "vgg19_fc", "vgg19", "vgg19_025"])
@pytest.mark.slow
def test_the_baselines_are_the_same_networks(name):
    model = measuring.subject(name)
    network = torchvision_network(model)
    assert type(network).__module__.startswith("torchvision.")
    views = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(network(views), model(views), rtol=1e-3, atol=1e-3)
    with pytest.raises(NotAvailableError, match="torchvision has no network like 'plain_test'"):
        torchvision_network(fer_zoo.create("plain_test"))


def test_an_untrained_subject_tells_faces_apart():
    model = measuring.subject("test_tiny")
    faces = torch.cat(measuring.pictures(8))
    probabilities = fer_zoo.inference.predict_scores(model, faces).softmax(1)
    assert len(probabilities.argmax(1).unique()) > 1
    assert probabilities.amax(1).median() > 0.2


def cell(mode: str, low: float, high: float, **others) -> dict:
    """A made-up row that is good enough to be compared and shown."""
    row = {"kind": "inference", "model": "m", "mode": mode, "dtype": "float32", "batch_size": 1}
    row |= {"device": "cpu", "status": "ok", "p10_s": low, "p90_s": high}
    row |= {"median_s": (low + high) / 2, "environment": {"cpu": "a", "date": "1"}}
    return row | others


def test_compare_says_what_changed_beyond_the_noise(tmp_path: Path, capsys):
    before = [
        cell("steady", 1.0, 2.0),
        cell("quicker", 1.0, 2.0),
        cell("lazier", 1.0, 2.0),
        cell("gone", 1.0, 2.0),
        cell("broke", 1.0, 2.0),
    ]
    after = [
        cell("steady", 1.9, 3.0),
        cell("quicker", 0.4, 0.9),
        cell("lazier", 2.1, 4.0),
        cell("new", 1.0, 2.0),
        cell("broke", 1.0, 2.0, status="failed", reason="probabilities differ by 0.3"),
    ]
    after[-1]["environment"] = {"cpu": "b", "date": "2"}
    for name, rows in (("a", before), ("b", after)):
        for row in rows:
            harness.append(tmp_path / f"{name}.jsonl", row)
    compare.main([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    printed = capsys.readouterr().out
    verdicts = {
        line.split(" | ")[2]: line.split(" | ")[8:] for line in printed.splitlines() if "|" in line
    }
    assert verdicts["quicker"][0] == "faster"
    assert verdicts["quicker"][1].startswith("x 2.308")
    assert verdicts["lazier"][0] == "slower"
    assert verdicts["gone"][0] == "only in A"
    assert verdicts["new"][0] == "only in B"
    assert verdicts["broke"][:2] == ["ok -> failed", "probabilities differ by 0.3 |"]
    assert "steady" not in verdicts
    assert "4 cells in both: 1 the same within the noise, 1 faster in B, 1 slower, 1 other" in (
        printed
    )
    assert "cpu: a -> b" in printed
    assert "date" not in printed


def test_the_examples_in_the_harness_are_right():
    for module in (harness, measuring):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


def test_an_unknown_model_is_told_before_anything_is_measured(tmp_path: Path):
    with pytest.raises(fer_zoo.errors.UnknownNameError, match="Did you mean 'resnet18'"):
        inference.main(["--models", "test_tiny", "resnet8", "--output", str(tmp_path / "a.jsonl")])
    assert not (tmp_path / "a.jsonl").exists()


def test_the_docs_have_tables_with_and_without_results(tmp_path: Path):
    assert tables.results(tmp_path / "none") == "No results have been committed yet."
    run(tmp_path / "cpu-2026-01-01.jsonl", "eager", "missing")
    shown = tables.results(tmp_path)
    assert ":::{dropdown} Inference: " in shown
    assert shown.count("| `test_tiny` | 1 |") == 2
    assert "torch 2." in shown


def test_the_summary_says_what_the_rows_say(tmp_path: Path):
    """Of the newest file that has such rows; the best of our ways for each network."""
    assert speed.summary(tmp_path) == "- **Films and cameras**: [](video.md)."
    old, new = tmp_path / "cpu-2026-01-01.jsonl", tmp_path / "cpu-2026-01-02.jsonl"
    environment = {"cpu": "a machine", "gpu": None, "cores": 2, "date": "2026-01-02"}

    def row(model: str, mode: str, ratio: float, dtype: str = "float32") -> harness.Row:
        return {
            "kind": "inference", "status": "ok", "model": model, "mode": mode, "dtype": dtype,
            "batch_size": 8, "environment": environment, "images_per_s": 100.0,
            "median_s": 0.1, "p10_s": 0.1, "p90_s": 0.1, "max_difference": 3.2e-7,
            "ratios": {"torchvision": [ratio - 0.1, ratio, ratio + 0.2]},
        }  # fmt: skip

    harness.append(old, row("vgg19", "optimized", 9))
    for made in (
        row("vgg19", "optimized", 2), row("vgg19", "onnxruntime", 3.5), row("vgg19", "eager", 7),
        row("resnet18", "optimized", 1.5), row("resnet18", "optimized", 4, "bfloat16"),
    ):  # fmt: skip
        harness.append(new, made)
    told = speed.summary(tmp_path)
    assert "**a machine, 2 cores**" in told
    assert "1.5 to 3.5 times with batches of 8 (4.0 in bfloat16)" in told
    assert "more than 4e-7" in told
    bars = speed.draw(speed.compared(gpu=False, folder=tmp_path)).axes[0].containers
    widths = [[bar.get_width() for bar in group] for group in bars if len(group) == 2]
    assert widths == [[7, 0], [2, 1.5], [3.5, 0], [0, 4]]


def test_the_gpu_paths_with_a_pretended_gpu(monkeypatch):
    """No GPU is needed to see that events, memory and names are asked for rightly."""
    cuda, model = torch.device("cuda"), measuring.subject("test_tiny")

    class Event:
        def __init__(self, *, enable_timing: bool):
            assert enable_timing

        def record(self):
            self.done = True

        def synchronize(self):
            assert self.done

        def elapsed_time(self, end):
            return 250.0

    for name, value in {
        "Event": Event,
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 100,
        "max_memory_allocated": lambda device: 350,
        "get_device_name": lambda device: "NVIDIA H100 80GB HBM3",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert measuring.seconds_of(lambda x: None, None, cuda) == 0.25
    assert measuring.allowed(torch.float32, cuda) > measuring.allowed(torch.float32, CPU)
    assert harness.results_path(cuda).name.startswith("nvidia-h100-80gb-hbm3-20")
    assert harness.environment(cuda)["gpu"] == "NVIDIA H100 80GB HBM3"

    def on_cpu(case):
        own = modes.eager(modes.Case(case.model, CPU, case.dtype, case.images))
        return measuring.Runner(own.call, finish=own.finish)

    monkeypatch.setitem(modes.MODES, "on_cpu", on_cpu)
    batches = measuring.pictures(16)
    truth = fer_zoo.inference.predict_scores(model, torch.cat(batches)).softmax(1).float()
    case = modes.Case(model, cuda, torch.float32, batches[0])
    _, row = inference.prepare("on_cpu", case, batches, truth)
    assert (row["status"], row["peak_memory_bytes"]) == ("ok", 250)


def test_images_have_the_side_that_the_transform_scales_to(tmp_path: Path, monkeypatch):
    """An exported file takes no other, and no mode shall scale while another does not."""
    seen = []

    def look(case):
        seen.append(tuple(case.images.shape))
        raise NotAvailableError("seen enough")

    monkeypatch.setitem(modes.MODES, "look", look)
    line = ["--device", "cpu", "--modes", "look", "--batch-sizes", "2"]
    line += ["--output", str(tmp_path / "a.jsonl"), "--models", "resnet18_7x7", "test_tiny"]
    assert inference.main(line) == 0
    assert seen == [(2, 1, 40, 40), (2, 1, 48, 48)]


def test_a_budget_ends_where_interrupts_are_ignored():
    """As in the background of a shell; a Ctrl-C of the user's own is told apart."""
    before, alarm = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGALRM)
    try:
        with pytest.raises(TimeIsUp), deadline(0.05 / 60):
            threading.Event().wait()
        assert signal.getsignal(signal.SIGALRM) is alarm
        with deadline(None):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
