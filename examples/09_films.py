"""
Expressions over time
=====================

A ``VideoPredictor`` takes a film, a camera, a folder or any frames; faces keep their number, and
what is said of them is smoothed over time.

A film is made here of drawn faces whose expressions fade into each other, while they move, with the
noise of a camera in dim light.
"""

import numpy as np
from PIL import Image

import fer_zoo
from fer_zoo.video import annotate, drawn

SECONDS, RATE, SIDE = 6, 25, 150
PLAYED = (["neutral", "happy", "surprise", "happy"], ["angry", "neutral", "neutral", "happy"])


def face(name):
    """Return a drawn face."""
    image = Image.open(f"faces/drawn_{name}.png").convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE)), np.float32)


def play():
    """Yield the frames."""
    acts = [[face(name) for name in names] for names in PLAYED]
    noise = np.random.default_rng(0)
    for i in range(SECONDS * RATE):
        share = i / (SECONDS * RATE) * 3
        act, faded = int(share), np.clip(4 * (share % 1) - 1.5, 0, 1)
        frame = np.full((300, 700, 3), 180, np.uint8)
        for k, (x, y) in enumerate([(40 + 3 * i, 60), (510 - 3 * i, 90)]):
            mixed = (1 - faded) * acts[k][act] + faded * acts[k][act + 1]
            frame[y : y + SIDE, x : x + SIDE] = mixed.round()
        yield (frame + noise.normal(0, 12, (300, 700, 1))).clip(0, 255).astype(np.uint8)


predict = fer_zoo.VideoPredictor("resnet18_025", patience=2)
film = annotate(predict.stream(play(), rate=RATE), "film.mp4")
film.tracks()

# %%
# Probabilities over time: white is where a face was not seen, as where the other covers it. It is
# the same face afterwards, by its path and its looks, if that takes no more than ``patience``
# seconds.

fer_zoo.plots.timeline(film)

# %%
# A frame as ``annotate`` draws it: the number of the face, its label, and the most probable
# classes.

middle = next(f for f in predict.stream(play(), rate=RATE) if f.index == 30)
Image.fromarray(drawn(middle))

# %%
# How often the label changes, of each frame alone and smoothed.

predict = fer_zoo.VideoPredictor("resnet18_025", patience=2, smooth=0, hold=0)
alone = predict(play(), rate=RATE)
[
    (each.changes, smoothed.changes)
    for each, smoothed in zip(alone.tracks(), film.tracks(), strict=True)
]
