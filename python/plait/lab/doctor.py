"""What this machine and this Python offer to each model, and what to do about what is missing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import multiprocessing
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, TypedDict

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..kernels import cpu_count
from ..process import has_zygote
from .compare import environment

__all__ = ["Finding", "Part", "Shown", "examine", "findings_table"]

# What each model or form of a report needs -> how to get it.
_NEEDS = {
    "gevent": ("the gevent model", "pip install gevent"),
    "uvloop": ("the uvloop model", "pip install uvloop"),
    "joblib": ("the joblib model", "pip install joblib"),
    "dask": ("the dask model", "pip install 'dask[bag]'"),
    "numpy": ("arrays, shared without copies", "pip install numpy"),
    "matplotlib": ("charts (.png, .svg, .html)", "pip install 'plait[lab]'"),
    "jinja2": ("pages (.html)", "pip install 'plait[lab]'"),
    "pandas": ("Report.to_pandas()", "pip install pandas"),
    "IPython": ("notebooks", "pip install 'plait[notebook]'"),
}
# Environment variables by which BLAS libraries are told how many threads to start.
_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
_PATIENCE_S = 60.0


class Finding(TypedDict):
    """One thing that was looked at: what it is, how it is, and what to do (empty: nothing)."""

    name: str
    state: str
    advice: str


class Part(TypedDict):
    """A library: what it is needed for, whether it is there, how to install it."""

    needed_for: str
    installed: bool
    install: str


def examine() -> dict[str, Any]:
    """Look; libraries that may change the interpreter are looked at in a process of their own.

    Returns:
        ``environment``, ``cores`` (the machine's, the affinity mask's, and what the cgroup's
        quota leaves), ``findings`` (see `Finding`), and ``parts``, one a library (see `Part`).

    >>> from plait.lab.doctor import examine
    >>> examine()["cores"]["usable"] >= 1
    True
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = {"machine": os.cpu_count(), "affinity": affinity, "usable": cpu_count()}
    parts = {
        name: Part(
            needed_for=purpose,
            installed=importlib.util.find_spec(name) is not None,
            install=install,
        )
        for name, (purpose, install) in _NEEDS.items()
    }
    installed = [name for name, part in parts.items() if part["installed"]]
    findings = [_build(), _gil(installed), _cores(cores), _start_methods(), _interpreters()]
    findings += [_blas("numpy" in installed), _shared_memory(), _clocks()]
    return {
        "environment": environment(),
        "cores": cores,
        "findings": findings,
        "parts": parts,
    }


def _is_free_threaded() -> bool:
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _build() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if _is_free_threaded():
        return Finding(name="build", state=f"{version}, free-threaded", advice="")
    debug = bool(sysconfig.get_config_var("Py_DEBUG"))
    advice = "a debug build: its timings mean little" if debug else ""
    return Finding(name="build", state=f"{version}, with a GIL", advice=advice)


def _gil(installed: list[str]) -> Finding:
    """Whether there is one, and who has switched it on again."""
    is_on = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not _is_free_threaded():
        advice = "threads compute one at a time: use processes, or kernels that release it"
        return Finding(name="GIL", state="on, as in every default build", advice=advice)
    culprits = [name for name in installed if _switches_on(name)]
    if culprits:
        names = ", ".join(culprits)
        advice = f"importing {names} switches the GIL on: update them, or run with -X gil=0"
    else:
        advice = ""
    if not is_on:
        return Finding(name="GIL", state="off", advice=advice)
    if culprit := _who_switched_it_on():
        advice = f"importing {culprit} has switched it on: update it, or run with -X gil=0"
    if os.environ.get("PYTHON_GIL") == "1" or sys._xoptions.get("gil") == "1":
        advice = "asked for by PYTHON_GIL=1 or -X gil=1: leave that out"
    return Finding(
        name="GIL", state="on, in a free-threaded build", advice=advice or "run with -X gil=0"
    )


def _switches_on(module: str) -> bool:
    return _ask(f"import sys, {module}; print(sys._is_gil_enabled())") == "True"


def _who_switched_it_on() -> str | None:
    """Which of the compiled modules that are imported here it was, tried in a new interpreter."""
    endings = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    loaded = [
        name
        for name, module in list(sys.modules.items())
        if str(getattr(module, "__file__", None)).endswith(endings)
    ]
    found = _ask(
        "import importlib, sys, contextlib\n"
        f"sys.path[:] = {sys.path!r}\n"
        f"for name in {loaded!r}:\n"
        "    with contextlib.suppress(Exception):\n"
        "        importlib.import_module(name)\n"
        "    if sys._is_gil_enabled():\n"
        "        print(name)\n"
        "        break\n"
    )
    return found or None


