"""Films as they are found: what was answered wrongly, and files that were lost."""

import http.server
import os
import threading
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fer_zoo
from conftest import run
from fer_zoo._files import replacing
from fer_zoo.errors import ArgumentError, InputError
from fer_zoo.video import Film, FilmWriter, Frame, TrackedFace, Tracker, VideoPredictor, annotate
from fer_zoo.video.results import Summary
from fer_zoo.video.sources import open_source
from films import BASE, SIDE, portrait, scene, seconds_of_sound, without_end, write

av = pytest.importorskip("av")
cv2 = pytest.importorskip("cv2")
A, B = portrait("eileen_collins"), portrait("grace_hopper")


def bright(rgb: np.ndarray) -> list:
    """Find a face where a frame is not empty: `EMPTY` has none."""
    return [] if rgb.std() < 5 else [(100, 60, 100 + SIDE, 60 + SIDE)]


EMPTY = np.full((240, 320, 3), 128, np.uint8)
FACE = scene((A, 100, 60))


@pytest.fixture(scope="module")
def predict() -> VideoPredictor:
    return VideoPredictor("resnet18_025", detector=bright)


def seen_in(film) -> list[bool]:
    return [bool(frame.faces) for frame in film]


# Times


def test_single_times_out_of_order_are_held(tmp_path: Path):
    """As some cameras write them: smoothing and tracks need time that does not run back."""
    path = tmp_path / "swapped.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuvj420p"
        packets = []
        for i in range(5):
            picture = av.VideoFrame.from_ndarray(FACE, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            packets += stream.encode(picture)
        for packet, place in zip(packets + stream.encode(None), (1, 2, 4, 3, 5), strict=True):
            packet.pts = place  # after it is decoded, as the container asks
            packet.dts -= 1
            container.mux(packet)
    with av.open(str(path)) as container:
        stored = [float(frame.time) for frame in container.decode(video=0)]
    assert stored != sorted(stored)
    times = [picture.time for picture in open_source(path).pictures]
    assert times == [max(stored[: i + 1]) for i in range(5)]


def test_times_that_go_back_are_counted_on(predict, tmp_path: Path, caplog):
    """Of two recordings joined as bytes: faces were lost, or seen where there was nobody."""
    one = write(tmp_path / "one.ts", [EMPTY] * 50)
    two = write(tmp_path / "two.ts", [FACE] * 50)
    for first, second, expected in ((one, two, 0), (two, one, 1)):
        joined = tmp_path / "joined.ts"
        joined.write_bytes(first.read_bytes() + second.read_bytes())
        film = predict(joined)
        times = [frame.time for frame in film]
        assert times == sorted(times)
        assert len(film) == 100
        assert times[-1] - times[0] == pytest.approx(99 / 25, abs=0.1)
        found = seen_in(film)
        assert np.mean(found[:50]) == pytest.approx(expected, abs=0.15)
        assert np.mean(found[75:]) == pytest.approx(1 - expected, abs=0.01)
        assert "times go back" in caplog.text
        assert len(predict(joined, fps=5)) == 20
    annotate(predict.stream(joined), tmp_path / "seen.mp4")
    with av.open(str(tmp_path / "seen.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("how", [{"detect_every": 3}, {"detect_every": 1.2}, {"patience": 0}])
def test_a_face_is_there_until_nobody_finds_it(how):
    """However seldom one looks: a still face vanished after `patience` seconds, for good."""
    predict = VideoPredictor("resnet18_025", detector=bright, **how)
    film = predict([FACE] * 50, rate=10)
    assert all(seen_in(film))
    assert {face.track for frame in film for face in frame.faces} == {0}
    gone = predict([FACE] * 20 + [EMPTY] * 60, rate=10)
    assert not any(seen_in(gone)[55:])


# Pictures


def patched(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into the header of a film's track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (int(v) * 65536 for v in matrix)
    cells = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in cells)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((0, -1, 1, 0), lambda x: np.rot90(x)),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
    ],
)
def test_films_are_turned_and_mirrored_as_they_say(tmp_path: Path, matrix, shown):
    """The point (x, y) is shown at (a x + c y, b x + d y); a mirrored film was upside down."""
    path = patched(write(tmp_path / "in.mp4", [FACE] * 2), matrix)
    plain = next(iter(open_source(write(tmp_path / "plain.mp4", [FACE] * 2)).pictures)).rgb
    (first, _) = open_source(path).pictures
    assert np.array_equal(first.rgb, shown(plain))


def disposition(flags: int) -> int:
    if not hasattr(av.stream, "Disposition"):
        pytest.skip("PyAV 14.0 marks no streams")
    return av.stream.Disposition(flags)


def encoded(path: Path, *streams: list[np.ndarray], default: int = 0, aspect=None) -> Path:
    """Write streams of pictures, one of which a player would show."""
    with av.open(str(path), "w") as container:
        made = []
        for i, frames in enumerate(streams):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", BASE
            if len(streams) > 1:
                stream.disposition = disposition(int(i == default))
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            made.append(stream)
        for stream, frames in zip(made, streams, strict=True):
            for i, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = 40 * i, BASE
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("aspect", "shape"), [(Fraction(2), (240, 320, 3)), (Fraction(1, 2), (480, 160, 3))]
)
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, aspect, shape):
    """As on DVDs: faces were labelled squeezed."""
    narrow = FACE[:, ::2]
    path = encoded(tmp_path / "narrow.mp4", [np.ascontiguousarray(narrow)] * 3, aspect=aspect)
    first = next(iter(open_source(path).pictures)).rgb
    assert first.shape == shape
    if aspect == 2:
        assert np.abs(first.astype(int) - FACE).mean() < 6


