"""Films, cameras and folders: every frame answered, what is wrong told, memory bounded."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fer_zoo
from conftest import cli, run
from fer_zoo.errors import ArgumentError, InputError, KeywordError
from fer_zoo.transforms.presets import name_of
from fer_zoo.video import Film, FilmWriter, VideoPredictor, annotate
from fer_zoo.video.ahead import TOGETHER
from fer_zoo.video.sources import open_source
from films import SIDE, Camera, portrait, scene, write

av = pytest.importorskip("av")
cv2 = pytest.importorskip("cv2")
A, B = portrait("eileen_collins"), portrait("grace_hopper")


def marked(n: int, colour: tuple[int, int, int] = (255, 0, 0)) -> np.ndarray:
    """Return a frame whose brightness tells its number, with a coloured top left quarter."""
    frame = np.full((120, 160, 3), 8 * n, np.uint8)
    frame[:60, :80] = colour
    return frame


def seen(rgb: np.ndarray) -> list:
    """Find A and B where their colours are: what is not the ground."""
    return [(100, 60, 100 + SIDE, 60 + SIDE)]


@pytest.fixture(scope="module")
def predict() -> VideoPredictor:
    return VideoPredictor("resnet18_025", detector=seen)


def still(n: int, face: np.ndarray = A) -> list[np.ndarray]:
    return [scene((face, 100, 60))] * n


def test_a_film_is_answered_frame_by_frame_with_its_own_times(predict, tmp_path: Path):
    """Of a varying rate, as phones and screen recorders write: the container's time stamps."""
    times = [0.0, 0.04, 0.2, 0.5, 0.54, 1.3]
    film = predict(write(tmp_path / "varying.mp4", still(6), times=times))
    assert [frame.index for frame in film] == list(range(6))
    assert [frame.time for frame in film] == pytest.approx(times, abs=1e-3)
    assert [[face.track for face in frame.faces] for frame in film] == [[0]] * 6
    assert {face.label for frame in film for face in frame.faces} == {"happy"}
    assert all(frame.error is None and frame.image is None for frame in film)


def test_a_frame_says_what_the_photo_predictor_says_of_it(predict):
    """Without smoothing, of the same pixels: the same box and the same probabilities."""
    frames = [scene((A, 100, 60)), scene((B, 100, 60))]
    alone = VideoPredictor("resnet18_025", detector=seen, smooth=0, hold=0, detect_every=0)
    photo = fer_zoo.PhotoPredictor("resnet18_025", detector=seen)
    for frame, image in zip(alone.stream(frames), frames, strict=True):
        (face,), (told,) = frame.faces, photo(image).faces
        assert (face.label, face.box) == (told.label, told.box)
        assert face.probabilities == pytest.approx(told.probabilities, abs=1e-6)
        assert face.raw == face.probabilities
        assert np.array_equal(frame.image, image)


@pytest.mark.parametrize("color", [False, True], ids=["gray", "RGB"])
def test_members_of_an_ensemble_see_each_their_own_view_of_a_frame(color):
    a, b = fer_zoo.load("resnet18_025.fer2013"), fer_zoo.load("vgg19_025.fer2013")
    preset = fer_zoo.transforms.Preset(name="own", resize=40, size=40, views="plain", color=color)
    if color:
        torch.manual_seed(0)
        b = fer_zoo.create("test_tiny", in_channels=3)
        b.labels = a.labels
    b.preset = name_of(preset)
    model = fer_zoo.create_ensemble([a, b.eval()])
    assert model.mixed
    (frame,) = VideoPredictor(model, detector=seen, smooth=0, hold=0).stream(still(1))
    photo = fer_zoo.PhotoPredictor(model, detector=seen)(still(1)[0])
    assert frame.faces[0].probabilities == pytest.approx(photo.faces[0].probabilities, abs=1e-6)


def test_probabilities_are_smoothed_and_raw_ones_are_there(predict):
    frames = still(1) + still(1, B)
    first, second = predict.stream(frames)
    (before,), (now,) = first.faces, second.faces
    kept = np.exp(-0.04 / 0.4)
    for name, share in now.probabilities.items():
        expected = (kept * before.raw[name] + now.raw[name]) / (kept + 1)
        assert share == pytest.approx(expected, abs=1e-9)
    assert max(now.raw, key=now.raw.__getitem__) == "neutral"
    assert now.label == "happy"  # for now


