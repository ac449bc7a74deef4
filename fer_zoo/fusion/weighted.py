"""A convex combination whose weights are fitted."""

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
    cross-entropy is convex in the weights in each case (for a mixture with weights per class it
    would not be, so that pair is refused). The weights are a softmax of the parameters, which
    adds no other stationary point: where the gradient with respect to the parameters vanishes,
    all members have the same partial derivative, and that is the condition for the optimum.

    Unfitted, the weights are equal.

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
            raise ArgumentError(
                "weights per class have a convex loss between logits only: "
                "pass space='logit' with per_class=True"
            )
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
