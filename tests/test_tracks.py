"""Faces keep their number: over gaps, where they cross, and between detections."""

import itertools

import numpy as np
import pytest

from fer_zoo.errors import ArgumentError
from fer_zoo.video import Smoother, Tracker
from films import SIDE, portrait, scene


def gray(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).convert("L"))


def box(x: float, y: float) -> tuple[float, float, float, float, float]:
    return (x, y, x + SIDE, y + SIDE, 0.0)


pytest.importorskip("cv2")
A, B = portrait("eileen_collins"), portrait("grace_hopper")


def test_a_face_is_followed_between_detections():
    """Found once, it moves by 2 px a frame: the box does too, to a pixel, for half a second."""
    tracker = Tracker()
    for i in range(13):
        x, y = 60 + 2 * i, 60 + i
        (track,) = tracker.update(gray(scene((A, x, y))), i / 25, [box(x, y)] if not i else None)
    assert track.number == 0
    assert not track.found
    assert track.box == pytest.approx(box(84, 72)[:4], abs=1.5)


def test_a_face_that_is_followed_grows_as_it_comes_nearer():
    from PIL import Image

    def nearer(side: int) -> np.ndarray:
        frame = scene().copy()
        face = np.asarray(Image.fromarray(A).resize((side, side), Image.Resampling.BILINEAR))
        at = 120 - side // 2
        frame[at : at + side, at + 40 : at + 40 + side] = face
        return frame

    tracker = Tracker()
    for i, side in enumerate(range(80, 101, 2)):
        start = [(120.0, 80.0, 200.0, 160.0, 0.0)] if not i else None
        (track,) = tracker.update(gray(nearer(side)), i / 25, start)
    assert track.box[2] - track.box[0] == pytest.approx(100, abs=4)


def crossing(front: np.ndarray, every: int = 5) -> list[dict[int, float]]:
    """Let A go right and B left, through each other; the covered one is not found."""
    tracker, told = Tracker(), []
    for i in range(61):
        xa, xb = 10 + 3.5 * i, 220 - 3.5 * i
        order = [(A, xa, 60), (B, xb, 72)]
        boxes = [box(xa, 60), box(xb, 72)]
        if front is A:
            order = order[::-1]
        if abs(xa - xb) < 0.5 * SIDE:
            boxes = boxes[:1] if front is A else boxes[1:]
        boxes = boxes[::-1] if i % 2 else boxes  # a detector says them in any order
        found = tracker.update(gray(scene(*order)), i / 25, boxes if i % every == 0 else None)
        told.append({track.number: track.box[0] for track in found})
    return told


@pytest.mark.parametrize("front", [A, B], ids=["A in front", "B in front"])
@pytest.mark.parametrize("every", [1, 5])
def test_two_faces_that_cross_keep_their_numbers(front, every):
    told = crossing(front, every)
    assert told[0] == {0: pytest.approx(10, abs=2), 1: pytest.approx(220, abs=2)}
    assert told[-1] == {0: pytest.approx(220, abs=4), 1: pytest.approx(10, abs=4)}


def test_a_face_that_is_missed_for_a_moment_is_the_same_and_later_a_new_one():
    tracker = Tracker(patience=1.0)
    away = gray(scene())

    def see(time: float, there: bool) -> list[int]:
        frame = gray(scene((A, 100, 60))) if there else away
        return [t.number for t in tracker.update(frame, time, [box(100, 60)] if there else [])]

    assert [see(t / 5, True) for t in range(3)] == [[0]] * 3
    assert [see(0.6 + t / 5, False) for t in range(3)] == [[]] * 3  # turned away, or covered
    assert see(1.2, True) == [0]
    assert [see(1.4 + t / 5, False) for t in range(7)] == [[]] * 7  # it has left
    assert see(2.8, True) == []  # seen once: may be none
    assert see(3.0, True) == [1]


def test_one_that_the_detector_misses_is_shown_while_it_looks_the_same():
    tracker, frame = Tracker(), gray(scene((A, 100, 60)))
    tracker.update(frame, 0.0, [box(100, 60)])
    assert [t.number for t in tracker.update(frame, 0.2, [])] == [0]
    assert [t.number for t in tracker.update(gray(scene((B, 100, 60))), 0.24, [])] == []


def test_a_false_hit_of_a_moment_is_no_face_and_one_face_found_twice_is_one():
    tracker, frame = Tracker(), gray(scene((A, 100, 60)))
    tracker.update(frame, 0.0, [box(100, 60)])
    assert len(tracker.update(frame, 0.2, [box(100, 60), box(10, 120)])) == 1
    inside = (110.0, 70.0, 180.0, 140.0, 0.0)
    assert len(tracker.update(frame, 0.4, [inside, box(100, 60)])) == 1
    assert tracker.tracks[0].box == box(100, 60)[:4]
    assert len(tracker.update(frame, 0.6, [box(100, 60), box(100, 60)])) == 1
    assert sum(track.found for track in tracker.tracks) == 1


