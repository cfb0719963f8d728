# SPDX-License-Identifier: Apache-2.0
"""Jinja2 templates of pages, cards and reports: the *.jinja files have the text, Python supplies the facts.

In *.html.jinja all values are escaped unless marked safe; Markdown has the filter `cell` for that.
"""

from __future__ import annotations

from typing import Any

import jinja2

from co_rewarding.tools.cli import printable, visible
from co_rewarding.tools.tables import cell

QUOTED_CHARS = 600


def fenced(text: str) -> str:
    """A block of Markdown that the text, cut at QUOTED_CHARS, cannot close."""
    shown = (text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + " ...").encode("utf-8", "replace").decode()
    fence = "~~~"
    while fence in shown:
        fence += "~"
    return "\n".join([fence, *shown.splitlines(), fence])


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("co_rewarding.tools", "templates"),
    autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters |= {"visible": visible, "printable": printable, "cell": cell, "fenced": fenced}


def render(template: str, **values: Any) -> str:
    """The text of a template, named by its file without .jinja."""
    return ENVIRONMENT.get_template(f"{template}.jinja").render(**values)


def source_of(template: str) -> str:
    """The template itself, for other renderers (cards of huggingface_hub)."""
    return ENVIRONMENT.loader.get_source(ENVIRONMENT, f"{template}.jinja")[0]
