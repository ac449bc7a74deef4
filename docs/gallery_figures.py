"""Shows the figure that a gallery cell ends with, as notebooks do, and checks what examples leave.

sphinx-gallery itself looks for pyplot's figures only, and fer_zoo returns plain ones.
"""

from contextlib import chdir
from pathlib import Path

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

FACTS = {
    "01_predict": """
drawn = sorted(Path("faces").glob("drawn_*.png"))
named = predict(drawn)
assert [f"drawn_{p.label}" for p in named] == [path.stem for path in drawn], named
assert len(drawn) == 5 and [len(photo.faces) for photo in photos] == [1, 1]
""",
    "02_compare_fusions": """
assert {len(values.probabilities) for values in said.values()} == {7}
assert len({values.probability for values in said.values()}) > 3
assert min(result.accuracy for result in results.values()) > 0.7
""",
    "03_fine_tune": """
assert result.best.val_accuracy > 0.9, result
assert fer_zoo.load(result.checkpoint).labels == ("amused", "bored", "startled")
""",
    "04_eight_classes": """
assert result.model.labels == LABELS
assert result.best.val_accuracy > 0.7, result
""",
    "05_register_fusion": """
assert fer_zoo.load(path).fusion.sharpness == 4.0
assert shares[-1, 0] > 0.95 and shares[0, -1] < 0.05
assert shares.diagonal().allclose(torch.tensor(0.5))
""",
    "06_grad_cam": """
assert heat.shape == (1, 1, 40, 40) and heat.max() > 0 and heat.min() >= 0
""",
    "07_export_and_serve": """
assert tuple(served) == tuple(own)
assert max(abs(served[name] - own[name]) for name in own) < 0.05, (served, own)
assert max(served, key=served.get) == "happy"
""",
    "08_bulk_ray": """
assert len(table) == table.path.nunique() == 81
(broken,) = table[table.error.notna()].itertuples()
assert broken.path.endswith("broken.png") and "cannot be read" in broken.error, broken
assert table.label.isna().sum() == 1
assert (table.label == table.drawn).sum() > 45, table.label.value_counts()
""",
    "09_films": """
assert [track.track for track in film.tracks()] == [0, 1]
assert [track.frames > 100 for track in film.tracks()] == [True, True]
assert {"neutral", "happy", "surprise"} <= set(film.tracks()[0].shares)
assert len(film) == 150 and not any(frame.error for frame in film)
pairs = [*zip(alone.tracks(), film.tracks(), strict=True)]
assert all(each.changes > 2 * smoothed.changes for each, smoothed in pairs), pairs
""",
    "10_compare_models": """
assert [result.n for result in results] == [150, 150]
assert 0 < comparison.p_value < 0.05 and comparison.difference > 0, comparison
assert published["resnet18_025"].accuracy > published["vgg19_025"].accuracy
""",
}
"""What holds when an example has ended, of the names that it leaves."""
NAMES = {}
"""The folder and the names of each example that was run."""


def figures(block, block_vars, gallery_conf):
    """Return reST for the figure that is the value of the cell's last line, if it is one."""
    path = Path(block_vars["src_file"])
    NAMES[path.stem] = path.parent, block_vars["example_globals"]
    last = block_vars["example_globals"].get("___")
    if not isinstance(last, Figure) or hasattr(last, "in_gallery"):
        return ""
    last.in_gallery = True
    image = next(block_vars["image_path_iterator"])
    last.savefig(image, dpi=100)
    return figure_rst([image], gallery_conf["src_dir"])


def _get_sg_image_scraper():
    return figures


def facts(gallery_conf, fname, when):
    """Raise unless what is known of an example that was run holds."""
    name = Path(fname or "").stem
    if when == "after" and name in NAMES:
        folder, names = NAMES.pop(name)
        with chdir(folder):
            exec(FACTS[name], names)
