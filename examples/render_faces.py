"""Draw faces that anyone may use: `python examples/render_faces.py FOLDER`.

A shaded head with eyes, brows and a mouth, each bent as an expression bends them. The drawings in
examples/faces were made by this script; they show the predictor at work without anybody's picture.
Their strokes were adjusted until the bundled ensemble read them as meant, so they prove nothing.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SCALE = 4
# brow: (height, slope towards the nose), eye: opening, mouth: (width, curve, opening)
EXPRESSIONS = {
    "happy": {"brow": (0, 0), "eye": 3, "mouth": (15, 9, 6)},
    "sad": {"brow": (0, -6), "eye": 3, "mouth": (11, -5, 0)},
    "surprise": {"brow": (-6, 0), "eye": 9, "mouth": (7, 0, 12)},
    "angry": {"brow": (4, 7), "eye": 4, "mouth": (10, -3, 0)},
    "neutral": {"brow": (0, 1), "eye": 3, "mouth": (13, 0, 0)},
}
MORE = {
    "fear": {"brow": (-4, -5), "eye": 8, "mouth": (12, -3, 5)},
    "disgust": {"brow": (5, 5), "eye": 2, "mouth": (12, -7, 0)},
    "contempt": {"brow": (-2, 3), "eye": 2, "mouth": (7, 2, 0)},
}


def draw(brow: tuple[int, int], eye: int, mouth: tuple[int, int, int]) -> Image.Image:
    """Return a 96 x 96 px gray drawing of a face."""

    def box(x: float, y: float, rx: float, ry: float) -> list[float]:
        return [SCALE * (x - rx), SCALE * (y - ry), SCALE * (x + rx), SCALE * (y + ry)]

    def points(*xy: tuple[float, float]) -> list[tuple[float, float]]:
        return [(SCALE * x, SCALE * y) for x, y in xy]

    image = Image.new("L", (96 * SCALE, 96 * SCALE), 95)
    pen = ImageDraw.Draw(image)
    pen.ellipse(box(48, 38, 40, 46), fill=45)
    for i in range(24):
        pen.ellipse(box(48 - i / 6, 52 - i / 6, 36 - i, 46 - i), fill=150 + 3 * i)
    for side in (-1, 1):
        x, y = 48 + side * 16, 42
        pen.ellipse(box(x, y, 8, eye), fill=235, outline=60, width=SCALE)
        pen.ellipse(box(x, y, 3.6, min(eye, 3.6)), fill=30)
        height, slope = brow
        inner, outer = (
            (48 + side * 7, 31 + height + slope),
            (48 + side * 26, 31 + height - slope / 3),
        )
        pen.line(points(inner, outer), fill=40, width=4 * SCALE)
    pen.line(points((48, 46), (45, 60), (50, 61)), fill=125, width=2 * SCALE)
    width, curve, opening = mouth
    upper = [
        (48 + t * width / 8, 76 + curve * (1 - (t / 8) ** 2) - curve / 2) for t in range(-8, 9)
    ]
    lower = [(x, y + opening * (1 - ((x - 48) / width) ** 2)) for x, y in reversed(upper)]
    if opening:
        upper = [(x, y - opening * (1 - ((x - 48) / width) ** 2) / 2) for x, y in upper]
        pen.polygon(
            points(*upper, *lower), fill=60 if curve == 0 else 240, outline=70, width=2 * SCALE
        )
    else:
        pen.line(points(*upper), fill=70, width=3 * SCALE, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(SCALE)).resize((96, 96), Image.Resampling.LANCZOS)


def draw_varied(name: str, random: np.random.Generator) -> Image.Image:
    """Return a drawing of an expression whose strokes, light, place and grain differ each time."""
    how = (EXPRESSIONS | MORE)[name]
    height, slope = how["brow"]
    width, curve, opening = how["mouth"]
    image = draw(
        brow=(height + int(random.integers(-1, 2)), slope + int(random.integers(-1, 2))),
        eye=how["eye"] + int(random.integers(0, 2)),
        mouth=(width + int(random.integers(-1, 3)), curve, opening),
    )
    moved = image.rotate(
        random.uniform(-8, 8), Image.Resampling.BICUBIC, translate=tuple(random.integers(-3, 4, 2))
    )
    light = np.asarray(moved, float) * random.uniform(0.75, 1.2) + random.normal(0, 8, (96, 96))
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))


def draw_folder(folder: str | Path, names: dict[str, str], count: int, seed: int = 0) -> Path:
    """Draw `count` faces for each class into folders named after it, and return the folder.

    Args:
        folder: where to; made if it is not there.
        names: the expression to draw, by class name.
        count: faces for each class.
        seed: of the differences between them.
    """
    random = np.random.default_rng(seed)
    for label, expression in names.items():
        place = Path(folder, label)
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            draw_varied(expression, random).save(place / f"{i:03}.png")
    return Path(folder)


def main() -> None:
    """Draw every expression into the folder given."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "drawn_faces")
    folder.mkdir(parents=True, exist_ok=True)
    for name, how in EXPRESSIONS.items():
        draw(**how).save(folder / f"drawn_{name}.png")


if __name__ == "__main__":
    main()