def test_the_stream_that_a_player_shows_is_read(tmp_path: Path):
    small = [np.zeros((48, 64, 3), np.uint8)] * 5
    path = encoded(tmp_path / "two.mkv", small, [FACE] * 5, default=1)
    assert next(iter(open_source(path).pictures)).rgb.shape == FACE.shape


def test_the_picture_on_a_song_is_no_film(predict, tmp_path: Path):
    film = write(tmp_path / "a.mp4", [FACE] * 10, sound=True)
    with av.open(str(film)) as old, av.open(str(tmp_path / "song.mp4"), "w") as new:
        track = new.add_stream_from_template(old.streams.audio[0])
        cover = new.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        cover.disposition = disposition(0x400)  # a cover
        new.mux(cover.encode(av.VideoFrame.from_ndarray(FACE, format="rgb24")))
        new.mux(cover.encode(None))
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                new.mux(packet)
    with pytest.raises(InputError, match="no pictures in it"):
        predict(tmp_path / "song.mp4")


def test_a_cut_to_another_picture_ends_a_face(predict):
    """At the same place in another picture there is another face: its label was held, too."""
    other = scene((B, 100, 60), size=(320, 240)).astype(int)
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    cut = coarse.copy()
    cut[60 : 60 + SIDE, 100 : 100 + SIDE] = other[60 : 60 + SIDE, 100 : 100 + SIDE]
    film = predict([FACE] * 13 + [cut] * 12)
    one, two = film.tracks()
    assert (one.track, two.track) == (0, 1)
    assert one.end == pytest.approx(12 / 25)
    assert (set(one.shares), set(two.shares)) == ({"happy"}, {"neutral"})
    assert two.begin <= 13 / 25 + 0.2 + 1e-6  # found once is enough, as at the beginning


