"""Films and cameras: faces that are found, followed and labelled over time."""

from fer_zoo.video.film import FilmWriter, annotate, drawn
from fer_zoo.video.predictor import VideoPredictor
from fer_zoo.video.results import Film, Frame, TrackedFace, TrackSummary
from fer_zoo.video.smoothing import Smoother
from fer_zoo.video.tracks import Track, Tracker

__all__ = [
    "Film",
    "FilmWriter",
    "Frame",
    "Smoother",
    "Track",
    "TrackSummary",
    "TrackedFace",
    "Tracker",
    "VideoPredictor",
    "annotate",
    "drawn",
]
