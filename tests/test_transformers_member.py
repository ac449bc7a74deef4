"""`transformers/...`: anybody's image classifier as a member of the zoo."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import ROOT, run, stripes
from fer_zoo._install import install_command
from fer_zoo.errors import (
    ArgumentError,
    CheckpointError,
    FerZooError,
    InputError,
    LabelError,
    WeightsError,
)
from fer_zoo.inference import predict_scores
from fer_zoo.models import TransformersMember
from fer_zoo.transforms import PRESETS, Preset
from hub_server import Hub
from small_transformers import NAMES, change, save

transformers = pytest.importorskip("transformers", reason="fer-zoo[hf] is not installed")
# What other packages deprecate among themselves.
pytestmark = pytest.mark.filterwarnings("default")
FAMILIES = ("vit", "convnext", "siglip", "swin")
SCALED = 0.005
"""Largest difference of a probability from pipeline's, which rounds what it scaled to 8 bits."""
EXACT = 1e-5  # the same where nothing is scaled
SEEN = {"vit": 64, "convnext": 73, "siglip": 64, "swin": 64}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("transformers")
    return {family: save(family, folder / family) for family in FAMILIES}


@pytest.fixture
def vit(saved: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the folder of one, which may be changed."""
    return shutil.copytree(saved["vit"], tmp_path / "vit")


def picture(side: int, seed: int = 0, height: int | None = None) -> Image.Image:
    """Return something coloured and smooth."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((side, height or side), Image.Resampling.BICUBIC)


def by_pipeline(folder: Path, images: list[Image.Image]) -> torch.Tensor:
    """Return transformers' own answers, in the order of FER2013's csv."""
    classify = transformers.pipeline("image-classification", model=str(folder))
    rows = [{row["label"]: row["score"] for row in told} for told in classify(images, top_k=7)]
    return torch.tensor([[row[name] for name in NAMES] for row in rows])


def by_us(model: Any, images: list[Any]) -> torch.Tensor:
    told = fer_zoo.Predictor(model)(images)
    assert [p.error for p in told] == [None] * len(images)
    return torch.tensor([[*p.probabilities.values()] for p in told])


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_pipeline(family: str, saved: dict[str, Path]):
    """Exact size and shortest edge, bilinear and bicubic, one mean and three."""
    address = f"transformers/{saved[family]}"
    exact = [picture(SEEN[family], seed) for seed in range(3)]
    scaled = [picture(side, side) for side in (48, 100, 181, 300)]
    for images, allowed in ((exact, EXACT), (scaled, SCALED)):
        theirs, ours = by_pipeline(saved[family], images), by_us(address, images)
        assert float((theirs - ours).abs().max()) <= allowed
        assert float(theirs.std(0).max()) > 4 * allowed  # they do tell the images apart
        gray = by_us(address, [image.convert("L") for image in images])
        assert float((gray - ours).abs().max()) > 4 * allowed  # and see their colours


@pytest.mark.parametrize("family", FAMILIES)
def test_a_member_is_a_network_of_the_zoo(family: str, saved: dict[str, Path], tmp_path: Path):
    model = fer_zoo.load(f"transformers/{saved[family]}")
    assert isinstance(model, TransformersMember)
    assert not model.training
    assert model.labels == fer_zoo.labels.FER2013
    assert model.name == f"transformers/{family}"
    assert model.evidence.started_from == f"transformers/{family}"
    x = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (3, model.num_features)
        assert torch.equal(model.forward_head(features, pre_logits=True), features)
        torch.testing.assert_close(model.forward_head(features), model(x))
    path = fer_zoo.save(model, tmp_path / "a.safetensors")
    again = fer_zoo.load(path)
    assert (again.state, again.labels, again.name) == (model.state, model.labels, model.name)
    assert PRESETS[again.preset] == PRESETS[model.preset]
    assert str(saved[family].parent).encode() not in path.read_bytes()  # no place of this machine
    faces = torch.randint(0, 256, (4, 50, 50)).byte()
    assert torch.equal(predict_scores(again, faces), predict_scores(model, faces))
    model.reset_classifier(3)
    assert model.has_fresh_head
    assert model.labels is None
    model.labels = ("a", "b", "c")
    three = fer_zoo.load(fer_zoo.save(model, tmp_path / "b.safetensors", dtype="float16"))
    assert three(x).shape == (3, 3)
    assert three.labels == ("a", "b", "c")


@pytest.mark.slow
def test_the_file_needs_neither_the_folder_nor_a_network(vit: Path, tmp_path: Path):
    path = fer_zoo.save(fer_zoo.load(f"transformers/{vit}"), tmp_path / "a.safetensors")
    shutil.rmtree(vit)
    code = (
        "import socket, sys; socket.socket.connect = None\n"
        f"import fer_zoo; print(fer_zoo.Predictor({str(path)!r}).labels[3])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "happy", done.stderr
    code = "import sys; sys.modules['transformers'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert install_command("hf") in done.stderr


def test_colours_reach_the_network_whatever_the_image_is(vit: Path, tmp_path: Path):
    predict, image = fer_zoo.Predictor(f"transformers/{vit}"), picture(64)
    rgb = np.array(image)
    clear = np.concatenate([rgb, np.full((64, 64, 1), 255, np.uint8)], 2)
    image.save(tmp_path / "a.png")
    same: list[Any] = [image, rgb, rgb / np.float32(255), torch.from_numpy(rgb).permute(2, 0, 1)]
    same += [Image.fromarray(clear), tmp_path / "a.png", (tmp_path / "a.png").read_bytes()]
    found = by_us(predict_of := f"transformers/{vit}", same)
    assert float((found - found[0]).abs().max()) < 1e-6
    bgr = predict(np.ascontiguousarray(rgb[..., ::-1]), channels="bgr")
    assert [*bgr.probabilities.values()] == pytest.approx(found[0].tolist(), abs=1e-6)
    gray = image.convert("L")
    levels = [
        gray,
        np.array(gray),
        Image.merge("RGB", [gray] * 3),
        torch.from_numpy(np.array(gray)),
    ]
    found = by_us(predict_of, levels)
    assert float((found - found[0]).abs().max()) < 1e-6
    assert predict(image).face.shape == (64, 64)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    assert "shows nothing" in predict([red])[0].error
    with pytest.raises(InputError, match="may be RGBA"):
        predict(clear)
    with pytest.raises(InputError, match="10 px at least"):
        predict(rgb[:8, :8])
    turned = Image.fromarray(np.rot90(rgb).copy())
    turned.getexif()[274] = 6  # rows are columns: viewers turn it back
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=turned.getexif())
    assert by_us(predict_of, [buffer.getvalue()])[0].tolist() == pytest.approx(
        by_us(predict_of, [image])[0].tolist(), abs=1e-6
    )


def test_photographs_keep_their_colours(vit: Path):
    address, whole = f"transformers/{vit}", np.zeros((200, 300, 3), np.uint8)
    whole[50:150, 80:180] = np.array(picture(100))
    seen = fer_zoo.PhotoPredictor(address, detector=lambda rgb: [(80, 50, 180, 150)])
    expected = by_us(address, [picture(100)])[0].tolist()
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "PNG")
    for photo in (whole, whole / np.float32(255), buffer.getvalue()):
        (face,) = seen(photo).faces
        assert [*face.probabilities.values()] == pytest.approx(expected, abs=1e-6)
    (face,) = seen(np.ascontiguousarray(whole[..., ::-1]), channels="bgr").faces
    assert [*face.probabilities.values()] == pytest.approx(expected, abs=1e-6)


