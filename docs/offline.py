"""Pages that need no network: formulas as MathML, and a check of what a page loads."""

import re
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from docutils.utils import get_source_line
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import SphinxError
from sphinx.util.math import get_node_equation_number

from fer_zoo._install import requirement

LOADED = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest"}


def mathml(node: nodes.math | nodes.math_block) -> str:
    """Return a formula as MathML, which browsers draw themselves.

    Raises:
        SphinxError: it holds what docutils does not know.
    """
    try:
        return tex2mathml(node.astext())
    except (ValueError, SyntaxError) as error:
        path, line = get_source_line(node)
        raise SphinxError(f"{path}:{line}: {error}") from error


def inline(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node))
    raise nodes.SkipNode


def block(translator, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append(mathml(node).replace("<math ", '<math display="block" ', 1))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


class Loads(HTMLParser):
    """Collects what a page loads from other hosts: scripts, styles, pictures, frames, media."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        addresses = [own.get("src", ""), own.get("poster", ""), *own.get("srcset", "").split(",")]
        if tag == "link" and LOADED & set(own.get("rel", "").lower().split()):
            addresses.append(own.get("href", ""))
        starts = ("http://", "https://", "//")
        self.found += [a.strip() for a in addresses if a.strip().startswith(starts)]


def check(app, exception: Exception | None) -> None:
    """Fail a build of HTML of which a page, or a style, names such a thing on another host."""
    if exception is not None or app.builder.format != "html":
        return
    found = []
    # The pages of this build: an older one may have left others.
    for path in (Path(app.builder.get_outfilename(name)) for name in sorted(app.env.found_docs)):
        page = Loads()
        page.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.name} loads {address}" for address in page.found]
    for path in sorted(Path(app.outdir).rglob("*.css")):
        text = path.read_text(encoding="utf-8").replace('"', "").replace("'", "")
        for start in ("url(http", "url(//", "@import http", "@import //"):
            found += [f"{path.name} has {start}"] * (start in text)
    if found:
        raise SphinxError("pages must need no network: " + "; ".join(found))


def as_published(app, docname: str, source: list[str]) -> None:
    """Let a page say how an extra is had today, where its source names it."""
    source[0] = re.sub(r"'fer-zoo\[([\w,]+)\]'", lambda m: requirement(m[1]), source[0])


def setup(app) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("source-read", as_published)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
