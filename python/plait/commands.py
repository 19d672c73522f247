"""The commands of ``plait``: compare, trace, race, tour, lesson, doctor. Answers on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from . import __version__
from .lab.asked import find_items, find_what
from .lab.compare import Plan, make_plan, run_plan
from .lab.models import MODELS
from .lab.report import Report, check_ending
from .lab.workloads import WORKLOADS

__all__ = ["run"]

app = typer.Typer(
    help="Run the same work with processes, threads, coroutines and Rust, side by side.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


class Mistake(Exception):
    """What was asked for cannot be done as asked; the message goes to the user as it stands."""


# What typer raises on a wrong argument: click's own class, wherever this typer keeps it.
_WrongArgument: Any = typer.BadParameter.__mro__[2]


def run() -> int:
    """Parse the arguments, run the command, and give its exit code; mistakes are one line."""
    command = typer.main.get_command(app)
    try:
        result: Any = command.main(prog_name="plait", standalone_mode=False)
    except typer.Abort:  # what an older typer makes of ^C
        raise KeyboardInterrupt from None
    except Mistake as mistake:
        return _fail(str(mistake))
    except _WrongArgument as error:
        return _fail(error.format_message())
    if result == 130:  # and a newer one
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print(f"plait: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plait {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def compare(
    workload: Annotated[
        str, typer.Argument(help=f"One of {', '.join(WORKLOADS)}; or script.py:function.")
    ],
    items: Annotated[
        str | None,
        typer.Option(
            help="What your function is called with: a Python expression, such as 'range(100)' "
            "or a name in the script; or @file, for its lines.",
            metavar="EXPR",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help=f"Some of {', '.join(MODELS)}; with commas between.", metavar="A,B,…"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Workers, or items in flight.", metavar="N")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs of each model.", metavar="N")] = 5,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one run may take.", metavar="S")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="By how much floats may differ, relatively.", metavar="X")
    ] = 0.0,
    against: Annotated[
        Path | None,
        typer.Option(help="An older report, saved as .json, to compare with.", metavar="PATH"),
    ] = None,
    as_json: AsJson = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", "-o", help="Also write it: .html .svg .png .json .csv", metavar="PATH"
        ),
    ] = None,
) -> int:
    """Run one workload, or your own function, under every model; tell which is best, and why."""
    chosen = [name.strip() for name in models.split(",") if name.strip()] if models else None
    try:
        older = None if against is None else _load(against)
        if save is not None:
            check_ending(save)
            if not save.absolute().parent.is_dir():
                raise ValueError(f"cannot save to {save}: there is no such folder")
        what, names = find_what(workload)
        if items is None and not isinstance(what, str):
            raise ValueError(f"--items is missing: what should {workload} be called with?")
        plan = make_plan(
            what,
            None if items is None else find_items(items, names),
            models=chosen,
            workers=workers,
            repeats=repeats,
            timeout=timeout,
            tolerance=tolerance,
        )
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from None
    report = _run_with_progress(plan)
    change = None if older is None else report.against(older)
    if as_json:
        data = report.to_dict()
        if change is not None:
            data["against"] = change.to_dict()
        typer.echo(json.dumps(data, indent=2))
    else:
        Console().print(report)
        if change is not None:
            Console().print(f"\nagainst {against}", highlight=False, style="bold")
            Console().print(change)
    if save is not None:
        try:
            report.save(save)
        except OSError as error:
            raise Mistake(f"cannot save to {save}: {error.strerror}") from None
        Console(stderr=True).print(f"saved {save}", highlight=False)
    refused = any((row.reason or "").startswith("refused") for row in report.rows)
    return 1 if refused or report.best is None else 0


def _load(path: Path) -> Report:
    try:
        return Report.load(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _run_with_progress(plan: Plan) -> Report:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[model]:<16}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} runs"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(plan.what, model="", total=None)
        return run_plan(
            plan,
            lambda model, done, steps: bar.update(task, model=model, completed=done, total=steps),
        )


@app.command()
def tour(
    section: Annotated[str | None, typer.Argument(help="One section; by default all.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="With the tutorial's own delay of two seconds.")
    ] = False,
    page: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("plait-tour.html"),
    as_json: AsJson = False,
) -> int:
    """Run the tutorial's sections, the standard library's version and plait's side by side."""
    from .lab.tour import tour as run_tour

    try:
        result = run_tour(section, full=full, page=page, console=Console(stderr=as_json))
    except ValueError as error:
        raise Mistake(str(error)) from None
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    return 0 if result.ok else 1


