"""A model zoo for facial-expression recognition on grayscale faces.

>>> import fer_zoo
>>> model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
>>> len(model.labels)
7
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"

# The names are in __init__.pyi. Each is imported when first used, so that this costs no start.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Return what the stub names, or say what it is called here."""
    if name in __all__:
        return _load(name)
    from fer_zoo._words import no_such_name

    raise no_such_name(__name__, name, __all__)
