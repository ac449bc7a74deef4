"""`fer-zoo app`: what the page says; and the page itself, in a browser where there is one.

The latter is for `make test-app`, as Gradio takes no Pillow 13 yet.
"""

import contextlib
import http.client
import io
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from fer_zoo._install import install_command
from fer_zoo.app import heat_map, page
from fer_zoo.app.answers import Camera, Choice, fusions, models, of_camera, of_film, of_photograph
from fer_zoo.app.cards import face_cards
from fer_zoo.errors import ArgumentError, InputError, MissingDependencyError
from fer_zoo.inference import Prediction
from films import portrait, scene, seconds_of_sound, without_end, write

pytest.importorskip("captum")
pytest.importorskip("av")
pytest.importorskip("cv2")

ROOT = Path(__file__).parent.parent
EILEEN = ROOT / "examples/photographs/eileen_collins.jpg"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
STACKED = Choice("ensemble_r18_vgg19_025.fer2013", "stacked", 2)


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(Choice(), marks=pytest.mark.weekly),
        STACKED,
        pytest.param(Choice("resnet18_025.ferplus"), marks=pytest.mark.weekly),
    ],
)
def test_a_photograph_is_labelled_as_the_predictor_does(choice):
    name, _, tag = choice.model.partition(".")
    predict = fer_zoo.PhotoPredictor(name, weights=tag, fusion=choice.fusion, views=choice.views)
    (face,) = predict(EILEEN).faces
    image, said = of_photograph(EILEEN, choice)
    assert f"face 0: {face.label} {100 * face.probability:.0f} %" in said
    for name, p in face.probabilities.items():
        assert f"<span>{name}</span>" in said
        assert f"<span>{100 * p:.1f} %</span>" in said
    assert said.count("data:image/png;base64") == 2
    assert f"where it looked for {face.label}" in said
    with Image.open(EILEEN) as original:
        assert image.shape == (original.height, original.width, 3)
        left, top, *_ = face.box
        assert (image[top, left] != np.asarray(original.convert("RGB"))[top, left]).any()


def test_a_large_photograph_is_shown_small_with_its_boxes_in_place():
    with Image.open(EILEEN) as original:
        large = np.asarray(original.convert("RGB").resize((2048, 2048)))
    image, said = of_photograph(large, Choice(), where=False)
    assert image.shape == (1600, 1600, 3)
    assert "face 0: happy" in said
    assert "where it looked" not in said
    small = np.asarray(Image.fromarray(large).resize((1600, 1600)))
    for face in fer_zoo.PhotoPredictor("resnet18_025")(large).faces:
        left, top, right, _ = (round(v * 1600 / 2048) for v in face.box)
        assert (image[top, left:right] != small[top, left:right]).any(1).mean() > 0.9


def test_what_shows_no_face_or_is_no_image_is_told():
    _, said = of_photograph(np.full((90, 120, 3), 99, np.uint8), Choice())
    assert said.startswith("<p>No face found")
    with pytest.raises(InputError, match="the bytes: cannot be read as an image"):
        of_photograph(b"no image", Choice())


def test_what_others_wrote_is_no_markup():
    face = Prediction(label="<b>", probability=1.0, probabilities={"<b>": 1.0}, reason="<script>")
    said = face_cards([(0, face, None)])
    assert "<b>" not in said
    assert "<script>" not in said


@pytest.mark.parametrize("name", ["resnet18_025", "ensemble_r18_vgg19_025"])
def test_heat_is_on_what_the_label_depends_on(name):
    """Gray over the warm half of a face costs more, on the whole, than over the cold one."""
    model = fer_zoo.create(name, weights="default")
    predict = fer_zoo.Predictor(model)
    lost = []
    for told in predict(sorted((ROOT / "examples/faces").glob("*.png"))):
        heat = heat_map(model, told.face, told.label)
        assert heat.shape == told.face.shape
        assert heat.min() == 0
        assert heat.max() == pytest.approx(1, abs=0.3)  # scaled
        warm = torch.from_numpy(heat > np.median(heat[4:-4, 4:-4]))
        mean = int(told.face.float().mean())
        without = predict([torch.where(w, mean, told.face).byte() for w in (warm, ~warm)])
        lost.append([told.probability - one.probabilities[told.label] for one in without])
    assert np.mean(lost, 0)[0] > np.mean(lost, 0)[1] + 0.1
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ArgumentError, match="no class 'joy'"):
        heat_map(model, told.face, "joy")


