"""From images to scores and named predictions."""

from fer_zoo.inference.abstention import Threshold, Thresholds, choose_thresholds
from fer_zoo.inference.blazeface import BlazeFace
from fer_zoo.inference.calibration import calibrate, fit_temperature
from fer_zoo.inference.crops import crop_faces
from fer_zoo.inference.detector import (
    DETECTORS,
    Detector,
    FaceDetector,
    list_detectors,
    register_detector,
)
from fer_zoo.inference.exported import export
from fer_zoo.inference.photographs import PhotoPredictor
from fer_zoo.inference.prediction import Photo, Photos, Prediction, Predictions
from fer_zoo.inference.predictor import Predictor
from fer_zoo.inference.runtime import Optimized, optimize
from fer_zoo.inference.scoring import fuse, member_scores, predict_scores

__all__ = [
    "DETECTORS",
    "BlazeFace",
    "Detector",
    "FaceDetector",
    "Optimized",
    "Photo",
    "PhotoPredictor",
    "Photos",
    "Prediction",
    "Predictions",
    "Predictor",
    "Threshold",
    "Thresholds",
    "calibrate",
    "choose_thresholds",
    "crop_faces",
    "export",
    "fit_temperature",
    "fuse",
    "list_detectors",
    "member_scores",
    "optimize",
    "predict_scores",
    "register_detector",
]