def test_gray_faces_are_seen_three_times(vit: Path):
    """Data sets are gray; evaluating is what the predictor says of gray images."""
    address = f"transformers/{vit}"
    faces = fer_zoo.data.FaceDataset(
        torch.randint(0, 256, (14, 48, 48)).byte(), torch.arange(14) % 7,
        labels=fer_zoo.labels.FER2013, name="noise",
    )  # fmt: skip
    result = fer_zoo.evaluate(address, faces)
    told = by_us(address, [Image.fromarray(i.numpy()) for i in faces.images])
    torch.testing.assert_close(result.probabilities().float(), told, atol=1e-5, rtol=0)
    told = by_us(address, [Image.fromarray(i.numpy()).convert("RGB") for i in faces.images])
    torch.testing.assert_close(result.probabilities().float(), told, atol=1e-5, rtol=0)
    in_colour = torch.randint(0, 256, (2, 3, 48, 48)).byte()
    gray = predict_scores(address, fer_zoo.transforms.to_gray(in_colour[0]))
    assert float((predict_scores(address, in_colour)[:1] - gray).abs().max()) > 1e-3


def test_create_builds_it_and_says_what_contradicts(vit: Path):
    name = f"transformers/{vit}"
    torch.manual_seed(1)
    fresh = fer_zoo.create(name)
    assert fresh.training
    assert (fresh.labels, fresh.evidence) == (None, fer_zoo.evidence.Evidence())
    assert PRESETS[fresh.preset].resize == 64
    assert fer_zoo.create(name, num_classes=3)(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    whole = fer_zoo.create(name, weights="default", num_classes=7, in_channels=3)
    assert whole.state == fer_zoo.load(name).state != fresh.state
    new = fer_zoo.create(name, weights="default", num_classes=3, head="reset")
    assert new.num_classes == 3
    assert torch.equal(new.model.vit.layernorm.weight, whole.model.vit.layernorm.weight)
    for how in ({"num_classes": 3}, {"in_channels": 1}, {"fusion": "average"}):
        with pytest.raises(ArgumentError, match="contradicts"):
            fer_zoo.create(name, weights="default", **how)
    with pytest.raises(ArgumentError, match="'imagenet'"):
        fer_zoo.create(name, weights="imagenet")
    assert fer_zoo.create_transform(name)(picture(80)).shape == (3, 64, 64)
    with pytest.raises(ArgumentError, match="does not take these images"):
        fer_zoo.Predictor(name, preset="fer40_center")


def test_it_can_be_fine_tuned(vit: Path, tmp_path: Path):
    model = fer_zoo.create(f"transformers/{vit}", weights="default", num_classes=3, head="reset")
    how: dict[str, Any] = {"recipe": "finetune", "epochs": 1, "batch_size": 8}
    done = fer_zoo.train(
        model, stripes(24), validation=stripes(12, seed=1), **how,
        output=tmp_path / "run",
    )  # fmt: skip
    assert done.model.labels == ("upright", "flat", "slanted")
    again = fer_zoo.load(tmp_path / "run")
    assert again.state == done.model.state
    assert again.evidence.training.recipe["preset"] == "vit_64"


def refusals() -> dict[str, Any]:
    """What is wrong with a folder, what makes it so, and what is said."""

    def tensors(folder: Path, edit: Any) -> None:
        from safetensors.torch import load_file, save_file

        held = load_file(folder / "model.safetensors")
        edit(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})

    def config(**values: Any) -> Any:
        return lambda folder: change(folder / "config.json", **values)

    def processor(**values: Any) -> Any:
        return lambda folder: change(folder / "preprocessor_config.json", **values)

    def pickled(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    def widened(held: dict[str, torch.Tensor]) -> None:
        held["classifier.weight"] = torch.zeros(8, 32)

    head = "classifier.weight"
    return {
        "no head": (lambda f: tensors(f, lambda t: t.pop(head)), r"1 missing: \['classifier.we"),
        "more": (lambda f: tensors(f, lambda t: t.update(x=torch.zeros(1))), "1 unexpected"),
        "other shape": (lambda f: tensors(f, widened), "weights"),
        "a pickle": (pickled, "pytorch_model.bin, a pickle.*save_pretrained"),
        "cut short": (
            lambda f: (f / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"),
            "cannot load its weights",
        ),
        "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), "no image processor"),
        "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "is an adapter"),
        "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
        "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json"),
        "a list": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
        "several at once": (config(problem_type="multi_label_classification"), "one of several"),
        "a number": (config(problem_type="regression"), "one of several"),
        "one class": (config(id2label={"0": "happy"}, label2id={"happy": 0}), "one of several"),
        "video": (config(model_type="timesformer"), "no image classifier of the type 'timesf"),
        "text": (config(model_type="bert"), "no image classifier of the type 'bert'"),
        "unheard of": (config(model_type="unheard_of"), "cannot read its config"),
        "no type": (config(model_type=None), "cannot read its config"),
        "code": (config(auto_map={"AutoConfig": "x.Y"}), "auto_map"),
        "quantized": (config(quantization_config={"bits": 4}), "quantization_config"),
        "four channels": (config(num_channels=4), "4 channels"),
        "ours": (config(model_type="fer_zoo"), "fer_zoo wrote this one: fer_zoo.load"),
        "a file of timm's": (
            config(model_type="timm_wrapper", architecture="resnet10t",
                   model_args={"checkpoint_path": "x.pth"}), "checkpoint_path",
        ),
        "Lanczos": (processor(resample=1), "Lanczos.*bicubically"),
        "no square": (processor(size={"height": 64, "width": 48}), "shape"),
        "another size": (processor(size={"height": 48, "width": 48}), "does not take"),
        "not scaled": (processor(do_resize=False), "ViTImageProcessor.* is no preset's"),
        "BGR": (
            processor(image_processor_type="MobileViTImageProcessor", do_flip_channel_order=True,
                      size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
            "no preset's",
        ),
        "huge": (processor(size={"height": 640, "width": 640}), "up to 512"),
    }  # fmt: skip


@pytest.mark.parametrize("what", refusals())
def test_what_cannot_be_right_is_refused(what: str, vit: Path):
    spoil, said = refusals()[what]
    spoil(vit)
    with pytest.raises(FerZooError, match=f"(?s){said}") as told:
        fer_zoo.load(f"transformers/{vit}")
    assert str(told.value).startswith(f"transformers/{vit}")
    with pytest.raises(FerZooError):
        fer_zoo.Predictor(f"transformers/{vit}")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (tuple(f"LABEL_{i}" for i in range(7)), "names no classes"),
        (("0", *NAMES[1:]), "names no classes"),
        ((*NAMES[:6], "Happy"), "names one expression twice"),
        ((*NAMES[:6], "bored"), r"no expressions fer_zoo knows, \['bored'\]"),
    ],
)
def test_labels_that_say_nothing(names: tuple[str, ...], said: str, vit: Path):
    """Nothing answers with them, and there is one way to say what they mean."""
    ids = {str(i): name for i, name in enumerate(names)}
    change(vit / "config.json", id2label=ids, label2id={n: int(i) for i, n in ids.items()})
    name = f"transformers/{vit}"
    uses: list[Any] = [
        lambda: fer_zoo.Predictor(name),
        lambda: fer_zoo.evaluate(name, stripes(3)),
        lambda: fer_zoo.create_ensemble([name, "resnet18_025.fer2013"]),
    ]
    for use in uses:
        with pytest.raises(LabelError, match=rf"(?s){said}.*model.labels = \['class 0'"):
            use()
    model = fer_zoo.load(name)
    assert model.labels is None
    model.labels = fer_zoo.labels.FER2013
    assert fer_zoo.Predictor(model)(picture(64)).label in model.labels