def test_choices_are_what_is_in_the_package():
    assert Choice().model in models()
    assert fusions("ensemble_r18_vgg19_025.fer2013") == ["average", "weighted", "stacked"]
    for model in models():
        for fusion in fusions(model):
            assert fusion in fer_zoo.list_fusions()


def test_a_film_is_told_by_and_by_and_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_zoo.app.answers.TOLD", 0.0)
    path = write(tmp_path / "film.mp4", [scene((portrait(), 2 * i, 60)) for i in range(30)],
                 sound=True)  # fmt: skip
    *before, last = of_film(path, Choice(), tmp_path / "seen.mp4")
    assert len(before) == 30
    assert "frame 30 of 30" in before[-1].said
    assert all(told.annotated is None for told in before)
    assert "happy" in last.said
    assert "30 frames" in last.said
    assert last.timeline.startswith('<img src="data:image/png;base64')
    import av

    with av.open(str(last.annotated)) as film:
        assert (film.streams.video[0].frames, len(film.streams.audio)) == (30, 1)


def test_a_film_without_faces_and_one_that_is_none(tmp_path):
    path = write(tmp_path / "film.mp4", [scene()] * 5)
    *_, last = of_film(path, Choice(), tmp_path / "seen.mp4")
    assert last.said.startswith("<p>No face found")
    assert last.timeline == ""
    path.write_bytes(b"no film")
    with pytest.raises(InputError, match=r"film\.mp4"):
        list(of_film(path, Choice(), tmp_path / "other.mp4"))
    assert not (tmp_path / "other.mp4").exists()


def test_a_film_of_which_no_frame_can_be_decoded_is_told_so(tmp_path):
    path = tmp_path / "film.webp"
    first, *more = [Image.fromarray(scene((portrait(), 9 * i, 60))) for i in range(3)]
    first.save(path, save_all=True, append_images=more)
    with pytest.raises(InputError, match=r"film\.webp: none of its frames can be decoded"):
        list(of_film(path, Choice(), tmp_path / "seen.mp4"))


def test_what_is_wrong_with_a_film_is_told_once_without_its_place(tmp_path):
    place = tmp_path / "<i>.mp4"
    frames = [scene((portrait(), 2 * i, 60)) for i in range(50)]
    path = write(place, frames, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *_, last = of_film(path, Choice(), tmp_path / "seen.mp4")
    assert "<p>&lt;i&gt;.mp4: ends at" in last.said
    assert str(tmp_path) not in last.said


def test_only_a_sound_that_has_no_place_in_an_mp4_is_left_out_and_that_is_told(
    tmp_path, monkeypatch
):
    import av

    monkeypatch.setattr("fer_zoo.app.answers.TOLD", 0.0)
    path = tmp_path / "film.avi"
    with av.open(str(path), "w") as film:
        stream, sound = film.add_stream("mpeg4", rate=25), film.add_stream("pcm_mulaw", rate=8000)
        stream.width, stream.height, sound.layout = 320, 240, "mono"
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(scene((portrait(), 2 * i, 60)), format="rgb24")
            film.mux(stream.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        for one, last in ((stream, None), (sound, silence), (sound, None)):
            film.mux(one.encode(last))
    *before, last = of_film(path, Choice(), tmp_path / "seen.mp4")
    assert len(before) == 10
    assert "without its sound" in last.said
    with av.open(str(last.annotated)) as film:
        assert (film.streams.video[0].frames, len(film.streams.audio)) == (10, 0)


def test_the_sound_of_the_annotated_film_is_whole(tmp_path: Path):
    whole = write(tmp_path / "in.mp4", [scene((portrait(), 100, 60))] * 50, sound=True)
    path = without_end(whole, tmp_path / "short.mp4")
    *_, last = of_film(path, Choice(), tmp_path / "seen.mp4")
    assert seconds_of_sound(path) > 1.9
    assert seconds_of_sound(last.annotated) == pytest.approx(seconds_of_sound(path), abs=0.01)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("{tmp}/fer_zoo-app-x/tmp1/seen.mp4: no <b>", "seen.mp4: no &lt;b&gt;"),
        ("[Errno 2] no file: '/srv/a b.mp4', \"/x/y/z\"", "no file: &#x27;a b.mp4&#x27;, &quot;z"),
        ("{tmp}/" + 250 * "a" + "/" + 250 * "b" + ".jpg: is none", "bbb.jpg: is none"),
        (r"C:\Users\me\film.mp4: and/or https://x.org/a/b", "film.mp4: and/or https://x.org/a/b"),
    ],
)
def test_no_place_on_the_server_is_told(told, shown, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/var/our temporary")
    gr = SimpleNamespace(Error=lambda said, print_exception: ValueError(said))
    said = str(page._said(gr, InputError(told.format(tmp="/var/our temporary"))))
    assert shown in said
    for folder in ("/var", "temporary", "/srv", "/x", "C:", "aaa"):
        assert folder not in said.replace("https://x.org", "")


def test_a_cameras_faces_are_followed_and_its_threads_end():
    import threading

    before = set(threading.enumerate())
    camera = Camera(Choice())
    frames = [camera.see(scene((portrait(), 5 * i, 60))) for i in range(5)]
    assert [[face.track for face in frame.faces] for frame in frames] == [[0]] * 5
    said = of_camera(camera, scene((portrait(), 30, 60)))
    assert "data:image/jpeg" in said
    assert "face 0: happy" in said
    camera.close()
    assert {t for t in threading.enumerate() if t.name.startswith("fer_zoo")} <= before


def test_the_example_film_plays(tmp_path):
    path = page._example_film(tmp_path)
    labels = {
        f.label for frame in fer_zoo.VideoPredictor("resnet18_025")(path) for f in frame.faces
    }
    assert {"neutral", "happy", "surprise"} <= labels


def test_without_gradio_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("app"))):
        page.build(Path())


