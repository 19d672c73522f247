"""``plait race``: the classic races by name, and programs from files."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from .race import race
from .races import deadlock, exhibits, rust_twin

__all__ = ["answer"]

# Those that really happen: no search, nothing to mend.
_REAL = {
    "deadlock": "threads wait in a circle; plait's DeadlockError tells who for whom",
    "rust-twin": "the lost update in Rust: a load and a store, in threads that run in parallel",
}

Answer = tuple[str, dict[str, Any], int]


def answer(what: str | None, fix: str | None, budget: float) -> Answer:
    """What the command says, the same for ``--json``, and its exit code.

    Raises:
        ValueError: it was asked for wrongly.
    """
    if what is None:
        return _list()
    if what in _REAL:
        if fix is not None:
            raise ValueError(f"{what} has no fixes to try")
        shown = deadlock() if what == "deadlock" else rust_twin()
        return str(shown), _data(shown), 0
    exhibit = exhibits().get(what)
    if exhibit is not None:
        report = exhibit.race(fix, budget)
        note = (exhibit.bug if fix is None else exhibit.fixes[fix]).note
        head = f"{what}: {exhibit.title}\n{f'mended by {fix}: ' if fix else ''}{note}\n"
        # A bug that is not found and a fix that does not hold are both not what was promised.
        as_promised = report.found if fix is None else report.proved
        return f"{head}\n{report}", report.to_dict(), 0 if as_promised else 1
    if not what.endswith(".py"):
        names = ", ".join([*exhibits(), *_REAL])
        raise ValueError(f"{what!r} is neither a Python file nor one of {names}")
    if fix is not None:
        raise ValueError("--fix is for the classic races, not for a file")
    return _of_file(what, budget)


def _list() -> Answer:
    lines = ["The classic races; `plait race NAME` shows the bug, `--fix` tries a way to mend it:"]
    for name, exhibit in exhibits().items():
        lines.append(f"  {name:<16} {exhibit.title}")
        lines.append(f"  {'':<16} --fix {', '.join(exhibit.fixes)}")
    lines += [f"  {name:<16} {title}" for name, title in _REAL.items()]
    data = {
        name: {"title": exhibit.title, "fixes": list(exhibit.fixes)}
        for name, exhibit in exhibits().items()
    }
    data |= {name: {"title": title, "fixes": []} for name, title in _REAL.items()}
    return "\n".join(lines), data, 0


def _data(shown: Any) -> dict[str, Any]:
    if hasattr(shown, "to_dict"):
        found: dict[str, Any] = shown.to_dict()
        return found
    return {**vars(shown), "lost": shown.lost}


def _of_file(what: str, budget: float) -> Answer:
    if not Path(what).is_file():
        raise ValueError(f"there is no file {what}")
    names = runpy.run_path(what)
    missing = [name for name in ("setup", "threads", "invariant") if name not in names]
    if missing:
        raise ValueError(
            f"{what} has no {missing[0]}: it needs setup() -> state, threads (a list of functions "
            "that take the state) and invariant(state) -> bool"
        )
    try:
        report = race(names["setup"], names["threads"], names["invariant"], budget=budget)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return str(report), report.to_dict(), 0 if report.proved else 1
