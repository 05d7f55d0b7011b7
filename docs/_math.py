r"""Turn LaTeX into MathML when the pages are built: browsers show it without any script from elsewhere."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    return f'<{match[1]} class="arithmatex">{convert(html.unescape(match[2]).strip(), display=display)}</{match[1]}>'


def on_page_content(page_html: str, **_: object) -> str:
    """Called by mkdocs with the HTML of each page."""
    return _FORMULA.sub(_mathml, page_html)
