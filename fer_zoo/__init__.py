"""A model zoo for facial-expression recognition on grayscale faces.

>>> import fer_zoo
>>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
>>> len(model.labels)
7
"""

import lazy_loader

__version__ = "0.1.0"

# The names are in __init__.pyi. Each is imported when first used, so that this costs no start.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
