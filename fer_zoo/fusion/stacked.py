"""Stacking: a linear head on the members' outputs, the thesis' ensemble."""

import math

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError
from fer_zoo.fusion.base import Fusion, register_fusion


@register_fusion("stacked")
class Stacked(Fusion):
    """A linear layer on the concatenated member logits (Wolpert 1992; the thesis, section 3).

    The cross-entropy is convex in weight and bias. A penalty of `l2 / 2` times the squared
    distance from plain logit averaging is added to it, so that with few faces the head stays near
    the average; `l2=0` gives multinomial logistic regression (scikit-learn's
    `StackingClassifier` with `cv="prefit"`).

    Unfitted, it averages logits.

    Example:
        >>> import torch
        >>> Stacked(2, 3)(torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]]]))
        tensor([[0.5000, 0.5000, 0.0000]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, num_members: int, num_classes: int, *, l2: float = 0.01) -> None:
        super().__init__(num_members, num_classes)
        if not (isinstance(l2, int | float) and 0 <= l2 < math.inf):
            raise ArgumentError(f"l2 must be a number from 0, got {l2!r}")
        self.l2 = l2
        self.linear = nn.Linear(num_members * num_classes, num_classes)
        self.reset_parameters()

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""
        self.check(member_logits)
        return self.linear(member_logits.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]

    def reset_parameters(self) -> None:
        """Make the head average logits."""
        with torch.no_grad():
            self.linear.weight.copy_(self._average())
            self.linear.bias.zero_()

    def penalty(self) -> Tensor:
        """Return `l2 / 2` times the squared distance from averaging."""
        distance = (self.linear.weight - self._average()).square().sum()
        return self.l2 / 2 * (distance + self.linear.bias.square().sum())

    def _average(self) -> Tensor:
        like = self.linear.weight
        eye = torch.eye(self.num_classes, dtype=like.dtype, device=like.device)
        return eye.repeat(1, self.num_members) / self.num_members
