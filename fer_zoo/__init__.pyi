"""The public names: type checkers read them here, and each is imported at its first use."""

from . import (
    data as data,
    errors as errors,
    evaluation as evaluation,
    fusion as fusion,
    inference as inference,
    labels as labels,
    models as models,
    plots as plots,
    training as training,
    transforms as transforms,
    weights as weights,
)
from .catalogue import (
    list_fusions as list_fusions,
    list_models as list_models,
    list_presets as list_presets,
    register_model as register_model,
    register_preset as register_preset,
)
from .evaluation import compare as compare, evaluate as evaluate, robustness as robustness
from .factory import (
    create as create,
    create_ensemble as create_ensemble,
    create_transform as create_transform,
)
from .fusion import register_fusion as register_fusion
from .inference import (
    FaceDetector as FaceDetector,
    PhotoPredictor as PhotoPredictor,
    Prediction as Prediction,
    Predictor as Predictor,
    calibrate as calibrate,
    export as export,
    optimize as optimize,
)
from .publishing import push_to_hub as push_to_hub, save as save
from .saving import load as load
from .training import (
    fit_fusion as fit_fusion,
    train as train,
    train_ensemble as train_ensemble,
)
from .video import VideoPredictor as VideoPredictor
from .weights import (
    list_weights as list_weights,
    load_state_dict as load_state_dict,
)
from .weights.convert import convert as convert

__all__: list[str]
__version__: str
