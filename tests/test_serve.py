"""examples/serve.py, by real clients over TCP: together, too many, too large, too broken."""

import base64
import contextlib
import http.client
import importlib.util
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_zoo

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("cv2")

EXAMPLES = Path(__file__).parent.parent / "examples"
PORTRAIT = (EXAMPLES / "photographs/eileen_collins.jpg").read_bytes()
FACES = sorted((EXAMPLES / "faces").glob("*.png"))


@pytest.fixture(scope="module")
def serve():
    found = importlib.util.spec_from_file_location("serve", EXAMPLES / "serve.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@contextlib.contextmanager
def running(app):
    """Serve in a thread; yield the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def photographs(serve):
    with running(
        serve.create_app(fer_zoo.Predictor("resnet18_025"), fer_zoo.FaceDetector())
    ) as port:
        yield port


def ask(port: int, body: bytes | None, path: str = "/predict"):
    """Return the status, and the answer, of one request."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(client):
        client.request("GET" if body is None else "POST", path, body)
        answer = client.getresponse()
        told = answer.read()
        return answer.status, told.decode() if path == "/metrics" else json.loads(told)


def metric(port: int, name: str) -> float:
    _, text = ask(port, None, "/metrics")
    found = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)]
    return sum(found)


def test_a_photograph_is_answered_as_the_predictor_has_it(photographs):
    status, told = ask(photographs, PORTRAIT)
    (face,) = fer_zoo.PhotoPredictor("resnet18_025")(PORTRAIT).faces
    assert status == 200
    (said,) = told["faces"]
    assert (said["label"], tuple(said["box"])) == ("happy", face.box)
    assert said["probabilities"] == pytest.approx(face.probabilities, abs=1e-4)
    status, told = ask(photographs, None, "/health")
    assert (status, told["status"], told["model"]) == (200, "ok", "resnet18_025")


def test_32_at_once_are_answered_each_its_own_and_together(serve):
    predictor = fer_zoo.Predictor("resnet18_025")
    alone = [predictor(path) for path in FACES]
    with running(serve.create_app(predictor, None)) as port, ThreadPoolExecutor(32) as threads:
        bodies = [FACES[i % len(FACES)].read_bytes() for i in range(32)]
        answers = list(threads.map(lambda body: ask(port, body), bodies))
        assert [status for status, _ in answers] == [200] * 32
        for i, (_, told) in enumerate(answers):
            expected = alone[i % len(FACES)]
            (said,) = told["faces"]
            assert said["label"] == expected.label
            assert said["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        assert metric(port, "faces_total") == metric(port, 'requests_total{status="200"}') == 32
        assert metric(port, "request_seconds_count") == 32
        assert metric(port, "batch_count") < 20  # calls of the predictor


def _black(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "png")
    return file.getvalue()


TEXT = base64.b64encode(PORTRAIT)
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="me.jpg"\r\n\r\n'
ITSELF = "send the image itself as the body, as `curl --data-binary @photograph.jpg` does"
MANY = "more than the 25 megapixels that a photograph may have"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", ITSELF, id="empty"),
        pytest.param(b"no image at all", ITSELF, id="text"),
        pytest.param(PORTRAIT[:2000], "truncated", id="cut"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(999), "in no format known", id="png"),
        pytest.param(FORM + PORTRAIT + b"\r\n--x--\r\n", ITSELF, id="form"),
        pytest.param(TEXT, ITSELF, id="base64"),
        pytest.param(b'{"image": "' + TEXT + b'"}', ITSELF, id="json"),
        pytest.param(_black(20_000, 10_000), MANY, id="bomb"),
        pytest.param(_black(6_000, 5_000), MANY, id="large"),
    ],
)
def test_what_is_no_image_is_told_and_harms_no_other(photographs, body, said):
    with ThreadPoolExecutor(4) as threads:
        wrong = [threads.submit(ask, photographs, body) for _ in range(2)]
        right = [threads.submit(ask, photographs, PORTRAIT) for _ in range(2)]
        for status, told in (future.result() for future in wrong):
            assert status == 422
            assert told["error"].startswith("the bytes: ")
            assert said in told["error"]
            for name in ("PIL.", "fer_zoo"):  # which are nothing to whoever asks from elsewhere
                assert name not in told["error"]
        assert [f.result()[1]["faces"][0]["label"] for f in right] == ["happy", "happy"]


def raw(port: int, sent: bytes) -> bytes:
    """Return what comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(sent)
        got = b""
        while part := client.recv(65536):
            got += part
        return got


def test_a_large_body_is_refused_before_it_is_read(photographs, serve):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    told = raw(photographs, head + b"Content-Length: 99999999999\r\n\r\nbegin")
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"an image may have 10,000,000 bytes" in told
    # One that does not say how large it is, is read up to the bound.
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    parts = chunk * (serve.LARGEST // 65536 + 1)
    told = raw(photographs, head + b"Transfer-Encoding: chunked\r\n\r\n" + parts)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert ask(photographs, PORTRAIT)[0] == 200


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def stalled(port: int, sent: bytes, count: int = 1):
    """Be so many clients that send the begin of a body of 100,000 bytes, and no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + sent)
        time.sleep(0.3)  # until it came
        yield