@pytest.mark.parametrize(
    "then",
    [
        lambda i: np.clip(FACE.astype(int) * (1 - 0.12 * (i % 5)), 0, 255).astype(np.uint8),
        lambda i: np.roll(FACE, 6 * i, 1),
        lambda i: scene((B if i % 2 else A, 100, 60)),
        lambda i: noisy(FACE, i, 25),
        lambda i: noisy(wall(1 - 0.5 * (i % 2)), i, 3),
        lambda i: noisy(FACE if i % 5 else 0 * FACE, i, 3),
        lambda i: followed(97 * i),
    ],
    ids=[
        "light",
        "the camera turns",
        "it is covered",
        "noise",
        "light on a wall",
        "black",
        "it is followed, seldom",
    ],
)
def test_what_is_no_cut_makes_no_other_face(then):
    """Whatever is found where a face was is it, but after a cut if it looks otherwise."""
    tracker = Tracker(patience=1.0)
    box = (100.0, 60.0, 100.0 + SIDE, 60.0 + SIDE, 0.0)
    for i in range(21):
        gray = cv2.cvtColor(then(i), cv2.COLOR_RGB2GRAY)
        tracker.update(gray, i / 25, [box] if i % 5 == 0 else None)
    assert [track.hits for track in tracker.tracks] == [5]


def noisy(frame: np.ndarray, seed: int, levels: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, levels, frame.shape[:2])[..., None]
    return (frame + noise).clip(0, 255).astype(np.uint8)


def followed(turned: int) -> np.ndarray:
    frame = np.roll(scene(), turned, 1)
    frame[60 : 60 + SIDE, 100 : 100 + SIDE] = A
    return frame


def wall(light: float) -> np.ndarray:
    frame = np.full((240, 320, 3), 160.0)
    frame[60 : 60 + SIDE, 100 : 100 + SIDE] = A
    return light * frame


def test_the_same_face_after_a_cut_is_the_same(predict):
    rng = np.random.default_rng(7)
    other = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    other[60 : 60 + SIDE, 100 : 100 + SIDE] = A
    film = predict([FACE] * 13 + [other] * 12)
    assert [track.track for track in film.tracks()] == [0]


# Ends


def test_a_film_whose_sound_goes_on_is_not_cut_short(predict, tmp_path: Path):
    """A container is as long as its longest stream."""
    source = write(tmp_path / "a.mp4", [FACE] * 50, sound=True)
    for name in ("long.mkv", "long.mp4"):
        without_end(source, tmp_path / name)
        film = predict(tmp_path / name)
        assert [frame.error for frame in film] == [None] * len(film)
        assert 20 <= len(film) <= 30
        whole = seconds_of_sound(tmp_path / name)
        annotate(predict.stream(tmp_path / name), tmp_path / "out.mp4", audio=tmp_path / name)
        assert whole > 1.9
        assert seconds_of_sound(tmp_path / "out.mp4") == pytest.approx(whole, abs=0.01)


def test_a_matroska_film_that_is_cut_short_is_told(predict, tmp_path: Path):
    frames = [scene((A, 100, 60 + i % 9)) for i in range(50)]
    path = write(tmp_path / "cut.mkv", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cut short" in (predict(path)[-1].error or "")


def test_the_sound_of_joined_films_goes_on(predict, tmp_path: Path):
    """Its times go back where those of the pictures do."""
    part = write(tmp_path / "part.ts", [FACE] * 50, sound=True)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * part.read_bytes())
    annotate(predict.stream(joined), tmp_path / "out.mp4", audio=joined)
    assert len(predict(tmp_path / "out.mp4")) == 100
    assert seconds_of_sound(tmp_path / "out.mp4") == pytest.approx(4, abs=0.3)


def test_a_film_that_can_be_read_once_only_is_written_without_its_sound(tmp_path: Path):
    part = write(tmp_path / "part.ts", [FACE] * 50, sound=True).read_bytes()
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(part,), daemon=True).start()
    told = run("watch", str(pipe), "--json", "--annotate", str(tmp_path / "out.mp4"))
    assert '"frames": 50' in told.stdout
    assert "can be read once only" in told.stderr


def test_all_of_the_sound_is_kept(predict, tmp_path: Path):
    source = write(tmp_path / "in.mp4", [FACE] * 50, sound=True)
    whole = seconds_of_sound(source)
    annotate(predict.stream(source, every=25), tmp_path / "out.mp4", audio=source)
    assert seconds_of_sound(tmp_path / "out.mp4") == pytest.approx(whole, abs=1e-3)
    run("watch", str(source), "--every", "25", "--annotate", str(tmp_path / "watched.mp4"))
    assert seconds_of_sound(tmp_path / "watched.mp4") == pytest.approx(whole, abs=1e-3)
    with FilmWriter(tmp_path / "left.mp4", audio=source) as film:
        for frame in predict.stream(source):
            if frame.index == 25:
                break
            film.write(frame)
    assert seconds_of_sound(tmp_path / "left.mp4") == pytest.approx(1, abs=0.13)


