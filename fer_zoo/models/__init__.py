"""Networks: what they are made of, and their registry."""

from fer_zoo.models.base import Classifier, count_parameters
from fer_zoo.models.ensemble import Ensemble
from fer_zoo.models.resnet import ResNet
from fer_zoo.models.spec import MODELS, ModelSpec
from fer_zoo.models.timm_member import TimmMember
from fer_zoo.models.transformers_member import TransformersMember
from fer_zoo.models.vgg import VGG
from fer_zoo.models.zoo import get_spec

__all__ = [
    "MODELS",
    "VGG",
    "Classifier",
    "Ensemble",
    "ModelSpec",
    "ResNet",
    "TimmMember",
    "TransformersMember",
    "count_parameters",
    "get_spec",
]
