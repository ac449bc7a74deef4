"""
Label faces and photographs
===========================

A predictor is a model with its weights, its transform and its labels.
"""

from pathlib import Path

import fer_zoo

predict = fer_zoo.Predictor("ensemble_r18_vgg19_025")
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
# FER models want a cropped face. With a detector there is one list of predictions per photograph,
# cut as FER2013 was; any function from an RGB array to boxes will do.

predict = fer_zoo.Predictor("ensemble_r18_vgg19_025", detector=fer_zoo.FaceDetector())
photographs = sorted(Path("photographs").glob("*.jpg"))
found = predict(photographs)
found

# %%
# The boxes are in the pixels of the photograph.

import matplotlib.pyplot as plt
from PIL import Image

figure, panels = plt.subplots(1, len(photographs), figsize=(8, 4.4), layout="constrained")
for axes, path, faces in zip(panels, photographs, found, strict=True):
    with Image.open(path) as image:
        axes.imshow(image)
    axes.axis("off")
    for face in faces:
        left, top, right, bottom = face.box
        axes.add_patch(
            plt.Rectangle((left, top), right - left, bottom - top, fill=False, ec="w", lw=2)
        )
        axes.text(left, top - 8, f"{face.label} {face.score:.0%}", color="white", weight="bold")
plt.show()
