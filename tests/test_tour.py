"""The tour: every section runs with every version, and the page is complete in itself."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import PATIENCE

pytest.importorskip("rich")
pytest.importorskip("jinja2")
pytest.importorskip("pygments")

from plait.lab.tour import TourResult, tour
from plait.lessons import SECTIONS
from plait.lessons.frame import read
from rich.console import Console

# What a section must have printed, whatever the version.
EXPECTED = {
    "processes": ["Worker kobe0 started", "Worker kobe4 finished", "Main process completed"],
    "threads": ["Thread 0 started", "Main thread ended", "In the main thread: counter = 5"],
    "coroutines": ["A0 started", "C2 finished", "2000 sleeps", "40 pages in"],
    "synchronous": ["Fetching index", "Only now are the results here"],
    "asynchronous": ["Callback: <h1>news</h1>", "Other work done"],
    "blocking": ["Background 0 started", "Main thread completed"],
    "non_blocking": ["Background 2 finished", "Pieces of own work"],
    "concurrency": ["2 threads, each"],
    "parallelism": ["33860 primes"],
    "serial": ["578a8afc"],
}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=140)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", SECTIONS)
def test_section(name: str) -> None:
    console = quiet()
    result = tour(name, delay=0.01, console=console)
    [section] = result.sections
    assert (section.name, section.title) == (name, SECTIONS[name])
    assert section.text
    assert section.shared
    assert [version.name for version in section.versions][:2] == ["Standard library", "plait"]
    for version in section.versions:
        assert version.outcome != "failed", version.output
        if version.outcome == "skipped":
            assert "pip install" in (version.reason or "")
            continue
        assert version.seconds is not None
        assert version.timeline.spans
        for line in EXPECTED[name]:
            assert line in version.output, version.name
    assert result.ok
    printed = text_of(console)
    assert section.title in printed
    assert json.loads(json.dumps(result.to_dict()))["sections"][0]["name"] == name


def test_what_the_sections_show() -> None:
    def lanes(name: str) -> list[list[tuple[str, int]]]:
        [section] = tour(name, delay=0.01, console=quiet()).sections
        ran = [version for version in section.versions if version.outcome == "ran"]
        return [[(lane.kind, lane.tid) for lane in v.timeline.lanes] for v in ran]

    for found in lanes("processes"):
        assert [kind for kind, _ in found] == ["process", "process"]
    for found in lanes("coroutines"):
        assert len({tid for _, tid in found}) == 1
        assert len(found) == 3


def test_a_child_does_not_change_its_parents_global() -> None:
    [section] = tour("processes", delay=0.001, console=quiet()).sections
    for version in section.versions:
        assert "In the child: counter = 5" in version.output
        assert "In the parent: counter = 0" in version.output


@pytest.mark.parametrize("name", ["Non-blocking Operations", "non-blocking", "NON_BLOCKING"])
def test_a_section_is_found_by_heading_or_name(name: str) -> None:
    if name == "non-blocking":
        assert tour(name, delay=0.001, console=quiet()).sections[0].name == "non_blocking"
    else:
        from plait.lab.tour import find_section

        assert find_section(name) == "non_blocking"


def test_an_unknown_section_lists_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no section named 'fibers'.*processes, threads"):
        tour("fibers")


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf")])
def test_a_delay_that_is_no_time_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="not a time"):
        tour("blocking", delay=delay)


class Checker(HTMLParser):
    """Collects ids, links and everything that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if "id" in values:
            self.ids.add(values["id"] or "")
        if tag == "a":
            self.links.add(values.get("href") or "")
        if tag in ("script", "link", "img", "iframe") or "src" in values:
            self.loads.append(tag)
        if tag not in ("meta", "br", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "tour.html"
    result = tour("threads", delay=0.005, page=page, console=quiet())
    assert result.page == str(page)
    source = page.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(source)
    assert checker.open == []
    assert checker.loads == []
    assert not re.search(r"https?://|@import|url\(", source)
    assert checker.links == {"#threads"} <= {f"#{name}" for name in checker.ids}
    assert "prefers-color-scheme: dark" in source
    assert source.count("<svg") == 2
    assert "Thread 0 started" in source


def test_lessons_are_read_without_being_run() -> None:
    lesson = read("blocking")
    assert lesson.title == "Blocking Operations"
    assert "import threading" in lesson.shared
    assert "__main__" not in lesson.shared
    assert list(lesson.versions) == ["with_stdlib", "with_plait"]
    assert lesson.versions["with_stdlib"].startswith("def with_stdlib(delay: float)")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_interrupt_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    code = "from plait.lab.tour import tour; tour('processes', delay=30.0)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    while not list(tmp_path.glob("plait-tour-*/plait-spans-*")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in errors
    assert list(tmp_path.iterdir()) == []
    for other in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert f"TMPDIR={tmp_path}" not in other.read_text(errors="replace")
        except OSError:
            continue


def test_the_result_is_ok_only_if_nothing_failed() -> None:
    assert TourResult((), 0.1, 0.0).ok
