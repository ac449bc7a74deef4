"""Fusions with parameters: a convex combination, and a linear head on the members' outputs."""

import math

import torch
from torch import Tensor, nn

from fer_zoo.errors import ArgumentError
from fer_zoo.fusion.base import Fusion, register_fusion
from fer_zoo.fusion.fixed import Space, check_space


@register_fusion("weighted")
class Weighted(Fusion):
    """Members averaged with weights that are positive and sum to one.

    With `space="probability"` the score is `log sum_m w_m p_m`, with `space="logit"` it is
    `sum_m w_mk log p_mk`, where weights may also differ by class (`per_class=True`). The
    cross-entropy is convex in the weights in each case (not for a mixture with weights per class,
    which is refused), and the softmax that makes them adds no other stationary point. Unfitted, the
    weights are equal.

    Example:
        >>> fusion = Weighted(2, 7)
        >>> fusion.weights
        tensor([[0.5000],
                [0.5000]])
    """

    def __init__(
        self,
        num_members: int,
        num_classes: int,
        *,
        space: Space = "probability",
        per_class: bool = False,
    ) -> None:
        super().__init__(num_members, num_classes)
        check_space(space)
        if type(per_class) is not bool or (per_class and space != "logit"):
            raise ArgumentError("per_class=True has a convex loss with space='logit' only")
        self.space, self.per_class = space, per_class
        self.theta = nn.Parameter(torch.zeros(num_members, num_classes if per_class else 1))

    @property
    def weights(self) -> Tensor:
        """The weights, shape `(M, 1)` or `(M, K)`; each column sums to one."""
        return self.theta.detach().softmax(0)

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""
        self.check(member_logits)
        log_p = member_logits.log_softmax(-1)
        if self.space == "logit":
            return (self.theta.softmax(0)[:, None] * log_p).sum(0)
        return (self.theta.log_softmax(0)[:, None] + log_p).logsumexp(0)

    def extra_repr(self) -> str:
        """Say the weight of each member; where they differ by class, its mean."""
        shown = ", ".join(f"{weight:.3f}" for weight in self.weights.mean(1).tolist())
        return f"{super().extra_repr()}, weights=[{shown}]"

    def reset_parameters(self) -> None:
        """Make all weights equal."""
        nn.init.zeros_(self.theta)


@register_fusion("stacked")
class Stacked(Fusion):
    """A linear layer on the concatenated member logits (Wolpert 1992; the thesis, section 3).

    The cross-entropy is convex in weight and bias. A penalty of `l2 / 2` times the squared distance
    from plain logit averaging is added to it, so that with few faces the head stays near the
    average; `l2=0` gives multinomial logistic regression. Unfitted, it averages logits.

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
