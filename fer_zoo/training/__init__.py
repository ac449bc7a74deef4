"""Training: recipes, the loop, and the fitting of fusions."""

from fer_zoo.training.fusing import FusionFit, cross_validate, fit_fusion
from fer_zoo.training.loop import Epoch, TrainResult, train
from fer_zoo.training.recipe import RECIPES, Recipe, get_recipe

__all__ = [
    "RECIPES",
    "Epoch",
    "FusionFit",
    "Recipe",
    "TrainResult",
    "cross_validate",
    "fit_fusion",
    "get_recipe",
    "train",
]
