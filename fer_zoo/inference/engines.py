"""Engines: what turns faces into calibrated scores, in torch or in onnxruntime."""

import logging
import tempfile
import threading
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError, MissingDependencyError
from fer_zoo.fusion import Fusion
from fer_zoo.inference.fold import fold
from fer_zoo.inference.scoring import (
    BatchSize,
    in_parts,
    predict_scores,
    scores_by,
    tempered,
)
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import Preset

GRAPH_SIZES = 8  # captured batch sizes that are kept
GRAPH_LIMIT = 64  # views; a larger batch keeps a GPU busy without one


class Engine(Protocol):
    """A snapshot of a model that answers for faces."""

    name: str

    def scores(self, images: Tensor, preset: Preset, size: BatchSize) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        ...


class EagerEngine:
    """A model as it is, for where everything faster gives other answers."""

    name = "eager"

    def __init__(self, model: Classifier) -> None:
        self.model = model

    def scores(self, images: Tensor, preset: Preset, size: BatchSize) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        return predict_scores(self.model, images, preset=preset, batch_size=size.now)


class TorchEngine:
    """Folded networks in torch.

    Args:
        model: in evaluation mode.
        example: views `(N, C, S, S)` on the model's device.
        dtype: what the networks compute in.
        compile: run them through `torch.compile`.
        cuda_graph: on CUDA, record the work for each small batch size once and replay it, all
            members side by side.
    """

    name = "torch"

    def __init__(
        self,
        model: Classifier,
        example: Tensor,
        *,
        dtype: torch.dtype,
        compile: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        self.device, self.dtype = example.device, dtype
        networks = list(model.members) if isinstance(model, Ensemble) else [model]
        self.order = model.order.clone() if isinstance(model, Ensemble) else None
        x = example.to(dtype).contiguous(memory_format=torch.channels_last)
        self.networks: list[Any] = [fold(network, x) for network in networks]
        if compile:
            self.networks = [torch.compile(network) for network in self.networks]
        self.graphs = Graphs(self._run) if cuda_graph and self.device.type == "cuda" else None
        self.channels = model.in_channels
        self.fusion: Fusion | None = None
        if isinstance(model, Ensemble):
            self.fusion = deepcopy(model.fusion).cpu().float().eval()
        self.temperature, self.elsewhere = dict(model.temperature), model.temperature_for("")

    def scores(self, images: Tensor, preset: Preset, size: BatchSize) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        how: Any = {"channels": self.channels, "device": self.device, "size": size}
        found = scores_by(self.member_logits, images, preset, **how)
        with torch.inference_mode():
            fused = found[0] if self.fusion is None else self.fusion(found)
        return tempered(fused, self.temperature.get(preset.name, self.elsewhere))

    def member_logits(self, views: Tensor) -> Tensor:
        """Return logits `(M, N, K)`, float32, of views `(N, C, S, S)`."""
        x = views.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            if self.graphs is not None and len(x) <= GRAPH_LIMIT:
                return self.graphs(x)
            return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        found = torch.stack(self._side_by_side(x)).float()
        if self.order is None:
            return found
        return found.gather(2, self.order[:, None].expand_as(found))

    def _side_by_side(self, x: Tensor) -> list[Tensor]:
        if self.device.type != "cuda" or len(self.networks) == 1:
            return [network(x) for network in self.networks]
        # Small batches leave most of a GPU idle, so members run at the same time.
        here = torch.cuda.current_stream()
        streams = [torch.cuda.Stream() for _ in self.networks]
        found = []
        for network, stream in zip(self.networks, streams, strict=True):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                found.append(network(x))
        for z, stream in zip(found, streams, strict=True):
            here.wait_stream(stream)
            z.record_stream(here)
        return found


class Graphs:
    """CUDA graphs of one function, one for each input shape; the least recently used goes first.

    Each has one place for what goes in and one for what comes out, so threads take turns.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.lock = threading.Lock()
        self.kept: OrderedDict[torch.Size, tuple[Any, Tensor, Tensor]] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        """Return `function(x)`, replayed."""
        with self.lock:
            if x.shape not in self.kept:
                if len(self.kept) == GRAPH_SIZES:
                    self.kept.popitem(last=False)
                self.kept[x.shape] = self._capture(x)
            self.kept.move_to_end(x.shape)
            graph, inputs, outputs = self.kept[x.shape]
            inputs.copy_(x)
            graph.replay()
            return outputs.clone()

    def _capture(self, x: Tensor) -> tuple[Any, Tensor, Tensor]:
        inputs, stream = x.clone(memory_format=torch.preserve_format), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # cuDNN chooses its kernels and allocates outside the graph
                self.function(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self.function(inputs)
        return graph, inputs, outputs


class Pipeline(nn.Module):
    """Everything between faces and probabilities as one module, for export.

    Args:
        model: a trained model.
        preset: makes the views and combines what the members say of them.
        inside: whether faces come in; else views, each a face of its own.
        softmax: whether probabilities come out; else scores whose softmax they are.

    Shape:
        faces, uint8 or float in [0, 1], `(B, 1, R, R)`, R the preset's `resize`; or views, float
        `(B, C, S, S)`. Out comes `(B, K)`.
    """

    def __init__(
        self, model: Classifier, preset: Preset, *, inside: bool, softmax: bool = True
    ) -> None:
        super().__init__()
        self.model, self.preset, self.inside, self.softmax = model, preset, inside, softmax
        self.channels = model.in_channels
        self.temperature = model.temperature_for(preset.name)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities or scores."""
        if self.inside:
            x = self.preset.evaluation_views(x).flatten(0, 1)
            x = x.expand(-1, self.channels, -1, -1)
        views = self.preset.num_views if self.inside else 1
        if isinstance(self.model, Ensemble):
            logits = self.model.forward_members(x).unflatten(1, (-1, views))
            members = [self.preset.combine(logits[m]) for m in range(len(self.model.members))]
            scores = self.model.fusion(torch.stack(members)) / self.temperature
        else:
            scores = self.preset.combine(self.model(x).unflatten(0, (-1, views)))
            scores = scores / self.temperature
        found: Tensor = scores.softmax(1) if self.softmax else scores
        return found


class OnnxEngine:
    """The whole of a model in onnxruntime on the CPU, with as many threads as torch has.

    Args:
        model: in evaluation mode, float32.
        preset: the one transform it answers under.
        example: faces `(N, 1, H, W)`.
        int8: store weights per channel and compute layers in 8 bits, scaled for the example.
    """

    name = "onnxruntime"

    def __init__(
        self, model: Classifier, preset: Preset, example: Tensor, *, int8: bool = False
    ) -> None:
        squares = preset.square(example)
        pipeline = Pipeline(model, preset, inside=True, softmax=False)
        program = to_onnx(pipeline, squares, names=("faces", "scores"))
        self.session = session(_quantized(program, squares) if int8 else program)

    def scores(self, images: Tensor, preset: Preset, size: BatchSize) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""

        def part_scores(part: Tensor) -> Tensor:
            faces = preset.square(part.cpu()).contiguous()
            return torch.from_numpy(self.session.run(None, {"faces": faces.numpy()})[0])

        found = in_parts(images, part_scores, size=size, views=preset.num_views)
        return torch.cat(found).double()


def _quantized(program: bytes, example: Tensor) -> bytes:
    """Return an ONNX model in 8 bits; what goes through its layers is measured on the example."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts = iter(example.split(64))

        def get_next(self) -> dict[str, Any] | None:
            part = next(self.parts, None)
            return None if part is None else {"faces": part.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder, f"{name}.onnx") for name in ("plain", "ready", "small"))
        plain.write_bytes(program)
        # Its symbolic shapes fail on the views' arithmetic (a TypeError); convolutions need none.
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(small),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return small.read_bytes()


def to_onnx(
    module: nn.Module,
    example: Tensor,
    *,
    names: tuple[str, str],
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Return a module as a serialised ONNX model with a dynamic batch.

    Args:
        module: one tensor in, one out, on the CPU; it is put in evaluation mode.
        example: an input; its batch size is free, its other sides are fixed.
        names: of the input and the output.
        metadata: strings to store in the file.

    Raises:
        MissingDependencyError: onnx or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingDependencyError("pip install 'fer-zoo[onnx]'") from None
    if len(example) < 2:  # an example of one would fix the batch size
        example = example.repeat(2, *(1 for _ in example.shape[1:]))
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=names[:1],
                output_names=names[1:],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    for key, value in (metadata or {}).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return proto.SerializeToString()  # type: ignore[no-any-return]


def session(model: bytes | str, *, cuda: bool = False) -> Any:
    """Return an onnxruntime session with as many threads as torch has.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ArgumentError: onnxruntime cannot read the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed: pip install 'fer-zoo[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that wait in a loop for the next call would take the cores from everything else.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers = ["CUDAExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no public base
        where = model if isinstance(model, str) else "the exported model"
        raise ArgumentError(f"onnxruntime cannot read {where}: {error}") from None
