"""Draw faces beside what `resnet18` says of them: `python examples/picture.py FOLDER OUT.png`."""

import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import fer_zoo
from fer_zoo.data import image_files


def picture(files: list[Path]) -> Figure:
    """Return a figure with one face and its probabilities per column."""
    predictions = fer_zoo.Predictor("resnet18")(files)
    figure = Figure(figsize=(1.75 * len(files), 3.9), layout="constrained")
    faces, bars = figure.subplots(2, len(files), squeeze=False, height_ratios=[1.15, 1])
    for i, (file, prediction) in enumerate(zip(files, predictions, strict=True)):
        with Image.open(file) as image:
            faces[i].imshow(image.convert("L"), cmap="gray")
        faces[i].set_title(f"{prediction.label} {prediction.probability:.0%}", fontsize=11)
        faces[i].axis("off")
        names = list(prediction.probabilities)
        colours = ["#0b4f8a" if name == prediction.label else "#b8c4d0" for name in names]
        bars[i].barh(names, list(prediction.probabilities.values()), color=colours)
        bars[i].invert_yaxis()
        bars[i].set(xlim=(0, 1), xticks=[])
        bars[i].spines[["top", "right", "bottom"]].set_visible(False)
        if i:
            bars[i].set_yticklabels([])
    return figure


if __name__ == "__main__":
    picture(image_files(Path(sys.argv[1]))).savefig(sys.argv[2], dpi=110)
