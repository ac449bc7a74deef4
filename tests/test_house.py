"""The house: public names, import cost, registry, plugins, errors."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fer_zoo
from fer_zoo.errors import (
    ArgumentError,
    DuplicateNameError,
    FerZooError,
    LabelError,
    UnknownNameError,
)
from fer_zoo.models import MODELS
from fer_zoo.registry import Registry

ROOT = Path(__file__).parent.parent


def run_python(code: str, path: Path | None = None) -> str:
    """Return what `code` prints in a fresh interpreter."""
    program = f"import sys; sys.path.insert(0, {str(path)!r})\n{code}" if path else code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_is_there_and_no_other():
    assert fer_zoo.__all__ == sorted(fer_zoo.__all__) == dir(fer_zoo)
    for name in fer_zoo.__all__:
        assert getattr(fer_zoo, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="ensemble"):
        fer_zoo.ensemble  # noqa: B018


def test_the_house_stays_small():
    """What one has to know, and to read at once."""
    assert len(fer_zoo.__all__) <= 40
    modules = [*ROOT.glob("fer_zoo/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    lines = {path: path.read_text().count("\n") for path in modules}
    assert {path: n for path, n in lines.items() if n > 400} == {}


def test_the_zoos_widths_are_those_that_torch_bears():
    """Its 1x1 convolution of stride 2 writes past its buffer for others, in channels_last."""
    for name in (name for name, spec in MODELS.items() if spec.build is not None):
        with torch.device("meta"):
            layers = [m for m in fer_zoo.create(name).modules() if isinstance(m, nn.Conv2d)]
        reducing = [m for m in layers if m.kernel_size == (1, 1) and m.stride == (2, 2)]
        assert [m for m in reducing if m.in_channels % 16 or m.out_channels % 16] == [], name


def test_every_public_object_has_a_docstring_with_an_example():
    for name in fer_zoo.__all__:
        thing = getattr(fer_zoo, name)
        assert inspect.getdoc(thing), name
        assert inspect.ismodule(thing) or ">>>" in inspect.getdoc(thing), name


def test_import_leaves_heavy_packages_out():
    heavy = "torchvision timm huggingface_hub transformers sklearn scipy matplotlib PIL rich click"
    heavy = heavy.split()
    shown = f"print([m for m in {heavy} if m in sys.modules])"
    names = "(fer_zoo.create, fer_zoo.Predictor, fer_zoo.train, fer_zoo.evaluate)"
    assert run_python(f"import sys, fer_zoo; {names}; {shown}") == "[]"


@pytest.mark.slow
def test_each_name_imports_only_what_it_needs():
    code = "import sys, fer_zoo; print('torch' in sys.modules); fer_zoo.create('test_tiny'); "
    parts = ["fer_zoo.evaluation", "fer_zoo.inference", "fer_zoo.training"]
    code += f"print([m for m in {parts} if m in sys.modules])"
    assert run_python(code) == "False\n[]"


def test_a_predictor_does_without_sympy():
    """torch's own way to find the shapes of convolutions imports it, which takes 0.7 s."""
    code = "import sys, torch, numpy; before = 'sympy' in sys.modules; import fer_zoo; "
    code += "fer_zoo.Predictor('resnet18_025')(numpy.eye(48)); "
    code += "print(before or 'sympy' not in sys.modules)"
    assert run_python(code) == "True"


def test_every_error_descends_from_one_root():
    module = importlib.import_module("fer_zoo.errors")
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__:
            assert issubclass(value, FerZooError), name


def test_duplicate_name_raises():
    registry = Registry[int]("thing", "list_things()")
    registry.register("one", 1)
    with pytest.raises(DuplicateNameError, match="'one' is already registered"):
        registry.register("one", 2)
    assert registry["one"] == 1


@pytest.mark.parametrize("name", ["", "two words", "star*", 3, None])
def test_unusable_names_are_refused(name):
    with pytest.raises(ArgumentError):
        Registry[int]("thing", "list_things()").register(name, 1)


def test_unknown_name_lists_near_matches_and_the_call():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'resnet18'.*list_models\(\) lists"):
        fer_zoo.create("resnet8")
    with pytest.raises(UnknownNameError, match=r"timm/resnet10t"):
        fer_zoo.create("timm/resnet10")


