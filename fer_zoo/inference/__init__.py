"""From images to scores and named predictions."""

from fer_zoo.inference.calibration import LEAST_FACES, calibrate, fit_temperature
from fer_zoo.inference.exported import export
from fer_zoo.inference.predictor import Prediction, Predictor
from fer_zoo.inference.runtime import Optimized, optimize
from fer_zoo.inference.scoring import fuse, member_scores, predict_scores, tempered

__all__ = [
    "LEAST_FACES",
    "Optimized",
    "Prediction",
    "Predictor",
    "calibrate",
    "export",
    "fit_temperature",
    "fuse",
    "member_scores",
    "optimize",
    "predict_scores",
    "tempered",
]
