"""
Compare two models honestly
===========================

Two numbers are no comparison. What is needed: the same faces, unseen by both; how far chance alone
moves each figure; a test of the difference, face by face; and more than one figure.
"""

from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from render_faces import EXPRESSIONS, draw_folder

import fer_zoo

# Drawn faces, so that this runs anywhere; else fer_zoo.data.FER2013("fer2013.csv", "public").
folder = draw_folder(f"{mkdtemp()}/drawings", {name: name for name in EXPRESSIONS}, 30, seed=7)
faces = fer_zoo.data.ImageFolder(folder)
print(fer_zoo.data.data_report(faces).to_markdown())

# %%
# The report comes first. It finds most drawings to be near copies of each other, as they are: what
# follows holds for these drawings and for nothing else. Copies in real data make every interval too
# narrow, and copies of training faces every figure too good.
#
# Each model with its interval. A class that is not among the faces has no recall.

results = [
    fer_zoo.evaluate(fer_zoo.create(name, weights="default"), faces)
    for name in ("resnet18_025", "vgg19_025")
]
for result in results:
    low, high = result.interval
    print(f"{result.model}: {result.accuracy:.1%} ({low:.1%} to {high:.1%}), n = {result.n}")
fer_zoo.plots.recalls(results)

# %%
# Overlapping intervals do not say that two models are equal, for both err on many of the same
# faces. McNemar's test asks the faces on which they disagree.

comparison = fer_zoo.compare(*results)
comparison

# %%
# On the 3,589 faces of FER2013's PublicTest it is `resnet18_025` that is ahead. A figure belongs to
# the faces it was measured on.

names = ("resnet18_025", "vgg19_025")
published = {name: fer_zoo.weights.get_weights(name).scores[0] for name in names}
for name, score in published.items():
    print(f"{name}: {score.accuracy:.1%} of {score.faces}")

# %%
# How many faces would show a given difference? The half width of the interval at 70 %: 200 faces
# cannot tell 68 from 72 %, FER2013's 3,589 can.

sizes = np.array([100, 200, 500, 1000, 3589, 10_000])
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.loglog(sizes, 1.96 * np.sqrt(0.7 * 0.3 / sizes) * 100, "o-", color="#0072b2")
axes.set(xlabel="faces", ylabel="plus or minus, points")
axes.grid(alpha=0.3, which="both")
plt.show()

# %%
# Accuracy is one figure. Whether probabilities mean what they say is another: of the faces that get
# 80 %, four in five should be right.

fer_zoo.plots.reliability(results[1])
