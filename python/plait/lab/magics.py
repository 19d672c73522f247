"""``%load_ext plait``: the magics of a notebook.

``%plait compare primes -o report`` runs a command as a shell would, in this kernel, and shows the
report in this cell. ``%%plait compare`` takes the cell's code for the work: its last function is
what is compared, over ``--items`` or the cell's ``items``. Neither needs a port or the network.
"""

from __future__ import annotations

import argparse
import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

from .asked import find_items, find_what
from .compare import compare
from .report import Report, check_ending

__all__ = ["PlaitMagics"]

_FORMS = (".html", ".svg", ".png", ".json", ".csv")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(f"{self.prog}: {message}")

    def exit(self, status: int = 0, message: str | None = None) -> Any:
        raise _Shown


class _Shown(Exception):
    """The help was asked for, and shown."""


def _parser() -> _Parser:
    parser = _Parser(prog="%plait", description="The lab, in a notebook.", add_help=True)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    one = commands.add_parser("compare", help="run the same work under every model")
    one.add_argument("what", nargs="?", help="a workload, a function here, or script.py:function")
    one.add_argument("--items", help="what it is called with: an expression, or @file")
    one.add_argument("--models", help="names with commas between")
    one.add_argument("--workers", type=int)
    one.add_argument("--repeats", type=int, default=5)
    one.add_argument("--timeout", type=float, help="seconds that one run may take")
    one.add_argument("--tolerance", type=float, default=0.0, help="for floats, relative")
    one.add_argument("--against", help="an older report, saved as .json")
    one.add_argument(
        "-o", "--output", help=f"a variable for the report, or a file: {' '.join(_FORMS)}"
    )
    commands.add_parser("doctor", help="what this machine and this Python offer")
    other = commands.add_parser("tour", help="the tutorial's sections")
    other.add_argument("section", nargs="?")
    return parser


@magics_class
class PlaitMagics(Magics):
    """``%plait`` and ``%%plait``."""

    @line_cell_magic
    def plait(self, line: str, cell: str | None = None) -> None:
        """Run ``compare``, ``doctor`` or ``tour``; ``%plait --help`` lists the arguments."""
        try:
            asked = _parser().parse_args(shlex.split(line))
        except _Shown:
            return
        except ValueError as error:  # an open quote
            raise UsageError(f"%plait: {error}") from None
        if cell is not None and asked.command != "compare":
            raise UsageError(f"%%plait {asked.command} takes no cell: use %plait {asked.command}")
        if asked.command == "doctor":
            from .doctor import Shown, examine

            _show(Shown(examine()))
        elif asked.command == "tour":
            from .tour import tour

            tour(asked.section)
        else:
            self._compare(asked, cell)

    @property
    def _shell(self) -> Any:
        return self.shell

    def _compare(self, asked: argparse.Namespace, cell: str | None) -> None:
        output: str | None = asked.output
        is_file = output is not None and Path(output).suffix in _FORMS
        if output is not None and not is_file and not output.isidentifier():
            raise UsageError(f"-o {output}: neither a variable's name nor a file {_FORMS}")
        older = None
        try:
            if is_file:
                check_ending(Path(output or ""))
            if asked.against is not None:
                older = Report.load(asked.against)
            what, items = self._work(asked, cell)
            report = compare(
                what,
                items,
                models=asked.models.split(",") if asked.models else None,
                workers=asked.workers,
                repeats=asked.repeats,
                timeout=asked.timeout,
                tolerance=asked.tolerance,
            )
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"%plait compare: {error}") from None
        if output is not None and is_file:
            report.save(output)
        elif output is not None:
            self._shell.user_ns[output] = report
        _show(report)
        if older is not None:
            print(report.against(older))

    def _work(
        self, asked: argparse.Namespace, cell: str | None
    ) -> tuple[str | Callable[[Any], Any], list[Any] | None]:
        names: dict[str, Any] = self._shell.user_ns
        if cell is not None:
            before = dict(names)
            self._shell.run_cell(cell).raise_error()
            new = {k: v for k, v in names.items() if before.get(k, _parser) is not v}
            what = names.get(asked.what) if asked.what else _last_function(new)
            if what is None or not callable(what):
                raise ValueError("the cell defines no function to compare")
            if asked.items is None and "items" not in names:
                raise ValueError("--items is missing, and the cell sets no `items`")
            return what, find_items(asked.items or "items", names)
        if asked.what is None:
            raise ValueError("what should be compared? A workload's name, or a function's")
        found = names.get(asked.what)
        if callable(found):
            return found, find_items(asked.items or "items", names)
        what, around = find_what(asked.what)
        if isinstance(what, str) and asked.items is None:
            return what, None
        return what, find_items(asked.items or "items", {**names, **around})


def _show(thing: object) -> None:
    display(thing)  # type: ignore[no-untyped-call]


def _last_function(names: dict[str, Any]) -> Callable[[Any], Any] | None:
    """Of the functions that a cell has defined, the last."""
    found = [value for value in names.values() if inspect.isfunction(value)]
    return found[-1] if found else None
