"""The most confident member."""

from torch import Tensor

from fer_zoo.fusion.base import Fusion, register_fusion


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
