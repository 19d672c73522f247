"""Lane charts: a timeline as text for the terminal, as SVG for a page, as PNG for a README."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

from .timeline import STATES, Lane, Span, State, Timeline

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "COLOURS",
    "draw_png",
    "draw_rich",
    "draw_svg",
    "draw_text",
    "standalone_svg",
    "states_in",
]

# A colour for light and one for dark pages, and a block for where there are no colours.
COLOURS: dict[State, tuple[str, str]] = {
    "gil": ("#2f6fde", "#6ea0ff"),
    "nogil": ("#d9480f", "#ff9a5c"),
    "wait_gil": ("#e03e6d", "#ff7a9f"),
    "wait_lock": ("#b5179e", "#e070d0"),
    "wait_io": ("#7c5cd6", "#ab93f5"),
    "sleep": ("#2a9d8f", "#4fc9ba"),
    "idle": ("#d3d9e0", "#3b4450"),
    "unknown": ("#9aa5b1", "#77828f"),
}
_BLOCKS: dict[State, str] = {
    "gil": "█",
    "nogil": "▓",
    "wait_gil": "▒",
    "wait_lock": "▚",
    "wait_io": "≈",
    "sleep": "━",
    "idle": "·",
    "unknown": "░",
}


def states_in(timeline: Timeline) -> list[State]:
    """The states that occur in ``timeline``, in the order of `STATES`."""
    found = {span.state for span in timeline.spans}
    return [state for state in STATES if state in found]


def _label(lane: Lane) -> str:
    return f"{lane.kind} {lane.name}"


def _cells(timeline: Timeline, lane: Lane, seconds: float, width: int) -> list[State | None]:
    """For each of ``width`` equal slices of time, the state that fills most of it."""
    step = seconds / width
    shares: list[dict[State, float]] = [{} for _ in range(width)]
    for span in timeline.of(lane):
        first, last = int(span.start_s / step), int(span.end_s / step)
        for cell in range(max(first, 0), min(last, width - 1) + 1):
            overlap = min(span.end_s, (cell + 1) * step) - max(span.start_s, cell * step)
            shares[cell][span.state] = shares[cell].get(span.state, 0.0) + overlap
    cells: list[State | None] = []
    for share in shares:
        top = max(share, key=lambda state: share[state], default=None)
        cells.append(top if top is not None and share[top] >= step / 4 else None)
    return cells


def _rows(timeline: Timeline, seconds: float, width: int) -> list[tuple[str, list[State | None]]]:
    return [(_label(lane), _cells(timeline, lane, seconds, width)) for lane in timeline.lanes]


def _axis(seconds: float, width: int) -> str:
    end = f"{seconds:.2f} s"
    return "0" + " " * max(width - 1 - len(end), 1) + end


def draw_text(timeline: Timeline, width: int = 60, seconds: float | None = None) -> str:
    """Draw the lanes with plain characters, one line each, and a legend.

    Args:
        timeline: what to draw.
        width: how many characters the time axis has.
        seconds: where the axis ends; by default where the last span does.
    """
    seconds = seconds or timeline.seconds
    if not timeline.spans or seconds <= 0:
        return "(nothing was recorded)"
    rows = _rows(timeline, seconds, width)
    margin = max(len(label) for label, _ in rows)
    lines = [
        f"{label:<{margin}}  {''.join(_BLOCKS[c] if c else ' ' for c in cells)}".rstrip()
        for label, cells in rows
    ]
    lines.append(f"{'':<{margin}}  {_axis(seconds, width)}")
    legend = "   ".join(f"{_BLOCKS[state]} {STATES[state]}" for state in states_in(timeline))
    return "\n".join([*lines, legend])


def draw_rich(timeline: Timeline, width: int = 60, seconds: float | None = None) -> Text:
    """The same in colours, for a rich console."""
    from rich.text import Text

    seconds = seconds or timeline.seconds
    if not timeline.spans or seconds <= 0:
        return Text("(nothing was recorded)", style="dim")
    rows = _rows(timeline, seconds, width)
    margin = max(len(label) for label, _ in rows)
    text = Text(no_wrap=True)
    for label, cells in rows:
        text.append(f"{label:<{margin}}  ")
        for cell in cells:
            text.append(_BLOCKS[cell] if cell else " ", style=COLOURS[cell][0] if cell else "")
        text.append("\n")
    text.append(f"{'':<{margin}}  {_axis(seconds, width)}\n", style="dim")
    for state in states_in(timeline):
        text.append(f"{_BLOCKS[state]} ", style=COLOURS[state][0])
        text.append(f"{STATES[state]}   ", style="dim")
    return text


_ROW, _BAR, _LEFT, _WIDTH = 26, 18, 236, 900  # the SVG's measures, in its own units


def draw_svg(timeline: Timeline, seconds: float | None = None) -> str:
    """Draw the lanes as an SVG element whose colours are CSS variables of the page.

    The page defines ``--lane-<state>``, ``--ink`` and ``--rule``. Hovering over a span tells
    its name, state and times.

    Args:
        timeline: what to draw.
        seconds: where the axis ends; give charts beside each other the same.
    """
    seconds = seconds or timeline.seconds
    if not timeline.spans or seconds <= 0:
        return ""
    height = _ROW * len(timeline.lanes) + 26
    scale = (_WIDTH - _LEFT - 12) / seconds
    parts = [
        f'<svg class="lanes" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Lane chart of {len(timeline.lanes)} lanes over {seconds:.2f} seconds">'
    ]
    for tick in range(5):
        x = _LEFT + (_WIDTH - _LEFT - 12) * tick / 4
        anchor = "end" if tick == 4 else "middle"
        parts.append(
            f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 20}" class="rule"/>'
            f'<text x="{x:.1f}" y="{height - 5}" text-anchor="{anchor}" class="axis">'
            f"{_time(seconds * tick / 4)}</text>"
        )
    for row, lane in enumerate(timeline.lanes):
        top = row * _ROW
        parts.append(
            f'<text x="{_LEFT - 10}" y="{top + 17}" text-anchor="end">'
            f'<tspan class="kind">{html.escape(lane.kind)}</tspan> '
            f"{html.escape(_short(lane.name))}</text>"
        )
        parts += [_bar(span, top + 4, scale) for span in timeline.of(lane)]
    parts.append("</svg>")
    return "".join(parts)


def standalone_svg(timeline: Timeline, *, own_page: bool = True) -> str:
    """The same as a file of its own, with its colours in it, for light and dark.

    Args:
        timeline: what to draw.
        own_page: whether it has paper of its own, and may follow the system's theme; else it is
            part of a page, whose text's colour it takes.
    """
    drawn = draw_svg(timeline)
    if not drawn:
        drawn = '<svg viewBox="0 0 300 30"><text x="8" y="20">(nothing was recorded)</text></svg>'
    found = states_in(timeline)
    light = "".join(f"--lane-{state}:{COLOURS[state][0]};" for state in found)
    dark = "".join(f"--lane-{state}:{COLOURS[state][1]};" for state in found)
    fills = "".join(f".lanes .s-{state}{{fill:var(--lane-{state})}}" for state in found)
    ink = "#1f2328" if own_page else "currentColor"
    paper = ".lanes{background:var(--paper)}" if own_page else ""
    style = (
        f".lanes{{{light}--ink:{ink};--paper:#ffffff;--rule:#dfe4ea;"
        "font:12px system-ui,sans-serif;fill:var(--ink)}"
        f"{paper}.lanes .rule{{stroke:var(--rule)}}.lanes .kind,.lanes .axis{{opacity:.65}}"
        f".lanes .name{{font-size:11px;fill:#fff}}.lanes .on-idle{{fill:#1f2328}}{fills}"
    )
    if own_page:
        style += (
            f"@media (prefers-color-scheme:dark){{.lanes{{{dark}--ink:#e6e9ee;--paper:#15181d;"
            "--rule:#3a414b}.lanes .name{fill:#101318}.lanes .on-idle{fill:#e6e9ee}}"
        )
    end = drawn.index(">")
    opening = drawn[:end].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{opening}><style>{style}</style>{drawn[end + 1 :]}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 1 else f"{seconds:.3g} s"


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def _bar(span: Span, top: int, scale: float) -> str:
    x, width = _LEFT + span.start_s * scale, max((span.end_s - span.start_s) * scale, 0.6)
    waits = f", for {span.holder}" if span.holder else ""
    tip = (
        f"{span.name}: {STATES[span.state]}{waits}, {span.start_s * 1000:.1f} to "
        f"{span.end_s * 1000:.1f} ms"
    )
    # About 7 units a letter: a name that does not fit is left to the tool-tip.
    fits = width > 7 * len(span.name) + 6
    name = (
        f'<text x="{x + width / 2:.1f}" y="{top + 13}" text-anchor="middle" '
        f'class="name on-{span.state}">{html.escape(span.name)}</text>'
        if fits
        else ""
    )
    return (
        f'<g><title>{html.escape(tip)}</title><rect x="{x:.1f}" y="{top}" width="{width:.1f}" '
        f'height="{_BAR}" rx="2" class="s-{span.state}"/>{name}</g>'
    )


def draw_png(
    path: str | os.PathLike[str] | IO[bytes], timelines: Mapping[str, Timeline], *, title: str = ""
) -> None:
    """Draw several timelines below each other on one time axis, as a picture.

    Args:
        path: the file to write; its ending picks the format (.png, .svg, .pdf).
        timelines: what to draw, by heading.
        title: a line above it all.

    Raises:
        ModuleNotFoundError: matplotlib is missing (``pip install 'plait[lab]'``).
        ValueError: there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    seconds = max((t.seconds for t in timelines.values()), default=0.0)
    if seconds <= 0:
        raise ValueError("no timeline with a span in it: nothing to draw")
    rows = [max(len(timeline.lanes), 1) for timeline in timelines.values()]
    figure = Figure(figsize=(10, 1.0 + 0.3 * sum(rows) + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    for axis, (heading, timeline) in zip(axes, timelines.items(), strict=True):
        axis.set_title(
            f"{heading} ({timeline.seconds:.2f} s)", loc="left", fontsize=10, weight="bold"
        )
        for row, lane in enumerate(timeline.lanes):
            for span in timeline.of(lane):
                axis.broken_barh(
                    [(span.start_s, span.end_s - span.start_s)],
                    (row - 0.38, 0.76),
                    color=COLOURS[span.state][0],
                    linewidth=0,
                )
        labels = [_label(lane) for lane in timeline.lanes]
        axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
        axis.set_ylim(len(labels) - 0.45, -0.55)
        axis.set_xlim(0, seconds * 1.005)
        axis.grid(axis="x", color="#e3e7ec", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[-1].set_xlabel("seconds", fontsize=9)
    found = {state for timeline in timelines.values() for state in states_in(timeline)}
    handles = [Patch(color=COLOURS[s][0], label=STATES[s]) for s in STATES if s in found]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )
    if title:
        figure.suptitle(title, fontsize=12, weight="bold")
    figure.savefig(path, dpi=150)