def test_the_space_is_the_page_for_everybody(monkeypatch):
    asked = []
    monkeypatch.setattr("fer_zoo.app.start", lambda **given: asked.append(given))
    runpy.run_path(str(ROOT / "examples/space/app.py"))
    assert asked == [{"host": "0.0.0.0", "port": 7860}]
    head = (ROOT / "examples/space/README.md").read_text().split("---\n")[1]
    assert {"sdk: gradio", "app_file: app.py"} <= set(head.splitlines())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(folder: Path):
    """Start the command; yield its port and process."""
    pytest.importorskip("gradio")
    port = free_port()
    told = folder / "told.txt"
    env = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "GRADIO_SHARE": "True"}
    with told.open("w") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "fer_zoo", "app", "--port", str(port)],
            env=env, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            line = server.stdout.readline()
            assert f"http://127.0.0.1:{port}" in line, told.read_text()
            yield port, server
        finally:
            server.kill()
            server.communicate()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    with serving(folder) as (port, server):
        yield port, server, folder


@pytest.mark.slow
def test_the_page_answers_here_only_and_lets_the_browser_ask_nobody_else(served):
    port, server, _ = served
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/")
    answer = client.getresponse()
    assert answer.status == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert b"fonts.googleapis.com" not in answer.read()
    client.close()
    listening = Path("/proc/net/tcp")
    if listening.exists():
        rows = [line.split() for line in listening.read_text().splitlines()[1:]]
        bound = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
        assert bound == [f"0100007F:{port:04X}"]
    assert server.poll() is None


