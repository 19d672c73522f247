"""What a comparison found: rows, the four cells, what bound the work, and a verdict."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

__all__ = ["Bound", "Cell", "Report", "Row"]

FIGURES = ("wall_s", "spread_s", "cpu_s", "startup_s", "speedup")


@dataclass(frozen=True)
class Row:
    """One model's part of a report; every figure is None where ``ok`` is false.

    Attributes:
        model: its name.
        ok: whether it ran, and gave what serial gave.
        reason: why not; None if it did.
        wall_s: median seconds of a run on started workers.
        spread_s: the slowest run minus the fastest, in seconds.
        cpu_s: median CPU seconds of a run, worker processes and the parent included.
        startup_s: median seconds until all workers were ready.
        speedup: serial's ``wall_s`` over its own.
        shares: fractions of the workers' time. This version measures two, ``compute`` (on the
            CPU) and ``startup``; what is missing to 1 was spent off the CPU, and why isn't
            told apart yet.
    """

    model: str
    ok: bool
    reason: str | None = None
    wall_s: float | None = None
    spread_s: float | None = None
    cpu_s: float | None = None
    startup_s: float | None = None
    speedup: float | None = None
    shares: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Cell:
    """One of the four: a language, serial or parallel.

    Attributes:
        language: ``"python"`` or ``"rust"``.
        mode: ``"serial"`` or ``"parallel"``.
        model: which model was measured; None if none was.
        wall_s: its median, in seconds.
        speedup: Python serial's ``wall_s`` over its own.
    """

    language: str
    mode: str
    model: str | None = None
    wall_s: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class Bound:
    """What the serial run was bound by, and the measurements that say so."""

    kind: str
    why: str


@dataclass(frozen=True)
class Report:
    """The outcome of `compare`; shows itself as a table in a terminal and in Jupyter.

    Attributes:
        what: the workload's name, or the callable's.
        description: what was done, in one sentence.
        items: the number of tasks.
        workers: how many workers, or items in flight, each parallel model had.
        repeats: timed runs of each model, after one to warm up.
        rows: one a model, in the models' order.
        best: the model with the least ``startup_s + wall_s``; None if no row is ok.
        bound: ``"cpu"``, ``"cpu-nogil"``, ``"io"``, ``"overhead"`` or ``"mixed"``, from the
            serial run; None if that failed.
        bound_why: the measurements behind it.
        cells: Python and Rust, each serial and parallel.
        verdict: a paragraph that cites the figures.
        environment: the interpreter and the machine.
    """

    what: str
    description: str
    items: int
    workers: int
    repeats: int
    rows: list[Row]
    best: str | None
    bound: str | None
    bound_why: str
    cells: list[Cell]
    verdict: str
    environment: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, model: str) -> Row:
        """The row of a model, by its name."""
        for row in self.rows:
            if row.model == model:
                return row
        raise KeyError(model)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, strings and numbers, ready for JSON."""
        return {**asdict(self), "shares_measured": ["compute", "startup"]}

    def to_json(self, indent: int | None = 2) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_csv(self) -> str:
        """The rows as CSV, with a header; shares have columns of their own."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._flat(self.rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._flat(row) for row in self.rows)
        return text.getvalue()

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_pandas() needs pandas: pip install pandas", name=error.name
            ) from None
        return pandas.DataFrame([self._flat(row) for row in self.rows])

    @staticmethod
    def _flat(row: Row) -> dict[str, Any]:
        values = asdict(row)
        shares = values.pop("shares") or {}
        return {**values, **{f"{name}_share": shares.get(name) for name in ("compute", "startup")}}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report, in the form that the path's ending names.

        Args:
            path: ends in .html (a page of its own, nothing loaded from elsewhere), .svg or .png
                (a bar chart), .json or .csv.

        Raises:
            ValueError: another ending.
            ModuleNotFoundError: a picture or page needs ``pip install 'plait[lab]'``.
        """
        path = Path(path)
        ending = check_ending(path)
        if ending == ".json":
            path.write_text(self.to_json() + "\n", encoding="utf-8")
        elif ending == ".csv":
            path.write_text(self.to_csv(), encoding="utf-8")
        else:
            from .pictures import SAVERS

            path.write_bytes(SAVERS[ending](self))

    def __rich__(self) -> RenderableType:
        from .tables import report_table

        return report_table(self)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()

    def _repr_html_(self) -> str:
        from .pictures import html_fragment

        return html_fragment(self)


ENDINGS = (".html", ".svg", ".png", ".json", ".csv")


def check_ending(path: Path) -> str:
    """The path's ending, if `Report.save` knows it; checked before a long run, too."""
    ending: str = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"cannot save as {path.name!r}: the ending must be one of {', '.join(ENDINGS)}"
        )
    return ending
