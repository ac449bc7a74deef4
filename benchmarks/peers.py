"""How others do it: torchvision's networks as built, and training on PIL images."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from fer_zoo.data import FaceDataset
from fer_zoo.models import VGG, Classifier, ResNet
from fer_zoo.transforms import Augmentation, Preset


class NotAvailableError(Exception):
    """There is no such thing here; the message says what is missing."""


def torchvision_network(model: Classifier) -> nn.Module:
    """Return torchvision's network of the same shape with the same weights, as built.

    Raises:
        NotAvailableError: torchvision has none.
    """
    from torchvision.models import resnet, vgg

    if isinstance(model, ResNet):
        network: nn.Module = resnet.resnet18(num_classes=model.num_classes)
        width = model.conv1.out_channels
        network.layer1 = nn.Sequential(*(resnet.BasicBlock(width, width) for _ in range(2)))
        for i in range(1, 4):
            inputs, maps = width * 2 ** (i - 1), width * 2**i
            convolution = nn.Conv2d(inputs, maps, 1, 2, bias=False)
            shortcut = nn.Sequential(convolution, nn.BatchNorm2d(maps))
            first = resnet.BasicBlock(inputs, maps, 2, shortcut)
            blocks = nn.Sequential(first, resnet.BasicBlock(maps, maps))
            setattr(network, f"layer{i + 1}", blocks)
        for stem in ("conv1", "bn1", "maxpool"):
            setattr(network, stem, copy.deepcopy(getattr(model, stem)))
        network.fc = copy.deepcopy(model.fc)
    elif isinstance(model, VGG):
        with torch.device("meta"):  # its own dense layers would be 120 million numbers
            network = vgg.VGG(nn.Identity(), init_weights=False)
        network.features = vgg.make_layers(_widths(model), batch_norm=True)
        network.features[0] = copy.deepcopy(model.features[0])
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = copy.deepcopy(model.classifier)
    else:
        raise NotAvailableError(f"torchvision has no network like {model.name!r}")
    network.load_state_dict(model.state_dict(), strict=True)
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _widths(model: VGG) -> list[int | str]:
    """Return the widths of a VGG as torchvision writes them, `M` for a pool."""
    layers = [m for m in model.features if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    return [m.out_channels if isinstance(m, nn.Conv2d) else "M" for m in layers]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Faces one by one, through PIL and torchvision's transforms, as a DataLoader takes them.

    Args:
        data: the faces.
        preset: whose training counterpart is done.
        how: its random part; mixing of images has no counterpart among the transforms.
    """

    def __init__(self, data: FaceDataset, preset: Preset, how: Augmentation) -> None:
        self.images, self.targets = data.images.numpy(), data.targets.tolist()
        self.transform = pil_transform(preset, how)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def pil_transform(preset: Preset, how: Augmentation) -> Callable[[Any], Tensor]:
    """Return the preset's training counterpart in torchvision's transforms on PIL images.

    Raises:
        NotAvailableError: a setting of `how` has no counterpart there.
    """
    from torchvision import transforms as tv

    if how.crop_area != (1.0, 1.0) or how.crop_ratio != (1.0, 1.0) or how.mixup or how.cutmix:
        raise NotAvailableError("the peers' loop knows neither resized crops nor mixed images")
    steps: list[Any] = []
    if preset.resize != 48:
        steps.append(tv.Resize(preset.resize))
    if how.scale != (1.0, 1.0) or how.shift or how.rotate:
        shift, bilinear = (how.shift, how.shift), tv.InterpolationMode.BILINEAR
        turn = tv.RandomAffine(how.rotate, shift, how.scale, interpolation=bilinear)
        steps.append(tv.RandomApply([turn], how.affine))
    steps += [tv.RandomCrop(preset.size, how.padding), tv.RandomHorizontalFlip(how.flip)]
    if how.brightness or how.contrast:
        steps.append(tv.ColorJitter(how.brightness, how.contrast))
    steps += [tv.ToTensor(), tv.Normalize(preset.mean, preset.std)]
    if how.erase:
        steps.append(tv.RandomErasing(how.erase, (0.02, 0.2)))
    return tv.Compose(steps)