@app.command()
def lesson(
    name: Annotated[
        str | None, typer.Argument(help="One of the tutorial's sections; by default a list.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="With the tutorial's own delay of two seconds.")
    ] = False,
    copy: Annotated[
        Path | None,
        typer.Option(
            help="Don't run it: write its program here, to change it and run it with python.",
            metavar="FILE.py",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show one of the tutorial's sections: its text, its code, and what running it gives."""
    from .lab.lesson_command import copied, listed
    from .lab.tour import tour as run_tour

    console = Console(stderr=as_json)
    try:
        if name is None:
            if copy is not None or full:
                raise ValueError("which lesson? `plait lesson` lists them")
            rows = listed(console)
            if as_json:
                typer.echo(json.dumps(rows, indent=2))
            return 0
        if copy is not None:
            data = copied(name, copy)
            typer.echo(json.dumps(data, indent=2) if as_json else f"python {copy}")
            return 0
        result = run_tour(name, full=full, console=console)
    except ValueError as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"cannot write {copy}: {error.strerror}") from None
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    return 0 if result.ok else 1


@app.command()
def race(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A classic race, or a Python file with `setup`, `threads` and `invariant`; "
            "by default the classic ones are listed.",
            metavar="NAME|FILE.py",
        ),
    ] = None,
    fix: Annotated[
        str | None, typer.Option(help="Try this way to mend it instead of the bug.", metavar="NAME")
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds to look for.", metavar="S")] = 10.0,
    as_json: AsJson = False,
) -> int:
    """Look for an interleaving of threads that breaks what should hold, and show its steps."""
    from .lab.race_command import answer

    try:
        text, data, code = answer(what, fix, budget)
    except ValueError as error:
        raise Mistake(str(error)) from None
    typer.echo(json.dumps(data, indent=2) if as_json else text)
    return code


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine and this Python offer, and what to install for more."""
    from .lab.doctor import examine, findings_table

    findings = examine()
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
    else:
        Console().print(findings_table(findings))


@app.command(
    "trace", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
def trace_command(
    script: Annotated[Path, typer.Argument(help="A Python file; it is run unchanged.")],
    args: Annotated[list[str] | None, typer.Argument(help="Its own arguments.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Also write it: .html .svg .png .json (Perfetto)"),
    ] = None,
    hz: Annotated[float, typer.Option(help="Looks a second.", metavar="N")] = 1000,
    records: Annotated[
        int, typer.Option(help="Records that each process keeps.", metavar="N")
    ] = 131_072,
    as_json: AsJson = False,
) -> int:
    """Run a script, and draw what its threads, tasks and processes did. Exits with its code.

    Python programs that it runs by subprocess are traced too, if they have plait; not python -I,
    -E or -S, nor what os.system or os.exec start.
    """
    from .lab.trace_files import check_ending as check_trace_ending
    from .lab.trace_script import output_to_stderr, trace_script

    try:
        if output is not None:
            check_trace_ending(output)
            if not output.absolute().parent.is_dir():
                raise ValueError(f"cannot save to {output}: there is no such folder")
        output = None if output is None else output.absolute()  # the script may change folders
        with output_to_stderr() if as_json else contextlib.nullcontext():
            traced, code = trace_script(script, args or [], hz=hz, records=records)
    except (ValueError, SyntaxError) as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"cannot trace {script}: {error.strerror or error}") from None
    if as_json:
        typer.echo(json.dumps(traced.to_dict()))
    else:
        Console(stderr=True).print(traced)
    if output is not None:
        try:
            traced.save(output)
        except OSError as error:
            raise Mistake(f"cannot save to {output}: {error.strerror}") from None
        Console(stderr=True).print(f"saved {output}", highlight=False, soft_wrap=True)
    return code
