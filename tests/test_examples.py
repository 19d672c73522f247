"""Each example runs alone, as a learner would run it."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE
from plait.lessons import SECTIONS

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def test_there_is_one_for_each_section() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*SECTIONS, "callbacks"}


@pytest.mark.parametrize("name", SECTIONS)
def test_example(name: str) -> None:
    done = run(name, "--delay", "0.01")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "=== Standard library ===" in done.stdout
    assert "=== plait ===" in done.stdout
    lines = done.stdout.splitlines()
    assert SECTIONS[name] == lines[0]
    expected = {
        "processes": "Main process completed",
        "threads": "Main thread ended",
        "blocking": "Main thread completed",
    }.get(name)
    if expected is not None:
        # Unbuffered, another process may come between a line and its end.
        assert done.stdout.count(expected) == 2


def test_blocking_comes_in_the_tutorials_order() -> None:
    lines = run("blocking", "--delay", "0.001").stdout.splitlines()
    start = lines.index("Background 0 started")
    assert lines[start + 9] == "Background 4 finished"
    assert lines[start + 10] == "Main thread completed"


def test_callbacks_get_each_result_while_the_main_thread_is_free() -> None:
    done = run("callbacks", "0.01")
    assert (done.returncode, done.stderr) == (0, "")
    for part in done.stdout.split("ThreadPoolExecutor:\n")[1:]:
        told = [line.split(" (")[0].strip() for line in part.splitlines() if "told by" in line]
        assert sorted(told) == ["0", "1", "4"]


def test_bad_delays_are_refused() -> None:
    for delay in ("-1", "nan", "soon"):
        done = run("serial", "--delay", delay)
        assert done.returncode == 2
        assert "--delay" in done.stderr
