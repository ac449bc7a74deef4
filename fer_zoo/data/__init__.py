"""Datasets: faces as one uint8 tensor, with the names of their classes and their split."""

from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import FER2013
from fer_zoo.data.ferplus import FERPlus
from fer_zoo.data.files import image_files
from fer_zoo.data.folder import ImageFolder
from fer_zoo.data.report import DataReport, data_report

__all__ = [
    "FER2013",
    "DataReport",
    "FERPlus",
    "FaceDataset",
    "ImageFolder",
    "data_report",
    "image_files",
]
