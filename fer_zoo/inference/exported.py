"""Whole pipelines as files that run without fer_zoo: ONNX, and AOTInductor's packages."""

import json
import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeGuard

import torch
from torch import Tensor, nn

from fer_zoo._files import as_path, replacing
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    LabelError,
    OptimizeError,
    UnknownNameError,
)
from fer_zoo.factory import resolve
from fer_zoo.inference.engines import Pipeline
from fer_zoo.inference.onnx_file import FLOAT, MOST_BYTES, UINT8, Value
from fer_zoo.inference.programs import Package, Program, Session, to_onnx
from fer_zoo.inference.runtime import TOLERANCE, Optimized, check_answers, smooth_faces
from fer_zoo.inference.scoring import as_faces, in_evaluation, predict_scores
from fer_zoo.labels import check_labels
from fer_zoo.layout import FromRGB, pixel_values
from fer_zoo.models import Classifier
from fer_zoo.plain import from_plain, to_plain
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import restore
from fer_zoo.transforms.transform import for_network
from fer_zoo.weights.reading import check_sha256, open_regular, read_json

SUFFIXES = (".onnx", ".pt2")
PIN = "#sha256="


def export(
    model: Classifier | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    transform: bool = True,
) -> Path:
    """Write a model as a file that runs without fer_zoo, with a dynamic batch.

    The file is run on faces before it is put in place, and refused if its probabilities are not the
    model's. Labels, preset and what goes in and out are in its metadata.

    Args:
        model: a trained network or ensemble, or its name or address; ensembles are exported whole.
        path: `.onnx` (`fer-zoo[onnx]`); or `.pt2`, a package of AOTInductor for the same kind of
            machine, which needs a C++ compiler to make and is machine code: load only your own.
        transform: whether the transform is part of the file. Then uint8 faces `(B, 1, R, R)`, RGB
            ones for a preset with colour, go in, scaled to the preset's `resize` px, by the name
            `images`; else float views `(B, C, S, S)` as `create_transform(model)` makes them, by
            the name `views`, of presets with one view. Out come `probabilities` `(B, K)`,
            calibrated, a row for each.

    Raises:
        OptimizeError: the file gives other answers than the model.
        CheckpointError: the file would hold what none may that a predictor opens.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export("resnet18_025", folder + "/resnet18_025.onnx")
        ...     open_exported(path)
        Optimized('resnet18_025', preset='fer40_center', engine='onnxruntime')
    """
    target, kind = as_path(path), Path(path).suffix.lower()
    if kind not in SUFFIXES:
        raise ArgumentError(f"{target}: an exported file's name ends in .onnx or .pt2")
    if not isinstance(transform, bool):
        raise ArgumentError(f"transform is whether it is part of the file, got {transform!r}")
    network = resolve(model)
    if network.labels is None:
        raise LabelError(f"{network.name!r} was not trained: set model.labels to export it")
    preset, like = PRESETS[network.preset], next(network.parameters())
    if like.device.type != "cpu" or like.dtype != torch.float32:
        raise ArgumentError("export takes a float32 model on the CPU: model.cpu().float() first")
    if not (transform or preset.num_views == 1):
        raise ArgumentError(
            f"{preset.name!r} has {preset.num_views} views of a face, and who runs the file would "
            "have to fuse and calibrate after them: export with transform=True, or set "
            "model.preset to one with one view"
        )
    pipeline = nn.Sequential(Pipeline(network, preset, transform=transform), nn.Softmax(1)).eval()
    faces = as_faces(smooth_faces(7), color=preset.color)
    faces = preset.square(faces).mul(255).round().byte()
    example = faces[:4]
    if not transform:
        example = preset.evaluation_views(example).flatten(0, 1)[:4]
        example = for_network(example, network.in_channels).contiguous()
    entry = "images" if transform else "views"
    about = {
        "name": network.name,
        "labels": network.labels,
        "preset": to_plain(preset),
        "input": entry,
        "shape": ["batch", *example.shape[1:]],
        "origin": network.evidence.origin,
        "started_from": network.evidence.started_from,
        "state": network.state,
        "temperature": network.temperature_for(preset.name),
    }
    metadata = {"fer_zoo": json.dumps(about)}
    try:
        with replacing(target) as temporary, torch.inference_mode():
            if kind == ".onnx":
                names = (entry, "probabilities")
                temporary.write_bytes(to_onnx(pipeline, example, names=names, metadata=metadata))
            else:
                _package(pipeline, example, temporary, metadata)
            written = open_exported(temporary, allow_code=True)
            for n in (4, 1, 7):
                check_answers(
                    network,
                    written,
                    faces[:n],
                    dtype=torch.float32,
                    otherwise="so it was not written",
                )
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error})") from error
    return target


