"""
Fine-tune on your own folder
============================

One folder of images per class, gray or colour, is all it takes.
"""

from tempfile import mkdtemp

from render_faces import draw_folder

import fer_zoo

classes = {"amused": "happy", "bored": "neutral", "startled": "surprise"}
folder = mkdtemp()
for part, count, seed in (("train", 40, 0), ("val", 20, 1)):
    draw_folder(f"{folder}/{part}", classes, count, seed=seed)

# %%
# Five lines. The stem keeps what it learned from FER2013 (``freeze=1``), and each stage learns at
# 0.7 of the rate of the one after it (``layer_decay=0.7``), so that the new head learns fastest.

train, val = (fer_zoo.data.ImageFolder(f"{folder}/{part}") for part in ("train", "val"))
model = fer_zoo.create("resnet18_025", weights="default")
model.reset_classifier(len(train.labels))
result = fer_zoo.train(
    model,
    train,
    validation=val,
    output=f"{folder}/run",
    recipe="finetune",
    epochs=6,
    freeze=1,
    layer_decay=0.7,
    progress=False,
)
result

# %%
# The best epoch by the validation faces is kept, with its labels: the file is all that is needed.

fer_zoo.plots.history(result.history)

# %%

fer_zoo.plots.confusion(fer_zoo.evaluate(fer_zoo.load(result.checkpoint), val))

# %%

fer_zoo.Predictor(result.checkpoint)(val.files[:1] + val.files[20:21] + val.files[40:41])
