"""The zoo inside transformers: Auto classes, Trainer, and what it saves."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

import fer_zoo
from conftest import ROOT, stripes
from fer_zoo._install import install_command
from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.models import Classifier
from hub_server import Hub

transformers = pytest.importorskip("transformers")
hf = pytest.importorskip("fer_zoo.hf", exc_type=ImportError)
# What other packages deprecate among themselves.
pytestmark = pytest.mark.filterwarnings("default")
Auto = transformers.AutoModelForImageClassification


@pytest.fixture
def folder(labelled: Classifier, tmp_path: Path) -> Path:
    return fer_zoo.save(labelled, tmp_path / "faces")


def views(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 1, 40, 40).expand(-1, 3, -1, -1)


def test_fer_zoo_itself_knows_nothing_of_it():
    code = "import sys, fer_zoo; fer_zoo.load, fer_zoo.save; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr


def test_without_transformers_the_extra_is_named():
    code = "import sys; sys.modules['transformers'] = None; import fer_zoo.hf"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "MissingDependencyError: fer_zoo.hf needs transformers" in done.stderr
    assert install_command("hf") in done.stderr


@pytest.mark.parametrize("dtype", [None, "float16", "int8"])
def test_the_auto_classes_read_every_way_to_store(labelled: Classifier, tmp_path: Path, dtype):
    place = fer_zoo.save(labelled, tmp_path / "faces", dtype=dtype)
    model, x = Auto.from_pretrained(place), views()
    assert not model.training
    with torch.no_grad():
        expected = fer_zoo.load(place)(x[:, :1]).softmax(1)
        found = model(pixel_values=x)
        torch.testing.assert_close(found.logits.softmax(1), expected)
        assert found.loss is None
        loss, logits = model(x, labels=torch.tensor([3, 0]), return_dict=False)
    torch.testing.assert_close(loss, -logits.log_softmax(1)[[0, 1], [3, 0]].mean())
    half = Auto.from_pretrained(place, dtype="bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    again, told = Auto.from_pretrained(place, output_loading_info=True, device_map="cpu")
    assert told["missing_keys"] == []
    assert again.network.labels == labelled.labels


def test_a_repository_of_the_hub(labelled: Classifier, tmp_path: Path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        address = fer_zoo.push_to_hub(labelled, "me/tiny", token="writer")
        commit = address.partition("@")[2].partition("#")[0]
        config = hf.FerZooConfig(**json.loads(hub.repos["me/tiny"].commits[commit]["config.json"]))
        read = hf.FerZooForImageClassification.from_pretrained
        model = read("me/tiny", config=config, revision=commit, token="reader")
        assert model.network.state == labelled.state
        assert model.config.id2label[3] == "happy"


def test_classes_of_ones_own(folder: Path, labelled: Classifier):
    with pytest.raises(ArgumentError, match=r"num_labels is 3, .* 7 classes: ignore_mismatched"):
        Auto.from_pretrained(folder, num_labels=3)
    names = {0: "a", 1: "b", 2: "c"}
    model = Auto.from_pretrained(folder, id2label=names, ignore_mismatched_sizes=True)
    assert model.network.labels == ("a", "b", "c")
    assert model(views()).logits.shape == (2, 3)
    assert torch.equal(model.network.conv1.weight, labelled.conv1.weight)
    nameless = Auto.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    assert nameless.network.labels is None
    fresh = Auto.from_config(model.config)
    assert fresh(views()).logits.shape == (2, 3)
    with pytest.raises(ArgumentError, match=r"\['subfolder'\] mean nothing"):
        Auto.from_pretrained(folder, config=model.config, subfolder="x")
    with pytest.raises(ArgumentError, match="on one device"):
        Auto.from_pretrained(folder, device_map={"a": 0, "b": "cpu"})
    with pytest.raises(ArgumentError, match="describes no network"):
        hf.FerZooForImageClassification(hf.FerZooConfig())


def test_a_damaged_file_is_refused(folder: Path):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or changed"):
        Auto.from_pretrained(folder)


@pytest.mark.parametrize("name", ["test_tiny", "ensemble", "timm/resnet10t"])
def test_trainer_fine_tunes_it_on_a_small_folder(name: str, tmp_path: Path):
    """From images in folders to a repository that fer_zoo and `pipeline` read."""
    labels = ("upright", "flat", "slanted")
    for part, n in (("train", 24), ("val", 12)):
        data = stripes(n, seed=n)
        for i, (image, k) in enumerate(zip(data.images, data.targets, strict=True)):
            path = tmp_path / part / labels[k] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.numpy()).save(path)
    parts = ["test_tiny", "plain_test"] if name == "ensemble" else [name]
    model: Any = fer_zoo.create(name) if name != "ensemble" else None
    model = model or fer_zoo.create_ensemble(parts, fusion="stacked")
    model.labels = fer_zoo.labels.FER2013
    place = fer_zoo.save(model.eval(), tmp_path / "start")
    how: dict[str, Any] = {"id2label": dict(enumerate(labels)), "ignore_mismatched_sizes": True}
    how |= {"num_labels": 3, "label2id": {name: i for i, name in enumerate(labels)}}
    tuned = Auto.from_pretrained(place, **how)
    processor = transformers.AutoImageProcessor.from_pretrained(place)

    def rows(part: str) -> list[dict[str, Any]]:
        found = []
        for path in sorted((tmp_path / part).rglob("*.png")):
            x = processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]
            found.append({"pixel_values": x, "labels": labels.index(path.parent.name)})
        return found

    before = {k: t.clone() for k, t in tuned.state_dict().items()}
    trainer = transformers.Trainer(
        model=tuned,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=2, use_cpu=True, report_to=[],
            per_device_train_batch_size=8, learning_rate=0.01, eval_strategy="epoch",
            save_strategy="epoch", load_best_model_at_end=True, disable_tqdm=True,
        ),
        train_dataset=rows("train"),
        eval_dataset=rows("val"),
    )  # fmt: skip
    trainer.train()
    assert any(not torch.equal(before[k], t) for k, t in tuned.state_dict().items())
    kept = sorted((tmp_path / "out").glob("checkpoint-*"))
    assert len(kept) == 2
    best = Path(trainer.state.best_model_checkpoint)
    trainer.save_model(str(tmp_path / "done"))
    classify = transformers.pipeline("image-classification", model=str(tmp_path / "done"))
    path = next((tmp_path / "val").rglob("*.png"))
    scores = {row["label"]: row["score"] for row in classify(str(path))}
    assert set(scores) == set(labels)
    if name == "timm/resnet10t":  # TimmWrapper's own file, which says nothing of fer_zoo
        with pytest.raises(CheckpointError):
            fer_zoo.load(tmp_path / "done")
        return
    saved = fer_zoo.load(tmp_path / "done")
    assert saved.state == fer_zoo.load(best).state  # the best epoch's values came back
    assert saved.labels == labels
    assert saved.evidence.scores == ()
    told = fer_zoo.Predictor(saved)(path).probabilities
    assert scores == pytest.approx(told, abs=1e-4)


def test_a_temperature_ends_with_training(labelled: Classifier, tmp_path: Path):
    labelled.temperature = {"fer40_center": 2.0}
    model = Auto.from_pretrained(fer_zoo.save(labelled, tmp_path / "faces"))
    x = views()
    with torch.no_grad():
        torch.testing.assert_close(model(x).logits.softmax(1), (labelled(x[:, :1]) / 2).softmax(1))
        model.train()(x)
        torch.testing.assert_close(
            model.eval()(x).logits.softmax(1), model.network(x[:, :1]).softmax(1)
        )


def test_a_network_at_hand(labelled: Classifier, tmp_path: Path):
    model = hf.FerZooForImageClassification.of(labelled)
    assert model.config.id2label == dict(enumerate(labelled.labels))
    model.save_pretrained(tmp_path / "a", state_dict=model.state_dict())
    assert fer_zoo.load(tmp_path / "a").state == labelled.state
    model.save_pretrained(tmp_path / "b", is_main_process=False)
    assert not (tmp_path / "b").exists()
    nameless = hf.FerZooForImageClassification.of(fer_zoo.create("test_tiny", num_classes=4))
    nameless.save_pretrained(tmp_path / "c")
    assert fer_zoo.load(tmp_path / "c").labels is None
    assert Auto.from_pretrained(tmp_path / "c").config.num_labels == 4


@pytest.mark.parametrize("name", ["resnet18_025", "timm/resnet10t"])
def test_the_lines_of_the_card_run(name: str, tmp_path: Path, monkeypatch, capsys):
    model = fer_zoo.create(name).eval()
    model.labels = fer_zoo.labels.FER2013
    folder = fer_zoo.save(model, tmp_path / "faces")
    Image.open(ROOT / "examples/faces/drawn_sad.png").save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    for block in blocks:
        if "local-dir" not in block or "local-dir" in timm.models._factory._MODEL_SOURCES:
            exec(block, {})
    said = capsys.readouterr().out.splitlines()
    assert len(blocks) == (3 if name.startswith("timm") else 2)
    assert said[0] in model.labels
    assert f"'{said[0]}'" in said[1].split("}")[0]
