"""Plain averaging."""

import math
from typing import Any, Literal

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

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that build this fusion again."""
        return {"space": self.space}


def check_space(space: str) -> None:
    """Raise unless `space` is `"probability"` or `"logit"`."""
    if space not in ("probability", "logit"):
        raise ArgumentError(f"space must be 'probability' or 'logit', got {space!r}")