def test_tracks_at_the_same_place_are_told_apart():
    tracker, frame = Tracker(), gray(scene((A, 100, 60)))
    tracker.update(frame, 0.0, [box(100, 60), box(210, 60)])
    first, second = tracker.tracks
    second.box = first.box
    assert len(tracker.update(frame, 0.04)) == 2


def test_forty_faces_that_come_in_any_order_are_forty_tracks():
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 255, (800, 1200), dtype=np.uint8)
    boxes = [(x + 0.0, y + 0.0, x + 60.0, y + 60.0, 0.0)
             for x in range(10, 1200, 150) for y in range(10, 800, 160)]  # fmt: skip
    tracker, places = Tracker(), {}
    for i in range(4):
        shuffled = [boxes[j] for j in rng.permutation(len(boxes))]
        for track in tracker.update(frame, i / 5, shuffled):
            places.setdefault(track.number, set()).add(track.box)
    assert len(places) == len(boxes) == 40
    assert all(len(where) == 1 for where in places.values())


def test_the_scale_of_the_picture_is_not_that_of_the_boxes():
    tracker = Tracker()
    for i in range(6):
        small = gray(scene((A, 60 + 2 * i, 60)))[::1]
        start = [(*(2 * v for v in box(60, 60)[:4]), 0.0)] if not i else None
        (track,) = tracker.update(small, i / 25, start, scale=0.5)
    assert track.box == pytest.approx(tuple(2 * v for v in box(70, 60)[:4]), abs=3)


def test_smoothed_probabilities_are_weighted_means_of_those_that_were_seen():
    """At 0.1 s steps and 0.2 s: weights 1, exp(-1/2), exp(-1) from the latest back."""
    smooth = Smoother(seconds=0.2, hold=0.0)
    seen = [0.9, 0.5, 0.1]
    for i, p in enumerate(seen):
        _, shares = smooth(7, i * 0.1, {"happy": p, "sad": 1 - p})
    weights = np.exp(-0.5 * np.array([2, 1, 0]))
    assert shares["happy"] == pytest.approx(float(weights @ seen / weights.sum()))
    assert sum(shares.values()) == pytest.approx(1)


def test_the_label_holds_on_until_another_is_clearly_more_probable():
    smooth = Smoother(seconds=0.1, hold=0.1)
    assert smooth(0, 0, {"happy": 0.6, "sad": 0.4})[0] == "happy"
    assert smooth(0, 10, {"happy": 0.46, "sad": 0.54})[0] == "happy"  # less than 0.1 more
    assert smooth(0, 20, {"happy": 0.4, "sad": 0.6})[0] == "sad"
    assert smooth(0, 30, {"happy": 0.54, "sad": 0.46})[0] == "sad"
    assert smooth(1, 30, {"happy": 0.54, "sad": 0.46})[0] == "happy"  # another face
    smooth.forget({1})
    assert smooth(0, 31, {"happy": 0.54, "sad": 0.46})[0] == "happy"


def test_without_smoothing_each_frame_stands_alone():
    smooth = Smoother(seconds=0, hold=0)
    smooth(0, 0, {"happy": 1.0, "sad": 0.0})
    assert smooth(0, 0.01, {"happy": 0.49, "sad": 0.51}) == ("sad", {"happy": 0.49, "sad": 0.51})


def test_a_flickering_label_flickers_less_and_a_real_change_comes_soon():
    """Noise of 0.25 on two near classes; then the face changes at 20 s."""
    rng, smooth = np.random.default_rng(0), Smoother()
    raw, shown = [], []
    for i in range(1000):
        p = np.clip((0.55 if i < 500 else 0.2) + 0.25 * rng.standard_normal(), 0, 1)
        shares = {"happy": float(p), "sad": float(1 - p)}
        raw.append(max(shares, key=shares.__getitem__))
        shown.append(smooth(0, i / 25, shares)[0])
    changes = [sum(a != b for a, b in itertools.pairwise(s)) for s in (raw, shown)]
    assert changes[0] > 200
    assert changes[1] < 20
    assert shown[499] == "happy"
    assert "sad" in shown[500:525]
    assert set(shown[525:]) == {"sad"}


@pytest.mark.parametrize("wrong", [{"seconds": -1}, {"hold": 2}, {"seconds": "1"}, {"hold": None}])
def test_smoothing_that_is_none_is_refused(wrong):
    with pytest.raises(ArgumentError, match=r"is a number (of seconds )?from 0"):
        Smoother(**wrong)
