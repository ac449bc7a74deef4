"""Whole pipelines as files that run without fer_zoo: ONNX, and AOTInductor's packages."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fer_zoo._files import replacing
from fer_zoo.errors import ArgumentError, CheckpointError, LabelError, OptimizeError
from fer_zoo.inference.engines import Pipeline, session, to_onnx
from fer_zoo.inference.runtime import TOLERANCE, _faces
from fer_zoo.inference.scoring import BatchSize, as_faces, evaluating, in_parts
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset

SUFFIXES = (".onnx", ".pt2")


def export(
    model: Classifier,
    path: str | os.PathLike[str],
    *,
    preset: Literal["inside", "outside"] = "inside",
) -> Path:
    """Write a model as a file that runs without fer_zoo, with a dynamic batch.

    The file is run on faces before it is put in place, and refused if its probabilities are not the
    model's. Labels, preset and what goes in and out are in its metadata.

    Args:
        model: a trained network or ensemble; ensembles are exported whole.
        path: `.onnx`, for onnxruntime and its many homes (`fer-zoo[onnx]`); or `.pt2`, a package of
            AOTInductor for `torch._inductor.aoti_load_package` on the same kind of machine, which
            needs a C++ compiler to make and is machine code: load only your own.
        preset: with the transform inside, uint8 faces `(B, 1, R, R)` go in, scaled to the preset's
            `resize` px (48 for FER2013's), by the name `images`; outside, float views
            `(B, C, S, S)` as `create_transform(model)` makes them, by the name `views`, and each
            view has its own row. Out come `probabilities` `(B, K)`, calibrated.

    Raises:
        OptimizeError: the file gives other answers than the model.

    Example:
        >>> import tempfile, fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export(model, folder + "/resnet18_025.onnx")
        ...     predict = fer_zoo.Predictor(path)
        >>> predict.labels == model.labels
        True
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ArgumentError(f"{target}: an exported file's name ends in .onnx or .pt2")
    if not isinstance(model, Classifier):
        raise ArgumentError(f"export takes a model of the zoo, got {type(model).__name__}")
    if preset not in ("inside", "outside"):
        raise ArgumentError(f"preset is 'inside' or 'outside' the file, got {preset!r}")
    if model.labels is None:
        raise LabelError(f"{model.name!r} was not trained: set model.labels before it is exported")
    recipe = PRESETS[model.preset]
    like = next(model.parameters())
    if like.device.type != "cpu" or like.dtype != torch.float32:
        raise ArgumentError("export takes a float32 model on the CPU: model.cpu().float() first")
    pipeline = Pipeline(model, recipe, inside=preset == "inside").eval()
    example = recipe.square(_faces(4)).mul(255).round().byte()
    if preset == "outside":
        example = recipe.evaluation_views(example).flatten(0, 1)[:4]
        example = example.expand(-1, model.in_channels, -1, -1).contiguous()
    entry = "images" if preset == "inside" else "views"
    about = {
        "name": model.name,
        "labels": model.labels,
        "preset": model.preset,
        "preset_is": preset,
        "input": entry,
        "shape": ["batch", *example.shape[1:]],
        "origin": model.origin,
    }
    with replacing(target) as temporary, evaluating(model):
        if target.suffix == ".onnx":
            metadata = {"fer_zoo": json.dumps(about)}
            temporary.write_bytes(
                to_onnx(pipeline, example, names=(entry, "probabilities"), metadata=metadata)
            )
        else:
            _package(pipeline, example, temporary, json.dumps(about))
        expected = pipeline(example)
        for rows in (example, example[:1], example.repeat(3, 1, 1, 1)[:7]):
            found = Exported(temporary).run(rows)
            difference = float((found - expected.repeat(2, 1)[: len(rows)]).abs().max())
            if not difference <= TOLERANCE[torch.float32]:
                raise OptimizeError(
                    f"{target} would differ from {model.name!r} by {difference:.2g} in a "
                    "probability, so it was not written"
                )
    return target


def _package(pipeline: Pipeline, example: Tensor, path: Path, about: str) -> None:
    from torch._inductor import aoti_compile_and_package

    with torch.no_grad():
        program = torch.export.export(
            pipeline, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
        )
        settings = {"aot_inductor.metadata": {"fer_zoo": about}}
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)


class Exported:
    """A file that `export` wrote, as something a `Predictor` runs.

    Raises:
        CheckpointError: there is no file, or `export` did not write it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f"{path}: no such file")
        if self.path.suffix.lower() == ".onnx":
            runner = session(str(self.path))
            known, entry = runner.get_modelmeta().custom_metadata_map, runner.get_inputs()[0].name
            self._run: Any = lambda x: torch.from_numpy(runner.run(None, {entry: x.numpy()})[0])
        else:
            from torch._inductor import aoti_load_package

            self._run = aoti_load_package(str(self.path))
            known = self._run.get_metadata()
        try:
            about = json.loads(known["fer_zoo"])
            self.name, self.labels = about["name"], tuple(about["labels"])
            self.entry, self.in_channels = about["input"], int(about["shape"][1])
            name = str(about["preset"])
        except (KeyError, ValueError, TypeError):
            raise CheckpointError(f"{path}: fer_zoo.export did not write this file") from None
        if name not in PRESETS:
            raise CheckpointError(
                f"{path} was exported with the preset {name!r}, which is not here: register it "
                "(fer_zoo.register_preset) before the file is loaded"
            )
        self.preset = PRESETS[name]

    def run(self, x: Tensor) -> Tensor:
        """Return probabilities `(B, K)` of what the file takes."""
        found: Tensor = self._run(x.contiguous())
        return found

    def predict_scores(
        self, images: Tensor, *, preset: Preset | None = None, batch_size: int = 256
    ) -> Tensor:
        """Return scores `(B, K)`, float64, of faces; their softmax is the probabilities.

        With the transform inside the file, faces of another size are scaled and rounded to 8 bits
        first, which a model in Python does not do.
        """
        if preset is not None and preset != self.preset:
            raise ArgumentError(
                f"{self.path} was exported with the preset {self.preset.name!r}; export the model "
                f"again with model.preset = {preset.name!r}"
            )

        def part_scores(part: Tensor) -> Tensor:
            if self.entry == "images":
                faces = self.preset.square(part)
                return self.run(faces.mul(255).round().byte()).double().log()
            views = self.preset.evaluation_views(part)
            shape = views.shape[:2]
            rows = self.run(views.flatten(0, 1).expand(-1, self.in_channels, -1, -1))
            return self.preset.combine(rows.log().unflatten(0, shape)).double()

        size = BatchSize(batch_size)
        return torch.cat(
            in_parts(as_faces(images), part_scores, size=size, views=self.preset.num_views)
        )
