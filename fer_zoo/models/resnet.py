"""ResNet18 for small gray faces (He et al. 2016, arXiv 1512.03385), its names torchvision's."""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from fer_zoo.models.base import Classifier, init_convolutions, make_linear


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: `(B, C_in, H, W)` to `(B, C, H/stride, W/stride)`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(Classifier):
    """A residual network: `(B, in_channels, H, W)`, H and W from 32 px, to `(B, num_classes)`.

    Layers: the stem `conv1` (64 maps); `layer1` to `layer4`, two blocks of two 3x3 convolutions
    each, with 64, 128, 256 and 512 maps, halving the side at the start of `layer2` to `layer4`;
    global average pooling; `fc`. With 1 channel and 7 classes it has 11,171,271 parameters, with
    stem `7x7` 11,173,831, and at a quarter of the width 700,791.

    Args:
        num_classes: width of the head.
        in_channels: 1 for gray, 3 for RGB.
        stem: `3x3` (stride 1, no pooling; 40 px stay 40) or `7x7` (stride 2, then a 3x3 max-pool of
            stride 2, the thesis'; 40 px become 10).
        width: maps of the first stage.
        pool: average only the top left `pool` px of the last map's sides, as the classic FER2013
            code does; all of it if not given.

    Example:
        >>> import torch
        >>> ResNet(num_classes=7, width=16)(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 7])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        stem: Literal["3x3", "7x7"] = "3x3",
        width: int = 64,
        pool: int | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels, self.pool = num_classes, in_channels, pool
        kernel, stride = (7, 2) if stem == "7x7" else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "7x7" else nn.Identity()
        stages = []
        widths = [width * 2**i for i in range(4)]
        for i, (inputs, outputs) in enumerate(zip([width, *widths], widths, strict=False)):
            stride = 2 if i else 1
            blocks = BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = widths[-1]
        self.fc = make_linear(self.num_features, num_classes)
        init_convolutions(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns: the stem, then the four stages or their blocks."""
        blocks = r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"
        return {"stem": r"^(?:conv1|bn1)", "blocks": blocks}

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map `(B, num_features, H', W')`."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a feature map to `(B, num_features)`; unless `pre_logits`, classify it."""
        x = (x[..., : self.pool, : self.pool] if self.pool else x).mean((2, 3))
        return x if pre_logits else self.fc(x)

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh head of `num_classes` in place; the labels are unknown from then on."""
        self.fc = self._fresh_head(num_classes)
