"""What a repository says to other libraries: timm, transformers, transformers.js, ONNX Runtime.

They give colour images, so what they read takes three channels: timm's networks have their gray
stem as one for RGB, and everything else begins with the weights of luma.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fer_zoo.models import Classifier, Ensemble, TimmMember
from fer_zoo.transforms import PRESETS, Preset
from fer_zoo.transforms.presets import check_shared
from fer_zoo.weights.storage import to_rgb

MODEL_TYPE = "fer_zoo"
"""What transformers knows our networks by, once `fer_zoo.hf` is imported."""
LUMA = (0.299, 0.587, 0.114)
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "CLIPImageProcessor"
"""The one among the well-known processors that scales the shorter edge, then crops."""
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # as Pillow counts
NEAR = 1e-3  # of the largest logit, as far as a stem for RGB may move one


class TimmForm(NamedTuple):
    """A network as timm builds it: which, its gray stems, and whether RGB ones answer the same."""

    architecture: str
    stems: list[str]
    same: bool


def side_of(preset: Preset) -> int:
    """Return the side in px of the images that others make for a preset.

    One view is cut outside, as everybody's processors do. Ten are cut inside of the network, from
    the whole square.
    """
    # Others round the margin down; of an odd one a view could be another.
    outside = preset.num_views == 1 and (preset.resize - preset.size) % 2 == 0
    return preset.size if outside else preset.resize


def preprocessor_config(preset: Preset) -> dict[str, Any]:
    """Return `preprocessor_config.json`: what makes `pixel_values` `(B, 3, S, S)` of an image.

    Example:
        >>> preprocessor_config(PRESETS["fer40_center"])["crop_size"]
        {'height': 40, 'width': 40}
    """
    check_shared(preset)
    side = side_of(preset)
    mean, std = ([*v] if isinstance(v, tuple) else [v] * 3 for v in (preset.mean, preset.std))
    return {
        "image_processor_type": PROCESSOR,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": preset.resize},
        "resample": RESAMPLE[preset.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def pixel_values(preset: Preset, faces: Tensor) -> Tensor:
    """Return what a processor of `preprocessor_config` makes of gray faces `(B, 1, H, W)`."""
    squares, side = preset.normalized(preset.square(faces)), side_of(preset)
    first = (preset.resize - side) // 2
    cut = squares[..., first : first + side, first : first + side]
    return cut.expand(-1, 3, -1, -1).contiguous()


class FromRGB(nn.Module):
    """What makes a network's views of `pixel_values`, as a part of a program."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        check_shared(preset)
        self.preset, self.cut_inside = preset, side_of(preset) != preset.size

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return views `(B * num_views, C, size, size)` of `(B, 3, S, S)`."""
        seen = pixel_values
        if not self.preset.color:
            red, green, blue = pixel_values.split(1, 1)
            seen = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        return self.preset.cut(seen).flatten(0, 1) if self.cut_inside else seen


def transformers_config(model: Classifier, form: TimmForm | None = None) -> dict[str, Any]:
    """Return what others ask of `config.json`; with `form`, which network of timm's it is."""
    labels = model.labels or ()
    found = {
        "problem_type": "single_label_classification",
        "num_classes": model.num_classes,
        "num_features": model.num_features,
    }
    if labels:
        found["id2label"] = {str(i): name for i, name in enumerate(labels)}
        found["label2id"] = {name: i for i, name in enumerate(labels)}
    if isinstance(model, Ensemble) and model.mixed:  # only fer_zoo shows each member its own view
        return found
    if form is not None:
        found |= _timm_config(model, form)
        if form.same and _is_all_of(model):
            architecture = "TimmWrapperForImageClassification"
            return {"model_type": "timm_wrapper", "architectures": [architecture]} | found
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["FerZooForImageClassification"],
        "image_processor_type": PROCESSOR,
    } | found


def _is_all_of(model: Classifier) -> bool:
    """Whether a network says all that its model does: no other views, no temperature."""
    preset = PRESETS[model.preset]
    fixed = isinstance(model, TimmMember) and model.fixed_size  # then the model scales its views
    return not fixed and side_of(preset) == preset.size and model.temperature_for(preset.name) == 1


def _timm_config(model: Classifier, form: TimmForm) -> dict[str, Any]:
    channels = 3 if form.same else model.in_channels
    preset, known = PRESETS[model.preset], model.pretrained_cfg
    outer = {k: (v or "").removeprefix("model.") for k, v in model._outer_layers().items()}
    sides = (isinstance(model, TimmMember) and model.fixed_size) or known["input_size"][1:]
    known |= {
        "architecture": form.architecture,
        "input_size": (channels, *sides),
        "mean": (preset.mean,) * channels,
        "std": (preset.std,) * channels,
        # timm rounds size / crop_pct down, and that may be a hair less than the whole number.
        "crop_pct": preset.size / (preset.resize + 0.01),
    }
    return {
        "architecture": form.architecture,
        "model_args": {"in_chans": channels},
        "pretrained_cfg": known | outer,
    }


@torch.no_grad()
def timm_form(model: Classifier) -> TimmForm | None:
    """Return how timm builds the same network, None if it has no such."""
    architecture = model.name.removeprefix("timm/")
    if model.name == "resnet18_7x7":
        architecture = "resnet18"
    elif not isinstance(model, TimmMember):
        return None
    tensors = {k.removeprefix("model."): t.cpu() for k, t in model.state_dict().items()}
    gray = _timm_network(architecture, model, model.in_channels)
    rgb = _timm_network(architecture, model, 3)
    shapes = {name: t.shape for name, t in rgb.state_dict().items()}
    stems = [name for name, t in tensors.items() if shapes.get(name) != t.shape]
    try:
        gray.load_state_dict(tensors)
        rgb.load_state_dict(as_rgb(tensors, stems))
        side = gray.pretrained_cfg["input_size"][-1]
        side = side if gray.pretrained_cfg.get("fixed_input_size") else PRESETS[model.preset].size
        x = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))
        ours, theirs = gray(x.expand(-1, model.in_channels, -1, -1)), rgb(x.expand(-1, 3, -1, -1))
        same = bool((theirs - ours).abs().max() <= NEAR * ours.abs().max())
    except RuntimeError:  # tensors that do not fit: the RGB network is another
        same = False
    return TimmForm(architecture, stems if same else [], same)


def as_rgb(tensors: Mapping[str, Tensor], stems: list[str]) -> dict[str, Tensor]:
    """Return a network's tensors with its gray stems as stems for RGB."""
    return {name: to_rgb(t) if name in stems else t for name, t in tensors.items()}


def _timm_network(architecture: str, model: Classifier, channels: int) -> Any:
    import timm

    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(
            architecture, pretrained=False, num_classes=model.num_classes, in_chans=channels
        )
    return network.eval()
