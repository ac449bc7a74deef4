"""`.onnx` files as bytes: looked through before onnxruntime sees them.

They are messages of protocol buffers, by onnx.proto's numbers of fields. Only what `export` writes
is let through: one flat graph of ONNX's own operators with its tensors inside. No other program, no
other file, no loop, no value that is larger than its bytes.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from fer_zoo.errors import CheckpointError

MOST_BYTES = 2**31 - 1
"""Of a file: what protocol buffers can hold."""
MOST_FIELDS, MOST_NODES, MOST_TENSORS, MOST_EDGES = 300_000, 3_000, 10_000, 15_000
"""In a file; an edge is what goes into a node or out of it.

onnxruntime takes 1 s to open 3,000 nodes of its slowest operators (Mish, Conv, Sum), 2 s for 10,000
tensors, and four times that for twice as many.
"""
COSTLY = {"GroupNormalization": 20, "MeanVarianceNormalization": 20}
"""Operators that it replaces by some others, each of which is a node."""
OPSETS = range(13, 24)
MODEL, GRAPH = {1, 2, 3, 4, 5, 6, 7, 8, 14}, {1, 2, 5, 10, 11, 12, 13, 16}
NODE, ATTRIBUTE, TENSOR = {1, 2, 3, 4, 5, 6, 7, 9}, {1, 2, 3, 4, 5, 7, 8, 13, 20}, {1, 2, 8, 9, 12}
"""The fields that messages may have; others are functions, subgraphs, sparse or external data."""
ITEM = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}
"""Bytes of a number of each type of tensors."""
FLOAT, UINT8 = 1, 2


class Value(NamedTuple):
    """What goes in or out: its name, its type, and its sides, None where they are free."""

    name: str
    kind: int
    shape: tuple[int | None, ...]


class Facts(NamedTuple):
    """What a file says of itself."""

    metadata: dict[str, str]
    inputs: list[Value]
    outputs: list[Value]


def look_through(content: bytes, where: str) -> Facts:
    """Return what an ONNX model says of itself, if it holds nothing that `export` does not write.

    Raises:
        CheckpointError: it does, or is no ONNX model.
    """
    try:
        return _Reader().model(memoryview(content))
    except ValueError as error:
        raise CheckpointError(
            f"{where}: {error}, so fer_zoo.export did not write this file"
        ) from None


class _Reader:
    left, nodes_left, tensors_left = MOST_FIELDS, MOST_NODES, MOST_TENSORS
    edges_left = MOST_EDGES

    def fields(self, message: Any, known: set[int], what: str) -> Iterator[tuple[int, Any]]:
        """Yield the number and the value of each field: a number, or bytes."""
        if not isinstance(message, memoryview):
            raise ValueError(f"its {what} is a number")
        at = 0
        while at < len(message):
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"more than {MOST_FIELDS:,} fields")
            key, at = _number(message, at)
            wire, size = key & 7, {1: 8, 5: 4}.get(key & 7, 0)
            if wire == 0:
                value, at = _number(message, at)
                size = 0
            elif wire == 2:
                size, at = _number(message, at)
            elif not size:
                raise ValueError("no ONNX model")
            if at + size > len(message):
                raise ValueError("cut short")
            if key >> 3 not in known:
                raise ValueError(f"its {what} has a field {key >> 3}")
            yield key >> 3, value if wire == 0 else message[at : at + size]
            at += size

    def model(self, message: memoryview) -> Facts:
        facts, opsets = Facts({}, [], []), []
        for number, value in self.fields(message, MODEL, "model"):
            if number == 7:
                self.graph(value, facts)
            elif number == 8:
                entry = dict(self.fields(value, {1, 2}, "opset"))
                opsets.append((_text(entry.get(1)), entry.get(2)))
            elif number == 14:
                entry = dict(self.fields(value, {1, 2}, "metadata entry"))
                if (key := _text(entry.get(1))) in facts.metadata:
                    raise ValueError(f"metadata {key!r:.80} twice")
                facts.metadata[key] = _text(entry.get(2))
        if len(opsets) != 1 or opsets[0][0] or opsets[0][1] not in OPSETS:
            raise ValueError(
                f"operators of {opsets!r:.80}, not of ONNX {OPSETS[0]} to {OPSETS[-1]}"
            )
        return facts

    def graph(self, message: memoryview, facts: Facts) -> None:
        for number, value in self.fields(message, GRAPH, "graph"):
            if number == 1:
                self.node(value)
            elif number == 5:
                self.tensor(value)
            elif number in (11, 12):
                (facts.inputs if number == 11 else facts.outputs).append(self.value(value))

    def node(self, message: memoryview) -> None:
        for number, value in self.fields(message, NODE, "node"):
            if number == 7 and _text(value):
                raise ValueError(f"operators of {_text(value)!r:.80}")
            if number in (1, 2):
                self.edges_left -= 1
                if self.edges_left < 0:
                    raise ValueError(f"more than {MOST_EDGES:,} inputs and outputs of nodes")
            if number == 4:
                self.nodes_left -= COSTLY.get(_text(value), 1)
                if self.nodes_left < 0:
                    raise ValueError(f"more than {MOST_NODES:,} nodes")
            if number == 5:
                for part, held in self.fields(value, ATTRIBUTE, "attribute"):
                    if part == 5:
                        self.tensor(held)

    def tensor(self, message: memoryview) -> None:
        self.tensors_left -= 1
        if self.tensors_left < 0:
            raise ValueError(f"more than {MOST_TENSORS:,} tensors")
        shape: list[int] = []
        kind = size = 0
        for number, value in self.fields(message, TENSOR, "tensor"):
            if number == 1:
                shape += [value] if isinstance(value, int) else _numbers(value)
            elif number == 2:
                kind = value
            elif number == 9 and isinstance(value, memoryview):
                size = len(value)
            if len(shape) > 8:
                raise ValueError("a tensor of more than 8 dimensions")
        if math.prod(shape) * ITEM.get(kind, -1) != size:
            raise ValueError(f"a tensor {shape} of type {kind} in {size:,} bytes")

    def value(self, message: memoryview) -> Value:
        name, kind = "", 0
        shape: list[int | None] = []
        for number, held in self.fields(message, {1, 2, 3, 4}, "value"):
            if number == 1:
                name = _text(held)
            elif number == 2:
                for _, tensor in self.fields(held, {1}, "type"):
                    for part, inner in self.fields(tensor, {1, 2}, "tensor type"):
                        if part == 1:
                            kind = inner
                            continue
                        for _, side in self.fields(inner, {1}, "shape"):
                            shape.append(dict(self.fields(side, {1, 2, 3}, "side")).get(1))
        return Value(name, kind, tuple(shape))


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it."""
    found = 0
    for i, byte in enumerate(message[at : at + 10]):
        found |= (byte & 127) << 7 * i
        if byte < 128:
            return found, at + i + 1
    raise ValueError("no ONNX model")


def _numbers(message: memoryview) -> list[int]:
    found, at = [], 0
    while at < min(len(message), 80):
        value, at = _number(message, at)
        found.append(value)
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, memoryview):
        raise ValueError("a number where text belongs")
    return bytes(value).decode()
