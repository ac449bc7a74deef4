"""Fusions without parameters: averaging, the most confident member, and the majority."""

import math
from typing import Literal

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError
from fer_zoo.fusion.base import Fusion, register_fusion

Space = Literal["probability", "logit"]


@register_fusion("average")
class Average(Fusion):
    """The mean of the members' probabilities, or of their logits.

    `space="probability"` is the linear opinion pool (scikit-learn's soft `VotingClassifier`);
    `space="logit"` the normalised geometric mean of the probabilities.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
        >>> Average(2, 2)(logits).softmax(-1)
        tensor([[0.6904, 0.3096]])
    """

    def __init__(self, num_members: int, num_classes: int, *, space: Space = "probability") -> None:
        super().__init__(num_members, num_classes)
        check_space(space)
        self.space = space

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""
        self.check(member_logits)
        if self.space == "logit":
            return member_logits.mean(0)
        return member_logits.log_softmax(-1).logsumexp(0) - math.log(self.num_members)


@register_fusion("max")
class Maximum(Fusion):
    """The highest probability that any member gives to a class, normalised (Kittler et al. 1998).

    Example:
        >>> import torch
        >>> Maximum(2, 2)(torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])).argmax(-1)
        tensor([0])
    """

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""
        self.check(member_logits)
        return member_logits.log_softmax(-1).amax(0)


@register_fusion("vote")
class Vote(Fusion):
    """Each member votes for its winner; a class's probability is its share of the votes.

    The mean probability is mixed in (1 % of one vote): it decides ties and keeps shares above zero.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
        >>> Vote(3, 2)(logits).argmax(-1)
        tensor([1])
    """

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""
        self.check(member_logits)
        p = member_logits.float().softmax(-1)
        winners = torch.nn.functional.one_hot(p.argmax(-1), self.num_classes)
        share = 0.01 / self.num_members
        return torch.lerp(winners.to(p.dtype).mean(0), p.mean(0), share).clamp_min(1e-12).log()


def check_space(space: str) -> None:
    """Raise unless `space` is `"probability"` or `"logit"`."""
    if space not in ("probability", "logit"):
        raise ArgumentError(f"space must be 'probability' or 'logit', got {space!r}")
