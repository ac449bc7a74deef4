"""Films and cameras on the command line."""

import csv
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from fer_zoo._files import check_writable, replacing, same_file
from fer_zoo.cli.inputs import parse_classes
from fer_zoo.cli.options import (
    MODEL,
    PATH,
    detector_option,
    device_option,
    fusion_option,
    ignore_option,
    json_option,
    main,
    map_option,
    preset_option,
    views_option,
    weights_option,
)
from fer_zoo.cli.show import out, print_json, print_table
from fer_zoo.errors import ArgumentError, InputError, printable, shown
from fer_zoo.plain import to_plain
from fer_zoo.video import Film, FilmWriter, Frame, VideoPredictor
from fer_zoo.video.results import Summary, check_parquet, columns_of, without_images
from fer_zoo.video.sources import Source, local, open_source
from fer_zoo.video.window import Window

FAST = "resnet18_025"
DRAWN = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


@main.command(short_help="Label the faces in a film or before a camera.")
@click.argument("source")
@click.option("--model", default=FAST, show_default=True, type=MODEL, help="Name or address.")
@weights_option
@fusion_option
@preset_option
@views_option
@click.option("--every", type=click.IntRange(1), default=1, help="Each so many-th frame only.")
@click.option("--fps", type=float, help="So many frames of a second at most.")
@click.option("--rate", type=float, default=25.0, help="Frames a second of a folder of images.")
@detector_option
@click.option(
    "--detect-every", type=float, default=0.2, show_default=True, help="Seconds between searches."
)
@click.option(
    "--patience",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds for which a face that is not found is the same when it is.",
)
@click.option(
    "--smooth", type=float, default=0.4, show_default=True, help="Time constant, s; 0 for none."
)
@map_option
@ignore_option
@click.option("--csv", "table", type=PATH, help="Write a row for each face of each frame.")
@click.option("--parquet", type=PATH, help="The same as Parquet.")
@click.option("--annotate", type=PATH, help="Write the film with what is seen in it, as .mp4.")
@click.option("--timeline", type=PATH, help="Draw the probabilities over time, .png or .pdf.")
@click.option("--show", is_flag=True, help="Show it in a window, until that is closed.")
@device_option
@json_option
def watch(
    source: str,
    model: str,
    every: int,
    fps: float | None,
    rate: float,
    table: Path | None,
    parquet: Path | None,
    annotate: Path | None,
    timeline: Path | None,
    show: bool,
    as_json: bool,
    merged: tuple[str, ...],
    ignore: tuple[str, ...],
    **options: Any,
) -> None:
    """Label the faces in SOURCE over time: a film, a camera (0 is the first), a URL, a folder.

    At the end the time of each face by label is told. Ctrl-C ends it, and what was written until
    then is whole. The exit code is 1 if any frame could not be used, or the film ends early.

    Example: fer-zoo watch film.mp4 --csv film.csv --annotate seen.mp4 --timeline film.png
    """
    source = local(source)
    _check(source, table, parquet, annotate, timeline)
    options |= parse_classes(merged, ignore)
    place: Any = int(source) if source.isdecimal() else source
    opened = open_source(place, every=every, fps=fps, rate=rate)
    predictor = VideoPredictor(model, **options)
    film, summary, wrong, ended = Film(), Summary(), False, False
    with ExitStack() as stack:
        tells: list[Callable[[Frame], Any]] = [summary.add]
        window = stack.enter_context(Window(source)) if show else None
        writer = stack.enter_context(_writer(annotate, source, opened)) if annotate else None
        if writer:
            tells.append(writer.write)
        if table:
            tells.append(stack.enter_context(_table(table, predictor.labels)))
        try:
            frames = stack.enter_context(closing(predictor.stream(opened)))
            for frame in _with_bar(frames, opened.total):
                for tell in tells:
                    tell(frame)
                wrong = wrong or frame.error is not None
                if parquet or timeline:  # else nothing is kept, so that cameras may go on for days
                    film.extend(without_images([frame]))
                if window and not window.show(frame):
                    break
            else:
                ended = True
                if writer:
                    writer.end()
        except KeyboardInterrupt:
            click.echo("interrupted: what was made is kept", err=True)
    if parquet and summary.frames:
        film.to_parquet(parquet)
    if timeline and film.tracks():
        from fer_zoo.plots import timeline as draw

        with replacing(timeline) as temporary:
            draw(film).savefig(temporary, dpi=130)
    _tell(summary, as_json)
    if wrong:
        sys.exit(1)
    if not ended and not show:
        sys.exit(130)


