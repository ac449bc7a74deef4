"""An HTTP service, as an example: an image in, its faces and their expressions as JSON out.

    pip install 'fer-zoo[detect]' fastapi uvicorn prometheus-client
    python serve.py
    curl --data-binary @photograph.jpg http://127.0.0.1:8000/predict

Faces are found in a thread for each core. Those that come together are labelled together, also of
different requests: what comes within 5 ms, or while others are labelled, goes through the network
in one call, in one thread. What is sent slowly takes nobody's place but a connection and the bytes
that came. It has neither users nor TLS: put it behind a server that has, and that passes a request
on once it is whole, as nginx does. Here, who sends the headers slowly keeps a connection, who sends
the body slowly keeps one for 30 s, and of 256 there is none left for others.
"""

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import prometheus_client as metrics
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image, UnidentifiedImageError
from starlette.requests import ClientDisconnect

import fer_zoo
from fer_zoo.inference import Detector, crops
from fer_zoo.transforms import to_gray
from fer_zoo.transforms.inputs import open_image

LARGEST = 10_000_000  # bytes of a request
HELD = 500_000_000  # bytes of all of them at once, whether whole or on their way
PIXELS = 25_000_000  # of a photograph
MANY = "that a photograph may have, half of it with 16 bits: scale it down"
TOGETHER = 32  # faces that are labelled in one call
WAIT = 0.005  # seconds that the first of them waits for others
WAITING = 128  # whole requests that wait at most; whoever comes then is told to come again
SECONDS = 30  # in which a request must have arrived
CONNECTIONS = 256  # at once


class Refused(Exception):
    """A request that is not answered, and the status and words that say why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Batches:
    """Faces that wait, and the one thread in which they are labelled."""

    def __init__(self, predict: Callable[[list[Any]], Any], size: Callable[[int], Any]) -> None:
        self.predict, self.size = predict, size
        self.waiting: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="labelling")

    async def label(self, faces: list[Any]) -> list[Any]:
        """Return what the predictor says of each face."""
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in faces]
        for pair in zip(faces, answers, strict=True):
            self.waiting.put_nowait(pair)
        return await asyncio.gather(*answers)

    async def work(self) -> None:
        """Label what waits, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.waiting.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT):
                    while len(batch) < TOGETHER:
                        batch.append(await self.waiting.get())
            self.size(len(batch))
            try:
                faces = [face for face, _ in batch]
                told = await loop.run_in_executor(self.thread, self.predict, faces)
            except Exception as error:  # of this batch; the next one may be labelled
                for _, answer in batch:
                    answer.done() or answer.set_exception(error)
                continue
            for (_, answer), one in zip(batch, told, strict=True):
                answer.done() or answer.set_result(one)


class Bodies:
    """What was sent and is not answered yet: how many bytes, and how many are whole."""

    def __init__(self) -> None:
        self.held = self.whole = 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """Give what was sent, unless it is too large, comes too slowly, or too much waits."""
        too_large = Refused(413, f"an image may have {LARGEST:,} bytes")
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > LARGEST:
            raise too_large
        body, whole = bytearray(), 0
        try:
            try:
                async with asyncio.timeout(SECONDS):
                    async for part in request.stream():
                        body += part
                        self.held += len(part)
                        if len(body) > LARGEST:
                            raise too_large
                        if self.held > HELD:
                            raise Refused(503, "too much is sent already: come again in a second")
            except TimeoutError:
                raise Refused(408, f"the image did not arrive within {SECONDS} s") from None
            except ClientDisconnect:
                raise Refused(499, "the client hung up") from None  # which nobody reads
            whole = 1
            self.whole += 1
            if self.whole > WAITING:
                raise Refused(503, f"{WAITING} requests wait already: come again in a second")
            yield body
        finally:
            self.held -= len(body)
            self.whole -= whole


def advice(error: fer_zoo.errors.FerZooError) -> str:
    """Return the library's words on an image, or what helps a stranger more."""
    if isinstance(error.__context__, UnidentifiedImageError):
        how = "as the body, as `curl --data-binary @photograph.jpg` does"
        return f"{error}: send the image itself {how}, not a form, JSON or base64"
    if isinstance(error.__context__, Image.DecompressionBombError):
        return f"the bytes: more than the {PIXELS / 1e6:g} megapixels {MANY}"
    return str(error)


def create_app(predictor: fer_zoo.Predictor, detector: Detector | None) -> FastAPI:
    """Return the service; without a detector each image is one face."""
    registry = metrics.CollectorRegistry()
    requests = metrics.Counter("requests", "Requests by status", ["status"], registry=registry)
    faces = metrics.Counter("faces", "Faces that were told", registry=registry)
    seconds = metrics.Histogram("request_seconds", "From request to answer", registry=registry)
    sizes = [1, 2, 4, 8, 16, 32]
    batch = metrics.Histogram("batch", "Faces in a call", buckets=sizes, registry=registry)
    batches = Batches(predictor, batch.observe)
    threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="finding")
    bodies = Bodies()

    def find(image: bytearray) -> list[tuple[Any, Any]]:
        """Return the faces in an image, with their boxes."""
        open_image(image, PIXELS, MANY).close()
        if detector is None:
            return [(to_gray(image), None)]
        return [(crop.face, crop.box) for crop in crops.crop_faces(image, detector)]

    @contextlib.asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batches.work())
        yield
        task.cancel()
        threads.shutdown(wait=True)
        batches.thread.shutdown(wait=True)

    # Its own pages of documentation load scripts from other hosts.
    app = FastAPI(title="fer_zoo", lifespan=working, docs_url=None, redoc_url=None)

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 503 else {}
        # What was not read of the request cannot be told from the next one.
        headers |= {"Connection": "close"} if error.status in (408, 413, 503) else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        """Label the faces in the image that is the body of the request, in any usual format."""
        begun, status = time.perf_counter(), 500
        try:
            async with bodies.receive(request) as image:
                loop = asyncio.get_running_loop()
                try:
                    found = await loop.run_in_executor(threads, find, image)
                except fer_zoo.errors.FerZooError as error:
                    raise Refused(422, advice(error)) from None
                told = await batches.label([face for face, _ in found])
            if detector is None and told[0].error is not None:
                raise Refused(422, told[0].error)
            faces.inc(len(told))
            status = 200
            return {"faces": [_said(one, box) for one, (_, box) in zip(told, found, strict=True)]}
        except Refused as error:
            status = error.status
            raise
        finally:
            requests.labels(status).inc()
            seconds.observe(time.perf_counter() - begun)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that it works, and which model labels."""
        return {"status": "ok", "model": predictor.name, "labels": predictor.labels}

    @app.get("/metrics")
    async def measured() -> Response:
        """Tell requests, faces, seconds and batches in the text format of Prometheus."""
        return Response(metrics.generate_latest(registry), media_type=metrics.CONTENT_TYPE_LATEST)

    return app


def _said(told: fer_zoo.inference.Prediction, box: Any) -> dict[str, Any]:
    return {k: v for k, v in told.to_dict().items() if k != "source"} | {"box": box}


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="name or address (%(default)s)")
    parser.add_argument("--crops", action="store_true", help="each image is one face, as it is")
    parser.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    given = parser.parse_args()
    detector = None if given.crops else fer_zoo.FaceDetector(longest_side=640)
    uvicorn.run(
        create_app(fer_zoo.Predictor(given.model), detector),
        host=given.host,
        port=given.port,
        limit_concurrency=CONNECTIONS,
        log_level="warning",
        timeout_graceful_shutdown=SECONDS,
    )


if __name__ == "__main__":
    main()
