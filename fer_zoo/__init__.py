"""A model zoo for facial-expression recognition on grayscale faces.

>>> import fer_zoo
>>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
>>> len(model.labels)
7
"""

from fer_zoo import data, errors, labels
from fer_zoo.catalogue import (
    list_fusions,
    list_models,
    list_presets,
    register_model,
    register_preset,
)
from fer_zoo.evaluation import (
    Comparison,
    Evaluation,
    compare,
    evaluate,
    plot_confusion,
    plot_fusion,
    plot_reliability,
)
from fer_zoo.evaluation.robustness import Robustness, plot_robustness, robustness
from fer_zoo.factory import create, create_ensemble, create_transform
from fer_zoo.fusion import Fusion, register_fusion
from fer_zoo.inference import (
    FaceDetector,
    Optimized,
    Prediction,
    Predictor,
    calibrate,
    export,
    optimize,
)
from fer_zoo.models import ModelSpec
from fer_zoo.publishing import publish, push_to_hub
from fer_zoo.saving import load, save
from fer_zoo.training import (
    Recipe,
    fit_fusion,
    plot_history,
    train,
    train_ensemble,
    train_seeds,
)
from fer_zoo.transforms import Augmentation, Preset
from fer_zoo.weights import get_weights, list_weights, load_state_dict
from fer_zoo.weights.convert import convert
from fer_zoo.weights.imagenet import load_imagenet

__version__ = "0.1.0"

__all__ = [
    "Augmentation",
    "Comparison",
    "Evaluation",
    "FaceDetector",
    "Fusion",
    "ModelSpec",
    "Optimized",
    "Prediction",
    "Predictor",
    "Preset",
    "Recipe",
    "Robustness",
    "calibrate",
    "compare",
    "convert",
    "create",
    "create_ensemble",
    "create_transform",
    "data",
    "errors",
    "evaluate",
    "export",
    "fit_fusion",
    "get_weights",
    "labels",
    "list_fusions",
    "list_models",
    "list_presets",
    "list_weights",
    "load",
    "load_imagenet",
    "load_state_dict",
    "optimize",
    "plot_confusion",
    "plot_fusion",
    "plot_history",
    "plot_reliability",
    "plot_robustness",
    "publish",
    "push_to_hub",
    "register_fusion",
    "register_model",
    "register_preset",
    "robustness",
    "save",
    "train",
    "train_ensemble",
    "train_seeds",
]
