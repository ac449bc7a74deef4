"""`.onnx` files of others: refused before onnxruntime sees them, in bounded time, as one error."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fer_zoo
from conftest import ROOT, ramp
from fer_zoo.errors import CheckpointError, FerZooError
from fer_zoo.inference import onnx_file
from fer_zoo.inference.onnx_file import look_through
from fer_zoo.inference.programs import Session
from fer_zoo.plain import to_plain
from fer_zoo.transforms import PRESETS

LABELS = fer_zoo.labels.FER2013
ABOUT = {
    "name": "tiny",
    "labels": LABELS,
    "preset": to_plain(PRESETS["fer40_center"]),
    "input": "images",
    "shape": ["batch", 1, 48, 48],
    "origin": None,
    "started_from": "",
}


def constant(value: Any, name: str, kind: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def program(*nodes: Any, constants: Any = (), about: Any = None, classes: int = 7) -> Any:
    """Return a model that gives each class the mean of the face, plus `c` where nodes make one."""
    last = [helper.make_node("Add", ["wide", "c"], ["probabilities"])] if nodes else []
    body = [
        helper.make_node("Cast", ["images"], ["float"], to=1),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Expand", ["column", "seven"], ["wide" if nodes else "probabilities"]),
    ]
    held = [constant([1, 2, 3], "axes"), constant([1], "one"), constant([1, classes], "seven")]
    graph = helper.make_graph(
        [*body, *nodes, *last],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 48, 48])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 7])],
        [*held, *constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    text = about if isinstance(about, str) else json.dumps(ABOUT | (about or {}))
    made.metadata_props.add(key="fer_zoo", value=text)
    return made


def ones(name: str) -> Any:
    value = constant([1.0], "value", np.float32)
    return helper.make_node("ConstantOfShape", ["size"], [name], value=value)


def doubled(times: int) -> list[Any]:
    pairs = [helper.make_node("Concat", [f"s{i}"] * 2, [f"s{i + 1}"], axis=0) for i in range(times)]
    return [*pairs, helper.make_node("ReduceSum", [f"s{times}"], ["c"], keepdims=0)]


def small_but_costly() -> dict[str, Any]:
    """Programs of some hundred bytes that onnxruntime would run while it opens them."""
    matmul = [ones("a"), helper.make_node("MatMul", ["a", "a"], ["b"])]
    chain = ["b", *(f"b{i}" for i in range(9)), "z"]
    matmul += [helper.make_node("MatMul", [a, "a"], [b]) for a, b in pairwise(chain)]
    total = helper.make_node("ReduceSum", ["z"], ["c"], keepdims=0)
    return {
        "matmul": program(*matmul, total, constants=[constant([9000, 9000], "size")]),
        "concat": program(*doubled(29), constants=[constant([1.0], "s0", np.float32)]),
    }


OPEN = """
import resource, sys, time
import fer_zoo, onnxruntime
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    fer_zoo.Predictor(path)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(time.process_time() - began, used * 1024)
"""


def test_a_small_file_is_opened_at_once(tmp_path: Path):
    """Within 5 s and 200 MB; what it computes is only computed when a face is given."""
    paths = []
    for name, made in small_but_costly().items():
        assert made.ByteSize() < 3000
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(made.SerializeToString())
    line = [sys.executable, "-c", OPEN, *map(str, paths)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    for seconds, size in (map(float, line.split()) for line in done.stdout.splitlines()):
        assert seconds < 5
        assert size < 200e6


@pytest.mark.parametrize(("kind", "inputs"), [("Mish", 1), ("HardSwish", 1), ("Sum", 3)])
def test_as_many_nodes_as_there_may_be_are_opened_within_seconds(kind, inputs):
    content = many_nodes(kind, onnx_file.MOST_NODES - 10, inputs).SerializeToString()
    began = time.process_time()
    Session(partial(bytes, content))
    assert time.process_time() - began < 5


def test_a_file_that_says_what_it_is_runs(tmp_path: Path):
    """The stand-in of the other tests is good; its answers are not: they are no probabilities."""
    path = tmp_path / "m.onnx"
    path.write_bytes(program().SerializeToString())
    predict = fer_zoo.Predictor(path)
    assert predict.labels == LABELS
    assert predict(ramp()).probability == pytest.approx(1 / 7)


def changed(change: Callable[[Any], object]) -> Any:
    made = program()
    change(made)
    return made


def loop() -> Any:
    inner = [("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("x", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in inner]
    outputs = [helper.make_tensor_value_info(f"{name}2", kind, []) for name, kind in inner[1:]]
    nodes = [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Sin", ["x"], ["x2"])]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    return program(
        helper.make_node("Loop", ["many", "yes", "zero"], ["c"], body=body),
        constants=[
            constant(2**40, "many"),
            constant(True, "yes", np.bool_),
            constant(0.0, "zero", np.float32),
        ],
    )


def external() -> Any:
    tensor = TensorProto(name="c", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return program(helper.make_node("Identity", ["c"], ["d"]), constants=[tensor])


def many_nodes(kind: str, n: int, inputs: int = 2) -> Any:
    names = ["zero", *(f"x{i}" for i in range(n - 1)), "c"]
    nodes = [helper.make_node(kind, [a] * inputs, [b]) for a, b in pairwise(names)]
    return program(*nodes, constants=[constant([0.0], "zero", np.float32)])


def many_tensors(n: int) -> Any:
    return changed(
        lambda m: m.graph.initializer.extend(
            TensorProto(name=f"t{i}", data_type=1, dims=[1], raw_data=bytes(4)) for i in range(n)
        )
    )


def dims(shape: list[int], kind: int = 1) -> Any:
    return program(constants=[TensorProto(name="x", data_type=kind, dims=shape, raw_data=bytes(4))])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a loop": (loop, "its attribute has a field 6"),
    "external data": (external, "its tensor has a field 1[34]"),
    "a function": (
        lambda: changed(lambda m: m.functions.add(name="f")),
        "its model has a field 25",
    ),
    "operators of others": (
        lambda: changed(lambda m: setattr(m.graph.node[0], "domain", "com.microsoft")),
        "operators of 'com.microsoft'",
    ),
    "an old opset": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 7)), "to 23"),
    "a new opset": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 99)), "to 23"),
    "two opsets": (
        lambda: changed(lambda m: m.opset_import.add(domain="ai.onnx.ml", version=1)),
        "operators of",
    ),
    "nodes without end": (lambda: many_nodes("Add", 3001), "more than 3,000 nodes"),
    "costly nodes": (lambda: many_nodes("GroupNormalization", 160), "more than 3,000 nodes"),
    "inputs without end": (
        lambda: many_nodes("Sum", 250, 60),
        "more than 15,000 inputs and outputs",
    ),
    "tensors without end": (lambda: many_tensors(10_001), "more than 10,000 tensors"),
    "a sparse tensor": (
        lambda: changed(lambda m: m.graph.sparse_initializer.add()),
        "its graph has a field 15",
    ),
    "a huge tensor": (lambda: dims([2**33, 2**20]), "in 4 bytes"),
    "a negative tensor": (lambda: dims([-1, -1]), "in 4 bytes"),
    "a deep tensor": (lambda: dims([1] * 1000), "more than 8 dimensions"),
    "a tensor of text": (lambda: dims([4], kind=8), "of type 8"),
    "two entries": (
        lambda: changed(lambda m: m.metadata_props.add(key="fer_zoo", value="{}")),
        "metadata 'fer_zoo' twice",
    ),
    "another input": (
        lambda: changed(lambda m: m.graph.input.add(name="x", type=m.graph.input[0].type)),
        "it takes",
    ),
    "another output": (lambda: changed(lambda m: m.graph.output.pop()), "it takes"),
    "a float input": (
        lambda: changed(
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT)
        ),
        "it takes",
    ),
    "a name of six": (lambda: program(about={"labels": LABELS[:6]}), "it takes"),
    "labels as text": (lambda: program(about={"labels": "abcdefg"}), "labels must be tuple"),
    "labels by name": (lambda: program(about={"labels": dict.fromkeys(LABELS)}), "must be tuple"),
    "labels of numbers": (lambda: program(about={"labels": [*range(7)]}), "must be str, got 0"),
    "a label twice": (lambda: program(about={"labels": [*LABELS[:6], "anger"]}), "the same class"),
    "no labels": (lambda: program(about={"labels": []}), "non-empty names"),
    "no preset": (lambda: program(about={"preset": "../x"}), "unknown preset"),
    "another shape": (lambda: program(about={"shape": ["batch", 1, 40, 40]}), "its input is"),
    "a shape of text": (lambda: program(about={"shape": "batch"}), "shape must be tuple"),
    "views": (lambda: program(about={"input": "views", "shape": ["batch", 1, 40, 40]}), "it takes"),
    "ten views": (
        lambda: program(
            about={
                "input": "views",
                "shape": ["batch", 1, 40, 40],
                "preset": to_plain(PRESETS["fer40_tencrop"]),
            }
        ),
        "its 10 views of a face are outside",
    ),
    "an input of others": (lambda: program(about={"input": "x"}), "input must be one of"),
    "more to say": (lambda: program(about={"surprise": 1}), "has no 'surprise'"),
    "nothing to say": (lambda: changed(lambda m: m.metadata_props.pop()), "is not JSON"),
    "no JSON": (lambda: program(about="{"), "is not JSON"),
    "JSON without end": (lambda: program(about="[" * 100_000), "nested too deep"),
    "a word twice": (lambda: program(about='{"name": "a", "name": "b"}'), "names 'name' twice"),
    "nonsense inside": (lambda: many_nodes("Nonsense\x1b[31m", 1), "onnxruntime cannot run it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_export_does_not_write_is_refused(tmp_path: Path, kind):
    make, says = REFUSED[kind]
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(CheckpointError, match=says) as caught:
        fer_zoo.Predictor(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 2000
    assert "\x1b" not in str(caught.value)


def test_what_onnxruntime_refuses_is_not_tried_again_without_bounds(tmp_path: Path, capfd):
    """It would be, with a word of its own, where its error is none that Python can read."""
    content = program().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(content.replace(b"seven", b"\xb3even", 1))
    with pytest.raises(CheckpointError, match="onnxruntime cannot run it: 'utf-8' codec"):
        fer_zoo.Predictor(path)
    assert capfd.readouterr() == ("", "")


def test_answers_of_another_shape_are_one_error(tmp_path: Path):
    """What the file says of its output and what comes out of it are two things."""
    path = tmp_path / "m.onnx"
    made = program(classes=5)
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    path.write_bytes(made.SerializeToString())
    with pytest.raises(CheckpointError, match=r"answers of shape|onnxruntime cannot run it"):
        fer_zoo.Predictor(path)(ramp())


def test_pipes_and_other_files_are_refused(tmp_path: Path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("pipe.onnx", "none.onnx"):
        with pytest.raises(CheckpointError, match=r"not a regular file|no such file"):
            fer_zoo.Predictor(tmp_path / name)
    monkeypatch.setattr("fer_zoo.inference.exported.MOST_BYTES", 100)
    (tmp_path / "m.onnx").write_bytes(bytes(101))
    with pytest.raises(CheckpointError, match="101 bytes, and 100 are allowed"):
        fer_zoo.Predictor(tmp_path / "m.onnx")


def test_ours_and_onnxs_own_reader_agree():
    made = many_nodes("Add", 20)
    facts = look_through(made.SerializeToString(), "it")
    assert facts.metadata == {entry.key: entry.value for entry in made.metadata_props}
    assert [value.name for value in facts.inputs] == ["images"]
    assert facts.outputs == [onnx_file.Value("probabilities", 1, (None, 7))]
    everything = made.SerializeToString()
    for end in range(0, len(everything), 7):  # cut anywhere
        try:
            look_through(everything[:end], "it")
        except CheckpointError:
            continue
        assert onnx.load_model_from_string(everything[:end]).ByteSize() == end


def test_bytes_without_end_are_read_in_bounded_time():
    """A field takes two bytes, and a megabyte has half a million."""
    empty = b"\x2a\x00" * 500_000  # tensors of the graph
    size = bytes([len(empty) & 127 | 128, len(empty) >> 7 & 127 | 128, len(empty) >> 14])
    for content in (empty, b"\x3a" + size + empty):
        with pytest.raises(FerZooError, match=r"fields|field 5|type 0"):
            look_through(content, "it")


def test_a_file_that_cannot_be_written_is_told_by_its_own_name(labelled, tmp_path: Path):
    """It was the name of the temporary file beside it."""
    (tmp_path / "file").touch()
    for save, name in ((fer_zoo.export, "a.onnx"), (fer_zoo.save, "a.safetensors")):
        with pytest.raises(CheckpointError, match=rf"{name}: cannot be written .*/file'\)$"):
            save(labelled, tmp_path / "file" / name)  # what is in the way is named
        (tmp_path / name).mkdir()
        with pytest.raises(CheckpointError, match=rf"Is a directory: '[^']*/{name}'\)$"):
            save(labelled, tmp_path / name)
