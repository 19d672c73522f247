"""A trace as a file, as text and in colours for the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lanes import draw_png, draw_rich, draw_text, standalone_svg
from .timeline import STATES, Span, Timeline

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from .trace import Trace

__all__ = ["SAVERS", "as_rich", "as_text", "events", "save", "thinned"]

_MOST = 4000  # spans in a static picture
_COLUMNS = 1200


def thinned(timeline: Timeline) -> Timeline:
    """With no more spans than a picture can show: what is shorter than a column of it gives way
    to the state that fills most of the column."""
    if len(timeline.spans) <= _MOST or not timeline.seconds:
        return timeline
    step = timeline.seconds / _COLUMNS
    kept: list[Span] = []
    for lane in timeline.lanes:
        columns: list[dict[Any, float]] = [{} for _ in range(_COLUMNS)]
        for span in timeline.of(lane):
            if span.end_s - span.start_s >= 2 * step:
                kept.append(span)
                continue
            for column in range(int(span.start_s / step), int(span.end_s / step) + 1):
                if column < _COLUMNS:
                    low, high = max(span.start_s, column * step), (column + 1) * step
                    share = columns[column]
                    share[span.state] = share.get(span.state, 0) + min(span.end_s, high) - low
        for column, share in enumerate(columns):
            if share:
                state = max(share, key=lambda one: share[one])
                low = column * step
                name = "several"
                if kept and kept[-1].lane == lane.id and kept[-1].name == name:
                    before = kept[-1]
                    if before.state == state and low - before.end_s < step / 2:
                        kept[-1] = Span(name, lane.id, before.start_s, low + step, state)
                        continue
                kept.append(Span(name, lane.id, low, low + step, state))
    kept.sort(key=lambda span: (span.start_s, span.end_s))
    return Timeline(timeline.lanes, tuple(kept), timeline.arrows)


def _html(trace: Trace) -> bytes:
    from .trace_page import page

    return page(trace).encode()


def _svg(trace: Trace) -> bytes:
    return standalone_svg(thinned(trace.timeline)).encode()


def _png(trace: Trace) -> bytes:
    import io

    stream: Any = io.BytesIO()
    draw_png(stream, {_title(trace): thinned(trace.timeline)})
    return bytes(stream.getvalue())


def _json(trace: Trace) -> bytes:
    return json.dumps(events(trace), separators=(",", ":")).encode()


SAVERS: dict[str, Callable[[Trace], bytes]] = {
    ".html": _html,
    ".svg": _svg,
    ".png": _png,
    ".json": _json,
}


def check_ending(path: Path) -> None:
    """Raises ValueError if a trace can't be saved as that."""
    if path.suffix.lower() not in SAVERS:
        raise ValueError(f"cannot save a trace as {path.name!r}: end it in {', '.join(SAVERS)}")


def save(trace: Trace, path: Path) -> None:
    """See `Trace.save`; the file appears whole, or not at all."""
    check_ending(path)
    data = SAVERS[path.suffix.lower()](trace)
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _title(trace: Trace) -> str:
    return f"{len(trace.lanes)} lanes"


# Chrome's trace format: complete events ("X"), metadata ("M") and flows ("s" to "f"); times in
# microseconds. Tasks are threads of their process there, with numbers that no thread has.
_TASK = 1 << 24


def events(trace: Trace) -> dict[str, Any]:
    """As Chrome's trace viewer, Perfetto and VizTracer's viewer read it."""
    return {
        "traceEvents": list(_events(trace)),
        "displayTimeUnit": "ms",
        "otherData": {"producer": "plait", "gil": trace.gil, "dropped": trace.dropped},
    }


def _events(trace: Trace) -> Iterator[dict[str, Any]]:
    places: dict[str, tuple[int, int]] = {}
    named: set[int] = set()
    for index, lane in enumerate(trace.lanes):
        tid = _TASK + index if lane.kind in ("coroutine", "greenlet") else lane.tid
        pid, _ = places[lane.id] = lane.pid, tid
        meta = {"ph": "M", "pid": pid, "tid": tid, "ts": 0}
        if pid not in named:
            named.add(pid)
            name = lane.name if lane.kind == "process" else f"process {pid}"
            yield {**meta, "name": "process_name", "args": {"name": name}}
            yield {
                **meta,
                "name": "process_sort_index",
                "args": {"sort_index": len(named)},
            }
        name = lane.name if lane.kind == "process" else f"{lane.kind} {lane.name}"
        yield {**meta, "name": "thread_name", "args": {"name": name}}
        yield {**meta, "name": "thread_sort_index", "args": {"sort_index": index}}
    for span in trace.spans:
        pid, tid = places[span.lane]
        begin = round(span.start_s * 1e6, 3)
        about = {"state": span.state, "means": STATES[span.state]}
        if span.holder is not None:
            about["holder"] = span.holder
        yield {
            "ph": "X",
            "name": span.name,
            "cat": span.state,
            "ts": begin,
            "dur": round(max(span.end_s * 1e6 - begin, 0), 3),
            "pid": pid,
            "tid": tid,
            "args": about,
        }
    for number, arrow in enumerate(trace.arrows, 1):
        flow = {"name": arrow.name, "cat": "start", "id": number}
        for end, lane_id, at in (
            ({"ph": "s"}, arrow.lane, arrow.at_s),
            ({"ph": "f", "bp": "e"}, arrow.to_lane, arrow.to_s),
        ):
            pid, tid = places[lane_id]
            yield {**end, **flow, "ts": round(at * 1e6, 3), "pid": pid, "tid": tid}
        if arrow.end_s is not None:
            # The work itself, in a row of its own: what was seen of the thread cuts across it.
            for phase, at in (("b", arrow.to_s), ("e", arrow.end_s)):
                work = {"ph": phase, "name": arrow.name, "cat": "work", "id": number}
                yield {**work, "ts": round(at * 1e6, 3), "pid": pid, "tid": tid}


def notes(trace: Trace) -> list[str]:
    """What there is to say about how it was measured."""
    summary = trace.summary()
    lines = [
        f"{trace.timeline.seconds:.3f} s, {len(trace.lanes)} lanes, {len(trace.spans)} spans, "
        f"{len(trace.arrows)} starts; {summary['decided']:.1%} decided"
    ]
    if trace.gil == "inferred":
        lines.append("who holds the GIL is inferred from the CPU clocks")
    elif trace.gil == "none":
        lines.append("this interpreter has no GIL")
    if trace.dropped:
        lines.append(f"{trace.dropped} records were dropped, the oldest: raise records=")
    return lines


def as_text(trace: Trace, width: int = 72) -> str:
    """For a terminal without colours."""
    return "\n".join([draw_text(thinned(trace.timeline), width), *notes(trace)])


class _Chart:
    """As wide as the console."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        timeline = thinned(self._trace.timeline)
        margin = max((len(f"{lane.kind} {lane.name}") for lane in timeline.lanes), default=0)
        yield draw_rich(timeline, max(options.max_width - margin - 2, 20))
        from rich.text import Text

        for note in notes(self._trace):
            yield Text(note, style="dim")


def as_rich(trace: Trace) -> RenderableType:
    """For a terminal with colours."""
    return _Chart(trace)