# Other sources


@pytest.fixture
def address(tmp_path: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_film_at_an_address_is_a_film(predict, tmp_path: Path, address):
    """Not a camera, of which frames are dropped and whose times are the clock's."""
    # This server sends whole files only.
    path = write(tmp_path / "a film.mp4", [FACE] * 40, options={"movflags": "faststart"})
    for url in (f"{address}/a%20film.mp4", path.as_uri()):
        film = predict(url)
        assert [frame.index for frame in film] == list(range(40))
        assert film[-1].time == pytest.approx(39 / 25, abs=1e-3)
    for url in (f"{address}/none.mp4", "http://127.0.0.1:9/a.mp4"):
        with pytest.raises(InputError, match="is the address right"):
            predict.stream(url)


def test_orders_of_colours_are_checked(predict):
    with pytest.raises(ArgumentError, match="channels is 'rgb'"):
        predict.stream([FACE], channels="BGR")


def test_what_has_no_pixels_is_one_frames_error(predict):
    film = predict([FACE, np.zeros((0, 0, 3), np.uint8), np.zeros((0, 9, 3), np.uint8), FACE])
    assert [frame.error is None for frame in film] == [True, False, False, True]


def test_sources_that_are_none_are_told(predict, tmp_path: Path):
    with pytest.raises(InputError, match="no frame"):
        list(predict.stream(iter([])))
    path = write(tmp_path / "a.mp4", [FACE] * 3)
    with path.open("rb") as file, pytest.raises(InputError, match="pass its path"):
        predict.stream(file)
    assert len(predict([FACE] * 5, every=np.int64(2))) == 3


def test_a_box_outside_a_frame_is_told_as_in_a_photograph():
    beside = VideoPredictor("resnet18_025", detector=lambda rgb: [(700, 400, 800, 500)])
    (frame,) = beside.stream([FACE])
    assert "outside" in (frame.error or "")


def test_a_source_that_hangs_does_not_keep_who_leaves(predict):
    wait = threading.Event()

    def frames():
        yield from [FACE] * 3
        wait.wait(60)

    stream = predict.stream(frames())
    next(stream)
    begun = time.monotonic()
    stream.close()
    assert time.monotonic() - begun < 20
    wait.set()


# Files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--annotate", "in.mp4"], "is the film itself"),
        (["--csv", "in.mp4"], "is the film itself"),
        (["--csv", "link.mp4"], "is the film itself"),
        (["--csv", "same.csv", "--timeline", "./same.csv"], "named twice"),
        (["--csv", "kept.csv", "--annotate", "a.mkv"], "written as .mp4"),
        (["--csv", "kept.csv", "--timeline", "a.xyz"], "is drawn as one of .png"),
        (["--csv", "kept.csv", "--timeline", "noext"], "is drawn as one of .png"),
        (["--csv", "folder"], "folder cannot be written"),
        (["--csv", "kept.csv", "--annotate", "folder.mp4"], "folder.mp4 cannot be written"),
    ],
)
def test_nothing_is_lost_to_what_is_written(tmp_path: Path, monkeypatch, options, message):
    """The film that is read, one option's file to another, or a good file to a run that fails."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", [FACE] * 3)
    os.symlink("in.mp4", "link.mp4")
    Path("kept.csv").write_text("kept")
    Path("folder").mkdir()
    Path("folder.mp4").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert message in run("watch", "in.mp4", *options, code=2).stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def with_sound_of(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        tone = container.add_stream(codec, rate=44_100)
        for _ in range(25):
            picture = av.VideoFrame.from_ndarray(FACE, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        layout, form = tone.codec_context.layout.name, tone.codec_context.format.name
        silent = av.AudioFrame(format=form, layout=layout, samples=44_100)
        silent.sample_rate, silent.pts = 44_100, 0
        for plane in silent.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(tone.encode(silent))
        container.mux(tone.encode(None))
    return path


def test_a_sound_that_has_no_place_in_an_mp4_costs_no_film(predict, tmp_path: Path):
    source, kept = with_sound_of(tmp_path / "a.avi", "adpcm_ms"), tmp_path / "kept.mp4"
    kept.write_bytes(b"kept")
    with pytest.raises(InputError, match=r"has no place in an \.mp4"):
        annotate(predict.stream(source), kept, audio=source)
    assert kept.read_bytes() == b"kept"
    told = run("watch", str(source), "--annotate", str(kept), "--csv", str(tmp_path / "t.csv"))
    assert "without its sound" in told.stderr
    with av.open(str(kept)) as container:
        assert len(list(container.decode(video=0))) == 25
        assert not container.streams.audio


def test_a_film_does_not_replace_its_own_sound(tmp_path: Path):
    source = write(tmp_path / "in it.mp4", [FACE] * 3, sound=True)
    before = source.read_bytes()
    for audio in (source, source.as_uri()):
        with pytest.raises(ArgumentError, match="replace the one"):
            FilmWriter(source, audio=audio)
    told = run("watch", source.as_uri(), "--csv", str(source), code=2).stderr
    assert "is the film itself" in told
    assert source.read_bytes() == before


def test_a_film_that_cannot_be_begun_replaces_none(tmp_path: Path, monkeypatch):
    kept = tmp_path / "kept.mp4"
    kept.write_bytes(b"kept")

    def refused(*_: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fer_zoo.video.film._Sound, "join", refused)
    with pytest.raises(OSError, match="No space"):
        annotate([Frame(index=0, time=0.0, image=FACE)], kept)
    assert kept.read_bytes() == b"kept"


def test_the_error_of_a_full_disk_names_the_file(tmp_path: Path):
    with pytest.raises(OSError, match="No space") as caught, replacing(tmp_path / "a.csv") as path:
        raise OSError(28, "No space left on device", os.fspath(path))
    assert caught.value.filename == os.fspath(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_rows_are_kept_of_a_film_that_fails_later(tmp_path: Path, monkeypatch):
    """Of a disk that is full, say: what was told until then stays."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", [FACE] * 30)
    written = FilmWriter.write

    def fails(self: FilmWriter, frame: Frame) -> None:
        if frame.index == 20:
            raise OSError(28, "No space left on device", "a.mp4")
        written(self, frame)

    monkeypatch.setattr(FilmWriter, "write", fails)
    told = run("watch", "in.mp4", "--csv", "t.csv", "--annotate", "a.mp4", code=2).stderr
    assert "a.mp4" in told
    assert "No space" in told
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 20


