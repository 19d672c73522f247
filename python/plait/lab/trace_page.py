"""A trace as one page, or as a notebook's cell: it zooms and pans, and needs no network."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lanes import COLOURS, standalone_svg
from .timeline import STATES
from .trace_files import notes, thinned

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["asset", "data_of", "fragment", "page"]

_MOST_IN_CELL = 20_000  # spans that a notebook's file should carry


@cache
def asset(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def data_of(trace: Trace) -> dict[str, Any]:
    """What the page's script draws; spans as columns, texts by number."""
    texts: dict[str, int] = {}

    def number(text: str | None) -> int:
        return -1 if text is None else texts.setdefault(text, len(texts))

    lanes = {lane.id: index for index, lane in enumerate(trace.lanes)}
    states = list(STATES)
    spans = [
        [
            lanes[span.lane],
            round(span.start_s * 1e6),
            max(1, round((span.end_s - span.start_s) * 1e6)),
            states.index(span.state),
            number(span.name),
            number(span.holder),
        ]
        for span in trace.spans
    ]
    arrows = [
        [
            lanes[a.lane],
            round(a.at_s * 1e6),
            lanes[a.to_lane],
            round(a.to_s * 1e6),
            number(a.name),
            -1 if a.end_s is None else round(a.end_s * 1e6),
        ]
        for a in trace.arrows
    ]
    return {
        "seconds": trace.timeline.seconds,
        "lanes": [[lane.kind, lane.name, lane.pid, lane.tid] for lane in trace.lanes],
        "states": [[state, STATES[state], *COLOURS[state]] for state in states],
        "columns": [list(column) for column in zip(*spans, strict=True)] or [[]] * 6,
        "arrows": arrows,
        "texts": list(texts),
        "notes": notes(trace),
    }


def _json(data: dict[str, Any]) -> str:
    # In a script element, "</script>" and "<!--" would be read as HTML.
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028")


_numbers = count()


def fragment(trace: Trace) -> str:
    """For a notebook's cell; where scripts don't run, a still picture is seen."""
    if len(trace.spans) > _MOST_IN_CELL:
        note = "<p><small>Many spans: save(…html) has them all; here is a picture.</small></p>"
        return f"<div>{standalone_svg(thinned(trace.timeline))}{note}</div>"
    still = standalone_svg(thinned(trace.timeline), own_page=False)
    return _element(trace, f"plait-trace-{next(_numbers)}", still)


def _element(trace: Trace, name: str, still: str) -> str:
    return (
        f'<style>{asset("trace.css")}</style><div class="plait-trace" id="{name}">{still}</div>'
        f"<script>(()=>{{{asset('trace.js')}\n"
        f'draw(document.getElementById("{name}"), {_json(data_of(trace))});}})()</script>'
    )


def page(trace: Trace) -> str:
    """A whole page."""
    title = escape(f"plait trace: {len(trace.lanes)} lanes, {trace.timeline.seconds:.2f} s")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        'content="light dark"><style>body{margin:1.2rem;background:Canvas;color:CanvasText;'
        "font:14px system-ui,sans-serif}</style></head><body>"
        f"{_element(trace, 'trace', '')}</body></html>\n"
    )