def _check(
    source: str,
    table: Path | None,
    parquet: Path | None,
    annotate: Path | None,
    timeline: Path | None,
) -> None:
    """Raise before anything is done where a file cannot be written, or would replace another."""
    given = [path for path in (table, parquet, annotate, timeline) if path]
    for i, path in enumerate(given):
        if same_file(path, source):
            raise ArgumentError(f"{path} is the film itself: name another file to write")
        if any(same_file(path, other) for other in given[:i]):
            raise ArgumentError(f"{path} is named twice: each of these options writes a file")
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            check_writable(path.parent)
        except OSError as error:
            raise ArgumentError(f"{path} cannot be written: {error.strerror}") from None
    if annotate and annotate.suffix.lower() != ".mp4":
        raise ArgumentError(f"{annotate}: a film is written as .mp4")
    if timeline and timeline.suffix.lower() not in DRAWN:
        raise ArgumentError(f"{timeline}: a timeline is drawn as one of {', '.join(DRAWN)}")
    if parquet:
        check_parquet()


def _writer(path: Path, source: str, opened: Source) -> FilmWriter:
    """Return what writes the film, with its sound if it has one that fits."""
    place = Path(source)
    if opened.live or place.is_dir():
        return FilmWriter(path)
    try:
        if place.exists() and not place.is_file():
            raise InputError(f"{source} can be read once only")
        return FilmWriter(path, audio=source)
    except InputError as error:
        click.echo(shown(f"the film is written without its sound: {error}"), err=True)
        return FilmWriter(path)


def _with_bar(frames: Iterator[Frame], total: int | None) -> Iterator[Frame]:
    with tqdm(total=total, unit="frame", leave=False, disable=None) as bar:
        for frame in frames:
            if frame.error is not None:
                with tqdm.external_write_mode():
                    click.echo(shown(f"cannot use {frame.error}"), err=True)
            yield frame
            if frame.index is not None:
                bar.update(frame.index + 1 - bar.n)
                bar.set_postfix(faces=len(frame.faces), refresh=False)


@contextmanager
def _table(path: Path, labels: Any) -> Iterator[Callable[[Frame], Any]]:
    """Write a csv that grows with the film, moved to its place once a frame is in it."""
    empty, wrong = True, None

    def tell(frame: Frame) -> None:
        nonlocal empty
        empty = empty and frame.index is None
        writer.writerows(frame.to_dicts())

    with suppress(_NoFrameError), replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns_of(labels), lineterminator="\n")
            writer.writeheader()
            try:
                yield tell
            except Exception as error:  # what was told until then is kept
                wrong = error
        if empty:
            raise _NoFrameError
    if wrong is not None:
        raise wrong


class _NoFrameError(Exception):
    pass


def _tell(summary: Summary, as_json: bool) -> None:
    tracks = summary.tracks()
    if as_json:
        print_json({"frames": summary.frames, "tracks": [to_plain(track) for track in tracks]})
        return
    if not tracks:
        click.echo(f"no face in {summary.frames} frames", err=True)
        return
    rows = [["face", "from", "to", "frames", "changes", "share of its time"]]
    for track in tracks:
        shares = track.shares.items()
        said = ", ".join(f"{printable(label or '-')} {100 * p:.0f} %" for label, p in shares)
        rows.append([str(track.track), f"{track.begin:.1f} s", f"{track.end:.1f} s"])
        rows[-1] += [str(track.frames), str(track.changes), said]
    print_table(rows)
    out.print(f"\n{summary.frames} frames, {summary.end - summary.begin:.1f} s", soft_wrap=True)
