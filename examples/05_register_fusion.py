"""
Register your own fusion
========================

A fusion turns member logits (M, B, K) into scores (B, K) whose softmax is the fused probability.
One class with a name is listed, saved, loaded and used by the command line like any other.
"""

from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import fer_zoo


@fer_zoo.register_fusion("by_confidence")
class ByConfidence(fer_zoo.fusion.Fusion):
    """Members averaged with weights that fall with the entropy of what each says of the face."""

    def __init__(self, num_members: int, num_classes: int, *, sharpness: float = 2.0) -> None:
        super().__init__(num_members, num_classes)
        self.sharpness = sharpness

    def forward(self, member_logits: Tensor) -> Tensor:
        """Return the log of the weighted mean of the members' probabilities."""
        log_p = member_logits.log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        weights = (-self.sharpness * entropy).log_softmax(0)
        return (weights[..., None] + log_p).logsumexp(0)

    def options(self) -> dict[str, float]:
        """Say what builds this fusion again, for the checkpoint."""
        return {"sharpness": self.sharpness}


print(fer_zoo.list_fusions())

# %%
# By name, or as an object with other options.

members = [fer_zoo.create(name, weights="default") for name in ("resnet18_025", "vgg19_025")]
model = fer_zoo.create_ensemble(members, fusion=ByConfidence(2, 7, sharpness=4.0)).eval()
path = fer_zoo.save(model, f"{mkdtemp()}/by_confidence.safetensors")
print(fer_zoo.load(path).fusion)

# %%
# How much the first member counts, by how sure the two are of the same class.

sure = torch.linspace(1 / 7, 0.99, 80)
one = torch.stack([sure, *[(1 - sure) / 6] * 6], 1).log()
shares = torch.empty(80, 80)
for i, row in enumerate(one):
    log_p = torch.stack([row.expand(80, 7), one])
    entropy = -(log_p.exp() * log_p).sum(-1)
    shares[i] = (-4.0 * entropy).softmax(0)[0]
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
image = axes.imshow(shares, origin="lower", cmap="cividis", extent=(1 / 7, 1, 1 / 7, 1))
axes.set(xlabel="the second member's probability", ylabel="the first member's probability")
figure.colorbar(image, label="weight of the first member")
plt.show()

# %%

fer_zoo.Predictor(path)("faces/grace_hopper.png")