def test_another_order_of_the_classes(saved: dict[str, Path], tmp_path: Path):
    """Labels are by name: a head in folder order beside ours in csv order."""
    turned = save("vit", tmp_path / "turned", names=tuple(sorted(NAMES, key=str.lower)))
    model = fer_zoo.load(f"transformers/{turned}")
    assert model.labels == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    told = fer_zoo.Predictor(model)(image := picture(64)).probabilities
    classify = transformers.pipeline("image-classification", model=str(turned))
    for row in classify(image, top_k=7):
        assert told[fer_zoo.labels.canonical(row["label"])] == pytest.approx(
            row["score"], abs=EXACT
        )


def test_a_network_of_one_channel(tmp_path: Path):
    folder = save("vit", tmp_path / "gray", num_channels=1)
    change(folder / "preprocessor_config.json", image_mean=[0.5], image_std=[0.25])
    model = fer_zoo.load(f"transformers/{folder}")
    preset = PRESETS[model.preset]
    assert (model.in_channels, preset.color, preset.mean, preset.std) == (1, False, 0.5, 0.25)
    assert fer_zoo.Predictor(model)(picture(80)).label in model.labels
    three = save("vit", tmp_path / "three", num_channels=1)
    change(three / "preprocessor_config.json", do_convert_rgb=True)
    with pytest.raises(ArgumentError, match="channels"):
        fer_zoo.load(f"transformers/{three}")


