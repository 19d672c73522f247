"""The tour as one HTML page that needs nothing else: no network, no other file, no script."""

from __future__ import annotations

import os
import platform
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plait

from .lanes import COLOURS, draw_svg, states_in
from .timeline import STATES

if TYPE_CHECKING:
    from .tour import Section, TourResult

__all__ = ["write_page"]

_LIGHT, _DARK = "friendly", "github-dark"  # pygments' styles


def write_page(path: Path, result: TourResult) -> None:
    """Write the page of a tour.

    Args:
        path: the file to write.
        result: what the tour gave.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    lexer, plain = PythonLexer(), HtmlFormatter(nowrap=True)

    def colours_of(style: str) -> object:
        css: Any = HtmlFormatter(style=style)
        return Markup(css.get_style_defs("pre.code"))

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("tour.html.jinja").read_text("utf-8")
    page = environment.from_string(template).render(
        result=result,
        comparison=Markup(result.comparison._repr_html_()) if result.comparison else "",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cores=plait.cpu_count(),
        load=os.getloadavg()[0],
        version=plait.__version__,
        states=STATES,
        states_in=_section_states,
        code=lambda source: Markup(highlight(source, lexer, plain)),
        chart=_chart,
        styles={"light": colours_of(_LIGHT), "dark": colours_of(_DARK)},
        colours={
            "light": {state: pair[0] for state, pair in COLOURS.items()},
            "dark": {state: pair[1] for state, pair in COLOURS.items()},
        },
    )
    path.write_text(page, encoding="utf-8")


def _section_states(section: Section) -> list[str]:
    found = {state for version in section.versions for state in states_in(version.timeline)}
    return [state for state in STATES if state in found]


def _chart(section: Section, index: int) -> object:
    from markupsafe import Markup

    # All versions of a section share one time axis, so that lengths can be compared by eye.
    return Markup(draw_svg(section.versions[index].timeline, section.seconds))
