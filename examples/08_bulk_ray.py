"""
Label a large collection
========================

Ray Data reads, labels and writes on as many machines as there are; each worker keeps one predictor.
When a worker dies its batch is labelled again by another one: nothing is lost and nothing is there
twice (a test kills one).
"""

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
        """Return a row for each image: its path, label and score, or why it could not be used."""
        found = self.predict(list(batch["image"]))
        columns = ("label", "score", "error")
        return {"path": batch["path"]} | {c: [getattr(p, c) for p in found] for c in columns}


def label(folder: str, worker: type = Label, model: str = "resnet18_025") -> Any:
    """Return a lazy dataset of labels for the images in a folder (or s3:// or gs:// address)."""
    images = ray.data.read_images(folder, include_paths=True, mode="L")
    # Half a core for each worker leaves cores for reading.
    pool = ray.data.ActorPoolStrategy(size=2)
    return images.map_batches(
        worker, fn_constructor_args=(model,), batch_size=16, compute=pool, num_cpus=0.5
    )


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    folder = draw_folder(mkdtemp(), {name: name for name in EXPRESSIONS}, 16)
    label(str(folder)).write_parquet(f"{folder}/labels")

    # The result is a folder of parquet files: pandas, DuckDB or Spark read it.

    table = ray.data.read_parquet(f"{folder}/labels").to_pandas()
    ray.shutdown()
    print(f"{len(table)} rows, {table.path.nunique()} images, {table.error.count()} errors")
    table["drawn"] = [Path(path).parent.name for path in table.path]
    print(table.groupby(["drawn", "label"]).size().unstack(fill_value=0))
    table["label"].value_counts().plot.barh(color="#0072b2", xlabel="images", figsize=(6, 3))
    plt.tight_layout()
    plt.show()
