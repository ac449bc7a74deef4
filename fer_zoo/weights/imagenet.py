"""ImageNet checkpoints of RGB networks as a start for gray ones."""

from collections.abc import Mapping

from torch import Tensor

from fer_zoo.errors import ArgumentError, StateDictError
from fer_zoo.models import Classifier, get_spec
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
        >>> rgb = torchvision.models.resnet18(weights=None).state_dict()
        >>> gray = fer_zoo.create("resnet18_7x7")
        >>> load_imagenet(gray, rgb)
        >>> bool((gray.conv1.weight[:, 0] - rgb["conv1.weight"].sum(1)).abs().max() < 1e-6)
        True
    """
    from timm.models import adapt_input_conv

    spec = get_spec(model.name)
    if not spec.first_conv:
        raise ArgumentError(f"{model.name!r} does not say where its stem is (ModelSpec.first_conv)")
    if spec.first_conv not in tensors:
        raise StateDictError(
            f"no {spec.first_conv!r} among the tensors: not a checkpoint of this shape"
        )
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