@pytest.mark.slow
def test_a_second_one_is_told_that_the_port_is_taken(served):
    port, _, folder = served
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    again = subprocess.run(
        [sys.executable, "-m", "fer_zoo", "app", "--port", str(port)],
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert again.returncode == 2
    assert f"127.0.0.1:{port} cannot be had" in again.stderr
    assert "--port names another" in again.stderr


@pytest.mark.slow
def test_what_was_uploaded_goes_after_a_while(tmp_path):
    pytest.importorskip("gradio")
    port = free_port()
    code = f"import fer_zoo.app.page as page; page.KEPT = (1, 2); page.start(port={port})"
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    server = subprocess.Popen(
        [sys.executable, "-uc", code], env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert str(port) in server.stdout.readline()
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="me.jpg"\r\n\r\n'
        body += b"private" + b"\r\n--x--\r\n"
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request(
            "POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert client.getresponse().status == 200
        client.close()
        before = [path.name for path in tmp_path.rglob("*.*") if path.is_file()]
        assert {"me.jpg", "drawn_sad.png"} <= set(before)
        done = time.monotonic() + 30
        while [*tmp_path.rglob("me.jpg")] and time.monotonic() < done:
            time.sleep(0.2)
        after = [path.name for path in tmp_path.rglob("*.*") if path.is_file()]
        assert set(before) - set(after) == {"me.jpg"}
    finally:
        server.kill()
        server.communicate()


FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page in Chromium, whose camera sees a portrait."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    film = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    still = io.BytesIO()
    Image.fromarray(scene((portrait(), 100, 60))).save(still, "jpeg", quality=95)
    film.write_bytes(still.getvalue() * 30)
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        with contextlib.closing(chromium):
            yield chromium


@pytest.fixture
def opened(served, browser):
    """The page, and every address that it asks."""
    tab = browser.new_page(viewport={"width": 1300, "height": 1000})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.set_default_timeout(60_000)
    tab.goto(f"http://127.0.0.1:{served[0]}/")
    tab.wait_for_selector("#photograph input[type=file]", state="attached")
    yield tab
    own = (f"http://127.0.0.1:{served[0]}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    tab.close()


@pytest.mark.slow
def test_a_photograph_in_a_browser(opened):
    opened.set_input_files("#photograph input[type=file]", str(EILEEN))
    opened.wait_for_selector("#said h3")
    assert opened.inner_text("#said h3").startswith("face 0: happy 9")
    assert opened.locator("#said .fz-row").count() == 7
    opened.wait_for_selector("#faces img")
    for width in (1300, 500):
        opened.set_viewport_size({"width": width, "height": 900})
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.get_by_text("What it is not").click()
    opened.get_by_text("It does not read minds").wait_for()


@pytest.mark.slow
def test_a_broken_file_in_a_browser_is_told_in_our_words(opened, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image at all")
    opened.set_input_files("#photograph input[type=file]", str(tmp_path / "broken.jpg"))
    opened.get_by_text("broken.jpg: cannot be read as an image").wait_for()
    assert str(tmp_path) not in opened.content()


@pytest.mark.slow
def test_a_broken_film_in_a_browser_is_told_without_its_place(served, opened, tmp_path):
    frames = [scene((portrait(), 2 * i, 60)) for i in range(50)]
    path = write(tmp_path / "cut.mp4", frames, options={"movflags": "faststart"})
    data = path.read_bytes()
    begin = data.index(b"mdat") + 4
    path.write_bytes(data[:begin] + bytes(len(data) - begin))
    opened.get_by_role("tab", name="Film").click()
    opened.set_input_files("#film input[type=file]", str(path))
    opened.wait_for_selector("#film video")
    opened.get_by_role("button", name="Label it").click()
    opened.get_by_text("cut.mp4: ").wait_for()
    assert str(served[2]) not in opened.inner_text("body")


@pytest.mark.slow
def test_a_film_in_a_browser(opened):
    opened.get_by_role("tab", name="Film").click()
    opened.get_by_role("button", name="Label it").click()
    opened.get_by_text("there is no film yet").wait_for()
    opened.locator("#film").locator("xpath=ancestor::*[@role='tabpanel']").locator(
        ".gallery-item, .gallery button"
    ).first.click()
    opened.wait_for_selector("#film video")
    opened.get_by_role("button", name="Label it").click()
    opened.wait_for_selector("#said-film table")
    assert "surprise" in opened.inner_text("#said-film")
    opened.wait_for_selector("#timeline img")
    opened.wait_for_function("document.querySelector('#seen video')?.duration === 4")


@pytest.mark.slow
def test_a_camera_in_a_browser(opened):
    opened.get_by_role("tab", name="Camera").click()
    opened.get_by_text("Click to Access Webcam").click()
    opened.get_by_role("button", name="capture photo").click()
    opened.wait_for_selector("#said-camera h3")
    assert opened.inner_text("#said-camera h3").startswith("face 0: happy")


@pytest.mark.slow
def test_at_the_end_nothing_is_left(served):
    """The last test: it ends the page."""
    _, server, folder = served
    assert list(folder.glob("fer_zoo-app-*"))
    server.send_signal(signal.SIGINT)
    done = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < done:
        time.sleep(0.05)
    assert server.poll() == 130
    assert [path.name for path in folder.iterdir()] == ["told.txt"]
    assert (folder / "told.txt").read_text().strip() == ""
