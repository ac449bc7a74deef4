"""ImageNet checkpoints of RGB networks as a start for gray ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fer_zoo.errors import ArgumentError, StateDictError, WeightsError
from fer_zoo.evidence import Evidence
from fer_zoo.models import Classifier, TimmMember, get_spec
from fer_zoo.weights.checkpoint import load_state_dict


def load_imagenet(model: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Load the body of torchvision's `resnet18` or `vgg19_bn` into the model of the same shape.

    The stem's three input channels are summed (`timm.models.adapt_input_conv`), so that a gray
    image gives what the RGB network gives for that image in all three channels. The head keeps its
    fresh values. All else is strict.

    Args:
        model: `resnet18_7x7`, `vgg19` or `vgg19_fc`.
        tensors: the RGB network's state dict, e.g.
            `torchvision.models.resnet18(weights="DEFAULT").state_dict()`.

    Raises:
        StateDictError: the bodies differ.

    Example:
        >>> import fer_zoo, torchvision
        >>> rgb, gray = torchvision.models.resnet18(), fer_zoo.create("resnet18_7x7")
        >>> load_imagenet(gray, rgb.state_dict())
        >>> gray.conv1.weight.shape
        torch.Size([64, 1, 7, 7])
    """
    from timm.models import adapt_input_conv

    spec = get_spec(model.name)
    if not spec.first_conv:
        raise ArgumentError(f"{model.name!r} does not say where its stem is (ModelSpec.first_conv)")
    if spec.first_conv not in tensors:
        raise StateDictError(
            f"no {spec.first_conv!r} among the tensors: not a checkpoint of this shape"
        )
    if not spec.classifier:
        raise ArgumentError(f"{model.name!r} does not say where its head is")
    head = f"{spec.classifier}."
    mixed = {k: v for k, v in tensors.items() if not k.startswith(head)}
    own = model.state_dict()
    mixed |= {k: v for k, v in own.items() if k.startswith(head)}
    counters = {k: v for k, v in own.items() if k.endswith(".num_batches_tracked")}
    mixed = counters | mixed  # the oldest files have none; batch norm does not need them
    stem = tensors[spec.first_conv]
    if stem.ndim == 4 and stem.shape[1] != model.in_channels:
        mixed[spec.first_conv] = adapt_input_conv(model.in_channels, stem)
    load_state_dict(model, mixed)


TORCHVISION = {
    "resnet18_7x7": ("resnet18", "ResNet18_Weights"),
    "vgg19": ("vgg19_bn", "VGG19_BN_Weights"),
    "vgg19_fc": ("vgg19_bn", "VGG19_BN_Weights"),
}
"""Which of torchvision's networks has the same body, and where its weights are described."""


def download_imagenet(model: Classifier) -> None:
    """Start a model from the ImageNet weights that torchvision or timm publish for it.

    They download them and keep them in their own caches. torchvision holds the file against the
    start of the sha256 in its name; timm checks no hash, so there only HTTPS vouches for the bytes.
    """
    if isinstance(model, TimmMember):
        source, tensors = _of_timm(model.name.removeprefix("timm/"))
    elif model.name in TORCHVISION:
        source, tensors = _of_torchvision(*TORCHVISION[model.name])
    else:
        raise ArgumentError(
            f"no ImageNet weights are published for {model.name!r}: its shape is another than "
            f"torchvision's. {', '.join(TORCHVISION)} and timm/<any> have some"
        )
    load_imagenet(model, tensors)
    stem = "summed to gray" if model.in_channels == 1 else "as it was"
    model.evidence = Evidence(started_from=f"{source} (stem {stem}, head new)")


def _of_torchvision(network: str, weights: str) -> tuple[str, Mapping[str, Tensor]]:
    from torchvision import models

    entry: Any = getattr(models, weights).IMAGENET1K_V1
    try:
        # Only tensors are unpickled; torch holds the file against the sha256 in its name.
        tensors = entry.get_state_dict(check_hash=True, progress=True, weights_only=True)
    except Exception as error:  # of urllib, of pickle, of torch: all say the same to a user
        raise WeightsError(_not_had(f"torchvision's {network}", entry.url, error)) from None
    return f"ImageNet: torchvision {weights}.{entry.name}", tensors


def _of_timm(architecture: str) -> tuple[str, Mapping[str, Tensor]]:
    import timm

    known = timm.get_pretrained_cfg(architecture)
    if known is None or not known.has_weights:
        raise ArgumentError(f"timm publishes no weights for {architecture!r}")
    try:
        network: Any = timm.create_model(architecture, pretrained=True)
    except Exception as error:  # of its hub client, of its transport, of torch
        raise WeightsError(_not_had(f"timm's {architecture}", known.hf_hub_id, error)) from None
    tag = f".{known.tag}" if known.tag and "." not in architecture else ""
    return (
        f"ImageNet: timm {architecture}{tag}",
        {f"model.{k}": v for k, v in network.state_dict().items()},
    )


def _not_had(what: str, where: object, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return (
        f"{what} weights cannot be had from {where} ({type(error).__name__}: {reason:.200}): check "
        "the connection; once downloaded they stay in the cache"
    )
