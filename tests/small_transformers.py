"""Small image classifiers of transformers, as transformers itself saves them to a folder."""

import json
from pathlib import Path
from typing import Any

import torch

NAMES = ("anger", "Disgust", "fear", "happiness", "sad", "surprise", "neutral")
"""As others write the classes, in the order of FER2013's csv files."""
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER |= {"intermediate_size": 64, "image_size": 64, "patch_size": 16}
SQUARE = {"height": 64, "width": 64}


def save(family: str, folder: Path, *, names: tuple[str, ...] = NAMES, **settings: Any) -> Path:
    """Save a small network with random weights, and its processor; return the folder."""
    import transformers as tf

    labels = dict(enumerate(names))
    how = {"id2label": labels, "label2id": {n: i for i, n in labels.items()}, **settings}
    rng = torch.random.get_rng_state()
    torch.manual_seed(0)
    if family == "vit":  # exactly 64 px, bilinear
        config = tf.ViTConfig(initializer_range=0.2, **TOWER, **how)
        model, processor = tf.ViTForImageClassification(config), tf.ViTImageProcessor(size=SQUARE)
    elif family == "convnext":  # the shortest edge 73 px, bicubic, and 64 px of it
        shape = {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}
        config = tf.ConvNextConfig(
            initializer_range=0.2, layer_scale_init_value=1.0, **shape, **how
        )
        model = tf.ConvNextForImageClassification(config)
        processor = tf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    elif family == "siglip":  # exactly 64 px, bicubic
        text = {"vocab_size": 8, "bos_token_id": 1, "eos_token_id": 2, **TOWER}
        config = tf.SiglipConfig(vision_config=TOWER, text_config=text, **how)
        model = tf.SiglipForImageClassification(config)
        processor = tf.SiglipImageProcessor(size=SQUARE)
    else:  # swin: ImageNet's means, one for each colour
        shape = {"image_size": 64, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]}
        config = tf.SwinConfig(window_size=4, initializer_range=0.2, **shape, **how)
        model = tf.SwinForImageClassification(config)
        processor = tf.ViTImageProcessor(size=SQUARE, resample=3, **IMAGENET)
    torch.random.set_rng_state(rng)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def change(path: Path, **values: Any) -> None:
    """Write other values into a file of JSON; None takes one out."""
    said = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
