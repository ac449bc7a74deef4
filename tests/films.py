"""Films for tests: portraits that may be shipped, moved over a background."""

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PHOTOGRAPHS = Path(__file__).parent.parent / "examples" / "photographs"
SIDE = 96  # px of the side of a face
BASE = Fraction(1, 1000)


def portrait(name: str = "eileen_collins") -> np.ndarray:
    """Return a face, RGB `(SIDE, SIDE, 3)`, as the detector would cut it."""
    box = {"eileen_collins": (174, 66, 276, 168), "grace_hopper": (117, 77, 299, 259)}[name]
    image = Image.open(PHOTOGRAPHS / f"{name}.jpg").convert("RGB")
    return np.asarray(image.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def ground(width: int = 320, height: int = 240) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(90, 160, (height // 20, width // 20, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def scene(*placed: tuple[np.ndarray, float, float], size: tuple[int, int] = (320, 240)):
    """Return a frame with faces at `(x, y)`, the last in front."""
    frame = ground(*size).copy()
    for face, x, y in placed:
        x, y = round(x), round(y)
        left, top = max(0, x), max(0, y)
        right, bottom = min(size[0], x + SIDE), min(size[1], y + SIDE)
        if right > left and bottom > top:
            frame[top:bottom, left:right] = face[top - y : bottom - y, left - x : right - x]
    return frame


def write(
    path: Path,
    frames: list[np.ndarray],
    *,
    times: list[float] | None = None,
    sound: bool = False,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames at 25 a second, or at `times` in seconds; `sound` is a tone."""
    import av

    container = av.open(str(path), "w", options=options or {})
    stream = container.add_stream(codec, rate=25, options={"crf": "12", "g": "5", "bf": "0"})
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", BASE
    tone = container.add_stream("aac", rate=16_000) if sound else None
    times = times or [i / 25 for i in range(len(frames))]
    for moment, frame in zip(times, frames, strict=True):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts, picture.time_base = round(moment / BASE), BASE
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
    if tone is not None:
        samples = round(times[-1] * 16_000)
        wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16_000)
        for at in range(0, samples, 1024):
            part = wave[None, at : at + 1024].astype(np.float32)
            chunk = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts = 16_000, at
            container.mux(tone.encode(chunk))
        container.mux(tone.encode(None))
    container.close()
    return path


class Camera:
    """What OpenCV's cameras do: frames come when they come, and then none."""

    def __init__(self, frames: list[np.ndarray], wait: float = 0.0) -> None:
        self.frames, self.wait, self.released, self.given = iter(frames), wait, False, 0

    def __call__(self, place: object) -> "Camera":
        return self

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self.wait)
        frame = next(self.frames, None)
        self.given += frame is not None
        return frame is not None, frame

    def release(self) -> None:
        self.released = True


def without_end(source: Path, path: Path) -> Path:
    """Write a film again with its pictures of the first second only, and all of its sound."""
    import av

    if int(av.__version__.partition(".")[0]) < 15:
        pytest.skip("PyAV 14 copies no pictures that could be read again")
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        tracks = {s: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            sound = packet.stream.type == "audio"
            if packet.dts is not None and (sound or packet.pts * packet.time_base < 1):
                packet.stream = tracks[packet.stream]
                new.mux(packet)
    return path


def seconds_of_sound(path: Path) -> float:
    """Return when a film's sound ends."""
    import av

    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.pts is not None]
        return float((packets[-1].pts + packets[-1].duration) * packets[-1].time_base)
