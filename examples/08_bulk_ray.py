"""
Label a large collection
========================

Ray Data labels on as many machines as there are; each worker keeps one predictor. When a worker
dies its batch is labelled again by another one: nothing is lost and nothing is there twice (a test
kills one).
"""

import logging
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import ray
import ray.data
import torch
from render_faces import EXPRESSIONS, draw_folder

import fer_zoo


class Label:
    """A worker: built once, called with batch after batch."""

    def __init__(self, model: str) -> None:
        torch.set_num_threads(1)  # Ray runs as many workers as there are cores
        self.predict = fer_zoo.Predictor(model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return a row for each image: path, label and probability, or why it cannot be used."""
        rows = self.predict(batch["path"].tolist()).to_dicts()
        columns = ("label", "probability", "error")
        return {"path": batch["path"]} | {c: [row[c] for row in rows] for c in columns}


def label(folder: Path, worker: type = Label, model: str = "resnet18_025") -> Any:
    """Return a lazy dataset of labels for the images in a folder that every machine sees."""
    paths = ray.data.from_items([{"path": str(p)} for p in fer_zoo.data.image_files(folder)])
    # Half a core for each worker leaves cores for reading and writing.
    pool = ray.data.ActorPoolStrategy(size=2)
    return paths.map_batches(
        worker, fn_constructor_args=(model,), batch_size=16, compute=pool, num_cpus=0.5
    )


# %%
# One of the files is no image. Its row says so, and the rest is labelled.

ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
logging.getLogger("ray.data").setLevel("ERROR")
folder = draw_folder(mkdtemp(), {name: name for name in EXPRESSIONS}, 16)
(folder / "happy" / "broken.png").write_text("no image")
label(folder).write_parquet(f"{folder}/labels")

# %%
# The result is a folder of parquet files: pandas, DuckDB or Spark read it.

table = ray.data.read_parquet(f"{folder}/labels").to_pandas()
ray.shutdown()
print(f"{len(table)} rows, {table.path.nunique()} images, {table.error.count()} errors")
table["drawn"] = [Path(path).parent.name for path in table.path]
table.groupby(["drawn", "label"]).size().unstack(fill_value=0)

# %%

table["label"].value_counts().plot.barh(color="#0072b2", xlabel="images", figsize=(6, 3))
plt.tight_layout()