def test_who_hangs_up_is_no_error_of_the_service(serve, capfd):
    with running(serve.create_app(Slow(), None)) as port:
        with stalled(port, b"half", 3):
            pass
        done = time.monotonic() + 30
        while metric(port, "requests_total") < 3 and time.monotonic() < done:
            time.sleep(0.05)
        assert metric(port, 'requests_total{status="499"}') == 3
        assert metric(port, "requests_total") == 3
    assert capfd.readouterr().err == ""


def test_who_sends_slowly_keeps_nobody_else_waiting(serve, monkeypatch):
    monkeypatch.setattr(serve, "WAITING", 2)
    slow = Slow()
    slow.may.set()
    with running(serve.create_app(slow, None)) as port, stalled(port, b"abc", 20):
        for _ in range(5):
            assert ask(port, FACES[0].read_bytes())[0] == 200


def test_no_more_bytes_are_held_than_there_is_room_for(serve, monkeypatch):
    monkeypatch.setattr(serve, "HELD", 99_000)
    slow, face = Slow(), FACES[0].read_bytes()
    slow.may.set()
    large = face + bytes(20_000)
    with running(serve.create_app(slow, None)) as port:
        with stalled(port, bytes(40_000), 2):
            status, told = ask(port, large)
            assert (status, told["error"][:8]) == (503, "too much")
            assert ask(port, face)[0] == 200
        done = time.monotonic() + 30
        while (status := ask(port, large)[0]) == 503 and time.monotonic() < done:
            time.sleep(0.05)
        assert status == 200


def test_what_is_no_request_or_ends_early_harms_nobody(photographs):
    for sent in (b"\x00" * 100, b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        assert raw(photographs, sent).startswith(b"HTTP/1.1 400 ")
    with socket.create_connection(("127.0.0.1", photographs)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nhalf")
    assert ask(photographs, PORTRAIT)[0] == 200
    assert ask(photographs, b"x", "/nowhere")[0] == 404


def test_a_body_that_comes_too_slowly_is_refused(serve, monkeypatch):
    monkeypatch.setattr(serve, "SECONDS", 0.3)
    with running(serve.create_app(fer_zoo.Predictor("resnet18_025"), None)) as port:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf"
        assert raw(port, head).startswith(b"HTTP/1.1 408 ")


class Slow:
    """Labels when it may."""

    name, labels = "slow", ("happy",)

    def __init__(self) -> None:
        self.may, self.calls, self.breaks = threading.Event(), [], False

    def __call__(self, faces: list) -> list:
        self.calls.append(len(faces))
        assert self.may.wait(60)
        if self.breaks:
            raise RuntimeError("out of memory")
        return [fer_zoo.inference.Prediction(label="happy") for _ in faces]


def test_who_comes_while_many_wait_is_refused_and_what_waits_is_answered(serve, monkeypatch):
    monkeypatch.setattr(serve, "WAITING", 9)
    slow, face = Slow(), FACES[0].read_bytes()
    with running(serve.create_app(slow, None)) as port, ThreadPoolExecutor(32) as threads:
        first = threads.submit(ask, port, face)
        while not slow.calls:
            time.sleep(0.01)
        asked = [threads.submit(ask, port, face) for _ in range(31)]
        done = time.monotonic() + 30
        while metric(port, 'requests_total{status="503"}') < 23 and time.monotonic() < done:
            time.sleep(0.05)
        assert ask(port, None, "/health")[0] == 200
        slow.may.set()
        statuses = sorted(future.result()[0] for future in asked)
        assert statuses == [200] * 8 + [503] * 23
        assert first.result()[0] == 200
        assert sum(slow.calls) == 9
        assert ask(port, face)[0] == 200


def test_a_batch_that_fails_is_an_error_and_the_next_is_answered(serve):
    slow, face = Slow(), FACES[0].read_bytes()
    slow.may.set()
    slow.breaks = True
    with running(serve.create_app(slow, None)) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("POST", "/predict", face)
        assert client.getresponse().status == 500
        client.close()
        slow.breaks = False
        assert ask(port, face)[0] == 200
        assert metric(port, 'requests_total{status="500"}') == 1


def test_noise_gets_an_answer_or_our_words(photographs):
    rng = np.random.default_rng(0)
    for size in ((10, 10), (300, 9), (300, 300)):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(file, "png")
        status, told = ask(photographs, file.getvalue())
        assert (status, *told) in ((200, "faces"), (422, "error"))