def _ask(code: str) -> str | None:
    """What a new interpreter prints; None if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cores(cores: dict[str, int | None]) -> Finding:
    machine, affinity, usable = cores["machine"], cores["affinity"], cores["usable"] or 1
    advice = ""
    if affinity is not None and usable < affinity:
        advice = (
            f"the control group's quota leaves {usable} of {affinity}: os.cpu_count() tells "
            "too many; plait.cpu_count() is right"
        )
    elif affinity is not None and machine is not None and affinity < machine:
        advice = f"the affinity mask leaves {affinity} of {machine} (taskset, or a scheduler)"
    elif usable == 1:
        advice = "with one core nothing that computes gains by more workers"
    return Finding(name="cores", state=f"{usable} usable of {machine}", advice=advice)


def _start_methods() -> Finding:
    methods = multiprocessing.get_all_start_methods()
    current = multiprocessing.get_start_method(allow_none=True) or methods[0]
    state = f"{current} by default, of {', '.join(methods)}; plait: "
    state += "clones a zygote" if has_zygote() else "spawns, as there is no fork"
    advice = ""
    if current == "fork":
        advice = "fork copies a process that has threads, locks held included: plait.install()"
    elif current in ("spawn", "forkserver"):
        advice = "functions must be importable, the main module guarded: plait.install()"
    return Finding(name="start methods", state=state, advice=advice)


def _interpreters() -> Finding:
    if sys.version_info >= (3, 14):
        return Finding(name="sub-interpreters", state="concurrent.interpreters", advice="")
    return Finding(
        name="sub-interpreters", state="none", advice="the interpreters model needs Python 3.14"
    )


def _blas(has_numpy: bool) -> Finding:
    """How many threads NumPy's BLAS has, counted in a process that has imported it."""
    if not has_numpy:
        return Finding(name="BLAS threads", state="no NumPy, no BLAS", advice="")
    told = {name: os.environ[name] for name in _BLAS if name in os.environ}
    words = ", ".join(f"{name}={value}" for name, value in told.items()) or "not limited"
    count = _ask("import numpy, os; print(len(os.listdir('/proc/self/task')))")
    if count is None or not count.isdigit():
        return Finding(name="BLAS threads", state=words, advice="")
    advice = ""
    if int(count) > 1:
        advice = (
            f"each process that uses NumPy has {count} threads: with one worker a core, set "
            "OPENBLAS_NUM_THREADS=1 before it starts"
        )
    return Finding(name="BLAS threads", state=f"{count} in a process; {words}", advice=advice)


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding(
            name="/dev/shm",
            state="none",
            advice="multiprocessing's locks and shared memory need it; plait's don't (memfd)"
            if sys.platform.startswith("linux")
            else "",
        )
    room = os.statvfs(place)
    free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    advice = ""
    if not os.access(place, os.W_OK):
        advice = "it can't be written to: multiprocessing's locks fail; plait's don't need it"
    elif free < 1 << 28:
        advice = (
            "small, as in a container: joblib and shared_memory run out of it "
            "(docker run --shm-size=1g); plait uses memfd"
        )
    state = f"{free / 2**20:,.0f} MB free of {total / 2**20:,.0f} MB"
    return Finding(name="/dev/shm", state=state, advice=advice)


def _clocks() -> Finding:
    """What the lab reads of the kernel, to tell where time went."""
    missing = [name for name in ("schedstat", "syscall") if not _readable(name)]
    if not missing:
        return Finding(name="kernel's accounts", state="all readable", advice="")
    names = ", ".join(f"/proc/self/{name}" for name in missing)
    advice = "reports tell less of who waited for what (a container, or another system)"
    return Finding(name="kernel's accounts", state=f"not readable: {names}", advice=advice)


def _readable(name: str) -> bool:
    try:
        Path(f"/proc/self/{name}").read_bytes()
    except OSError:
        return False
    return True


class Shown:
    """What was found, for a notebook's cell: text, or a page's tables, which fit its width."""

    def __init__(self, findings: dict[str, Any]) -> None:
        self.findings = findings

    def __repr__(self) -> str:
        console = Console(force_jupyter=False, force_terminal=False, file=io.StringIO())
        with console.capture() as captured:
            console.print(findings_table(self.findings))
        return captured.get()

    def _repr_html_(self) -> str:
        here = [(one["name"], one["state"], one["advice"]) for one in self.findings["findings"]]
        parts = [
            (name, part["needed_for"], "installed" if part["installed"] else part["install"])
            for name, part in self.findings["parts"].items()
        ]
        return _html(("", "here", "what to do"), here) + _html(("library", "needed for", ""), parts)


def _html(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(kind: str, cells: Sequence[str]) -> str:
        style = "text-align:left;vertical-align:top"
        return "".join(f"<{kind} style='{style}'>{escape(one)}</{kind}>" for one in cells)

    lines = [line("th", heads), *(line("td", row) for row in rows)]
    return f"<table>{''.join(f'<tr>{one}</tr>' for one in lines)}</table>"


def findings_table(findings: dict[str, Any]) -> RenderableType:
    """The findings as two tables for the terminal or a notebook's cell."""
    here = Table("", "here", "what to do", box=box.SIMPLE_HEAD, pad_edge=False)
    for finding in findings["findings"]:
        here.add_row(finding["name"], finding["state"], Text(finding["advice"], "yellow"))
    parts = Table("library", "needed for", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, part in findings["parts"].items():
        state = Text("installed") if part["installed"] else Text(part["install"], "yellow")
        parts.add_row(name, part["needed_for"], state)
    return Group(here, parts)
