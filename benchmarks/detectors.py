r"""What the detectors find, and what is right then: faces pasted into photographs.

    python benchmarks/detectors.py --data fer2013.csv --output build/detectors.md

One face of FER2013's PublicTest in each picture of 640x480 px, of 60 to 200 px, at a random place,
turned by 0, 15 or 30 degrees to either side; the grounds are parts of the two photographs of
scikit-learn, which show nobody. A face is found by a box whose centre is within a quarter of the
face's side, and whose own side is between 0.6 and 1.67 of it; every other box is wrong. Then the
two portraits of examples/photographs, turned by up to 60 degrees in three sizes. Times are those
of the processor, in one thread.
"""

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import call, markdown, positive_int
from PIL import Image
from scipy.stats import binomtest
from tqdm import tqdm

import fer_zoo
from fer_zoo.data import FER2013
from fer_zoo.inference import DETECTORS, BlazeFace

PHOTOGRAPHS = Path(__file__).parent.parent / "examples" / "photographs"
PORTRAITS = {"eileen_collins": (225, 114, 98), "grace_hopper": (208, 169, 168)}
"""Where the faces are: the centre and the side in px."""
SIZE = (640, 480)
ROLLS = (0, -15, 15, -30, 30)
FIRST = 7  # the seed of the faces' order; the boxes of BlazeFace were set by faces from 1,000 on


@dataclass(frozen=True)
class Picture:
    """A photograph with one face: where it is, how large, how far it is turned clockwise."""

    rgb: np.ndarray
    centre: tuple[float, float]
    side: float
    roll: int
    label: str | None = None

    def shows(self, box: tuple[int, int, int, int]) -> bool:
        """Say whether a box is that of the face."""
        left, top, right, bottom = box
        apart = math.dist(self.centre, ((left + right) / 2, (top + bottom) / 2))
        return apart < self.side / 4 and 0.6 < (right - left) / self.side < 1.67


class Timed:
    """A detector that keeps the processor's seconds of each of its calls."""

    def __init__(self, detector: Callable[[np.ndarray], Any]) -> None:
        self.detector, self.seconds = detector, list[float]()

    def __call__(self, rgb: np.ndarray) -> Any:
        """Return what the detector does."""
        begun = time.process_time()
        found = self.detector(rgb)
        self.seconds.append(time.process_time() - begun)
        return found


def chosen(faces: FER2013, number: int) -> list[int]:
    """Return which faces are pasted."""
    return np.random.default_rng(FIRST).permutation(len(faces))[:number].tolist()


