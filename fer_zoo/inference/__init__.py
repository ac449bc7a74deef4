"""From images to scores and named predictions."""

from fer_zoo.inference.predictor import Prediction, Predictor
from fer_zoo.inference.scoring import fuse, member_scores, predict_scores

__all__ = ["Prediction", "Predictor", "fuse", "member_scores", "predict_scores"]
