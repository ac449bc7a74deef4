"""The Hub, by the installed client over HTTP: what goes right, and every way to go wrong."""

import ctypes
import functools
import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load as to_tensors

import fer_zoo
from conftest import ROOT, cli, in_this_process
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, CheckpointError, HubError, WeightsError
from fer_zoo.evidence import Evidence
from fer_zoo.weights import hub as hub_module
from fer_zoo.weights.reading import MAX_HEADER
from fer_zoo.weights.records import WEIGHTS, WeightsRecord
from hub_server import Hub, Repo

pytestmark = pytest.mark.filterwarnings(
    # The client's own call of its transport, while it uploads.
    "ignore:Use 'content=<...>' to upload:DeprecationWarning"
)
COMMIT = "[0-9a-f]{40}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no token, and no Xet, whose servers are another protocol."""
    folder = tmp_path / "hub-cache"
    values = {
        "HF_HUB_CACHE": str(folder),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv(name, str(int(value) if value is True else value))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's waiting takes no time, and is written down."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.fixture
def tiny() -> fer_zoo.models.Classifier:
    model = fer_zoo.create("test_tiny").eval()
    model.labels = fer_zoo.labels.FER2013
    return model


@pytest.fixture
def pushed(hub: Hub, tiny) -> str:
    """The address of a repository that is there, without its sha256."""
    address = fer_zoo.push_to_hub(tiny, "me/tiny", endpoint=hub.url, token="writer")
    hub.log.clear()
    return address.partition("#")[0]


def same(one, other) -> bool:
    x = torch.rand(2, one.in_channels, 40, 40)
    with torch.no_grad():
        return torch.equal(one(x), other(x))


def load(hub: Hub, address: str = "hf-hub:me/tiny", token: str | None = None):
    return fer_zoo.load(address, endpoint=hub.url, token=token)


def load_at_last(hub: Hub):
    """Load as one who tries again where the client has given up."""
    for _ in range(3):
        try:
            return load(hub)
        except HubError:
            continue
    return load(hub)


def files_of(hub: Hub, place: str) -> dict[str, bytes]:
    repo = hub.repos[place]
    return repo.commits[repo.refs["main"]]


def weights_in(cache: Path) -> list[Path]:
    """Files in the cache that are as large as weights, whatever they are called."""
    found = (p for p in cache.rglob("*") if p.is_file() and not p.is_symlink())
    return [p for p in found if p.stat().st_size > 100_000]


# What goes right


def test_round_trip_is_bit_equal_and_pinned(hub: Hub, tiny):
    tiny.temperature, tiny.preset = {"fer44_tencrop": 1.25}, "fer44_tencrop"
    address = fer_zoo.push_to_hub(tiny, "me/tiny", endpoint=hub.url, token="writer")
    ours = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert set(files_of(hub, "me/tiny")) == {".gitattributes", *ours}
    for where in (address, address.partition("#")[0], "hf-hub:me/tiny", "hf-hub:me/tiny@main"):
        again = load(hub, where)
        assert same(again, tiny)
        assert (again.labels, again.preset) == (tiny.labels, tiny.preset)
        assert again.temperature == tiny.temperature
        assert again.evidence.weights == address.partition("#")[0]


@pytest.mark.parametrize("dtype", [None, "float16", "int8"])
@pytest.mark.slow
def test_an_ensemble_round_trip(hub: Hub, dtype):
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
    options = {"dtype": dtype, "endpoint": hub.url, "token": "writer"}
    again = load(hub, fer_zoo.push_to_hub(model, "me/faces", **options))
    assert again.fusion.name == "stacked"
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        if dtype is None:
            assert torch.equal(again(x), model(x))
        torch.testing.assert_close(again(x), model(x), atol=0.2, rtol=0.2)


def test_every_way_to_name_weights_takes_a_repository(hub: Hub, pushed: str, tiny, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert same(fer_zoo.create("test_tiny", weights=pushed), tiny)
    assert fer_zoo.Predictor(pushed).labels == tiny.labels
    assert fer_zoo.create("test_tiny", weights=pushed, num_classes=3, head="reset").labels is None
    with pytest.raises(fer_zoo.errors.ArgumentError, match="holds 'test_tiny', not 'resnet18'"):
        fer_zoo.create("resnet18", weights=pushed)
    done = in_this_process(cli("info", pushed, "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "test_tiny"


def test_nothing_else_touches_the_network(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
    fer_zoo.load("vgg19_025.fer2013")
    assert hub.log == []


@pytest.mark.slow
def test_timm_reads_our_repository(hub: Hub):
    program = """
import sys, timm, torch
for name in sys.argv[1:]:
    model = timm.create_model(name, pretrained=True).eval()
    print(model(torch.linspace(0, 1, 1600).reshape(1, 1, 40, 40).expand(-1, 3, -1, -1)).tolist())
"""
    models = {}
    for name in ("resnet18_7x7", "timm/resnet10t"):
        model, place = fer_zoo.create(name, num_classes=5).eval(), f"me/{name.rpartition('/')[2]}"
        fer_zoo.push_to_hub(model, place, endpoint=hub.url, token="writer")
        models[f"hf-hub:{place}"] = model
        assert same(load(hub, f"hf-hub:{place}"), model)
    done = subprocess.run(
        [sys.executable, "-c", program, *models],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for line, model in zip(done.stdout.splitlines(), models.values(), strict=True):
        with torch.no_grad():
            ours = model(torch.linspace(0, 1, 1600).reshape(1, 1, 40, 40))
        torch.testing.assert_close(torch.tensor(json.loads(line)), ours)


def test_the_card_has_the_records_figures(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "writer")
    bundled = fer_zoo.load("vgg19_025.fer2013")
    dtype = bundled.evidence.storage.dtype
    done = fer_zoo.push_to_hub(bundled, "me/vgg19_025.fer2013", dtype=dtype, endpoint=hub.url)
    files = files_of(hub, "me/vgg19_025.fer2013")
    card = huggingface_hub.ModelCard(files["README.md"].decode())
    record = fer_zoo.weights.get_weights("vgg19_025.fer2013")
    found = {
        (r.metric_type, r.metric_args["preset"]): r.metric_value for r in card.data.eval_results
    }
    for score in record.scores:
        assert found["accuracy", score.preset] == score.accuracy
        assert found["f1", score.preset] == score.macro_f1
        assert f"{100 * score.accuracy:.2f}" in card.text
    assert (card.data.library_name, card.data.license) == ("fer_zoo", "apache-2.0")
    assert {r.dataset_split for r in card.data.eval_results} == {"PublicTest"}
    model = load(hub, done)
    assert same(model, fer_zoo.create("vgg19_025", weights="default"))
    stored = {t.dtype for t in to_tensors(files["model.safetensors"]).values() if t.ndim > 1}
    assert stored == {getattr(torch, record.evidence[""].storage.dtype)}
    config = json.loads(files["config.json"])
    assert config["id2label"]["3"] == "happy"


def test_a_record_on_the_hub_is_never_downloaded_by_create(hub: Hub, pushed, tiny, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    digest = next(iter(hub.blobs))
    record = WeightsRecord(
        model="test_tiny",
        tag="hub",
        file="model.safetensors",
        sha256=digest,
        labels=tiny.labels,
        preset=tiny.preset,
        evidence={"": Evidence()},
        source="hf-hub:me/tiny",
        revision=pushed.partition("@")[2],
    )
    monkeypatch.setitem(WEIGHTS._entries, record.address, record)
    with pytest.raises(WeightsError, match="without the network") as caught:
        fer_zoo.create("test_tiny", weights="hub")
    assert hub.log == []
    call = str(caught.value).splitlines()[1].strip()
    assert same(eval(call), tiny)
    hub.log.clear()
    assert same(fer_zoo.create("test_tiny", weights="default"), tiny)
    assert same(fer_zoo.load("test_tiny.hub"), tiny)
    assert hub.log == []
    with pytest.raises(WeightsError, match="is no revision"):
        WeightsRecord(**{**record.__dict__, "revision": "main"})


def test_what_an_earlier_model_left_goes(hub: Hub, pushed: str, tiny):
    repo = hub.repos["me/tiny"]
    old = {"onnx/model.onnx": b"of another", "confusion.png": b"old", "mine.txt": b"kept"}
    old["model-00001-of-00002.safetensors"] = b"a part"
    repo.commit({**files_of(hub, "me/tiny"), **old})
    fer_zoo.push_to_hub(tiny, "me/tiny", endpoint=hub.url, token="writer")
    assert {*files_of(hub, "me/tiny")} & {*old} == {"mine.txt"}


def test_the_picture_of_the_results_stands_beside_the_card(hub: Hub, tiny):
    """And goes with the next commit, which may have none."""
    faces = FaceDataset(
        torch.randint(0, 256, (14, 48, 48)).byte(), torch.arange(14) % 7,
        labels=tiny.labels, name="noise",
    )  # fmt: skip
    results = [fer_zoo.evaluate(tiny, faces)]
    for given in (results, ()):
        fer_zoo.push_to_hub(tiny, "me/a", results=given, endpoint=hub.url, token="writer")
        files = files_of(hub, "me/a")
        assert ("confusion.png" in files) == bool(given)
        assert ("](confusion.png)" in files["README.md"].decode()) == bool(given)
        if given:
            with Image.open(io.BytesIO(files["confusion.png"])) as picture:
                assert picture.format == "PNG"
                assert min(picture.size) > 300
                assert np.asarray(picture.convert("L")).std() > 10


def test_what_an_organisation_publishes(hub: Hub, tiny, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    known = fer_zoo.load("resnet18_025.fer2013")
    dtype = known.evidence.storage.dtype
    address = fer_zoo.push_to_hub(known, "me/faces", dtype=dtype, token="writer")
    fer_zoo.push_to_hub(tiny, "me/tiny", token="writer")
    hub.repos["me/other"] = Repo()
    hub.repos["me/other"].commit({"README.md": b"---\nlibrary_name: timm\n---\n"})
    hub.repos["you/tiny"] = hub.repos["me/tiny"]
    hub.log.clear()
    listed = json.loads(in_this_process(cli("list", "--hub", "me", "--json")).stdout)["published"]
    assert [one["address"].partition("@")[0] for one in listed] == [
        "hf-hub:me/faces",
        "hf-hub:me/tiny",
    ]
    first = known.evidence.scores[0]
    assert listed[0]["address"] == address.partition("#")[0]
    assert listed[0]["accuracy"] == first.accuracy
    for part in ("FER2013; PublicTest", f"n = {first.n}", first.selection):
        assert part in listed[0]["measured"]
    assert (listed[1]["accuracy"], listed[1]["licence"]) == (None, "")
    shown = in_this_process(cli("list", "fa*", "--hub", "me")).stdout
    assert f"{100 * first.accuracy:.2f}" in shown
    assert "me/tiny" not in shown
    assert "no model of fer_zoo" in in_this_process(cli("list", "x*", "--hub", "me")).stderr
    assert "one word" in in_this_process(cli("list", "--hub", "a b")).stderr
    hub.fail("GET", "/api/models", times=99, status=500)
    assert "the server said 500" in in_this_process(cli("list", "--hub", "me")).stderr
    hub.log.clear()
    fer_zoo.list_models()
    assert hub.log == []


# 401, 403, 404


def test_401_without_a_token_and_with_a_wrong_one(hub: Hub, pushed: str, tiny, monkeypatch):
    hub.repos["me/tiny"].private = True
    with pytest.raises(HubError, match=r"no such repository \(401\), or it is private.*hf auth"):
        load(hub)
    with pytest.raises(HubError, match=r"the token was refused \(401\)"):
        load(hub, token="wrong")
    assert same(load(hub, token="reader"), tiny)
    monkeypatch.setenv("HF_TOKEN", "reader")
    assert same(load(hub, pushed), tiny)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"\(401\)"):
        fer_zoo.push_to_hub(tiny, "me/other", endpoint=hub.url)
    assert "me/other" not in hub.repos


def test_403_gated_and_read_only_token(hub: Hub, pushed: str, tiny):
    hub.repos["me/tiny"].gated = True
    with pytest.raises(HubError, match=r"hf-hub:me/tiny is gated \(403\): ask for access"):
        load(hub, token="reader")
    with pytest.raises(HubError, match=r"the token may not do this \(403\)"):
        fer_zoo.push_to_hub(tiny, "me/other", endpoint=hub.url, token="reader")
    assert "me/other" not in hub.repos


def test_404_repository_revision_and_file(hub: Hub, pushed: str):
    with pytest.raises(HubError, match=r"hf-hub:me/none: there is no such repository \(404\)"):
        load(hub, "hf-hub:me/none", token="reader")
    for revision in ("v9", "0" * 40):
        with pytest.raises(HubError, match=rf"{revision}: the repository has no such commit, tag"):
            load(hub, f"hf-hub:me/tiny@{revision}")
    repo = hub.repos["me/tiny"]
    files = repo.commits[repo.refs["main"]]
    for missing, says in (
        ("model.safetensors", "has no model.safetensors"),
        ("config.json", "has no config.json"),
    ):
        repo.commit({k: v for k, v in files.items() if k != missing}, "broken")
        with pytest.raises(CheckpointError, match=f"hf-hub:me/tiny@broken {says}"):
            load(hub, "hf-hub:me/tiny@broken")


# 429, 500, a connection that breaks: the client's own patience, of each version another


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "/cdn/"])
def test_a_busy_server_is_asked_again(hub: Hub, pushed: str, tiny, no_sleep, path):
    method = "GET" if path == "/cdn/" else "HEAD"
    failure = hub.fail(method, path, times=2, status=429, headers={"Retry-After": "3"})
    assert same(load(hub), tiny)
    assert failure.times == 0
    assert no_sleep
    assert max(no_sleep) <= 4


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_server_that_stays_busy_ends_in_our_words(
    hub: Hub, pushed: str, tiny, no_sleep, cache: Path, method, status
):
    said = {"Retry-After": "300"} if status == 429 else {}
    says = {429: r"too many requests \(429\): try again in 300 s"}
    path = "/cdn/" if method == "GET" else "model.safetensors"
    hub.fail(method, path, times=999, status=status, headers=said)
    with pytest.raises(HubError, match=says.get(status, f"the server said {status}.*: try again")):
        load(hub)
    assert len(no_sleep) <= 5
    assert max(no_sleep, default=0) <= 301  # no more than the server asks for
    assert weights_in(cache) == []
    hub.failures.clear()
    assert same(load(hub), tiny)


def test_what_the_environment_says_wrongly_is_told_without_secrets(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://user:s3/cret@127.0.0.1:9")
    with pytest.raises(ArgumentError, match="HF_ENDPOINT is no address") as told:
        fer_zoo.load("hf-hub:me/tiny")
    assert "s3" not in str(told.value)
    error = ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setattr("fer_zoo.weights.hub.Repository._in_time", lambda *_: raising(error))
    with pytest.raises(HubError, match="hf-hub:me/tiny: Using SOCKS proxy, but the 'socksio'"):
        fer_zoo.load("hf-hub:me/tiny")


def raising(error: Exception) -> None:
    raise error


def test_no_server(tiny, no_sleep):
    with pytest.raises(HubError, match=r"no connection to the Hub .*check it, or HF_ENDPOINT"):
        fer_zoo.load("hf-hub:me/tiny", endpoint="http://127.0.0.1:9")
    assert sum(no_sleep) <= 60
    with pytest.raises(HubError, match="no connection to the Hub"):
        fer_zoo.push_to_hub(tiny, "me/tiny", endpoint="http://127.0.0.1:9", token="writer")


def test_what_xet_says_is_no_missing_connection():
    """Its errors have no response, only words."""
    said = "Data processing error: HTTP status client error (404 Not Found) for url (http://cas)"
    told = hub_module.explain(RuntimeError(said), "hf-hub:me/tiny")
    assert told.startswith(f"hf-hub:me/tiny: the transfer failed (RuntimeError: {said}): try again")


def test_a_cut_connection_resumes(hub: Hub, pushed: str, tiny, no_sleep, monkeypatch):
    """In the client itself, or where the first version gives up, when loaded again."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.fail("GET", "/cdn/", cut=300_000)
    hub.fail("GET", "/cdn/", cut=100_000)
    assert same(load_at_last(hub), tiny)
    assert hub.gets("/cdn/") == [None, "bytes=300000-", "bytes=400000-"]


def test_a_connection_that_always_breaks_leaves_nothing_that_loads(
    hub: Hub, pushed: str, tiny, no_sleep, cache: Path
):
    hub.fail("GET", "/cdn/", times=99, cut=0)
    with pytest.raises(HubError, match="hf-hub:me/tiny: no connection to the Hub"):
        load(hub)
    assert sum(no_sleep) <= 60
    assert weights_in(cache) == []
    assert not list(cache.rglob("snapshots/*/model.safetensors"))
    hub.failures.clear()
    assert same(load(hub), tiny)


# Bytes and revisions


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_a_wrong_sha256_is_refused_and_removed(hub: Hub, pushed: str, tiny, cache: Path):
    hub.fail("GET", "/cdn/", change=flipped)
    with pytest.raises(WeightsError, match=r"is not the recorded .* downloaded is removed"):
        load(hub)
    assert weights_in(cache) == []
    assert same(load(hub), tiny)
    # The same in the cache, where something changed a file that was good.
    [path] = weights_in(cache)
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(WeightsError, match="is not the recorded"):
        load(hub, pushed)
    assert same(load(hub, pushed), tiny)


def test_a_pinned_sha256_is_the_last_word(hub: Hub, pushed: str, tiny):
    wrong = "0" * 64
    with pytest.raises(WeightsError, match=f"is not the recorded {wrong}"):
        load(hub, f"{pushed}#sha256={wrong}")
    right = next(iter(hub.blobs))
    assert same(load(hub, f"{pushed}#sha256={right}"), tiny)


def test_a_wrong_pin_leaves_a_good_cache_alone(hub: Hub, pushed: str, tiny, monkeypatch):
    assert same(load(hub), tiny)
    wrong = f"{pushed}#sha256={'0' * 64}"
    with pytest.raises(WeightsError, match="is not the recorded") as caught:
        load(hub, wrong)
    assert "removed" not in str(caught.value)
    hub.log.clear()
    assert same(load(hub, pushed), tiny)
    assert hub.log == []


def test_damage_in_a_cache_that_cannot_be_written_is_said(
    hub: Hub, pushed: str, cache: Path, monkeypatch
):
    load(hub)
    [path] = weights_in(cache)
    path.write_bytes(flipped(path.read_bytes()))

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WeightsError, match="is not the recorded") as caught:
        load(hub, pushed)
    assert "removed" not in str(caught.value)


def test_a_config_damaged_on_its_way_is_not_kept(hub: Hub, pushed: str, tiny):
    for damage in (lambda c: c.replace(b"happy", b"hapqy"), lambda c: b"{" + c[1:-2] + b"x\n"):
        hub.fail("GET", "config.json", change=damage)
        with pytest.raises(WeightsError, match=r"config.json is not the file that .*is removed"):
            load(hub, pushed)
        assert same(load(hub, pushed), tiny)
        next(p for p in Path(constants.HF_HUB_CACHE).rglob("config.json")).resolve().unlink()


def test_a_token_that_cannot_be_sent_is_not_printed(hub: Hub, pushed: str, tiny, monkeypatch):
    assert same(load(hub, token="reader\n"), tiny)
    for token in ("hf_SE\nCRET", "hf_SECR\u00e9T", "", " "):
        with pytest.raises(fer_zoo.errors.ArgumentError, match="token= is none of") as caught:
            load(hub, token=token)
        assert "SE" not in str(caught.value)


def test_a_moved_revision_is_noticed(hub: Hub, pushed: str, tiny):
    assert same(load(hub), tiny)
    other = fer_zoo.create("test_tiny").eval()
    fer_zoo.push_to_hub(other, "me/tiny", endpoint=hub.url, token="writer")
    with pytest.warns(UserWarning, match=rf"me/tiny moved: it was .* is .* now.*@{COMMIT}"):
        assert same(load(hub), other)
    assert same(load(hub), other)  # and not said again
    assert same(load(hub, pushed), tiny)  # a commit does not move


def test_a_branch_that_moves_during_the_download_is_not_mixed(hub: Hub, pushed: str, tiny):
    repo = hub.repos["me/tiny"]
    broken = {**repo.commits[repo.refs["main"]], "model.safetensors": b"other"}
    hub.fail("GET", "config.json", before=lambda: repo.commit(broken))
    assert same(load(hub), tiny)


def test_another_commit_than_asked_for_is_refused(hub: Hub, pushed: str):
    repo, commit = hub.repos["me/tiny"], pushed.partition("@")[2]
    repo.at = lambda revision: "f" * 40
    repo.commits["f" * 40] = repo.commits[commit]
    with pytest.raises(HubError, match=f"sent the commit '{'f' * 40}', not {commit}"):
        load(hub, pushed)


def test_a_revision_is_a_name_and_never_a_path(hub: Hub, pushed: str, tiny, monkeypatch):
    """The client writes a commit's hash into the file that a revision names."""
    bad = "/etc/passwd //x ../x a/../b a//b a/ .x a/.git ~/x a\\b C:/x a..b".split()
    for revision in ["", *bad]:
        with pytest.raises(fer_zoo.errors.ArgumentError, match="is no commit, tag or branch"):
            load(hub, f"hf-hub:me/tiny@{revision}")
    assert hub.log == []
    repo = hub.repos["me/tiny"]
    for revision in ("v1.0", "refs/pr/1", "a/b-c_d", "-x"):
        repo.refs[revision] = repo.refs["main"]
        assert same(load(hub, f"hf-hub:me/tiny@{revision}"), tiny)


def test_a_commit_that_is_a_path_writes_nowhere(hub: Hub, pushed: str, cache: Path, tmp_path: Path):
    repo, out = hub.repos["me/tiny"], str(tmp_path / "out" / "x")
    for commit in ("../../../../out/x", out):
        repo.at = lambda revision, commit=commit: commit
        repo.commits[commit] = repo.commits[pushed.partition("@")[2]]
        with pytest.raises(HubError):
            load(hub)
    assert not (tmp_path / "out").exists()


def test_sizes_are_asked_first(hub: Hub, pushed: str, tiny, cache: Path, monkeypatch):
    """Nothing is downloaded of a file that no model has."""
    repo = hub.repos["me/tiny"]
    files = repo.commits[repo.refs["main"]]
    repo.commit({**files, "config.json": bytes(MAX_HEADER + 1)}, "large")
    with pytest.raises(HubError, match=r"config.json has 4,194,305 bytes, and 4,194,304 are all"):
        load(hub, "hf-hub:me/tiny@large")
    monkeypatch.setitem(hub_module.LARGEST, "model.safetensors", 10**6)
    with pytest.raises(HubError, match=r"model.safetensors has [\d,]+ bytes, and 1,000,000 are"):
        load(hub)
    assert hub.gets("/cdn/") == []
    assert weights_in(cache) == []


@pytest.mark.parametrize(("method", "path"), [("HEAD", "config.json"), ("GET", "/cdn/")])
def test_a_load_ends_in_time(hub: Hub, pushed: str, tiny, monkeypatch, method, path):
    """Whatever the client waits for; what the server sends later does no harm."""
    monkeypatch.setenv("FER_ZOO_HUB_TIMEOUT", "0.5")
    done = threading.Event()
    hub.fail(method, path, before=lambda: done.wait(60))
    began = time.monotonic()
    with pytest.raises(HubError, match=r"not loaded in 0.5 s: .* FER_ZOO_HUB_TIMEOUT to more"):
        load(hub)
    assert time.monotonic() - began < 30
    done.set()
    monkeypatch.setenv("FER_ZOO_HUB_TIMEOUT", "300")
    assert same(load(hub), tiny)
    for said in ("99999999999", "9" * 400, "3\u0661"):
        monkeypatch.setenv("FER_ZOO_HUB_TIMEOUT", said)
        with pytest.raises(fer_zoo.errors.ArgumentError, match="is a number of seconds"):
            load(hub)
    monkeypatch.setenv("FER_ZOO_HUB_TIMEOUT", "soon")
    with pytest.raises(fer_zoo.errors.ArgumentError, match="is a number of seconds, got 'soon'"):
        load(hub)


@pytest.mark.slow
def test_a_password_in_the_endpoint_is_not_told(hub: Hub, pushed: str):
    """Neither by the client's log of its retries, nor by our error."""
    for status in (503, 404):
        hub.failures.clear()
        hub.fail("HEAD", "config.json", times=999, status=status)
        done = subprocess.run(
            cli("info", "hf-hub:me/tiny"),
            capture_output=True,
            text=True,
            env=os.environ
            | {"HF_ENDPOINT": hub.url.replace("//", "//me:PASSWORD@"), "FER_ZOO_HUB_TIMEOUT": "5"},
        )
        assert done.returncode == 2
        assert done.stderr.startswith("fer-zoo: hf-hub:me/tiny")
        assert "PASSWORD" not in done.stdout + done.stderr


# The cache


def test_pins_hold_against_the_cache(hub: Hub, pushed: str, tiny, cache: Path):
    """A commit against damage; a sha256 against whoever can write there, too."""
    sha256 = next(iter(hub.blobs))
    for name, says in (
        ("config.json", "is not the file that"),
        ("model.safetensors", "is not the"),
    ):
        assert same(load(hub, pushed), tiny)
        [link] = cache.rglob(f"snapshots/*/{name}")
        blob = link.resolve()
        blob.write_bytes(flipped(blob.read_bytes()))
        with pytest.raises(WeightsError, match=says):
            load(hub, pushed)
    other = fer_zoo.create("test_tiny").eval()
    fer_zoo.push_to_hub(other, "me/other", endpoint=hub.url, token="writer")
    assert same(load(hub, pushed), tiny)
    load(hub, "hf-hub:me/other")
    for theirs in cache.glob("models--me--other/snapshots/*/*"):
        [link] = cache.glob(f"models--me--tiny/snapshots/*/{theirs.name}")
        link.unlink()
        link.symlink_to(theirs.resolve())
    assert same(load(hub, pushed), other)
    with pytest.raises(WeightsError, match=f"is not the recorded {sha256}"):
        load(hub, f"{pushed}#sha256={sha256}")


def test_a_cached_revision_needs_no_network(hub: Hub, pushed: str, tiny, no_sleep):
    assert same(load(hub), tiny)
    hub.log.clear()
    assert same(load(hub, pushed), tiny)
    assert hub.log == []  # a commit in the cache is not even asked about
    for address in ("hf-hub:me/tiny", pushed):
        assert same(fer_zoo.load(address, endpoint="http://127.0.0.1:9"), tiny)


LOAD = """
import sys, fer_zoo
for address in sys.argv[1:]:
    try:
        print("loaded", fer_zoo.load(address).name)
    except fer_zoo.errors.FerZooError as error:
        print(type(error).__name__, error)
"""


def in_process(*addresses: str, prepare=None, **env: str) -> list[str]:
    """Return what a fresh process says of loading each of some addresses, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *addresses],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=prepare,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_offline_with_and_without_the_cache(hub: Hub, pushed: str):
    env = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.url}
    both = ["hf-hub:me/tiny", pushed]
    for address, said in zip(both, in_process(*both, **env), strict=True):
        assert said.startswith(f"HubError {address}: not in the cache"), said
        assert "HF_HUB_OFFLINE=1 forbids to download it" in said
    assert hub.log == []
    load(hub)
    hub.log.clear()
    assert in_process(*both, **env) == ["loaded test_tiny"] * 2
    assert hub.log == []


@pytest.mark.slow
def test_two_processes_at_once(hub: Hub, pushed: str, tiny, cache: Path):
    hub.fail("GET", "/cdn/", times=2, before=lambda: time.sleep(1))
    env = os.environ | {"HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD, "hf-hub:me/tiny"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        for _ in range(2)
    ]
    assert [p.communicate()[0].strip() for p in both] == ["loaded test_tiny"] * 2
    assert len(weights_in(cache)) == 1
    assert not list(cache.rglob("*.incomplete"))
    assert same(load(hub, pushed), tiny)


def without_roots_privilege() -> None:
    """Let permissions hold for root too, in a child before it runs its program."""
    if os.geteuid() == 0:
        cap_dac_override, drop_from_bounding_set = 1, 24
        assert ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_dac_override, 0, 0, 0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="root's privileges are Linux's")
@pytest.mark.slow
def test_a_read_only_cache(hub: Hub, pushed: str, tiny, cache: Path):
    cache.mkdir()
    cache.chmod(0o555)
    root = {"prepare": without_roots_privilege, "HF_ENDPOINT": hub.url}
    [said] = in_process("hf-hub:me/tiny", **root)
    cache.chmod(0o755)
    assert said.startswith(f"HubError hf-hub:me/tiny: not downloaded to {cache} (Permission denied")
    assert "set HF_HUB_CACHE to a folder that can be written" in said
    load(hub)
    folders = [cache, *(p for p in cache.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    # What is there can be read.
    assert in_process("hf-hub:me/tiny", pushed, **root) == ["loaded test_tiny"] * 2
    for folder in folders:
        folder.chmod(0o755)


def small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts are Linux's")
@pytest.mark.slow
def test_a_full_disk(hub: Hub, pushed: str, tiny, cache: Path):
    [said] = in_process("hf-hub:me/tiny", prepare=small_files_only, HF_ENDPOINT=hub.url)
    assert said.startswith(f"HubError hf-hub:me/tiny: not downloaded to {cache} (File too large)")
    assert "free some space there, or set HF_HUB_CACHE" in said
    assert not list(cache.rglob("snapshots/*/model.safetensors"))
    assert same(load(hub), tiny)


@pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts are Linux's")
@pytest.mark.slow
def test_a_full_file_system(hub: Hub, pushed: str, tmp_path: Path):
    """A real one, of 200 kB, where this system lets a user mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=200k none {disk} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting is not allowed here")
    run = subprocess.run(
        [*command, sys.executable, "-c", LOAD, "hf-hub:me/tiny"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_CACHE": str(disk), "HF_ENDPOINT": hub.url},
    )
    assert run.stdout.startswith("HubError hf-hub:me/tiny: not downloaded to"), run.stderr
    assert "No space left on device" in run.stdout


# Uploads


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/repos/create"),
        ("POST", "preupload"),
        ("POST", "objects/batch"),
        ("PUT", "/lfs/"),
        ("POST", "/verify/"),
        ("POST", "/commit/"),
    ],
)
def test_an_upload_to_a_busy_server(hub: Hub, tiny, no_sleep, method, path):
    """It ends in our words, whatever the client asks again; later it works."""
    failure = hub.fail(method, path, times=99, status=503)
    push = functools.partial(fer_zoo.push_to_hub, endpoint=hub.url, token="writer")
    with pytest.raises(HubError, match=r"the server said 503.*: try again later"):
        push(tiny, "me/tiny")
    failure.times = 0
    assert same(load(hub, push(tiny, "me/tiny")), tiny)


def test_a_failed_upload_leaves_the_repository_as_it_was(hub: Hub, pushed: str, tiny, no_sleep):
    before = dict(hub.repos["me/tiny"].refs)
    for path, status in (("/commit/", 500), ("/lfs/", 403), ("/commit/", 403)):
        hub.failures.clear()
        hub.fail("PUT" if "lfs" in path else "POST", path, times=999, status=status)
        other = fer_zoo.create("test_tiny")
        with pytest.raises(HubError, match=str(status)):
            fer_zoo.push_to_hub(other, "me/tiny", endpoint=hub.url, token="writer")
        assert hub.repos["me/tiny"].refs == before


def test_hostile_repositories_are_refused_like_hostile_files(hub: Hub, pushed: str):
    repo = hub.repos["me/tiny"]
    files = repo.commits[repo.refs["main"]]
    cases = [
        ({"model.safetensors": b"PK\x03\x04"}, "is a pickle"),
        ({"model.safetensors": b""}, "it is empty"),
        ({"config.json": b"[" * 100_000}, "is nested too deep"),
        ({"config.json": b"{}"}, "does not say which fer_zoo model"),
    ]
    for changes, says in cases:
        repo.commit({**files, **changes}, "bad")
        with pytest.raises(CheckpointError, match=says):
            load(hub, f"hf-hub:me/tiny@{repo.refs['bad']}")


def test_the_lines_of_the_documentation(hub, tiny, monkeypatch):
    from test_pages import code

    for name in ("push_to_hub", "load"):
        known = {"endpoint": hub.url, "token": "writer"}
        monkeypatch.setattr(fer_zoo, name, functools.partial(getattr(fer_zoo, name), **known))
    names = {"fer_zoo": fer_zoo, "model": tiny}
    exec(code("weights"), names)
    address, _, sha256 = names["address"].partition("#sha256=")
    assert address.startswith("hf-hub:me/my-faces@")
    assert len(sha256) == 64
    assert same(tiny, fer_zoo.load(names["address"]))
