"""Models as programs of onnxruntime and AOTInductor: how they are made, and what runs them."""

import ctypes
import io
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError, CheckpointError, OptimizeError, needing
from fer_zoo.inference.engines import Inherited, Pipeline
from fer_zoo.inference.onnx_file import Facts, look_through
from fer_zoo.models import Classifier
from fer_zoo.transforms import Preset
from fer_zoo.transforms.transform import for_network

Entry = Literal["faces", "images", "views"]


class Program:
    """A program as an engine: it answers for faces under the one preset that it was made for.

    It takes squares of the preset as floats (`faces`) or uint8 (`images`), or `views`; it gives
    scores for `faces`, else probabilities.
    """

    name = "onnxruntime"

    def __init__(
        self, call: "Session | Package", preset: Preset, entry: Entry, channels: int = 1
    ) -> None:
        self.call, self.preset, self.entry, self.channels = call, preset, entry, channels

    def scores(self, faces: Tensor, preset: Preset) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        if preset != self.preset:
            raise ArgumentError(
                f"the program has the preset {self.preset.name!r} inside, and cannot do "
                f"{preset.name!r}: make it again of a model with that preset"
            )
        if self.entry == "views":  # one of each face
            views = preset.evaluation_views(faces.cpu())[:, 0]
            return self.call(for_network(views, self.channels)).double().log()
        squares = preset.square(faces.cpu())
        if self.entry == "faces":
            return self.call(squares).double()
        return self.call(squares.mul(255).round().byte()).double().log()


@torch.inference_mode()
def onnx_program(model: Classifier, preset: Preset, example: Tensor) -> Program:
    """Return a float32 model on the CPU in onnxruntime."""
    squares = preset.square(example)
    try:
        pipeline = Pipeline(model, preset).eval()
        program = to_onnx(pipeline, squares, names=("faces", "scores"))
        return Program(Session(partial(bytes, program)), preset, "faces")
    except (ArgumentError, ImportError):
        raise
    except Exception as error:  # torch's exporter raises whatever a network of timm's makes it
        reason = str(error).split("\n")[0]
        raise OptimizeError(
            f"{model.name!r} cannot be exported for onnxruntime: {reason}; use engine='torch'"
        ) from error


class Session(Inherited):
    """An onnxruntime session on the CPU that can be copied, pickled, forked and shared by threads.

    It takes as many threads as torch has. A forked process opens the program again with `read`.
    """

    session: Any = None
    facts: Facts

    def __init__(self, read: Callable[[], bytes], where: str = "the exported model") -> None:
        self.read, self.where = read, where
        self.session = self._open()

    def _open(self) -> Any:
        with needing("this needs onnxruntime", "onnx"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised
        # Threads that wait in a loop for the next call would take the cores from everything else.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        program = self.read()
        self.facts = look_through(program, self.where)
        # Folding runs operators, of which a small file may have large ones; `export` has folded.
        how: dict[str, Any] = {"disabled_optimizers": ["ConstantFolding"], "enable_fallback": 0}
        how["providers"] = ["CPUExecutionProvider"]
        try:
            return onnxruntime.InferenceSession(program, options, **how)
        except Exception as error:  # onnxruntime's errors share no public base
            raise CheckpointError(f"{self.where}: onnxruntime cannot run it: {error}") from None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the program's one output for its one input."""
        session = self.session = self.session or self._open()
        (entry,) = session.get_inputs()
        try:
            (out,) = session.run(None, {entry.name: x.contiguous().numpy()})
        except Exception as error:
            raise CheckpointError(f"{self.where}: onnxruntime cannot run it: {error}") from None
        if out.shape != (len(x), self.facts.outputs[0].shape[-1]):
            raise CheckpointError(f"{self.where}: answers of shape {out.shape} for {len(x)} faces")
        return torch.from_numpy(out)

    def __reduce__(self) -> tuple[Any, ...]:
        return Session, (self.read, self.where)

    def forked(self) -> None:
        """Leave the session, but never take it down: onnxruntime would wait for its threads."""
        if self.session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.session))
            self.session = None


class Package(Inherited):
    """A package of AOTInductor that can be copied, pickled and forked."""

    def __init__(self, read: Callable[[], bytes], where: str) -> None:
        from torch._inductor import aoti_load_package

        self.read, self.where, self.inherited = read, where, False
        package = io.BytesIO(read())
        try:
            self._run = aoti_load_package(package)
            self.facts = Facts(self._run.get_metadata(), [], [])
        except Exception as error:  # torch raises whatever it likes on damaged packages
            raise CheckpointError(f"{where} cannot be run here: {error}") from None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the program's one output for its one input."""
        if not self.inherited:
            return cast(Tensor, self._run(x.contiguous()))
        with ThreadPoolExecutor(1) as thread:
            return cast(Tensor, thread.submit(self._run, x.contiguous()).result())

    def __reduce__(self) -> tuple[Any, ...]:
        return Package, (self.read, self.where)

    def forked(self) -> None:
        """Call it in a thread, which starts new ones: their number is compiled in."""
        self.inherited = True


def to_onnx(
    module: nn.Module,
    example: Tensor,
    *,
    names: tuple[str, str],
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Return a module of one input and one output as an ONNX model with a dynamic batch."""
    with needing("an ONNX file needs onnxscript", "onnx"):
        import onnxscript  # noqa: F401
    if len(example) < 2:  # an example of one would fix the batch size
        example = example.repeat(2, *(1 for _ in example.shape[1:]))
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module,
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
