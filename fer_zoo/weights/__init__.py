"""Trained states: records, bundled files, the checkpoint format, and the Hub."""

from fer_zoo.weights.address import is_address, parse_address
from fer_zoo.weights.checkpoint import load_state_dict, read_checkpoint, write_checkpoint
from fer_zoo.weights.records import WEIGHTS, WeightsRecord, get_weights, list_weights

__all__ = [
    "WEIGHTS",
    "WeightsRecord",
    "get_weights",
    "is_address",
    "list_weights",
    "load_state_dict",
    "parse_address",
    "read_checkpoint",
    "write_checkpoint",
]
