"""Pages and Markdown out of the templates next to this file; a page is one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from segan_pl import __version__
from segan_pl.evaluation.statistics.study_tables import escaped
from segan_pl.report.charts import Chart

if TYPE_CHECKING:
    # loads Matplotlib, which a page of charts need not wait for
    from segan_pl.report.figures import Drawn


def page(template: str, **values: object) -> str:
    """A template of `templates/`, filled; nothing in `values` can be misread as HTML.

    Args:
        template: The name of a file there, e.g. "run.html". A page extends base.html, which needs a `title`; a file
            whose name does not end with .html is not escaped.
        values: What the template names; a name that gets no value is an error.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    """One for the process, which keeps the compiled templates."""
    environment = Environment(
        loader=PackageLoader("segan_pl.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["version"] = __version__
    environment.filters["svg"] = inline_svg
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    # text on one line that Markdown cannot misread
    environment.filters["escaped"] = lambda value: " ".join(escaped(str(value)).split())
    return environment


def inline_svg(drawn: Chart | Drawn) -> Markup:
    """A figure as an <svg> element with its words for a screen reader, and with ids that no other figure has.

    Matplotlib counts the parts of each figure from 1; on a page with several figures an id must be that of one part.
    """
    svg = drawn.svg[drawn.svg.index("<svg") :].replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    own = f"f{hashlib.sha256((drawn.caption + svg).encode()).hexdigest()[:8]}-"
    svg = re.sub(r'(\bid=")', rf"\1{own}", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{own}", svg)
    words = Markup('<svg role="img" aria-label="{}"').format(drawn.caption)
    return Markup(svg.replace("<svg", words, 1))
