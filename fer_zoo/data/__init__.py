"""Datasets: faces as one uint8 tensor, with the names of their classes and their split."""

from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import FER2013
from fer_zoo.data.ferplus import FERPlus
from fer_zoo.data.files import image_files
from fer_zoo.data.folder import ImageFolder
from fer_zoo.data.posed import JAFFE, KDEF, CKPlus
from fer_zoo.data.report import DataReport, data_report
from fer_zoo.data.sets import DatasetSpec, list_datasets, open_dataset, register_dataset
from fer_zoo.data.wild import RAFDB, AffectNet, ExpW

__all__ = [
    "FER2013",
    "JAFFE",
    "KDEF",
    "RAFDB",
    "AffectNet",
    "CKPlus",
    "DataReport",
    "DatasetSpec",
    "ExpW",
    "FERPlus",
    "FaceDataset",
    "ImageFolder",
    "data_report",
    "image_files",
    "list_datasets",
    "open_dataset",
    "register_dataset",
]
