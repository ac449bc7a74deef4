"""From images to scores and named predictions."""

from fer_zoo.inference.calibration import LEAST_FACES, calibrate, fit_temperature
from fer_zoo.inference.predictor import Prediction, Predictor
from fer_zoo.inference.scoring import fuse, member_scores, predict_scores, tempered

__all__ = [
    "LEAST_FACES",
    "Prediction",
    "Predictor",
    "calibrate",
    "fit_temperature",
    "fuse",
    "member_scores",
    "predict_scores",
    "tempered",
]
