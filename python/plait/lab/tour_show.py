"""The tour in a terminal: its sections printed with rich."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from .lanes import draw_rich

if TYPE_CHECKING:
    from .report import Report
    from .tour import Section, TourResult, VersionResult

__all__ = ["progress", "show_comparison", "show_section", "show_summary"]

_SIDE_BY_SIDE = 110  # columns from which two codes fit beside each other
_THEME = "ansi_dark"  # the terminal's own colours, readable on light and on dark


@contextlib.contextmanager
def progress(console: Console, what: str) -> Iterator[None]:
    """Show that ``what`` is running, where the console is a terminal."""
    with console.status(f"running {what} …"):
        yield


def show_section(console: Console, section: Section) -> None:
    """Print one section: its text, the code, and each version's output, time and chart."""
    console.print()
    console.print(Rule(f"[bold]{section.title}", align="left"))
    console.print(Padding(section.text, (1, 2)), highlight=False)
    console.print(Panel(_code(section.shared), title="what all versions use", title_align="left"))
    panels: list[RenderableType] = [
        Panel(Group(*_version(version)), title=f"[bold]{version.name}", title_align="left")
        for version in section.versions
    ]
    if console.width >= _SIDE_BY_SIDE:
        grid = Table.grid(expand=True)
        for _ in range(2):
            grid.add_column(ratio=1)
        grid.add_row(*panels[:2])
        console.print(grid)
        panels = panels[2:]
    for panel in panels:
        console.print(panel)
    width = max(min(console.width - 36, 72), 20)
    for version in section.versions:
        if version.timeline.spans:
            console.print(Text(f"{version.name}: {version.seconds or 0:.3f} s", style="bold"))
            console.print(draw_rich(version.timeline, width, section.seconds))


def _code(source: str) -> Syntax:
    return Syntax(source, "python", theme=_THEME, background_color="default", word_wrap=True)


def _version(version: VersionResult) -> list[RenderableType]:
    parts: list[RenderableType] = [_code(version.code), Rule(style="dim")]
    if version.output:
        parts.append(Text(version.output.rstrip()))
    if version.reason is not None:
        parts.append(Text(version.reason, style="yellow"))
    if version.seconds is not None:
        parts.append(Text(f"{version.seconds:.3f} s", style="bold green"))
    return parts


def show_comparison(console: Console, report: Report) -> None:
    """Print the report of `plait.lab.compare` that ends the tour."""
    console.print()
    console.print(Rule("[bold]All models on the same work", align="left"))
    console.print(report)


def show_summary(console: Console, result: TourResult) -> None:
    """Print the times of all sections in one table."""
    table = Table(title=f"The tour took {result.seconds:.1f} s", title_justify="left")
    table.add_column("section")
    names = list(dict.fromkeys(v.name for s in result.sections for v in s.versions))
    for name in names:
        table.add_column(name, justify="right")
    for section in result.sections:
        times = {version.name: version for version in section.versions}
        table.add_row(section.title, *(_time(times.get(name)) for name in names))
    console.print()
    console.print(Columns([table]))


def _time(version: VersionResult | None) -> str:
    if version is None:
        return ""
    return version.reason or f"{version.seconds or 0:.3f} s"
