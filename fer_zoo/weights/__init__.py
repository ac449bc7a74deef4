"""Trained states: records, bundled files, the checkpoint format, and the Hub."""

from fer_zoo.weights.checkpoint import load_state_dict
from fer_zoo.weights.imagenet import load_imagenet
from fer_zoo.weights.records import WEIGHTS, WeightsRecord, get_weights, list_weights

__all__ = [
    "WEIGHTS",
    "WeightsRecord",
    "get_weights",
    "list_weights",
    "load_imagenet",
    "load_state_dict",
]
