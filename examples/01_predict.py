"""
Label faces and photographs
===========================

A predictor is a model with its weights, its transform and its labels.
"""

from pathlib import Path

import fer_zoo

predict = fer_zoo.Predictor("resnet18")
faces = sorted(Path("faces").glob("*.png"))
predict(faces)

# %%
# Each prediction has the probability of every class, calibrated. A file that cannot be used does
# not stop the rest.

for prediction in predict(["faces/eileen_collins.png", "faces/no_such_file.png"]):
    print(prediction)

# %%
# Whole photographs
# -----------------
#
# FER models want a cropped face. A ``PhotoPredictor`` finds the faces first and cuts them as
# FER2013 was cut; any function from an RGB array to boxes will do as its ``detector``.

find = fer_zoo.PhotoPredictor("resnet18")
photos = find(sorted(Path("photographs").glob("*.jpg")))
photos

# %%
# The boxes are in the pixels of the photograph.

import matplotlib.pyplot as plt
from PIL import Image

figure, panels = plt.subplots(1, len(photos), figsize=(8, 4.4), layout="constrained")
for axes, photo in zip(panels, photos, strict=True):
    with Image.open(photo.source) as image:
        axes.imshow(image)
    axes.axis("off")
    for face in photo.faces:
        left, top, right, bottom = face.box
        axes.add_patch(
            plt.Rectangle((left, top), right - left, bottom - top, fill=False, ec="w", lw=2)
        )
        said = f"{face.label} {face.probability:.0%}"
        axes.text(left, top - 8, said, color="white", weight="bold")
plt.show()

# %%
# A table has one row a face: ``pandas.DataFrame(photos.to_dicts())`` is all it takes.

photos.to_dicts()[0]
