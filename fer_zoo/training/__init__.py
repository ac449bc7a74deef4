"""Training: recipes, the loop, and the fitting of fusions."""

from fer_zoo.evidence import FusionFit
from fer_zoo.training.ensembles import EnsembleResult, fit_fusion, train_ensemble
from fer_zoo.training.history import Epoch, read_history
from fer_zoo.training.loop import train
from fer_zoo.training.recipe import RECIPES, Recipe, get_recipe
from fer_zoo.training.run import TrainResult

__all__ = [
    "RECIPES",
    "EnsembleResult",
    "Epoch",
    "FusionFit",
    "Recipe",
    "TrainResult",
    "fit_fusion",
    "get_recipe",
    "read_history",
    "train",
    "train_ensemble",
]