def write_for_others(model: Classifier, path: Path) -> None:
    """Write `onnx/model.onnx` of a repository: `pixel_values` `(B, 3, S, S)` to `logits` `(B, K)`.

    They are calibrated scores of the whole model, views and fusion included, of what the
    repository's `preprocessor_config.json` makes of images. The file is run on faces before it is
    put in place.

    Raises:
        OptimizeError: it gives other answers than the model, or cannot be made.
        MissingDependencyError: `fer-zoo[onnx]` is not installed.
    """
    own, preset = in_evaluation(deepcopy(model).cpu().float()), PRESETS[model.preset]
    faces = smooth_faces(7)
    example = pixel_values(preset, faces)
    pipeline = Pipeline(own, preset, transform=FromRGB(preset)).eval()
    with torch.inference_mode():
        content = to_onnx(pipeline, example[:4], names=("pixel_values", "logits"))
        truth = predict_scores(own, faces).softmax(1)
        answers = Session(lambda: content)(example).softmax(1)
    if not (difference := float((answers - truth).abs().max())) <= TOLERANCE[torch.float32]:
        raise OptimizeError(
            f"the ONNX file does not give the answers of {model.name!r}: its probabilities differ "
            f"by {difference:.2g}; leave onnx=True out"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def is_exported(model: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a model is given as the path of an exported file, pinned or not."""
    if not isinstance(model, str | os.PathLike):
        return False
    return os.fspath(model).partition(PIN)[0].lower().endswith(SUFFIXES)


def _package(pipeline: nn.Module, example: Tensor, path: Path, metadata: dict[str, str]) -> None:
    from torch._inductor import aoti_compile_and_package

    batch = torch.export.Dim("batch", min=1)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        program = torch.export.export(pipeline, (example,), dynamic_shapes=({0: batch},))
        packed = aoti_compile_and_package(
            program,
            package_path=f"{folder}/faces.pt2",  # torch takes no other suffix
            inductor_configs={"aot_inductor.metadata": metadata},
        )
        path.write_bytes(Path(packed).read_bytes())


@dataclass(frozen=True, kw_only=True)
class _About:
    name: str
    labels: tuple[str, ...]
    preset: Any
    input: Literal["images", "views"]
    shape: tuple[Any, ...]
    origin: str | None = None
    started_from: str = ""
    state: str = ""
    temperature: float = 1.0


def _read(path: Path, sha256: str) -> bytes:
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            raise CheckpointError(f"{path}: {size:,} bytes, and {MOST_BYTES:,} are allowed")
        data = file.read()
    check_sha256(data, sha256 or None, path)
    return data


def open_exported(path: str | os.PathLike[str], *, allow_code: bool = False) -> Optimized:
    """Return what a file that `export` wrote computes; machine code needs leave or a digest."""
    place, _, pin = os.fspath(path).partition(PIN)
    read = partial(_read, Path(place).absolute(), pin)
    if place.lower().endswith(".onnx"):
        call: Session | Package = Session(read, place)
    elif allow_code or pin:
        call = Package(read, place)
    else:
        raise ArgumentError(
            f"{place} is machine code, which can do whatever you can: run it only if you made it "
            "yourself, with allow_code=True (--allow-code on the command line), or name the sha256 "
            f"that its maker gave you: {place}{PIN}..."
        )

    def refuse(reason: object) -> NoReturn:
        raise CheckpointError(f"{place}: {reason}, so fer_zoo.export did not write this file")

    try:
        text = call.facts.metadata.get("fer_zoo", "")
        said = read_json(text, lambda reason: refuse(f"its metadata {reason}"))
        about = from_plain(_About, said, "its metadata")
        labels, preset = check_labels(about.labels), restore(about.preset)
    except (ArgumentError, LabelError, UnknownNameError) as error:
        refuse(error)
    inside, channels = about.input == "images", about.shape[1] if len(about.shape) > 1 else 0
    side = preset.resize if inside else preset.size
    known = (3 if preset.color else 1,) if inside else (3,) if preset.color else (1, 3)
    if about.shape != ("batch", channels, side, side) or channels not in known:
        refuse(f"its input is {about.shape}")
    if preset.num_views > 1 and not inside:
        refuse(f"its {preset.num_views} views of a face are outside")
    if isinstance(call, Session):
        value = Value(about.input, UINT8 if inside else FLOAT, (None, *about.shape[1:]))
        if call.facts[1:] != ([value], [Value("probabilities", FLOAT, (None, len(labels)))]):
            refuse(f"it takes {call.facts.inputs} and gives {call.facts.outputs}")
    found = Optimized(about.name, labels, preset, Program(call, preset, about.input, int(channels)))
    found.state, found.temperature = about.state, {preset.name: about.temperature}
    return found
