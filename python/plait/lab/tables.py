"""A report as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .shares import SHARES
from .verdict import seconds, times

if TYPE_CHECKING:
    from .report import Cell, Report, Row

__all__ = ["report_table"]


def report_table(report: Report) -> RenderableType:
    """The rows that ran, those that did not with the reason, the four cells, the verdict."""
    head = Text.assemble((report.what, "bold"), f": {report.description}")
    ran = [row for row in report.rows if row.ok]
    parts: list[RenderableType] = [head]
    if ran:
        parts += [_rows_table(report, ran), _shares_table(ran), _cells_table(report.cells)]
    not_run = [row for row in report.rows if not row.ok]
    if not_run:
        parts.append(_reasons_table(not_run))
    parts.append(Padding(Text(report.verdict), (1, 0, 0, 0)))
    return Group(*parts)


def _rows_table(report: Report, rows: list[Row]) -> Table:
    runs = "1 run" if report.repeats == 1 else f"{report.repeats} runs"
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"{report.workers} workers, median of {runs}",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("model", no_wrap=True)
    for name in ("time", "spread", "CPU", "start-up", "speed-up"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    fastest = max(row.speedup or 0 for row in rows)
    for row in rows:
        speedup = row.speedup or 0
        table.add_row(
            Text(row.model, style="bold green" if row.model == report.best else ""),
            seconds(row.wall_s or 0),
            seconds(row.spread_s or 0) if report.repeats > 1 else "-",
            seconds(row.cpu_s or 0),
            seconds(row.startup_s or 0),
            times(speedup),
            _bar(speedup / fastest),
        )
    return table


def _shares_table(rows: list[Row]) -> Table:
    """Only the shares that somebody has; those that are inferred are marked."""
    shown = [
        name for name in SHARES if any((row.shares or {}).get(name, 0) >= 0.005 for row in rows)
    ]
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="of the workers' time; ~: inferred",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("where it went", no_wrap=True)
    for name in shown:
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for row in rows:
        shares = row.shares or {}
        table.add_row(row.model, *(_share(shares.get(n, 0), n in row.inferred) for n in shown))
    return table


def _share(value: float, inferred: bool) -> str:
    if value < 0.005:
        return "·"
    return f"{'~' if inferred else ''}{value:.0%}"


def _bar(share: float, width: int = 6) -> str:
    full, eighths = divmod(max(1, round(share * width * 8)), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[eighths].rstrip()


def _cells_table(cells: list[Cell]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("four cells", no_wrap=True)
    table.add_column("serial")
    table.add_column("parallel")
    for language, pair in (("Python", cells[:2]), ("Rust", cells[2:])):
        table.add_row(language, *map(_cell_text, pair))
    return table


def _cell_text(cell: Cell) -> str:
    if cell.wall_s is None or cell.speedup is None:
        return "not measured"
    return f"{seconds(cell.wall_s)}  {times(cell.speedup)}  {cell.model}"


def _reasons_table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("not measured", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        refused = (row.reason or "").startswith("refused")
        table.add_row(row.model, Text(row.reason or "", style="bold red" if refused else ""))
    return table
