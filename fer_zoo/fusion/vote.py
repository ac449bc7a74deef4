"""Majority vote."""

import torch
from torch import Tensor

from fer_zoo.fusion.base import Fusion, register_fusion


@register_fusion("vote")
class Vote(Fusion):
    """Each member votes for its winner; a class's probability is its share of the votes.

    A little of the mean probability (1 % of one vote) is mixed in: it decides ties (scikit-learn's
    hard `VotingClassifier` takes the first class) and keeps every probability above zero.

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
