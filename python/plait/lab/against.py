"""Two reports of the same work: what became faster, what slower, what cannot be told."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .report import Report, Row
from .verdict import seconds, times

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Change", "Comparison"]


@dataclass(frozen=True)
class Change:
    """One model in both reports.

    Attributes:
        model: its name.
        old_s: the older report's ``wall_s``; None if it wasn't ok there.
        new_s: the newer one's.
        ratio: how many times faster the newer one is; None unless both are known.
        means: ``"faster"``, ``"slower"``, ``"same"`` (within the runs' spread), ``"new"`` or
            ``"gone"`` (ok in one of them only), ``"neither"``.
    """

    model: str
    old_s: float | None
    new_s: float | None
    ratio: float | None
    means: str

    @classmethod
    def between(cls, model: str, old: Row | None, new: Row | None) -> Change:
        """From the two rows."""
        before = old.wall_s if old is not None and old.ok else None
        after = new.wall_s if new is not None and new.ok else None
        if old is None or new is None or before is None or after is None:
            means = "new" if after is not None else "gone" if before is not None else "neither"
            return cls(model, before, after, None, means)
        noise = max((old.spread_s or 0) + (new.spread_s or 0), 0.05 * (before + after)) / 2
        means = "faster" if after < before else "slower"
        if abs(before - after) <= noise:
            means = "same"
        return cls(model, before, after, before / after, means)


@dataclass(frozen=True)
class Comparison:
    """An older and a newer report; shows itself as a table.

    Attributes:
        old: the one.
        new: the other.
    """

    old: Report
    new: Report

    @property
    def changes(self) -> list[Change]:
        """One a model that is in either, in the newer report's order."""
        old = {row.model: row for row in self.old.rows}
        new = {row.model: row for row in self.new.rows}
        names = dict.fromkeys([*new, *old])
        return [Change.between(name, old.get(name), new.get(name)) for name in names]

    @property
    def caveats(self) -> list[str]:
        """What makes the two hard to compare."""
        found = []
        for name in ("what", "items", "workers"):
            before, after = getattr(self.old, name), getattr(self.new, name)
            if before != after:
                found.append(f"{name} was {before!r}, and is {after!r}")
        for name in sorted({*self.old.environment, *self.new.environment}):
            before, after = self.old.environment.get(name), self.new.environment.get(name)
            if before != after:
                found.append(f"{name} was {before}, and is {after}")
        return found

    @property
    def verdict(self) -> str:
        """What changed, in words."""
        changes = self.changes
        parts = []
        for means in ("faster", "slower"):
            named = [
                f"{each.model} {times(each.ratio or 0)}" for each in changes if each.means == means
            ]
            if named:
                parts.append(f"{means.capitalize()}: {', '.join(named)}.")
        if not parts:
            parts.append("No model's time changed by more than its runs differ.")
        if self.old.best != self.new.best:
            parts.append(f"Best was {self.old.best}, and is {self.new.best}.")
        if self.old.bound != self.new.bound:
            parts.append(f"Bound was {self.old.bound}, and is {self.new.bound}.")
        if caveats := self.caveats:
            parts.append(f"Hard to compare: {'; '.join(caveats)}.")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The changes, caveats and verdict, ready for JSON."""
        return {
            "changes": [vars(change) for change in self.changes],
            "caveats": self.caveats,
            "verdict": self.verdict,
        }

    def __rich__(self) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table("model", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("before", "now", "ratio"):
            table.add_column(name, justify="right")
        table.add_column("")
        styles = {"faster": "green", "slower": "red"}
        for each in self.changes:
            if each.means != "neither":
                table.add_row(
                    each.model,
                    "-" if each.old_s is None else seconds(each.old_s),
                    "-" if each.new_s is None else seconds(each.new_s),
                    "-" if each.ratio is None else times(each.ratio),
                    Text(each.means, style=styles.get(each.means, "")),
                )
        return Group(table, Padding(Text(self.verdict), (1, 0, 0, 0)))

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()