def test_a_film_that_lies_on_its_side_is_turned(tmp_path: Path):
    """The display matrix of a phone's film, in the header of the track."""
    frames = [marked(n) for n in range(8)]
    path = write(tmp_path / "lying.mp4", frames)
    data, identity = bytearray(path.read_bytes()), [1, 0, 0, 0, 1, 0]
    one = Fraction(65536)
    matrix = b"".join(int(v * one).to_bytes(4, "big", signed=True) for v in (1, 0)) + bytes(4)
    at = data.index(b"tkhd") + 4 + 40
    assert data[at : at + 12] == matrix, identity
    a, b, c, d = 0, 1, -1, 0  # clockwise by 90 degrees
    cells = [a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(int(v).to_bytes(4, "big", signed=True) for v in cells)
    path.write_bytes(data)
    images = [picture.rgb for picture in open_source(path).pictures]
    assert images[0].shape == (160, 120, 3)
    top_right = images[0][5:75, 65:115].reshape(-1, 3).mean(0)
    assert top_right == pytest.approx([255, 0, 0], abs=12)


def test_a_film_that_is_cut_short_gives_what_is_there_and_says_so(predict, tmp_path: Path):
    frames = [scene((A, 100, 60 + i % 9)) for i in range(50)]
    path = write(tmp_path / "cut.mp4", frames, options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.6 * len(whole))])
    film = predict(path)
    assert 5 < sum(frame.index is not None for frame in film) < 50
    assert any("cut short" in (frame.error or "") and "of 2.0 s" in frame.error for frame in film)


def test_a_frame_that_cannot_be_decoded_is_told_and_the_others_are_answered(
    predict, tmp_path: Path
):
    path = write(tmp_path / "damaged.mp4", [scene((A, 100, 60 + i % 9)) for i in range(40)])
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place = [(p.pos, p.size) for p in packets][17]
    data = bytearray(path.read_bytes())
    data[place[0] : place[0] + place[1]] = b"\xff" * place[1]
    path.write_bytes(data)
    film = predict(path)
    told = [frame for frame in film if frame.error]
    answered = [frame for frame in film if frame.error is None]
    assert len(told) >= 1
    assert "cannot be decoded" in told[0].error
    assert len(answered) >= 34
    assert all(frame.faces for frame in answered)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"no film at all", "cannot be read as a film"),
        ("empty.mp4", b"", "cannot be read as a film"),
        ("missing.mp4", None, "no such film"),
    ],
)
def test_what_is_no_film_is_told(predict, tmp_path: Path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        predict(tmp_path / name)


def test_a_film_without_its_index_is_told_what_may_help(predict, tmp_path: Path):
    path = write(tmp_path / "open.mp4", [marked(n) for n in range(20)])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(InputError, match="not closed when it was written"):
        predict(path)


def test_sound_alone_is_no_film(predict, tmp_path: Path):
    film = write(tmp_path / "a.mp4", still(10), sound=True)
    with av.open(str(film)) as old, av.open(str(tmp_path / "a.m4a"), "w") as new:
        track = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                new.mux(packet)
    with pytest.raises(InputError, match="no pictures in it"):
        predict(tmp_path / "a.m4a")


@pytest.mark.parametrize(
    ("source", "message"),
    [(3.5, "a film's path"), (b"x", "a film's path"), (np.zeros((9, 9, 3), np.uint8), "one photo"),
     ([], "no frame"), (True, "a film's path")],
)  # fmt: skip
def test_what_is_no_source_is_refused(predict, source, message):
    with pytest.raises(InputError, match=message):
        predict.stream(source)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 1.5}, {"fps": 0}, {"rate": "x"}])
