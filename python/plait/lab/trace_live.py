"""A view of a trace that goes on: an anywidget that is drawn anew while the work runs."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from plait import _tracing

from .trace_files import thinned
from .trace_page import asset, data_of

if TYPE_CHECKING:
    from .trace import Trace, trace

__all__ = ["live_view"]

_SCRIPT = """
export default {
  render({model, el}) {
    const root = document.createElement("div");
    root.className = "plait-trace";
    el.append(root);
    const update = () => draw(root, model.get("data"));
    model.on("change:data", update);
    update();
    return () => model.off("change:data", update);
  }
};
"""


class _Still:
    """What is shown where there is no anywidget: the trace as it is when it is shown."""

    def __init__(self, of: trace) -> None:
        self._trace = of

    def _repr_html_(self) -> str:
        note = "<p><small>(anywidget is missing: pip install 'plait[notebook]')</small></p>"
        return _now(self._trace)._repr_html_() + note

    def __str__(self) -> str:
        return str(_now(self._trace))


def _now(of: trace) -> Trace:
    """What there is so far, few enough spans to be sent again and again."""
    from .trace import Trace

    so_far = Trace(thinned(of.timeline), of.hz)
    so_far.gil = of.gil
    return so_far


def live_view(of: trace, every: float) -> Any:
    """See `trace.live`."""
    if not every >= 0.05:
        raise ValueError(f"every must be at least 0.05 seconds, got {every}")
    try:
        import anywidget
        import traitlets
    except ImportError:
        return _Still(of)

    # Its data are what the page's script draws.
    members = {
        "_esm": asset("trace.js") + _SCRIPT,
        "_css": asset("trace.css"),
        "data": traitlets.Dict().tag(sync=True),
    }
    kind: Any = type("LiveTrace", (anywidget.AnyWidget,), members)
    widget = kind(data=data_of(_now(of)))
    follower = threading.Thread(
        target=_follow, args=(of, weakref.ref(widget), every), name="plait-trace-live", daemon=True
    )
    follower.start()
    return widget


def _follow(of: trace, widget: weakref.ref[Any], every: float) -> None:
    tracing = of.tracing
    if tracing is not None and tracing.pid == os.getpid():
        at = _tracing.now()
        tracing.note(_tracing.OWN, at, at)
    goes_on = True
    while goes_on:
        goes_on = not of.ended.wait(every)
        shown = widget()
        if shown is None:
            return
        shown.data = data_of(_now(of))
        del shown
