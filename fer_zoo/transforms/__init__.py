"""From images to what a network sees: presets, augmentation, and reading of any input."""

from fer_zoo.transforms.augment import Augmentation
from fer_zoo.transforms.inputs import to_gray, to_rgb
from fer_zoo.transforms.presets import PRESETS, Preset, counterparts
from fer_zoo.transforms.transform import Transform

__all__ = ["PRESETS", "Augmentation", "Preset", "Transform", "counterparts", "to_gray", "to_rgb"]