def test_sampling_that_is_none_is_refused_at_once(predict, wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        predict.stream(still(2), **wrong)


@pytest.mark.parametrize("wrong", [{"detect_every": -1}, {"patience": None}, {"smooth": -1}])
def test_seconds_that_are_none_are_refused(wrong):
    with pytest.raises(ArgumentError):
        VideoPredictor("resnet18_025", detector=seen, **wrong)
    with pytest.raises(KeywordError, match="detector"):
        VideoPredictor("resnet18_025", detektor=seen)


def test_frames_are_sampled_by_number_and_by_time(predict):
    frames = still(30)
    assert [f.index for f in predict.stream(frames, every=7)] == [0, 7, 14, 21, 28]
    told = [f.time for f in predict.stream(frames, fps=10)]
    assert len(told) == 12
    assert told == pytest.approx([0, 0.12, 0.2, 0.32, 0.4, 0.52, 0.6, 0.72, 0.8, 0.92, 1.0, 1.12])
    assert [f.time for f in predict.stream(frames[:3], rate=10)] == pytest.approx([0, 0.1, 0.2])


def test_a_folder_of_frames_is_in_the_order_of_its_numbers(predict, tmp_path: Path):
    for n in (1, 2, 10, 9):
        Image.fromarray(marked(n)).save(tmp_path / f"frame{n}.png")
    (tmp_path / "frame11.png").write_bytes(b"damaged")
    found = list(open_source(tmp_path).pictures)
    assert [p.rgb[-1, -1, 0] // 8 for p in found[:-1]] == [1, 2, 9, 10]
    assert "frame11.png" in found[-1].error
    film = predict(tmp_path)
    assert [frame.error is None for frame in film] == [True] * 4 + [False]


def test_arrays_of_opencv_have_their_colours_turned():
    detected = []
    spy = VideoPredictor("resnet18_025", detector=lambda rgb: detected.append(rgb) or [])
    frame = marked(3, (255, 0, 0))[..., ::-1]
    (told,) = spy.stream([frame], channels="bgr")
    assert tuple(told.image[0, 0]) == (255, 0, 0)
    assert tuple(detected[0][0, 0]) == (255, 0, 0)


def test_a_camera_that_is_unplugged_is_told_and_let_go(predict, monkeypatch):
    camera = Camera([f[..., ::-1] for f in still(5)], wait=0.1)
    monkeypatch.setattr(cv2, "VideoCapture", camera)
    film = list(predict.stream(0))
    assert "unplugged" in film[-1].error
    assert film[-1].index is None
    assert {f.faces[0].label for f in film[:-1]} == {"happy"}
    assert camera.released


def test_of_a_camera_that_is_faster_than_the_network_frames_are_dropped(predict, monkeypatch):
    """Each answer is of a frame that has just come, not of one that waited in a row."""
    camera = Camera(itertools.repeat(still(1)[0][..., ::-1], 10_000), wait=0.002)
    monkeypatch.setattr(cv2, "VideoCapture", camera)
    stream = predict.stream(0)
    late = []
    for frame in itertools.islice(stream, 12):
        late.append(camera.given - frame.index)
        time.sleep(0.1)  # for 50 further frames
    stream.close()
    assert frame.index > 150
    assert max(late[1:]) < 150
    assert camera.released


def test_a_camera_that_is_not_there_is_told(predict, monkeypatch):
    with pytest.raises(InputError, match="camera 7: cannot be opened"):
        predict.stream(7)


def test_frames_of_an_iterator_are_answered_one_by_one(predict):
    """A camera of one's own must not wait until a batch is full."""
    taken = []

    def frames():
        for n in range(100):
            taken.append(n)
            yield still(1)[0]

    stream = predict.stream(frames())
    next(stream)
    assert len(taken) < 2 * TOGETHER + 2
    stream.close()


def test_what_is_read_ahead_is_bounded_and_threads_end(predict):
    taken = []

    def frames():
        for n in itertools.count():
            taken.append(n)
            yield still(1)[0]

    before = threading.active_count()
    stream = predict.stream(frames())
    for _ in range(3):
        next(stream)
    time.sleep(0.5)
    assert len(taken) <= TOGETHER + 8
    stream.close()
    assert threading.active_count() == before


def test_what_the_frames_raise_is_raised_where_they_are_asked_for(predict):
    def frames():
        yield still(1)[0]
        raise RuntimeError("the disk is gone")

    stream = predict.stream(frames())
    next(stream)
    with pytest.raises(RuntimeError, match="disk is gone"):
        next(stream)


def test_a_detector_that_raises_is_told_in_its_frame(predict):
    def fails(rgb):
        raise ValueError("no luck")

    (frame,) = VideoPredictor("resnet18_025", detector=fails).stream(still(1))
    assert "the detector raised ValueError: no luck" in frame.error
    shares = VideoPredictor("resnet18_025", detector=lambda rgb: [(0.1, 0.1, 0.4, 0.5)])
    (frame,) = shares.stream(still(1))
    assert "shares of the photograph" in frame.error


def test_a_detector_may_draw_on_what_it_gets():
    def draws(rgb):
        rgb[:] = 0
        return []

    (frame,) = VideoPredictor("resnet18_025", detector=draws).stream(still(1))
    assert np.array_equal(frame.image, still(1)[0])


def test_no_face_and_forty_faces():
    boxes = [(x, y, x + 20, y + 20) for x in range(0, 320, 40) for y in range(0, 200, 40)]
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    none = VideoPredictor("resnet18_025", detector=lambda rgb: [])
    film = none([frame] * 3)
    assert [frame.faces for frame in film] == [()] * 3
    assert film.to_dicts() == film.tracks() == []
    many = VideoPredictor("resnet18_025", detector=lambda rgb: boxes)
    assert [len({f.track for f in frame.faces}) for frame in many([frame] * 3)] == [40] * 3


def test_the_detector_is_asked_every_so_many_seconds():
    asked = []
    often = VideoPredictor("resnet18_025", detector=lambda rgb: asked.append(1) or seen(rgb))
    film = often(still(25))
    assert len(asked) == 5
    assert [f.index for f in film if f.faces[0].found] == [0, 5, 10, 15, 20]
    asked.clear()
    VideoPredictor(
        "resnet18_025", detector=lambda rgb: asked.append(1) or [], detect_every=0
    )(still(7))  # fmt: skip
    assert len(asked) == 7


def test_tables_and_summaries(predict, tmp_path: Path):
    film = predict([*still(3), *still(2)])
    rows = film.to_dicts()
    assert [row["frame"] for row in rows] == list(range(5))
    assert rows[1]["time"] == 0.04
    assert (rows[0]["left"], rows[0]["bottom"]) == (100, 60 + SIDE)
    assert sum(v for k, v in rows[0].items() if k.startswith("p_")) == pytest.approx(1)
    assert sum(v for k, v in rows[0].items() if k.startswith("raw_")) == pytest.approx(1)
    (track,) = film.tracks()
    assert (track.begin, track.end, track.frames) == (0.0, 0.16, 5)
    assert (track.shares, track.changes) == ({"happy": 1.0}, 0)
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    film.to_parquet(tmp_path / "film.parquet")
    read = pandas.read_parquet(tmp_path / "film.parquet")
    assert read["p_happy"].tolist() == [row["p_happy"] for row in rows]
    Film().to_parquet(tmp_path / "none.parquet")
    assert len(pandas.read_parquet(tmp_path / "none.parquet")) == 0


def test_the_shares_of_a_face_are_of_time_and_not_of_frames():
    """Of a varying rate: a frame lasts until the next one, the last as long as the one before."""

    def film(*told: tuple[float, str | None]) -> Film:
        faces = [
            () if label is None else (fer_zoo.video.TrackedFace(track=0, label=label),)
            for _, label in told
        ]
        return Film(
            fer_zoo.video.Frame(index=i, time=time, faces=those)
            for i, ((time, _), those) in enumerate(zip(told, faces, strict=True))
        )

    (track,) = film((0, "sad"), (1, "sad"), (2, "happy"), (8, None), (9, "sad")).tracks()
    assert track.shares == pytest.approx({"happy": 2 / 3, "sad": 1 / 3})
    assert list(track.shares) == ["happy", "sad"]
    assert (track.frames, track.changes) == (4, 2)
    (still,) = film((0, "sad"), (0, "happy")).tracks()
    assert still.shares == {"sad": 0.5, "happy": 0.5}
    assert film((3, "sad")).tracks()[0].shares == {"sad": 1.0}
    with_error = film((0, "sad"), (1, "happy"))
    with_error.append(fer_zoo.video.Frame(index=None, time=9.0, error="cut short"))
    assert with_error.tracks()[0].shares == {"sad": 0.5, "happy": 0.5}


def test_abstention_and_coarser_classes_reach_films():
    coarse = VideoPredictor(
        "resnet18_025", detector=seen, labels={"good": ["happy"]}, abstain=0.9999
    )
    (frame,) = coarse.stream(still(1))
    (face,) = frame.faces
    assert face.label is None
    assert "under 0.9999" in face.reason
    assert "good" in face.probabilities
    assert Film([frame]).tracks()[0].shares == {None: 1.0}


def decoded(path: Path):
    with av.open(str(path)) as container:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return frames


def sound_of(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(p.pts, bytes(p)) for p in container.demux(stream) if p.dts is not None]


def test_the_annotated_film_has_the_times_the_sound_and_what_was_seen(predict, tmp_path: Path):
    times = [0.0, 0.04, 0.2, 0.5, 0.54, 1.3]
    source = write(tmp_path / "in.mp4", still(6), times=times, sound=True)
    film = annotate(predict.stream(source), tmp_path / "out.mp4", audio=source)
    assert len(film) == 6
    assert film[0].image is None
    frames = decoded(tmp_path / "out.mp4")
    assert [time for time, _ in frames] == pytest.approx(times, abs=1e-3)
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)
    before = decoded(source)[0][1].astype(int)
    changed = np.abs(frames[0][1].astype(int) - before).max(-1) > 60
    assert changed[60 : 60 + SIDE, 100:102].mean() > 0.8  # the box
    assert changed[62:150, 110:180].mean() < 0.02  # the face is not drawn over
    assert changed[60 + SIDE + 3 : 60 + SIDE + 40, 100:190].mean() > 0.3  # the bars


@pytest.mark.parametrize(
    "box", [(0, 0, 320, 240), (250, 150, 400, 300), (-80, -60, 40, 60), (280, 10, 318, 48)],
    ids=["it fills the image", "below to the right", "above to the left", "narrow, to the right"],
)  # fmt: skip
def test_what_is_told_of_a_face_stays_in_the_image(box):
    """Before a camera a face may fill the image: its bars were under it, where nobody sees them."""
    bars = {"happy": 0.5, "sad": 0.3, "fear": 0.2}
    face = fer_zoo.video.TrackedFace(
        track=0, box=box, label="happy", probability=0.5, probabilities=bars
    )
    wide = np.full((720, 960, 3), 200, np.uint8)
    middle = fer_zoo.video.TrackedFace(
        track=0, box=(300, 100, 300 + box[2] - box[0], 100 + box[3] - box[1]), label="happy",
        probability=0.5, probabilities=bars,
    )  # fmt: skip

    def dark(image, one):
        """Count the pixels of the bars' ground, which nothing else has."""
        frame = fer_zoo.video.Frame(index=0, time=0.0, faces=(one,), image=image)
        return (fer_zoo.video.drawn(frame) == (0x22, 0x22, 0x22)).all(-1).sum()

    high = np.full((240, 320, 3), 200, np.uint8)
    assert dark(high, face) == pytest.approx(dark(wide[:480], middle), rel=0.1)


def test_odd_sizes_and_frames_of_other_sizes_are_written(predict, tmp_path: Path):
    odd = [scene((A, 100, 60))[:239, :319], scene((A, 100, 60))]
    annotate(predict.stream(odd), tmp_path / "odd.mp4")
    assert [frame.shape for _, frame in decoded(tmp_path / "odd.mp4")] == [(240, 320, 3)] * 2


def test_what_is_written_is_whole_where_it_is_left_early(predict, tmp_path: Path):
    path = tmp_path / "left.mp4"

    def left_early() -> None:
        with FilmWriter(path) as writer:
            for frame in predict.stream(still(40)):
                writer.write(frame)
                if frame.index == 20:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        left_early()
    assert len(decoded(path)) == 21
    assert [p.name for p in tmp_path.iterdir()] == ["left.mp4"]


def test_films_that_cannot_be_written_are_refused(predict, tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"\.mp4"):
        FilmWriter(tmp_path / "out.avi")
    with pytest.raises(InputError, match="no frame to write"):
        annotate([], tmp_path / "none.mp4")
    assert [*tmp_path.iterdir()] == []


def test_the_timeline_draws_a_panel_for_each_face(predict):
    pytest.importorskip("matplotlib")
    film = predict(still(6))
    figure = fer_zoo.plots.timeline(film)
    assert [axes.get_title() for axes in figure.axes] == ["face 0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(predict.labels)
    with pytest.raises(ArgumentError, match="nothing to draw"):
        fer_zoo.plots.timeline(Film())


def test_the_timeline_is_white_where_a_face_is_not_whatever_the_rate():
    """A frame that is shown for long is no gap, and one frame without the face is."""
    pytest.importorskip("matplotlib")
    face = fer_zoo.video.TrackedFace(track=0, label="sad", probabilities={"sad": 0.8, "happy": 0.2})

    def runs(times: list[float], without: int | None = None) -> list[tuple[float, float]]:
        film = Film(
            fer_zoo.video.Frame(index=i, time=t, faces=() if i == without else (face,))
            for i, t in enumerate(times)
        )
        (axes,) = fer_zoo.plots.timeline(film).axes
        areas = [area.get_datalim(axes.transData) for area in axes.collections][::2]
        return [(area.x0, area.x1) for area in areas]

    assert runs([0, 1, 2, 3, 60, 61]) == [(0, 62)]
    assert runs([0, 1, 2, 3, 60, 61], without=3) == [(0, 3), (60, 62)]


def test_watch_opens_a_stream_once(tmp_path: Path, monkeypatch):
    opened, camera = [], Camera([f[..., ::-1] for f in still(3)], wait=0.05)
    monkeypatch.setattr(cv2, "VideoCapture", lambda place: opened.append(place) or camera)
    assert "unplugged" in run("watch", "rtsp://e.org/live", code=1).stderr
    assert (opened, camera.released) == (["rtsp://e.org/live"], True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_watch_writes_everything_and_tells_each_face(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.mp4", still(12), sound=True)
    options = ["--csv", "t.csv", "--annotate", "a.mp4", "--timeline", "t.png"]
    assert "happy 100 %" in run("watch", "in.mp4", *options).stdout
    rows = rows_of(tmp_path / "t.csv")
    assert len(rows) == 12
    assert {row["label"] for row in rows} == {"happy"}
    assert len(decoded(tmp_path / "a.mp4")) == 12
    with Image.open(tmp_path / "t.png") as figure:
        assert figure.size[0] > 500
    assert '"frames": 3' in run("watch", "in.mp4", "--json", "--every", "4").stdout
    failed = run("watch", "missing.mp4", "--csv", "none.csv", code=2)
    assert "no such film" in failed.stderr
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
def test_an_interrupted_watch_leaves_whole_files(tmp_path: Path):
    frames = [scene((A, 100 + i % 20, 60)) for i in range(25)] * 60
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png", compress_level=1)
    command = cli("watch", tmp_path, "--detect-every", "0", "--csv", "t.csv", "--annotate", "a.mp4")
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(command, cwd=out, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(p.stat().st_size > 20_000 for p in out.glob(".t.csv*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "what was made is kept" in err
    rows = rows_of(out / "t.csv")
    assert abs(len({row["frame"] for row in rows}) - len(decoded(out / "a.mp4"))) <= 1
    assert sorted(os.listdir(out)) == ["a.mp4", "t.csv"]


class FakeTk:
    """As much of tkinter as a window needs, where there is no screen."""

    TclError = RuntimeError

    def __init__(self) -> None:
        self.keys, self.closing, self.destroyed, self.shown = {}, None, False, 0
        self.Tk = self.Label = lambda *_: self

    def title(self, text: str) -> None: ...
    def pack(self) -> None: ...
    def protocol(self, name: str, call) -> None:
        self.closing = call

    def bind(self, key: str, call) -> None:
        self.keys[key] = call

    def configure(self, image: object) -> None:
        self.shown += 1

    def update(self) -> None:
        if self.shown == 3:
            self.closing()

    def destroy(self) -> None:
        self.destroyed = True


def test_the_window_shows_frames_until_it_is_closed(tmp_path: Path, monkeypatch):
    from PIL import ImageTk

    screen = FakeTk()
    monkeypatch.setitem(sys.modules, "tkinter", screen)
    monkeypatch.setattr(ImageTk, "PhotoImage", lambda image: image)
    write(tmp_path / "in.mp4", still(12))
    monkeypatch.chdir(tmp_path)
    run("watch", "in.mp4", "--show", "--csv", "t.csv")
    assert (screen.shown, screen.destroyed) == (3, True)
    assert {row["frame"] for row in rows_of(tmp_path / "t.csv")} == {"0", "1", "2"}


def test_without_a_screen_or_tkinter_the_window_is_refused(tmp_path: Path, monkeypatch):
    write(tmp_path / "in.mp4", still(2))
    screen = FakeTk()

    def no_screen():
        raise RuntimeError("no display name")

    screen.Tk = no_screen
    monkeypatch.setitem(sys.modules, "tkinter", screen)
    told = run("watch", str(tmp_path / "in.mp4"), "--show", code=2).stderr
    assert "no screen" in told
    assert "--annotate" in told
    monkeypatch.setitem(sys.modules, "tkinter", None)
    assert "python3-tk" in run("watch", str(tmp_path / "in.mp4"), "--show", code=2).stderr
