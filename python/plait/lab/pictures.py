"""A report as a bar chart and as a page of its own."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shares import SHARES
from .verdict import seconds, times

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Report, Row

__all__ = ["SAVERS", "html_fragment", "html_page"]

# A colour says what runs the tasks. Readable on light and dark, and told apart by the colour
# blind (after Okabe and Ito).
_FAMILIES = {
    "one thread": ("#8a8f98", ("serial",)),
    "threads": ("#2f8fd0", ("threading", "futures.thread", "plait.thread")),
    "processes": (
        "#e08a1e",
        ("multiprocessing", "futures.process", "plait.process", "interpreters", "joblib", "dask"),
    ),
    "coroutines": ("#b678d0", ("asyncio", "uvloop", "gevent")),
    "Rust": ("#14a37f", ("plait.rayon", "plait.tokio")),
}
_INK, _PAPER = "#1f2328", "#ffffff"


def _family(model: str) -> tuple[str, str]:
    for family, (colour, names) in _FAMILIES.items():
        if model in names:
            return family, colour
    return "other", _INK


def _chart(report: Report) -> Figure:
    """Seconds a model, start-up apart, each labelled with its time and speed-up."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = [row for row in report.rows if row.ok]
    figure = Figure(figsize=(9, 1.7 + 0.42 * max(1, len(rows))), layout="constrained")
    axes = figure.add_subplot()
    scale, unit = _unit(max((_total(row) for row in rows), default=1.0))
    for place, row in enumerate(rows):
        wall, startup = row.wall_s or 0, row.startup_s or 0
        colour = _family(row.model)[1]
        axes.barh(place, startup / scale, height=0.62, color=colour, alpha=0.35)
        axes.barh(place, wall / scale, left=startup / scale, height=0.62, color=colour)
        axes.annotate(
            f"{seconds(wall)}   {times(row.speedup or 0)}"
            + ("   best" if row.model == report.best else ""),
            ((wall + startup) / scale, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=10,
            fontweight="bold" if row.model == report.best else "normal",
        )
    axes.set_yticks(range(len(rows)), [row.model for row in rows], fontsize=10, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max((_total(row) for row in rows), default=1.0) / scale * 1.22)
    axes.set_xlabel(f"{unit} (median of {report.repeats}, shorter is better)", color=_INK)
    axes.set_title(
        f"{report.what}: {report.items:,} tasks, {report.workers} workers",
        loc="left",
        color=_INK,
        fontsize=12,
        fontweight="bold",
    )
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="x", color=_INK, alpha=0.12)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    families = dict(_family(row.model) for row in rows)
    handles = [Patch(color=colour, label=family) for family, colour in families.items()]
    handles.append(Patch(color=_FAMILIES["one thread"][0], alpha=0.35, label="fainter: start-up"))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handlelength=1,
        columnspacing=1.4,
    )
    return figure


def _total(row: Row) -> float:
    return (row.wall_s or 0) + (row.startup_s or 0)


def _unit(largest: float) -> tuple[float, str]:
    """The unit of the time axis."""
    if largest >= 1:
        return 1.0, "seconds"
    return (1e-3, "milliseconds") if largest >= 1e-3 else (1e-6, "microseconds")


def _draw(report: Report, form: str, **options: Any) -> bytes:
    image = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {}  # the same report, the same file
    _chart(report).savefig(image, format=form, metadata=metadata, **options)
    return image.getvalue()


def png(report: Report) -> bytes:
    """The bar chart as a PNG, on white."""
    return _draw(report, "png", dpi=150, facecolor=_PAPER)


def svg(report: Report) -> bytes:
    """The bar chart as an SVG, on white."""
    return _draw(report, "svg", facecolor=_PAPER)


def _inline_svg(report: Report) -> str:
    """The chart for a page: on the page's own paper, in the colour of its text."""
    text = _draw(report, "svg", transparent=True).decode()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


@cache
def _template() -> Any:
    import jinja2

    text = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(seconds=seconds, times=times)
    environment.filters["shares_words"] = _shares_words
    environment.globals["shares"] = SHARES
    environment.globals["colour_of"] = lambda model: _family(model)[1]
    return environment.from_string(text)


def _shares_words(row: Row) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {'~' if name in row.inferred else ''}{value:.0%}"
        for name, value in (row.shares or {}).items()
        if value >= 0.005
    )


def _render(report: Report, whole: bool) -> str:
    text: str = _template().render(
        report=report,
        whole=whole,
        chart=_inline_svg(report) if any(row.ok for row in report.rows) else "",
        ran=[row for row in report.rows if row.ok],
        not_run=[row for row in report.rows if not row.ok],
    )
    return text


def html_page(report: Report) -> str:
    """A whole page, with everything that it shows inside."""
    return _render(report, whole=True)


def html_fragment(report: Report) -> str:
    """For a notebook's cell; without the lab's libraries, the verdict alone."""
    try:
        return _render(report, whole=False)
    except ModuleNotFoundError as error:
        note = f"({error.name} is missing: pip install 'plait[lab]')"
        return f"<p>{escape(report.verdict)}</p><p><small>{escape(note)}</small></p>"


SAVERS: dict[str, Callable[[Report], bytes]] = {
    ".png": png,
    ".svg": svg,
    ".html": lambda report: html_page(report).encode(),
}