def test_addresses_that_mean_nothing(vit: Path, tmp_path: Path, monkeypatch):
    for name in ("transformers/nowhere", f"transformers/{tmp_path}/nowhere", "transformers/./x"):
        with pytest.raises(CheckpointError, match="no such folder, and no org/name"):
            fer_zoo.load(name)
    for name in (
        "transformers/a/b@..",
        "transformers/a--b/c",
        "transformers/a/b#sha256=" + "0" * 64,
    ):
        with pytest.raises(ArgumentError, match="transformers/org/name@revision"):
            fer_zoo.load(name)
    monkeypatch.chdir(tmp_path)
    assert fer_zoo.load("transformers/vit").labels[0] == "angry"
    assert fer_zoo.load("transformers/./vit").name == "transformers/vit"
    ours = fer_zoo.save(fer_zoo.load("transformers/vit"), tmp_path / "ours")
    with pytest.raises(ArgumentError, match=r"fer_zoo wrote this one: fer_zoo.load\('ours'\)"):
        fer_zoo.load("transformers/ours")
    assert fer_zoo.load(ours).name == "transformers/vit"


def test_a_folder_of_ours_is_read_by_pipeline(saved: dict[str, Path], tmp_path: Path):
    pytest.importorskip("fer_zoo.hf", exc_type=ImportError)
    for family in ("convnext", "swin"):
        model = fer_zoo.load(f"transformers/{saved[family]}")
        place = fer_zoo.save(model, tmp_path / family)
        classify = transformers.pipeline("image-classification", model=str(place))
        image = picture(SEEN[family], 5)
        scores = {row["label"]: row["score"] for row in classify(image, top_k=7)}
        assert scores == pytest.approx(fer_zoo.Predictor(model)(image).probabilities, abs=EXACT)