def test_wildcards_and_exclude():
    assert "resnet18" in fer_zoo.list_models("res*")
    assert "vgg19" not in fer_zoo.list_models("res*")
    assert fer_zoo.list_models("*", exclude=["*_*", "res*"]) == ["vgg19"]
    trained = fer_zoo.list_models(trained=True)
    assert "ensemble_r18_vgg19_025" in trained
    assert "test_tiny" not in trained


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A throw-away package, installed as far as entry points go, with one of each."""
    (tmp_path / "throwaway.py").write_text(
        "import fer_zoo\n"
        "from fer_zoo.models import ResNet\n"
        "from functools import partial\n"
        "fer_zoo.register_model(fer_zoo.models.ModelSpec(name='throwaway_net', \n"
        "    build=partial(ResNet, width=4), description='mine', source='me',\n"
        "    first_conv='conv1.weight', classifier='fc'))\n"
        "fer_zoo.register_preset(fer_zoo.transforms.Preset(name='throwaway_preset',\n"
        "    resize=32, size=32, views='plain'))\n"
        "fer_zoo.inference.register_detector('throwaway_detector', lambda: lambda rgb: [])\n"
        "@fer_zoo.register_fusion('throwaway_fusion')\n"
        "class First(fer_zoo.fusion.Fusion):\n"
        "    def forward(self, member_logits):\n"
        "        return member_logits[0]\n"
    )
    info = tmp_path / "throwaway-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: throwaway\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fer_zoo.plugins]\nmine = throwaway\n")
    return tmp_path


@pytest.mark.slow
def test_third_parties_register_from_outside(plugin, monkeypatch):
    code = (
        "import throwaway, fer_zoo\n"
        "e = fer_zoo.create_ensemble(['throwaway_net', 'test_tiny'], fusion='throwaway_fusion')\n"
        "print(fer_zoo.list_models('throw*'), fer_zoo.list_presets('throw*'), e.fusion.name)"
    )
    printed = run_python(code, plugin)
    assert printed == "['throwaway_net'] ['throwaway_preset'] throwaway_fusion"
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    command = [sys.executable, "-m", "fer_zoo", "list", "throw*"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert all(f"throwaway_{kind}" in shown for kind in ("net", "fusion", "preset", "detector"))
    collect = [sys.executable, "-m", "pytest", "-p", "throwaway", "--collect-only", "-q"]
    found = subprocess.run(
        [*collect, "tests/test_models.py"], capture_output=True, text=True, cwd=ROOT
    )
    assert "[throwaway_net]" in found.stdout, found.stdout + found.stderr


@pytest.mark.slow
def test_a_broken_plugin_is_named_and_does_not_stop_the_rest(plugin, monkeypatch):
    (plugin / "throwaway.py").write_text("import no_such_module")
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    command = [sys.executable, "-m", "fer_zoo", "list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "resnet18" in done.stdout
    assert "the plugin 'mine' (throwaway): ModuleNotFoundError" in done.stderr


def test_registering_the_wrong_thing_is_refused():
    with pytest.raises(ArgumentError, match="either a build or members"):
        fer_zoo.models.ModelSpec(name="x", description="", source="")
    with pytest.raises(ArgumentError, match="ModelSpec"):
        fer_zoo.register_model("resnet18")
    with pytest.raises(ArgumentError, match="Preset"):
        fer_zoo.register_preset({"name": "x"})
    with pytest.raises(ArgumentError, match="subclass"):
        fer_zoo.register_fusion("x")(dict)


def test_labels_are_compared_by_name():
    labels = fer_zoo.labels
    folder_order = tuple(sorted(labels.FER2013))
    moved = labels.index_map(labels.FER2013, folder_order)
    assert [labels.FER2013[i] for i in moved] == list(folder_order)
    assert labels.index_map(["Happiness", "ANGER"], ["angry", "happy"]) == [1, 0]
    with pytest.raises(LabelError, match="contempt"):
        labels.index_map(labels.FER2013, labels.FERPLUS)


@pytest.mark.parametrize(
    "names", ["angry", [], ["a", ""], ["a", "a"], ["happy", "happiness"], [1, 2]]
)
def test_unusable_labels_are_refused(names):
    with pytest.raises(LabelError):
        fer_zoo.labels.check_labels(names)
