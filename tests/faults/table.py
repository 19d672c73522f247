"""Runs the fault matrix with every library and prints it as a Markdown table.

``python tests/faults/table.py [--write docs/faults.md] [--library NAME]... [--case NAME]...``

Takes a while: what hangs is given time before it is said to hang.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path

from matrix import cases, hostile, lacks, parents, pools, run, trial

__all__ = ["cases", "hostile", "lacks", "parents"]

# The words of a cell, by the check that failed; the first that applies is the cell.
WORDS = {
    "hangs": "**hangs**",
    "usable": "pool lost",
    "rest": "others lost",
    "right": "wrong results",
    "fails": "no error",
    "ends": "goes on",
    "clean": "leaves",
    "left": "leaves",
    "value": "no result",
    "case": "fails",
}
# What is told of a fault that was survived.
BUT = {
    "named": "unnamed",
    "prompt": "late",
    "memory": "much memory",
    "quiet": "noisy",
    "once": "noisy",
}
GROUPS = {
    "one task": "One task goes wrong",
    "worker": "A task mistreats its worker",
    "many tasks": "Many tasks, many deaths",
    "pool": "The pool lacks something",
    "input": "Bad input",
    "program": "The program is interrupted, ends or forks",
    "around": "The program is unusual",
}

HEAD = """\
# The fault matrix

What eight process pools make of {count} faults. Every cell was run, none assumed: each fault is
a program of its own (`tests/faults/matrix/`), the same for each library, on two workers with the
library's default start method and pickling. Written by `tests/faults/table.py` on {date}:
Linux {kernel}, {cores} cores, CPython {python}; {versions}.

A fault is survived (✓) when all of this holds, as far as it applies: the one task fails, with an
error; all other tasks succeed; the same pool object works afterwards; nothing hangs; and nothing
is left: no process, descriptor, shared memory or temporary file. Else the cell tells what is
worst:

- **hangs**: a result, or a call, had not come after {patience:g} to {step:g} seconds.
- pool lost: tasks that are submitted afterwards fail. (loky's `get_reusable_executor()`, called
  again, gives a new pool then.)
- others lost: tasks that did nothing wrong fail, or yield no result.
- goes on: the program, or its workers, had not ended in the time that the fault allows.
- no error / wrong results: as it says. leaves: something of the list above is left.
- no result / fails: the library can't do it at all.
- ✓ (unnamed): survived, but the error doesn't tell the cause. ✓ (late), (much memory), (noisy):
  survived, with the delay, memory or tracebacks that the fault is about.
- –: the library has no such operation.

A cell is one run (a few were repeated alone, after others had disturbed them), on a machine
that did other work too.

joblib has no `submit`: its column is one call of `Parallel` over all the tasks, and what comes
after the first error is lost by design.
"""


def cell(verdict: run.Verdict) -> str:
    if not verdict.offered:
        return "–"
    failed = verdict.failures()
    if not failed:
        return "✓"
    for name, words in WORDS.items():
        if name in failed:
            return words
    return f"✓ ({', '.join(BUT.get(name, name) for name in failed)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--library", action="append", choices=list(pools.POOLS))
    parser.add_argument("--case", action="append", choices=list(trial.CASES))
    parser.add_argument("--keep", type=Path, help="a JSON file of verdicts, read and added to")
    arguments = parser.parse_args()
    libraries = arguments.library or list(pools.POOLS)
    names = arguments.case or list(trial.CASES)
    kept: dict[str, str] = {}
    if arguments.keep and arguments.keep.exists():
        kept = json.loads(arguments.keep.read_text())
    for name in names:
        for library in libraries:
            key = f"{library} {name}"
            if key in kept and not arguments.case:
                continue
            verdict = run.run(library, name)
            kept[key] = cell(verdict)
            print(f"{name:24} {library:22} {kept[key]:16} {verdict.seconds:5.1f} s", end="  ")
            print(verdict.failures() or "", file=sys.stdout, flush=True)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    page = render(kept, libraries, names)
    if arguments.write:
        arguments.write.write_text(page)
    else:
        print(page)


def render(kept: dict[str, str], libraries: list[str], names: list[str]) -> str:
    versions = ", ".join(
        f"{library} {pools.POOLS[library].version()}"
        for library in libraries
        if pools.POOLS[library].package
    )
    lines = [
        HEAD.format(
            count=len(names),
            date=datetime.date.today().isoformat(),
            kernel=platform.release().split("-")[0],
            cores=os.cpu_count(),
            python=platform.python_version(),
            versions=versions,
            patience=pools.PATIENCE,
            step=trial.STEP,
        )
    ]
    for group, heading in GROUPS.items():
        rows = [name for name in names if trial.CASES[name].group == group]
        if rows:
            lines += [f"## {heading}", "", table(kept, libraries, rows), ""]
    survived = {
        library: (
            sum(kept[f"{library} {name}"].startswith("✓") for name in names),
            sum(kept[f"{library} {name}"] != "–" for name in names),
        )
        for library in libraries
    }
    lines += ["## In all", "", "| | survived | of those offered |", "|---|---|---|"]
    lines += [f"| {library} | {good} | {of} |" for library, (good, of) in survived.items()]
    return "\n".join(lines) + "\n"


def table(kept: dict[str, str], libraries: list[str], names: list[str]) -> str:
    lines = [
        "| | " + " | ".join(libraries) + " |",
        "|---" * (len(libraries) + 1) + "|",
    ]
    for name in names:
        cells = [kept[f"{library} {name}"] for library in libraries]
        lines.append(f"| {trial.CASES[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
