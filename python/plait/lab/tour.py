"""The tour: the tutorial's sections, run with the standard library and with plait, and shown.

Every version runs in a process of its own (`python -m plait.lessons`), in a session of its
own, with its temporary files in the tour's own folder: the output of its children is
captured with its own, and an interrupted tour kills the session and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from plait.lessons import SECTIONS
from plait.lessons.frame import FULL_DELAY, LABELS, SHORT_DELAY, Lesson, read

from .timeline import Timeline

if TYPE_CHECKING:
    from rich.console import Console

    from .report import Report

__all__ = ["Section", "TourResult", "VersionResult", "find_section", "tour"]

# A version takes some ten delays and its own start; past this it is taken to hang.
_LIMIT_S, _LIMIT_DELAYS = 60.0, 40


@dataclass(frozen=True, slots=True)
class VersionResult:
    """One version of a section, and what running it gave.

    Attributes:
        name: "Standard library", "plait" or another library's name.
        code: its source.
        outcome: "ran", "skipped" (it needs a library that is not installed) or "failed".
        output: what it and its children printed.
        reason: why it was skipped or failed, else None.
        seconds: how long it took, without the start of its interpreter, if it ran.
        timeline: the spans that it noted.
    """

    name: str
    code: str
    outcome: Literal["ran", "skipped", "failed"]
    output: str
    reason: str | None = None
    seconds: float | None = None
    timeline: Timeline = field(default_factory=Timeline)


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the tutorial: its heading, explanation, common code and versions."""

    name: str
    title: str
    text: str
    shared: str
    versions: tuple[VersionResult, ...]

    @property
    def seconds(self) -> float:
        """Where the time axis of its charts ends, the same for all versions."""
        return max((version.timeline.seconds for version in self.versions), default=0.0)


@dataclass(frozen=True, slots=True)
class TourResult:
    """What a tour gave.

    Attributes:
        sections: those that ran, in the tutorial's order.
        delay: the delay that they ran with, in seconds.
        seconds: how long the whole took.
        comparison: `plait.lab.compare`'s report, or None where only one section ran.
        page: the file that was written, or None.
    """

    sections: tuple[Section, ...]
    delay: float
    seconds: float
    comparison: Report | None = None
    page: str | None = None

    @property
    def ok(self) -> bool:
        """Whether no version failed."""
        return all(
            version.outcome != "failed" for section in self.sections for version in section.versions
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain lists and dicts, for JSON."""
        comparison = None if self.comparison is None else self.comparison.to_dict()
        return {**asdict(self), "comparison": comparison, "ok": self.ok}


def tour(
    section: str | None = None,
    *,
    delay: float = SHORT_DELAY,
    page: str | os.PathLike[str] | None = None,
    full: bool = False,
    console: Console | None = None,
) -> TourResult:
    """Run the tutorial's sections with the standard library and plait beside each other.

    Args:
        section: one section, by its name ("non_blocking") or heading ("Non-blocking
            Operations"); by default all of them and a comparison.
        delay: seconds that each step of an example takes, at least 0.
        page: an HTML file to write, complete in itself.
        full: use the tutorial's own delay of 2 seconds instead of ``delay``.
        console: where to print; by default the terminal.

    Returns:
        A `TourResult` with each section's code, output, seconds and spans.

    Raises:
        ValueError: there is no such section, ``delay`` is not a time, or ``page`` is in a
            folder that does not exist.
        ModuleNotFoundError: rich, pygments or jinja2 is missing (``pip install 'plait[lab]'``).

    >>> import io
    >>> from rich.console import Console
    >>> from plait.lab.tour import tour
    >>> result = tour("blocking", delay=0.001, console=Console(file=io.StringIO()))
    >>> [section.title for section in result.sections]
    ['Blocking Operations']
    """
    names = list(SECTIONS) if section is None else [find_section(section)]
    if not (math.isfinite(delay) and delay >= 0):
        raise ValueError(f"delay={delay!r} is not a time: at least 0 seconds")
    if full:
        delay = FULL_DELAY
    if page is not None and not Path(page).absolute().parent.is_dir():
        raise ValueError(f"cannot write the page {os.fspath(page)}: there is no such folder")

    from rich.console import Console as RichConsole

    from .compare import compare
    from .tour_show import progress, show_comparison, show_section, show_summary

    console = console or RichConsole()
    began = time.monotonic()
    sections = []
    with tempfile.TemporaryDirectory(prefix="plait-tour-", ignore_cleanup_errors=True) as folder:
        for number, name in enumerate(names, 1):
            lesson = read(name)
            with progress(console, f"{number}/{len(names)} {lesson.title}"):
                done = Section(
                    name,
                    lesson.title,
                    lesson.text,
                    lesson.shared,
                    tuple(
                        _run(lesson, version, delay, Path(folder)) for version in lesson.versions
                    ),
                )
            show_section(console, done)
            sections.append(done)
    comparison = None
    if section is None:
        with progress(console, "comparison: primes under every model"):
            comparison = compare("primes", repeats=2)
        show_comparison(console, comparison)
    result = TourResult(
        tuple(sections),
        delay,
        time.monotonic() - began,
        comparison,
        None if page is None else os.fspath(page),
    )
    show_summary(console, result)
    if page is not None:
        from .tour_page import write_page

        write_page(Path(page), result)
        console.print(f"The page: {page}", highlight=False)
    return result


def find_section(section: str) -> str:
    """The name of the section with this name or heading.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    key = section.strip().lower().replace("-", "_").replace(" ", "_")
    for name, title in SECTIONS.items():
        if key in (name, title.lower().replace("-", "_").replace(" ", "_")):
            return name
    raise ValueError(f"no section named {section!r}; there are: {', '.join(SECTIONS)}")


def _run(lesson: Lesson, version: str, delay: float, folder: Path) -> VersionResult:
    """Run one version in a process of its own and collect what it printed and noted."""
    label, code = LABELS[version], lesson.versions[version]
    report = folder / f"{lesson.name}.{version}.json"
    # -P and PYTHONPATH: this very plait, and no file of the current folder named as a module.
    command = [sys.executable, "-P", "-m", "plait.lessons"]
    home = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": paths}
    limit = _LIMIT_S + _LIMIT_DELAYS * delay
    with _session(
        [*command, lesson.name, version, repr(delay), str(report)], environment
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            reason = f"stopped: it did not end within {limit:g} s"
            return VersionResult(label, code, "failed", "", reason)
    if process.returncode != 0 or not report.exists():
        reason = f"failed with exit code {process.returncode}"
        return VersionResult(label, code, "failed", output, reason)
    data = json.loads(report.read_text())
    timeline = Timeline.from_dict(data["timeline"])
    if data["reason"] is not None:
        return VersionResult(label, code, "skipped", output, data["reason"])
    return VersionResult(label, code, "ran", output, None, data["seconds"], timeline)


@contextlib.contextmanager
def _session(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; whatever is left of it at the end is killed."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            # Reaches a version that is interrupted or hangs, and children that outlived theirs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
