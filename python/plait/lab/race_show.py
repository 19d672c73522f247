"""What `race` found, to look at: columns of text, a page fragment that steps, a cycle of waits."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plait.errors import DeadlockError

    from .race_engine import Operation
    from .race_explore import Finding
    from .race_points import Points

__all__ = ["columns", "cycle_svg", "cycle_text", "html", "label", "names_of", "table"]

_WIDTH = 110

# Gives locks and their kin their names.
Names = Callable[[Any], str]


def is_shown(step: Operation, points: Points) -> bool:
    """Whether a step is about what threads share."""
    return step.site is None or step.site in points.shared


def words(step: Operation, names: Names) -> str:
    """What a step does, with the values; a lock by its name in the state, where it has one."""
    if step.site is None:
        text, thing = step.text, step.thing
        if thing is not None and (name := names(thing)) != f"a {thing.kind}":
            text = text.replace(thing.kind, name, 1)
        return ", ".join([text, *step.values])
    return ", ".join(step.values) or step.text


def table(steps: Sequence[Operation], count: int, names: Names, width: int = _WIDTH) -> str:
    """Columns, one a thread; one row a step: the line of the program, and what it did."""
    each = max(24, (width - 4) // max(count, 1) - 2)
    heads = [f"thread {index + 1}" for index in range(count)]
    lines = ["  #  " + "  ".join(head.ljust(each) for head in heads)]
    lines.append("---  " + "  ".join("-" * each for _ in heads))
    last: tuple[int, str, int] | None = None
    for number, step in enumerate(steps, 1):
        place = (step.thread, step.file, step.line)
        cell = [] if place == last else textwrap.wrap(f"{step.line}: {step.source}", each)[:2]
        last = place
        cell += textwrap.wrap(
            words(step, names), each, initial_indent="   ", subsequent_indent="   "
        )
        for row, text in enumerate(cell):
            cells = [""] * count
            cells[step.thread] = text
            mark = f"{number:3}" if row == 0 else "   "
            lines.append(f"{mark}  " + "  ".join(one.ljust(each) for one in cells))
    return "\n".join(line.rstrip() for line in lines)


def columns(finding: Finding, count: int, points: Points) -> str:
    """A finding as columns, and how it ended."""
    steps = [step for step in finding.steps if is_shown(step, points)]
    names = names_of(finding.state)
    text = table(steps, count, names)
    if finding.kind == "deadlock":
        for index, thing, owners, place in finding.players:
            held = " and ".join(f"thread {owner + 1}" for owner in owners)
            text += f"\nthread {index + 1} waits for {names(thing)}"
            text += f", held by {held}" if held else ""
            text += f" ({place})"
    return text


def names_of(state: Any) -> Names:
    """Gives locks and their kin the names that the state has for them."""
    found: dict[int, str] = {}

    def walk(one: Any, name: str, depth: int) -> None:
        if hasattr(type(one), "_is_stand_in"):
            found.setdefault(id(one), name)
            return
        items: Any = ()
        if isinstance(one, dict):
            items = [(f"{name}[{key!r}]", value) for key, value in one.items()]
        elif isinstance(one, (list, tuple)):
            items = [(f"{name}[{index}]", value) for index, value in enumerate(one)]
        elif isinstance(getattr(one, "__dict__", None), dict):
            items = [(f"{name}.{key}", value) for key, value in vars(one).items()]
        if depth:
            for path, value in items:
                walk(value, path, depth - 1)

    walk(state, "state", 3)
    return lambda thing: found.get(id(thing), f"a {thing.kind}" if thing is not None else "?")


# Thrice, since JupyterLab has rules of its own for tables in a cell's output.
_STYLE = """
.plait-race table{border-collapse:collapse;font:13px ui-monospace,monospace}
.P th,.P td{text-align:left;padding:2px 10px;border:0;
border-left:1px solid #8884;vertical-align:top;background:none}
.P tr{background:none}.plait-race .v{opacity:.75}.plait-race tr.off{opacity:.15}
.P tr.now{background:#f5b94144}.plait-race button{margin:4px 4px 4px 0}
""".replace(".P", ".plait-race" * 3)

# Shows the steps up to the one that the buttons are at; without scripts, all of them.
_SCRIPT = """
(function(me){var root=me.parentNode,rows=root.querySelectorAll('tr.s'),at=rows.length;
function show(){rows.forEach(function(r,i){r.classList.toggle('off',i>=at);
r.classList.toggle('now',i==at-1)})}
root.querySelectorAll('button').forEach(function(b){b.hidden=false;b.onclick=function(){
at=Math.max(0,Math.min(rows.length,b.value=='0'?0:at+Number(b.value)));show()}})
})(document.currentScript)
"""


def steps_html(
    steps: Sequence[Operation], count: int, names: Names, with_buttons: bool = True
) -> str:
    """The steps as a table with buttons that go through it."""
    head = "".join(f"<th>thread {index + 1}</th>" for index in range(count))
    rows = []
    for number, step in enumerate(steps, 1):
        said = escape(words(step, names))
        text = f"{step.line}: {escape(step.source)}<br><span class='v'>{said}</span>"
        cells = "".join(
            f"<td>{text if index == step.thread else ''}</td>" for index in range(count)
        )
        rows.append(f"<tr class='s'><td>{number}</td>{cells}</tr>")
    buttons = "".join(
        f"<button hidden value='{value}'>{label}</button>"
        for value, label in (("0", "from the start"), ("-1", "back"), ("1", "forward"))
    )
    script = f"<script>{_SCRIPT}</script>" if with_buttons else ""
    return (
        f"<div class='plait-race'><style>{_STYLE}</style>{buttons if with_buttons else ''}"
        f"<table><tr><th>#</th>{head}</tr>{''.join(rows)}</table>{script}</div>"
    )


def html(verdict: str, finding: Finding | None, count: int, points: Points) -> str:
    """A report for a notebook's cell."""
    text = f"<p>{escape(verdict)}</p>"
    if finding is None:
        return text
    names = names_of(finding.state)
    text += steps_html([step for step in finding.steps if is_shown(step, points)], count, names)
    if finding.kind == "deadlock":
        waits = {index: (names(thing), owners) for index, thing, owners, _ in finding.players}
        edges = [
            (f"thread {index + 1}", name, f"thread {owner + 1}")
            for index, (name, owners) in waits.items()
            for owner in owners
        ]
        text += _ring_svg(edges)
    return text


# ---- the cycle of a DeadlockError ---------------------------------------------------------------


Labels = Mapping[int, str]


def _edges(error: DeadlockError, names: Labels) -> list[tuple[str, str, str]]:
    """Who waits, for what, and whom that needs."""
    parties = error.cycle
    following = [*parties[1:], *parties[:1]]
    return [
        (one.name, label(one.waits_for, names), other.name)
        for one, other in zip(parties, following, strict=True)
    ]


def label(thing: Any, names: Labels) -> str:
    """A lock or its kin in words."""
    if isinstance(thing, str) or thing is None:
        return thing or "its turn"
    return names.get(id(thing)) or f"{type(thing).__name__} at {id(thing):#x}"


def cycle_text(error: DeadlockError, names: Labels) -> str:
    """A deadlock's cycle as text: who waits for what, held by whom, and where."""
    lines = []
    for party, (name, thing, other) in zip(error.cycle, _edges(error, names), strict=True):
        lines.append(f"{name} --waits for {thing}, held by--> {other}")
        if party.stack:
            where = party.stack[-1]
            lines.append(f"    {where.filename}:{where.lineno}: {where.line}")
    return "\n".join(lines)


def cycle_svg(error: DeadlockError, names: Labels) -> str:
    """A deadlock's cycle as a picture: a ring of who waits, arrows to who has what is waited for.

    It can be read on white and on black.
    """
    return _ring_svg(_edges(error, names))


# To be read on white and on black: JupyterLab shows an SVG as an image, which knows no theme.
_LABEL = "#d9534f"


def _ring_svg(edges: Sequence[tuple[str, str, str]]) -> str:
    names = list(dict.fromkeys(name for one, _, other in edges for name in (one, other)))
    radius = 90 + 14 * len(names)
    width, height = 2 * radius + 300, 2 * radius + 60
    spots = {}
    for index, name in enumerate(names):
        angle = 2 * math.pi * index / max(len(names), 1) - math.pi / 2
        spots[name] = (
            width / 2 + radius * math.cos(angle),
            height / 2 + radius * math.sin(angle) * 0.9,
        )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" role="img" font-family="sans-serif" font-size="13" fill="currentColor">',
        "<title>Who waits for whom</title>",
        '<defs><marker id="plait-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#c0392b"/></marker></defs>',
    ]
    for one, thing, other in edges:
        (x1, y1), (x2, y2) = spots[one], spots[other]
        if one == other:
            parts.append(
                f'<path d="M{x1 + 20:.0f} {y1:.0f}c60 -60 60 60 4 12" fill="none" '
                'stroke="#c0392b" stroke-width="2" marker-end="url(#plait-tip)"/>'
            )
            parts.append(
                f'<text x="{x1 + 75:.0f}" y="{y1 + 4:.0f}" fill="{_LABEL}">{escape(thing)}</text>'
            )
            continue
        length = math.hypot(x2 - x1, y2 - y1) or 1
        cut_x, cut_y = 45 * (x2 - x1) / length, 22 * (y2 - y1) / length
        # Bent away from the middle, where there is no room for all that is waited for; of two
        # arrows between the same two, each to its own side.
        away = (x1 + x2 - width) * (y2 - y1) - (y1 + y2 - height) * (x2 - x1)
        bend = math.copysign(45, away if abs(away) > 1 else -1) / length
        mid_x = (x1 + x2) / 2 + (y2 - y1) * bend
        mid_y = (y1 + y2) / 2 - (x2 - x1) * bend
        parts.append(
            f'<path d="M{x1 + cut_x:.0f} {y1 + cut_y:.0f}Q{mid_x:.0f} {mid_y:.0f} '
            f'{x2 - cut_x:.0f} {y2 - cut_y:.0f}" fill="none" stroke="#c0392b" '
            'stroke-width="2" marker-end="url(#plait-tip)"/>'
        )
        # Beside the bend's outside, where the arrow back doesn't come by.
        side_x, side_y = mid_x - (x1 + x2) / 2, mid_y - (y1 + y2) / 2
        at_x, at_y = (x1 + x2) / 2 + side_x * 0.72, (y1 + y2) / 2 + side_y * 0.8 + 4
        anchor = "middle" if abs(side_x) < 20 else "start" if side_x > 0 else "end"
        parts.append(
            f'<text x="{at_x:.0f}" y="{at_y:.0f}" text-anchor="{anchor}" fill="{_LABEL}">'
            f"{escape(thing)}</text>"
        )
    for name, (x, y) in spots.items():
        half = 14 + 4 * len(name)
        parts.append(
            f'<rect x="{x - half:.0f}" y="{y - 15:.0f}" width="{2 * half}" height="30" rx="15" '
            'fill="#f5b941" stroke="#8a6516"/>'
            f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle" fill="#222">'
            f"{escape(name)}</text>"
        )
    return "".join([*parts, "</svg>"])
