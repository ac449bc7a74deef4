"""The page: Gradio's components around what `fer_zoo.app.answers` says."""

import os
import tempfile
import threading
from collections.abc import Callable, Generator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from fer_zoo.app import answers
from fer_zoo.app.answers import Camera, Choice
from fer_zoo.app.cards import LIMITS, STYLE
from fer_zoo.errors import ArgumentError, FerZooError, needing

OWN = "the weights' own"
LARGEST = "500mb"  # of an upload
KEPT = (60, 600)  # seconds: how often what was uploaded is looked through, and when it goes
RULES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "base-uri 'self'; form-action 'self'"
)
"""What the browser may fetch: nothing of any other host."""
HERE = Path(__file__).parent
EXAMPLES = next((p for p in (HERE / "examples", HERE.parents[1] / "examples") if p.is_dir()), HERE)
"""In the package, or beside it in the repository."""
ACTS = ("neutral", "happy", "surprise", "sad")
"""What the drawn face of the example film plays."""


def _gradio() -> Any:
    # Before its import: it would report each start, and ask for newer versions.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with needing("the page needs Gradio", "app"):
        import gradio
    return gradio


def build(folder: Path) -> Any:
    """Return the page as `gradio.Blocks`; `start` serves it.

    Args:
        folder: where the example film is made, and annotated films until they are handed over.

    Raises:
        MissingDependencyError: Gradio is not installed: `fer-zoo[app]`.
    """
    gr = _gradio()
    with gr.Blocks(title="fer_zoo", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown("# fer_zoo\nFaces in, expressions out. Nothing leaves this server.")
        with gr.Row():
            wide = {"min_width": 240}
            model = gr.Dropdown(answers.models(), value=Choice.model, label="Model", **wide)
            fusion = gr.Dropdown([OWN], value=OWN, label="Fusion", interactive=False, **wide)
            numbers = [(OWN, 0), ("1", 1), ("2", 2), ("10", 10)]
            views = gr.Dropdown(numbers, value=0, label="Views of a face", **wide)
        chosen = [model, fusion, views]
        model.change(_fusions_of, model, fusion, show_progress="hidden", api_visibility="private")
        with gr.Tab("Photograph"):
            _photograph_tab(gr, chosen)
        with gr.Tab("Film"):
            _film_tab(gr, chosen, folder)
        with gr.Tab("Camera"):
            _camera_tab(gr, chosen)
        with gr.Accordion("What it is not", open=False):
            gr.Markdown(LIMITS)
    return page


def _photograph_tab(gr: Any, chosen: list[Any]) -> None:
    with gr.Row():
        with gr.Column():
            given = gr.Image(
                label="Photograph",
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                elem_id="photograph",
            )
            # Its own reading would tell nobody what is wrong with a file.
            given.preprocess = lambda payload: payload and payload.path
            where = gr.Checkbox(True, label="Show where the network looked (Grad-CAM)")
            files = sorted(EXAMPLES.glob("photographs/*.jpg"))
            files += sorted(EXAMPLES.glob("faces/drawn_*.png"))
            if files:
                gr.Examples([[str(file)] for file in files], given)
        with gr.Column():
            shown = gr.Image(
                label="Faces",
                interactive=False,
                format="png",
                buttons=["download", "fullscreen"],
                elem_id="faces",
            )
            said = gr.HTML(elem_id="said")

    def answer(path: str | None, where: bool, *choice: Any) -> tuple[Any, str]:
        if path is None:
            return None, ""
        return answers.of_photograph(path, _choice(*choice), where=where)

    gr.on(
        [given.change, where.change, *(part.change for part in chosen)],
        _telling(gr, answer),
        [given, where, *chosen],
        [shown, said],
        api_name="photograph",
    )


def _film_tab(gr: Any, chosen: list[Any], folder: Path) -> None:
    with gr.Row():
        with gr.Column():
            film = gr.Video(label="Film", sources=["upload", "webcam"], elem_id="film")
            with gr.Row():
                look = gr.Button("Label it", variant="primary")
                stop = gr.Button("Stop")
            if (example := _example_film(folder)) is not None:
                gr.Examples([[str(example)]], film)
        with gr.Column():
            seen = gr.Video(
                label="What is seen", interactive=False, buttons=["download"], elem_id="seen"
            )
            said = gr.HTML(elem_id="said-film")
            line = gr.HTML(elem_id="timeline")

    def answer(path: str | None, *choice: Any) -> Generator[tuple[Any, str, str]]:
        if path is None:
            raise ArgumentError("there is no film yet: choose one, or take the example")
        yield None, "<p>reading ...</p>", ""
        with tempfile.TemporaryDirectory(dir=folder) as place:
            output = Path(place) / "seen.mp4"
            for told in answers.of_film(Path(path), _choice(*choice), output):
                yield told.annotated and str(told.annotated), told.said, told.timeline

    running = look.click(
        _telling(gr, answer), [film, *chosen], [seen, said, line], api_name="film",
        show_progress="hidden", concurrency_limit=1,
    )  # fmt: skip
    ended = (lambda: (None, "<p>stopped</p>", ""), None, [seen, said, line])
    stop.click(*ended, cancels=[running], api_visibility="private", show_progress="hidden")


def _camera_tab(gr: Any, chosen: list[Any]) -> None:
    session = gr.State(None, delete_callback=_close)
    with gr.Row():
        with gr.Column():
            given = gr.Image(
                label="Camera", sources=["webcam"], streaming=True, type="numpy", elem_id="camera"
            )
        with gr.Column():
            said = gr.HTML(elem_id="said-camera")

    def answer(image: np.ndarray | None, camera: Any, *choice: Any) -> tuple[str, Any]:
        if image is None:
            return "", camera
        if camera is None or camera.choice != _choice(*choice):
            _close(camera)
            camera = Camera(_choice(*choice))
        return answers.of_camera(camera, image), camera

    given.stream(
        _telling(gr, answer), [given, session, *chosen], [said, session], api_visibility="private",
        stream_every=1 / answers.RATE, show_progress="hidden", time_limit=None,
    )  # fmt: skip


def _close(camera: Camera | None) -> None:
    if camera is not None:
        camera.close()


def _choice(model: str, fusion: str, views: int) -> Choice:
    return Choice(model, None if fusion == OWN else fusion, views or None)


def _fusions_of(model: str) -> Any:
    names = answers.fusions(model)
    return _gradio().update(choices=[OWN, *names], value=OWN, interactive=bool(names))


def _telling(gr: Any, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose errors of ours are said on the page."""
    import inspect

    if inspect.isgeneratorfunction(answer):

        @wraps(answer)
        def stream(*given: Any) -> Generator[Any]:
            try:
                yield from answer(*given)
            except FerZooError as error:
                raise _said(gr, error) from None

        return stream

    @wraps(answer)
    def told(*given: Any) -> Any:
        try:
            return answer(*given)
        except FerZooError as error:
            raise _said(gr, error) from None

    return told


def _said(gr: Any, error: FerZooError) -> Exception:
    """Return what Gradio shows of an error: with files' names, not their places on the server."""
    # All of it, and not its `str`, in which a long path is cut.
    said = answers.said_here(Exception.__str__(error))
    wrong: Exception = gr.Error(said, print_exception=False)
    return wrong


def _example_film(folder: Path) -> Path | None:
    """Write a film of four seconds in which a drawn face plays, if there is one."""
    from PIL import Image

    from fer_zoo.video import Frame, annotate

    files = [EXAMPLES / f"faces/drawn_{name}.png" for name in ACTS]
    if not all(file.is_file() for file in files):
        return None
    side, rate, seconds = 180, 25, 4
    acts = [np.asarray(Image.open(f).convert("RGB").resize((side, side)), float) for f in files]

    def play() -> Generator[Frame]:
        for i in range(rate * seconds):
            share = i / (rate * seconds) * (len(acts) - 1)
            faded = np.clip(4 * (share % 1) - 1.5, 0, 1)
            image = np.full((300, 480, 3), 180, np.uint8)
            mixed = (1 - faded) * acts[int(share)] + faded * acts[int(share) + 1]
            image[60 : 60 + side, 2 * i + 40 : 2 * i + 40 + side] = mixed.round()
            yield Frame(index=i, time=i / rate, image=image)

    annotate(play(), folder / "example.mp4")  # no faces are told of it: nothing is drawn
    return folder / "example.mp4"


def start(
    host: str = "127.0.0.1", port: int = 7860, *, ready: Callable[[str], Any] = print
) -> None:
    """Serve the page until the process is interrupted.

    What is uploaded lies in a temporary folder of its own, ten minutes at most, and the folder is
    removed at the end.

    Args:
        host: the address on which it answers; `"0.0.0.0"` for all that this machine has.
        port: the port.
        ready: is told the page's address once it answers.

    Raises:
        ArgumentError: the port is taken.
        MissingDependencyError: Gradio is not installed: `fer-zoo[app]`.
    """
    with tempfile.TemporaryDirectory(prefix="fer_zoo-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/gradio"  # before its import, too
        gr, page = _gradio(), build(Path(folder))
        try:
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=STYLE,
                footer_links=[],
                app_kwargs={"middleware": [_headers()]},
                max_file_size=LARGEST,
                prevent_thread_lock=True,
                quiet=True,
                # What the environment could turn on otherwise.
                share=False,
                inbrowser=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
            )
        except OSError as error:
            raise ArgumentError(f"{host}:{port} cannot be had ({error}): --port names another") \
                from None  # fmt: skip
        try:
            ready(url)
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _headers() -> Any:
    """Return what adds `RULES` to every answer."""
    from starlette.datastructures import MutableHeaders
    from starlette.middleware import Middleware

    class Headers:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def told(message: Any) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    headers["Content-Security-Policy"] = RULES
                    if "/file=" in scope["path"]:
                        headers["Cache-Control"] = "no-store"
                await send(message)

            await self.app(scope, receive, told)

    return Middleware(Headers)