@pytest.mark.slow
def test_the_program_of_onnxruntime_sees_colours(vit: Path, tmp_path: Path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    address, image = f"transformers/{vit}", picture(64)
    path = fer_zoo.export(address, tmp_path / "a.onnx")
    torch.testing.assert_close(by_us(path, [image]), by_us(address, [image]), atol=1e-4, rtol=0)
    views = fer_zoo.export(address, tmp_path / "b.onnx", transform=False)
    torch.testing.assert_close(by_us(views, [image]), by_us(address, [image]), atol=1e-4, rtol=0)


def test_the_hub_pins_what_it_gives(vit: Path, tmp_path: Path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    files = {path.name: path.read_bytes() for path in vit.iterdir()}
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        repo = hub.repos["me/faces"] = type(next(iter(hub.repos.values()), None) or _repo())()
        first = repo.commit(files)
        with pytest.raises(WeightsError, match=r"(?s)built without the network.*fer_zoo.load\("):
            fer_zoo.create("transformers/me/faces")
        model = fer_zoo.load("transformers/me/faces")
        assert model.evidence.weights == f"transformers/me/faces@{first}"
        assert model.name == "transformers/me/faces"
        other = {**files, "preprocessor_config.json": b"{}"}
        repo.commit(other)
        pinned = fer_zoo.load(f"transformers/me/faces@{first}")
        assert pinned.state == model.state == fer_zoo.load(model.evidence.weights).state
        ours = hub.repos["me/ours"] = type(repo)()
        place = fer_zoo.save(model, tmp_path / "ours")
        ours.commit({p.name: p.read_bytes() for p in place.iterdir()})
        with pytest.raises(ArgumentError, match=r"fer_zoo.load\('hf-hub:me/ours'\)"):
            fer_zoo.load("transformers/me/ours")
    fresh = fer_zoo.create(f"transformers/me/faces@{first}")  # the server has gone
    assert fresh.labels is None
    assert fer_zoo.load(f"transformers/me/faces@{first}").state == model.state


def _repo() -> Any:
    from hub_server import Repo

    return Repo()


def test_the_command_line(vit: Path, tmp_path: Path):
    name, image = f"transformers/{vit}", tmp_path / "a.png"
    picture(64).save(image)
    said = json.loads(run("predict", "--model", name, "--json", image).stdout)
    assert fer_zoo.Predictor(name)(image).label in json.dumps(said)
    assert "transformers/vit" in run("info", name).stdout
    for i, image in enumerate(stripes(24).images):
        place = tmp_path / "faces" / ("even", "odd")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(place)
    settings = ["--recipe", "finetune", "--set", "epochs=1", "--set", "batch_size=8"]
    train = ["train", name, "--data", tmp_path / "faces", "--validation", tmp_path / "faces"]
    told = run(*train, *settings, "--output", tmp_path / "run", code=2)
    assert "--new-head" in told.stderr


def test_the_lines_of_the_page_run(vit: Path, tmp_path: Path, monkeypatch, capsys):
    section = (ROOT / "docs/hub.md").read_text().partition("## Their networks")[2]
    (block,) = re.findall(r"```py\n(.*?)```", section, re.S)
    vit.rename(tmp_path / "theirs")
    picture(64).save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert {*capsys.readouterr().out.split()} <= {*fer_zoo.labels.FER2013}


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_the_comparison_of_the_hub(
    saved: dict[str, Path], vit: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import compare_hub

    from test_benchmarks import small_csv

    monkeypatch.setattr(fer_zoo, "list_weights", lambda: ["resnet18_025.fer2013"])
    (vit / "README.md").write_text("---\ndatasets:\n- AffectNet\n---\nFine-tuned on fer-2013.")
    data = small_csv(tmp_path)
    compare_hub.main(
        [str(vit), str(saved["swin"]), "./nowhere", "--data", str(data), "--limit", "21"]
    )
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [len(line) for line in lines[:6]] == [9] * 6
    assert lines[2][7:] == ["FER2013, AffectNet", "may be in it |"]
    assert lines[3][7:] == ["-", "no card |"]
    assert "not measured" in lines[4][1]
    assert lines[5][0] == "| resnet18_025.fer2013"
    result = fer_zoo.evaluate(f"transformers/{vit}", fer_zoo.data.FER2013(data, "public")[:21])
    assert lines[2][1] == f"{100 * result.accuracy:.2f}"
    assert compare_hub.says("---\ntitle: x\n---\nsomething") == ("-", "not named")
    assert compare_hub.says("datasets: [imagenet-1k]") == ("imagenet-1k", "not named")


def test_presets_in_colour_say_what_they_cannot_do(labelled):
    three = (0.1, 0.2, 0.3)
    with pytest.raises(ArgumentError, match="with color=True three"):
        Preset(name="x", resize=40, size=40, views="plain", mean=three)
    with pytest.raises(ArgumentError, match="interpolation is one of"):
        Preset(name="x", resize=40, size=40, views="plain", interpolation="lanczos")
    with pytest.raises(ArgumentError, match="color is True or False"):
        Preset(name="x", resize=40, size=40, views="plain", color=1)
    seen = Preset(name="x", resize=40, size=40, views="plain", mean=three, std=three, color=True)
    with pytest.raises(ArgumentError, match="takes one channel"):
        fer_zoo.Predictor(labelled, preset=seen)
    with pytest.raises(ArgumentError, match="takes one channel"):
        fer_zoo.transforms.Transform(seen, False)(picture(60))
    x = torch.rand(2, 3, 40, 40)
    expected = (x - torch.tensor(three)[:, None, None]) / torch.tensor(three)[:, None, None]
    torch.testing.assert_close(seen.evaluation_views(x)[:, 0], expected)
