"""What `plait lesson` does: list the tutorial's sections, and hand out the program of one."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from plait import lessons
from plait.lessons.frame import read

from .tour import find_section

__all__ = ["copied", "listed"]


def listed(console: Console) -> list[dict[str, str]]:
    """Print the lessons, and give them as dicts of `name`, `title` and `about`."""
    rows = []
    table = Table(title="plait lesson NAME", title_justify="left")
    for column in ("name", "section", "what it is about"):
        table.add_column(column)
    for name, title in lessons.SECTIONS.items():
        about = read(name).text.partition(". ")[0].rstrip(".") + "."
        rows.append({"name": name, "title": title, "about": about})
        table.add_row(name, title, about)
    console.print(table)
    return rows


def copied(name: str, target: Path) -> dict[str, str]:
    """Write a lesson's program to a file of the learner's own, which runs as it is.

    Raises:
        ValueError: there is no such lesson, or the file is there already.
        OSError: it cannot be written.
    """
    name = find_section(name)
    source = Path(lessons.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source)
    except FileExistsError:
        raise ValueError(f"{target} is there already; choose another name") from None
    return {"name": name, "file": str(target)}
