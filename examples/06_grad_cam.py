"""
Explain a prediction
====================

Grad-CAM (arXiv 1610.02391) shows which part of the face speaks for a class. Networks of the zoo are
plain ``torch.nn.Module``, so captum's works as it is.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from captum.attr import LayerAttribution, LayerGradCam

import fer_zoo

model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
resnet, vgg = model.members
# The last maps before 40 px become 5 px, and of VGG19, which pools more, those of 5 px.
layers = {"ResNet18, 10 px": (resnet, resnet.layer3), "VGG19, 5 px": (vgg, vgg.features[38])}
transform = fer_zoo.create_transform(model)

# %%
# The transform gives the network's view of a face; the target is the class that won.

names = ("drawn_happy", "drawn_surprise", "eileen_collins", "grace_hopper")
files = [Path(f"faces/{name}.png") for name in names]
figure, grid = plt.subplots(
    len(layers) + 1, len(files), figsize=(1.9 * len(files), 6), layout="constrained"
)
for column, file in enumerate(files):
    view = transform(file)[None]
    grid[0][column].imshow(view[0, 0], cmap="gray")
    grid[0][column].set_title(file.stem, fontsize=9)
    for row, (name, (network, layer)) in enumerate(layers.items(), start=1):
        winner = int(network(view).argmax())
        maps = LayerGradCam(network, layer).attribute(view, target=winner, relu_attributions=True)
        heat = LayerAttribution.interpolate(maps, view.shape[-2:], interpolate_mode="bilinear")
        axes = grid[row][column]
        axes.imshow(view[0, 0], cmap="gray")
        axes.imshow(heat.detach()[0, 0], cmap="cividis", alpha=0.55)
        axes.set_title(f"{name}: {network.labels[winner]}", fontsize=8)
for axes in grid.flat:
    axes.axis("off")
plt.show()

# %%
# A map is no proof. It is coarse, it follows the gradient of one layer, and a network that looks at
# the mouth may still be wrong for other reasons. What a network makes of an image without a face
# shows why: it names a class all the same.

blank = transform(torch.full((1, 48, 48), 128, dtype=torch.uint8))[None]
for network in model.members:
    shares = network(blank).softmax(1)[0].tolist()
    print(network.name, network.labels[shares.index(max(shares))], f"{max(shares):.0%}")
