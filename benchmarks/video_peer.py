"""The loop of the package `fer`, for benchmarks/video.py; runs where `fer` and TensorFlow are.

python -m venv peer && peer/bin/pip install fer tensorflow "setuptools<81"
python benchmarks/video.py --peer peer/bin/python
"""

import json
import sys
import time
from importlib.metadata import version


def main(clip: str) -> None:
    """Read, detect and label frame after frame as its README does; print what it took."""
    import cv2
    from fer.fer import FER

    detector = FER()  # OpenCV's cascade, as ours
    frames, faces = cv2.VideoCapture(clip), 0
    detector.detect_emotions(frames.read()[1])  # what is made at the first call
    count, begun = 0, time.perf_counter()
    while True:
        there, frame = frames.read()
        if not there:
            break
        faces += len(detector.detect_emotions(frame))
        count += 1
    rate = count / (time.perf_counter() - begun)
    print(json.dumps({"version": version("fer"), "rate": rate, "faces": faces / count}))


if __name__ == "__main__":
    main(sys.argv[1])
