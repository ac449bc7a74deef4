"""VGG19 with batch norm (Simonyan & Zisserman 2015, arXiv 1409.1556, E) for small gray faces.

The names in `features` are torchvision's `vgg19_bn`'s, so its checkpoints load.
"""

from typing import Any

from torch import Tensor, nn

from fer_zoo.models.base import Classifier, init_convolutions, make_linear

_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


class VGG(Classifier):
    """Sixteen 3x3 convolutions: `(B, in_channels, H, W)`, from 32 px, to `(B, num_classes)`.

    Layers: stages of 2, 2, 4, 4 and 4 convolutions with 64, 128, 256, 512 and 512 maps, each
    convolution followed by batch norm and ReLU, each stage by a 2x2 max-pool. What is left of the
    image is averaged, then classified. With 1 channel and 7 classes it has 20,037,831 parameters,
    with `hidden=4096`, the thesis', 38,945,479, and at a quarter of the width 1,256,247.

    Args:
        num_classes: width of the head.
        in_channels: 1 for gray, 3 for RGB.
        width: maps of the first stage.
        hidden: width of the two dense layers, 0 for none.
        dropout: probability of dropping a unit in front of each dense layer's successor.

    Example:
        >>> import torch
        >>> VGG(num_classes=7, width=16)(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 7])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        width: int = 64,
        hidden: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        layers: list[nn.Module] = []
        inputs = in_channels
        for maps, depth in _STAGES:
            outputs = maps * width // 64
            for _ in range(depth):
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.dropout: nn.Module = nn.Dropout(dropout)
        self.classifier: nn.Module = make_linear(inputs, num_classes)
        self.num_features = inputs
        if hidden:
            self.num_features = hidden
            self.dropout = nn.Identity()
            self.classifier = nn.Sequential(
                make_linear(inputs, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                make_linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                make_linear(hidden, num_classes),
            )
        init_convolutions(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns: the first convolution, then the five stages or their convolutions."""
        groups: list[tuple[str, tuple[int, int]]] = []
        stage = 0
        for i, layer in enumerate(self.features):
            stage += isinstance(layer, nn.MaxPool2d)
            if isinstance(layer, nn.Conv2d) and i:
                pattern = rf"^features\.(?:{i}|{i + 1})\."
                groups.append((pattern, (stage, 0 if coarse else i)))
        return {"stem": r"^features\.[01]\.", "blocks": groups}

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map `(B, C, H/32, W/32)`."""
        return self.features(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a feature map and return logits, or the features `(B, num_features)` before them."""
        x = self.dropout(x.mean((2, 3)))
        if isinstance(self.classifier, nn.Sequential):
            x = self.classifier[:-1](x)
        return x if pre_logits else self.get_classifier()(x)

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        head = self.classifier
        return head[-1] if isinstance(head, nn.Sequential) else head

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on."""
        head = self._fresh_head(num_classes)
        if isinstance(self.classifier, nn.Sequential):
            self.classifier[-1] = head
        else:
            self.classifier = head