def grounds() -> list[Image.Image]:
    """Return photographs without people."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(image) for image in load_sample_images().images]


def pasted(faces: FER2013, number: int, seed: int = 0) -> Iterator[Picture]:
    """Yield pictures with a face each."""
    rng, behind = np.random.default_rng(seed), grounds()
    for turn, i in enumerate(chosen(faces, number)):
        ground = behind[rng.integers(len(behind))]
        share = rng.uniform(0.5, 1)
        wide, high = (round(share * n) for n in ground.size)
        x, y = (
            int(rng.integers(ground.width - wide + 1)),
            int(rng.integers(ground.height - high + 1)),
        )
        ground = ground.crop((x, y, x + wide, y + high)).resize(SIZE)
        roll, side = ROLLS[turn % len(ROLLS)], int(rng.integers(60, 201))
        face = Image.fromarray(faces.images[i].numpy()).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        turned = face.rotate(-roll, Image.Resampling.BILINEAR, expand=True)
        mask = Image.new("L", face.size, 255).rotate(-roll, expand=True)
        left = int(rng.integers(SIZE[0] - turned.width + 1))
        top = int(rng.integers(SIZE[1] - turned.height + 1))
        ground.paste(turned.convert("RGB"), (left, top), mask)
        centre = left + turned.width / 2, top + turned.height / 2
        yield Picture(np.asarray(ground), centre, side, roll, faces.labels[faces.targets[i]])


def portraits() -> Iterator[Picture]:
    """Yield the two portraits, scaled and turned."""
    for name, (x, y, side) in PORTRAITS.items():
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as file:
            photograph = file.convert("RGB")
        for scale in (0.5, 1.0, 1.5):
            size = [round(scale * n) for n in photograph.size]
            image = photograph.resize(size, Image.Resampling.BICUBIC)
            for roll in range(-60, 61, 15):
                turned = image.rotate(-roll, Image.Resampling.BICUBIC, expand=True)
                dx, dy = scale * x - size[0] / 2, scale * y - size[1] / 2
                c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
                centre = turned.width / 2 + c * dx - s * dy, turned.height / 2 + s * dx + c * dy
                yield Picture(np.asarray(turned), centre, scale * side, roll)


def share(hits: int, of: int) -> str:
    """Return a share in per cent."""
    return f"{100 * hits / of:.1f}" if of else "-"


def row(name: str, predict: fer_zoo.PhotoPredictor, pictures: list[Picture]) -> list[str]:
    """Return the cells of one detector."""
    finder = Timed(predict.detector)
    predict.detector = finder
    found, right, wrong, turned = 0, 0, 0, Counter[int]()
    for picture in tqdm(pictures, desc=name, unit="picture"):
        faces = predict(picture.rgb).faces
        hits = [face for face in faces if picture.shows(face.box)]
        found += bool(hits)
        turned[abs(picture.roll)] += bool(hits)
        wrong += len(faces) - bool(hits)
        right += bool(hits) and hits[0].label == picture.label
    n = len(pictures)
    low, high = (100 * p for p in binomtest(right, n).proportion_ci(method="wilson"))
    each = Counter(abs(picture.roll) for picture in pictures)
    return [
        name,
        share(found, n),
        ", ".join(share(turned[roll], each[roll]) for roll in sorted(each)),
        f"{wrong / n:.2f}",
        share(right, found),
        f"{share(right, n)} ({low:.1f} to {high:.1f})",
        f"{1000 * statistics.median(finder.seconds):.0f}",
    ]


def turned_row(name: str, detector: Callable[[np.ndarray], Any]) -> list[str]:
    """Return how many of the portraits one detector finds, by the angle, and its wrong boxes."""
    found, of, wrong = Counter[int](), Counter[int](), 0
    for picture in portraits():
        crops = fer_zoo.inference.crop_faces(picture.rgb, detector)
        hit = any(picture.shows(crop.box) for crop in crops)
        found[abs(picture.roll)] += hit
        of[abs(picture.roll)] += 1
        wrong += len(crops) - hit
    return [name, *(f"{found[roll]} of {of[roll]}" for roll in sorted(of)), str(wrong)]


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv, or its folder")
    parser.add_argument("--model", default="resnet18_025")
    parser.add_argument("--faces", type=positive_int, default=500)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detectors = {f"`{name}`": DETECTORS[name]() for name in DETECTORS}
    detectors["`BlazeFace(longest_side=256)`"] = BlazeFace(longest_side=256)
    faces = FER2013(options.data, "public")
    pictures = list(pasted(faces, options.faces))
    plain = fer_zoo.Predictor(options.model)(
        [faces.images[i] for i in chosen(faces, options.faces)]
    )
    right = sum(p.label == picture.label for p, picture in zip(plain, pictures, strict=True))
    rows = []
    for name, detector in detectors.items():
        predict = fer_zoo.PhotoPredictor(options.model, detector=detector)
        rows.append(row(name, predict, pictures))
    head = ["detector", "found %", "turned by 0, 15, 30 degrees", "wrong boxes a picture"]
    head += ["right of the found %", "right of all % (95 % interval)", "ms a picture"]
    tables = [markdown(head, rows)]
    head = ["portraits turned by", *(f"{angle} degrees" for angle in range(0, 61, 15)), "wrong"]
    tables.append(markdown(head, [turned_row(*pair) for pair in detectors.items()]))
    said = f"{options.model}, {len(pictures)} faces of PublicTest; as they are it labels "
    said += f"{share(right, len(pictures))} % of them right"
    text = "\n\n".join([*tables, said])
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    call(main)
