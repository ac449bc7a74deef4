"""Answers to words of timm and torchvision, which many know first: what it is called here."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from fer_zoo.errors import KeywordError

NAMES = {
    "create_model": "create(name, weights='default')",
    "get_model": "create(name, weights='default')",
    "list_pretrained": "list_models(trained=True), or list_weights()",
    "is_model": "list_models(), which are the names",
    "get_model_weights": "list_weights(name)",
    "get_weight": "list_weights(name)",
    "load_checkpoint": "load(path), or load_state_dict(model, state_dict)",
    "resolve_data_config": "create_transform(model)",
    "resolve_model_data_config": "create_transform(model)",
    "from_pretrained": "load('hf-hub:org/name')",
    "push_to_hf_hub": "push_to_hub(model, 'org/name')",
}
"""Names that others have, and the call that does it here."""

_BUILT = "the network's build sets it: fer_zoo.register_model one that is built otherwise"
KEYWORDS = {
    "pretrained": "pass weights='default' for trained weights, nothing for an untrained network",
    "in_chans": "pass in_channels=1 (gray) or in_channels=3 (RGB)",
    "checkpoint_path": "pass weights='folder/file.safetensors'",
    "pretrained_cfg": "pass weights=, and the network's preset is its transform",
    "features_only": "call model.forward_features(x)",
    **dict.fromkeys(("drop_rate", "dropout", "drop_path_rate", "global_pool"), _BUILT),
    "img_size": "pass preset=, one of fer_zoo.list_presets()",
    "cache_dir": "set HF_HOME in the environment",
    "progress": "leave it out, no bar is drawn",
    "map_location": "pass device=",
    "strict": "leave it out, what does not fit is an error",
    "filter": "pass pattern=",
    "exclude_filters": "pass exclude=",
}
"""Keywords that others have, and what to do here."""

P = ParamSpec("P")
R = TypeVar("R")


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function say, of a keyword that it does not know, what is meant here."""
    known = [p for p in inspect.signature(function).parameters if p != "self"]
    name = function.__qualname__.removesuffix(".__init__").replace("Labeller", "Predictor")

    @wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        if wrong := next((word for word in kwargs if word not in known), ""):
            meant = KEYWORDS.get(wrong, "")
            if (named := re.match(r"pass (\w+)=", meant)) and named[1] not in known:
                meant = ""
            if not meant:
                near = difflib.get_close_matches(wrong, known, n=1)
                meant = f"did you mean {near[0]}=?" if near else f"it takes {', '.join(known)}"
            raise KeywordError(f"{name}() takes no {wrong}=: {meant}")
        return function(*args, **kwargs)

    return answer


def no_such_name(package: str, name: str, names: Iterable[str]) -> AttributeError:
    """Return the error for a name that a package lacks, with what is meant."""
    near = difflib.get_close_matches(name, names, n=1)
    meant = NAMES.get(name, near[0] if near else "")
    if re.match("resnet|vgg", name):
        meant = f"create({name!r}, weights='default')"
    hint = f": use {package}.{meant}" if meant else ""
    return AttributeError(f"{package} has no {name!r}{hint}")
