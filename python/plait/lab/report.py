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

from .noise import Noise
from .shares import SHARES

if TYPE_CHECKING:
    import pandas
    from rich.console import RenderableType

    from .against import Comparison

__all__ = ["Bound", "BreakEven", "Cell", "Report", "Row", "Scaling", "check_ending", "write_whole"]

FORMAT = "plait.compare/1"

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
        shares: fractions of the workers' time, start-up included, that sum to 1: ``compute``
            (on the CPU in tasks), ``gil_wait``, ``io_wait`` (sleep included), ``lock_wait``,
            ``pickling``, ``queueing`` (for a task or a processor), ``startup``, ``idle``.
        inferred: the names of the shares that are inferred rather than measured.
        runs: how many runs were timed.
        outliers: how many of them took far longer than the others.
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
    inferred: tuple[str, ...] = ()
    runs: int = 0
    outliers: int = 0


@dataclass(frozen=True)
class BreakEven:
    """From which size on processes pay, by what it cost to hand them tasks that do nothing.

    Attributes:
        model: whose processes: the quickest at it.
        dispatch_s: seconds a task that is handed over by itself costs.
        task_s: a single task of this size takes as long there as in the serial loop.
        total_s: so much work in all is needed for starting the workers to pay.
    """

    model: str
    dispatch_s: float
    task_s: float
    total_s: float


@dataclass(frozen=True)
class Scaling:
    """The quickest parallel Python model with fewer workers.

    Attributes:
        model: its name.
        walls: seconds by the number of workers.
        serial_part: the share of the work that stays serial, by a fit of Amdahl's law.
    """

    model: str
    walls: Mapping[int, float]
    serial_part: float


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
    """What the serial run was bound by, and the measurements that say so.

    Attributes:
        kind: as in `Report.bound`.
        why: the measurements, in words.
        crowded: the share of its time in which serial could have run, but other programs had
            the cores.
        inferred: as in `Report.bound_inferred`.
    """

    kind: str
    why: str
    crowded: float = 0.0
    inferred: bool = False


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
        bound: ``"cpu"``, ``"cpu-nogil"``, ``"io"``, ``"overhead"``, ``"memory"`` or
            ``"mixed"``, from the serial run; None if that failed.
        bound_why: the measurements behind it.
        bound_inferred: whether `bound` is inferred in part: that it is memory, or that the GIL was
            held where nobody could look.
        cells: Python and Rust, each serial and parallel.
        verdict: a paragraph that cites the figures.
        environment: the interpreter and the machine.
        noise: what else went on on the machine meanwhile.
        ceiling: how much faster as many workers (but no more than cores) are at pure computing
            on this machine, in Rust; None with one core or worker.
        break_even: from which size on processes pay; None if no process model ran.
        scaling: the quickest parallel model with fewer workers; None if it was not measured.
        printed: characters that the tasks printed in a run; they are not shown.
        tolerance: by how much floats were allowed to differ.
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
    noise: Noise = field(default_factory=Noise)
    ceiling: float | None = None
    break_even: BreakEven | None = None
    scaling: Scaling | None = None
    printed: int = 0
    tolerance: float = 0.0
    bound_inferred: bool = False

    def __getitem__(self, model: str) -> Row:
        """The row of a model, by its name."""
        for row in self.rows:
            if row.model == model:
                return row
        raise KeyError(model)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists, strings and numbers, ready for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_dict` made ``data`` of.

        Raises:
            ValueError: it was not made so.
        """
        try:
            values = dict(data)
            if values.pop("format") != FORMAT:
                raise ValueError("another version of the format")
            values["rows"] = [
                Row(**{**row, "inferred": tuple(row["inferred"])}) for row in values["rows"]
            ]
            values["cells"] = [Cell(**cell) for cell in values["cells"]]
            values["noise"] = Noise(**values["noise"])
            if values["break_even"] is not None:
                values["break_even"] = BreakEven(**values["break_even"])
            if values["scaling"] is not None:
                scaling = values["scaling"]
                walls = {int(count): wall for count, wall in scaling["walls"].items()}
                values["scaling"] = Scaling(**{**scaling, "walls": walls})
            return cls(**values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"this is no saved report of plait compare: {error!r}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report that was saved as .json.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no such file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(path)} is no saved report: {error}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{os.fspath(path)} is no saved report: {error}") from None
        if not isinstance(data, dict):
            raise ValueError(f"{os.fspath(path)} is no saved report: it holds {type(data)}")
        return cls.from_dict(data)

    def against(self, old: Report) -> Comparison:
        """How this report differs from an older one, model by model."""
        from .against import Comparison

        return Comparison(old, self)

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
        values["inferred"] = " ".join(row.inferred)
        return {**values, **{f"{name}_share": shares.get(name) for name in SHARES}}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report, in the form that the path's ending names.

        Args:
            path: ends in .html (a page of its own, nothing loaded from elsewhere), .svg or .png
                (a bar chart), .json or .csv.

        Raises:
            ValueError: another ending.
            OSError: it cannot be written, as on a full disk; an older file is then still there.
            ModuleNotFoundError: a picture or page needs ``pip install 'plait[lab]'``.
        """
        path = Path(path)
        ending = check_ending(path)
        if ending == ".json":
            data = (self.to_json() + "\n").encode()
        elif ending == ".csv":
            data = self.to_csv().encode()
        else:
            from .pictures import SAVERS

            data = SAVERS[ending](self)
        write_whole(path, data)

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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, or leave what was there: a full disk leaves no half of one."""
    if path.exists() and not path.is_file():  # a device, a pipe
        path.write_bytes(data)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


ENDINGS = (".html", ".svg", ".png", ".json", ".csv")


def check_ending(path: Path) -> str:
    """The path's ending, if `Report.save` knows it; checked before a long run, too."""
    ending: str = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"cannot save as {path.name!r}: the ending must be one of {', '.join(ENDINGS)}"
        )
    return ending
