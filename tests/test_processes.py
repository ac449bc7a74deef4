"""Predictors in other processes and threads, of every engine, each by running it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fer_zoo
from conftest import ROOT, ramp
from fer_zoo.errors import ArgumentError, CheckpointError, WeightsError

PROGRAM = '''
import copy, multiprocessing, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import torch
import fer_zoo

FACES = [np.tile(np.arange(48, dtype=np.uint8), (48, 1)) + 9 * n for n in range(20)]


def ask(predict):
    """The labels of many faces, and of one, as numbers that can be compared."""
    found = predict(FACES)
    rows = [list(p.probabilities.values()) for p in [*found, predict(FACES[3])]]
    return np.array(rows)


def answer(queue, predictors):
    queue.put([ask(p) for p in predictors])


def in_fork(predictors, expected, what):
    process = os.fork()
    if process == 0:
        right = all(np.allclose(ask(p), e, atol=1e-5) for p, e in zip(predictors, expected))
        with ThreadPoolExecutor(2) as threads:
            again = list(threads.map(ask, predictors))
        right &= all(np.allclose(a, e, atol=1e-5) for a, e in zip(again, expected))
        os._exit(0 if right else 1)  # as multiprocessing ends its processes
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, what


if __name__ == "__main__":
    torch.set_num_threads(2)
    predictors = [eval(code) for code in sys.argv[1:]]
    expected = [ask(p) for p in predictors]
    in_fork(predictors, expected, "fork after use")
    thread = threading.Thread(target=in_fork, args=(predictors, expected, "fork from a thread"))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(4) as threads:
        for predictor, one in zip(predictors, expected):
            for found in threads.map(ask, [predictor] * 8):
                assert np.allclose(found, one, atol=1e-5), "threads"
    for predictor, one in zip(copy.deepcopy(predictors), expected):
        assert np.allclose(ask(predictor), one, atol=1e-5), "deepcopy"
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            for found, one in zip(pool.map(ask, predictors), expected, strict=True):
                assert np.allclose(found, one, atol=1e-5), method
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        process = context.Process(target=answer, args=(queue, predictors))
        process.start()
        for found, one in zip(queue.get(), expected, strict=True):
            assert np.allclose(found, one, atol=1e-5), f"argument of a {method} process"
        process.join()
    print("done")
'''


def run(folder: Path, *predictors: str) -> None:
    """Run the program; the time limit only ends what hangs."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    line = [sys.executable, "-W", "ignore", path, *predictors]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.stdout == "done\n", done.stdout + done.stderr


@pytest.mark.weekly
def test_predictors_of_every_engine_work_in_other_processes_and_threads(tmp_path: Path):
    model = fer_zoo.create("resnet18_025", weights="default")
    path = fer_zoo.export(model, tmp_path / "model.onnx")
    run(
        tmp_path,
        "fer_zoo.Predictor('ensemble_r18_vgg19_025', fusion='stacked')",
        "fer_zoo.Predictor('resnet18_025', engine='onnxruntime')",
        f"fer_zoo.Predictor({str(path)!r})",
    )


@pytest.mark.weekly
def test_machine_code_runs_only_with_leave_and_then_everywhere(tmp_path: Path):
    """One package of AOTInductor: refused without leave or digest, pinned, forked, pickled."""
    model = fer_zoo.create("plain_test").eval()
    model.labels = fer_zoo.labels.FER2013
    path = fer_zoo.export(model, tmp_path / "PLAIN.PT2")
    with pytest.raises(ArgumentError, match=r"machine code.*allow_code=True.*#sha256="):
        fer_zoo.Predictor(path)
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    face = torch.from_numpy(ramp(99)[None])
    own = fer_zoo.inference.predict_scores(model, face).softmax(1)[0].tolist()
    for predict in (
        fer_zoo.Predictor(path, allow_code=True),
        fer_zoo.Predictor(f"{path}#sha256={pin}"),
    ):
        assert list(predict(face).probabilities.values()) == pytest.approx(own, abs=1e-5)
        assert predict.labels == model.labels
    with pytest.raises(WeightsError, match="sha256"):
        fer_zoo.Predictor(f"{path}#sha256={pin[::-1]}", allow_code=True)
    run(tmp_path, f"fer_zoo.Predictor({str(path)!r}, allow_code=True)")
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be run here"):
        fer_zoo.Predictor(path, allow_code=True)
