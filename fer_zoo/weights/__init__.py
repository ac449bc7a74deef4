"""Trained states: records, bundled files, and the checkpoint format."""

from fer_zoo.weights.checkpoint import (
    is_file_address,
    load_state_dict,
    read_checkpoint,
    write_checkpoint,
)
from fer_zoo.weights.records import WEIGHTS, WeightsRecord, get_weights, list_weights, verified_path

__all__ = [
    "WEIGHTS",
    "WeightsRecord",
    "get_weights",
    "is_file_address",
    "list_weights",
    "load_state_dict",
    "read_checkpoint",
    "verified_path",
    "write_checkpoint",
]