def test_a_watch_that_is_ended_before_its_first_frame_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", [FACE] * 3)

    def stream(*_: object):
        yield Frame(index=None, time=0.0, error="nothing yet")
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoPredictor, "stream", stream)
    names = ["t.csv", "t.parquet", "t.mp4", "t.png"]
    for name in names:
        Path(name).write_text("kept")
    options = ["--csv", "--parquet", "--annotate", "--timeline"]
    given = [part for pair in zip(options, names, strict=True) for part in pair]
    run("watch", "in.mp4", *given, code=1)
    assert {Path(name).read_text() for name in names} == {"kept"}


def test_a_summary_keeps_nothing_of_the_frames():
    """For a camera that runs for days; the same as that of a film that is kept."""
    face = partial(TrackedFace, track=0, probabilities={"sad": 0.8, "happy": 0.2})
    film, summary = Film(), Summary()
    for i in range(500):
        label = "sad" if i % 7 else "happy"
        faces = (face(label=label),) if i % 3 else ()
        film.append(Frame(index=i, time=i * i / 25, faces=faces, image=FACE))
        summary.add(film[-1])
    assert summary.tracks() == film.tracks()
    assert (summary.frames, summary.end) == (500, 499 * 499 / 25)
    assert summary._last.image is None
    assert len(summary._known) == 1
