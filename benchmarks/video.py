r"""How fast films are labelled: the parts, all together, and the loop that one writes first.

    python benchmarks/video.py --output build/video.md

A made clip of 1280x720 px with 1, 3 and 10 faces (the two portraits of examples/photographs, moved
over a background), 100 frames. `loop` is what people write: read a frame, detect, label each face,
next frame; benchmarks/video_peer.py is another package's. Each figure is the median of `--repeats`
runs, which take turns.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import numpy as np
import torch
from harness import markdown, positive_int
from PIL import Image
from tqdm import tqdm

import fer_zoo
from fer_zoo.video import Tracker, VideoPredictor
from fer_zoo.video.ahead import _prepared
from fer_zoo.video.sources import open_source

PHOTOGRAPHS = Path(__file__).parent.parent / "examples" / "photographs"
SIZE = (1280, 720)


def made(path: Path, faces: int, frames: int) -> Path:
    """Write a clip with so many faces, each of about 100 px."""
    import av

    rng = np.random.default_rng(0)
    coarse = rng.integers(80, 150, (SIZE[1] // 40, SIZE[0] // 40, 3), dtype=np.uint8)
    ground = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    portraits = []
    for name, box in (
        ("eileen_collins", (130, 20, 320, 210)),
        ("grace_hopper", (60, 20, 360, 320)),
    ):
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as image:
            cut = image.convert("RGB").crop(box)
        portraits.append(cut.resize((190, 190), Image.Resampling.BICUBIC))
    columns = min(faces, 5)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            frame = ground.copy()
            for k in range(faces):
                x = 30 + (k % 5) * (SIZE[0] - 40) / columns + 20 * np.sin(i / 15 + k)
                y = 60 + (k // 5) * 330 + 30 * np.cos(i / 20 + k)
                frame.paste(portraits[k % 2], (round(x), round(y)))
            film.mux(stream.encode(av.VideoFrame.from_image(frame)))
        film.mux(stream.encode(None))
    return path


def parts(clip: Path, model: str) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    frames = [p.rgb for p in open_source(clip).pictures if p.rgb is not None]
    detect, plain = fer_zoo.FaceDetector(longest_side=640), fer_zoo.FaceDetector()
    predict, face = VideoPredictor(model), fer_zoo.Predictor(model)
    small = [_prepared(p) for p in open_source(clip).pictures]
    boxes = [[(*box, 0.0) for box in detect(frame)] for frame in frames]
    crops = [
        [crop.face for crop in fer_zoo.inference.crop_faces(f, lambda _, b=b: [r[:4] for r in b])]
        for f, b in zip(frames, boxes, strict=True)
    ]

    def track() -> None:
        tracker = Tracker()
        for i, ready in enumerate(small):
            tracker.update(ready.small, i / 25, None if i % 5 else boxes[i], scale=ready.scale)

    def loop(find: fer_zoo.FaceDetector) -> None:
        for picture in open_source(clip).pictures:
            for crop in fer_zoo.inference.crop_faces(picture.rgb, find):
                face(crop.face)

    return {
        "decode": lambda: [p.rgb for p in open_source(clip).pictures],
        "detect": lambda: [detect(frame) for frame in frames],
        "follow": track,
        "network": lambda: face([crop for found in crops for crop in found] or [frames[0]]),
        "loop": lambda: loop(detect),
        "loop, 1280 px": lambda: loop(plain),
        "VideoPredictor": lambda: predict(clip, progress=False),
        "VideoPredictor, detect_every=0": lambda: VideoPredictor(model, detect_every=0)(
            clip, progress=False
        ),
    }


def latency(clip: Path, model: str) -> list[float]:
    """Return the seconds from a frame to its answer, where they come one by one."""
    frames = [p.rgb for p in open_source(clip).pictures if p.rgb is not None]
    given: list[float] = []

    def camera() -> Iterator[np.ndarray]:
        for frame in frames:
            given.append(time.perf_counter())
            yield frame
            time.sleep(0.04)

    waits = []
    for i, _ in enumerate(VideoPredictor(model).stream(camera())):
        waits.append(time.perf_counter() - given[i])
    return waits[5:]


PLAYED = ("neutral", "happy", "surprise", "angry", "neutral", "happy")
NOISE = 14  # standard deviation in gray levels: a cheap camera in a dim room


def acted(seconds: int = 10, rate: int = 25) -> Iterator[np.ndarray]:
    """Yield frames of a drawn face that changes its expression each `seconds`, in noise."""
    rng = np.random.default_rng(0)
    for act, name in enumerate(PLAYED):
        with Image.open(PHOTOGRAPHS.parent / "faces" / f"drawn_{name}.png") as image:
            face = np.asarray(image.convert("L").resize((150, 150)), np.float32)
        for i in range(seconds * rate):
            frame = np.full((240, 320), 170, np.float32)
            t = act * seconds * rate + i
            x, y = 80 + round(12 * np.sin(t / 23)), 45 + round(8 * np.cos(t / 31))
            frame[y : y + 150, x : x + 150] = face
            frame = frame * (1 + 0.08 * np.sin(t / 7)) + NOISE * rng.standard_normal(frame.shape)
            yield np.repeat(frame.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def flicker(model: str) -> str:
    """Return a table: how often labels change, and how late real changes are seen."""
    rows, seconds = [], 10
    for name, how in (("each frame alone", {"smooth": 0, "hold": 0}), ("smoothed", {})):
        labels: list[tuple[float, str | None]] = []
        for frame in VideoPredictor(model, **how).stream(acted(seconds)):
            labels += [(frame.time, face.label) for face in frame.faces[:1]]
        changes = sum(a[1] != b[1] for a, b in itertools.pairwise(labels))
        waits = []
        for act in range(1, len(PLAYED)):
            begun = act * seconds
            told = [(t - begun, k) for t, k in labels if begun <= t < begun + seconds]
            final = max(Counter(k for _, k in told).items(), key=lambda item: item[1])[0]
            waits.append(next(t for t, k in told if k == final))
        minutes = len(PLAYED) * seconds / 60
        rows.append([name, f"{changes / minutes:.0f}", f"{statistics.median(waits):.2f} s"])
    head = ["labels", f"changes a minute ({len(PLAYED) - 1} are real)", "median delay of those"]
    return markdown(head, rows)


def peer(python: Path, clip: Path) -> tuple[str, float]:
    """Return the row's name and the frames a second of another package, in its own environment."""
    script = Path(__file__).with_name("video_peer.py")
    run = subprocess.run([python, script, clip], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout.splitlines()[-1])
    return f"fer {found['version']}, its cascade at 1280 px, from 50 px", found["rate"]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18_025")
    parser.add_argument("--faces", type=positive_int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--frames", type=positive_int, default=100)
    parser.add_argument("--repeats", type=positive_int, default=3)
    parser.add_argument("--peer", type=Path, help="a Python that has the package fer")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    columns: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for faces in tqdm(options.faces, unit="clip"):
            clip = made(Path(folder, f"{faces}.mp4"), faces, options.frames)
            timed: dict[str, list[float]] = {}
            steps = parts(clip, options.model)
            for _ in range(options.repeats):
                for name, step in steps.items():
                    begun = time.perf_counter()
                    step()
                    timed.setdefault(name, []).append(time.perf_counter() - begun)
                if options.peer:
                    name, rate = peer(options.peer, clip)
                    timed.setdefault(name, []).append(options.frames / rate)
            rates = {name: options.frames / statistics.median(t) for name, t in timed.items()}
            for name, rate in rates.items():
                columns.setdefault(name, []).append(f"{rate:.0f}")
            columns.setdefault("VideoPredictor over loop", []).append(
                f"{rates['VideoPredictor'] / rates['loop']:.1f} x"
            )
            waits = sorted(latency(clip, options.model))
            told = (
                f"{1000 * statistics.median(waits):.0f} ({1000 * waits[int(0.9 * len(waits))]:.0f})"
            )
            columns.setdefault("frame to answer, ms: median (90 %)", []).append(told)
    head = ["frames/s", *(f"{n} face{'s' * (n > 1)}" for n in options.faces)]
    table = markdown(head, [[name, *cells] for name, cells in columns.items()])
    known = harness.environment(torch.device("cpu"))
    table += f"\n\n`{options.model}`, {known['cpu']}, {known['cores']} cores, {known['date']}.\n\n"
    table += flicker(options.model)
    print(table)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(table + "\n")


if __name__ == "__main__":
    main()
