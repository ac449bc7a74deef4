"""
Compare fusions
===============

The same two networks under each fusion of the zoo, face by face.
"""

from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch

import fer_zoo

NAME = "ensemble_r18_vgg19"
models = {
    fusion: fer_zoo.create(NAME, weights="default", fusion=fusion)
    for fusion in ("average", "weighted", "stacked", "vote", "max")
}
labels = models["average"].labels
print(*map(repr, models.values()), sep="\n")

# %%
# What they say of one face. A vote of two members knows only halves.

face = "faces/drawn_surprise.png"
said = {fusion: fer_zoo.Predictor(model)(face) for fusion, model in models.items()}
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9"]
for i, (fusion, prediction) in enumerate(said.items()):
    places = [k + 0.16 * (i - 2) for k in range(len(labels))]
    values = list(prediction.probabilities.values())
    axes.bar(places, values, 0.15, color=colours[i], label=fusion)
axes.set_xticks(range(len(labels)), labels)
axes.set_ylabel("probability")
axes.legend(frameon=False)
plt.show()

# %%
# Two fusions have parameters, fitted on faces that the members were not trained on. `stacked` gives
# each class's score its own mixture of all logits.

fer_zoo.plots.fusion(models["stacked"])

# %%
# Whether a fusion is better than another is a question for McNemar's test on the same faces, here
# drawn ones; on FER2013 it is `fer-zoo evaluate` with `--split public`.

from render_faces import EXPRESSIONS, draw_folder

folder = draw_folder(mkdtemp(), {name: name for name in EXPRESSIONS}, 12, seed=1)
drawn = fer_zoo.data.ImageFolder(folder)
index = torch.tensor([labels.index(name) for name in drawn.labels])
drawn = fer_zoo.data.FaceDataset(drawn.images, index[drawn.targets], labels=labels, name="drawings")
results = {fusion: fer_zoo.evaluate(model, drawn) for fusion, model in models.items()}
for fusion in models:
    print(fer_zoo.compare(results["average"], results[fusion]))
