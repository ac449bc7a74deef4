"""The page on the command line."""

import click

from fer_zoo.cli.options import main


@main.command(short_help="Serve a page that labels photographs, films and the camera.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets others in.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=7860,
    show_default=True,
    help="Where it listens.",
)
def app(host: str, port: int) -> None:
    """Serve a page in which one looks at photographs, films and the camera, until Ctrl-C.

    It answers on this machine only, sends nothing anywhere, and keeps nothing: what is uploaded is
    removed after ten minutes, and all of it at the end.

    Example: fer-zoo app
    """
    from fer_zoo.app import start

    start(host, port, ready=lambda url: click.echo(f"open {url} (Ctrl-C ends it)"))
