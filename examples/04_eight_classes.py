"""
Eight classes and votes: FER+
=============================

FER+ gives each face of FER2013 the votes of ten people over eight classes. Training on the votes
teaches a network how sure people were.
"""

from tempfile import mkdtemp

import torch
from render_faces import EXPRESSIONS, MORE, draw_folder

import fer_zoo

# %%
# With the data at hand that is ``FERPlus("fer2013.csv", "train")`` (fer2013new.csv beside it). Here
# drawings stand in, each with the votes of ten people who sometimes mistake it for its neighbour.

LABELS = fer_zoo.labels.FERPLUS
drawn_as = {name: fer_zoo.labels.canonical(name) for name in LABELS}
assert set(drawn_as.values()) == set(EXPRESSIONS | MORE)


def voted(part: str, count: int, seed: int) -> fer_zoo.data.FaceDataset:
    """Return drawings of all classes with a share of votes for each class."""
    faces = fer_zoo.data.ImageFolder(draw_folder(f"{mkdtemp()}/{part}", drawn_as, count, seed=seed))
    targets = faces.targets_for(LABELS)
    sure = torch.full((len(LABELS), len(LABELS)), 0.03) + 0.76 * torch.eye(len(LABELS))
    draw = torch.Generator().manual_seed(seed)
    votes = torch.multinomial(sure[targets], 10, replacement=True, generator=draw)
    shares = torch.nn.functional.one_hot(votes, len(LABELS)).float().mean(1)
    return fer_zoo.data.FaceDataset(
        faces.images, targets, labels=LABELS, name=f"drawings for {part}", votes=shares
    )


train, val = voted("training", 24, 0), voted("validation", 12, 1)
print(train)

# %%
# ``targets="votes"`` takes each face's shares as its target instead of the winner. The label table
# knows that FER+ says *happiness* where FER2013 says *happy*.

model = fer_zoo.create("resnet18_025", weights="default")
model.reset_classifier(len(LABELS))
result = fer_zoo.train(
    model,
    train,
    validation=val,
    output=mkdtemp(),
    recipe="finetune",
    targets="votes",
    epochs=6,
    progress=False,
)
print(result)

# %%
# Two pairs of the drawings differ by few strokes: neutral and contempt, anger and disgust. The
# matrix shows whether a network keeps them apart.

fer_zoo.plots.confusion(fer_zoo.evaluate(result.model, val))
