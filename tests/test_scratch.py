"""The lab's folders, and what becomes of them when their owner is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE


def run(code: str, temporary: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


MAKE = "import os; from plait.lab.scratch import Scratch; one = Scratch('plait-x-')"


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_what_a_killed_owner_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    run(f"{MAKE}; os._exit(0)", tmp_path)
    (left,) = tmp_path.iterdir()
    kept = tmp_path / "plait-x-just-made"  # nobody has locked it yet
    kept.mkdir()
    run(f"{MAKE}; two = Scratch('plait-x-'); assert os.path.isdir(one.path)", tmp_path)
    assert list(tmp_path.iterdir()) == [kept] != [left]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_it_goes_at_the_owners_end_and_not_at_a_copys(tmp_path: Path) -> None:
    copy = "if not os.fork(): raise SystemExit"
    run(f"{MAKE}\n{copy}\nos.wait()\nassert os.path.isdir(one.path)", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_killed_leaves_none(tmp_path: Path) -> None:
    code = """
import multiprocessing, time
from plait.lab import compare
def hang_in_a_worker(n):
    if multiprocessing.current_process().name != "MainProcess": time.sleep(600)
report = compare(hang_in_a_worker, [1], models=["multiprocessing"], repeats=1, timeout=4.0)
print(report["multiprocessing"].reason)
"""
    assert "took longer" in run(code, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a group's members, by /proc")
def test_a_model_that_is_killed_leaves_no_semaphore(tmp_path: Path) -> None:
    """A resource tracker removes it, which must not be killed with the rest."""
    code = f"""
import multiprocessing, os, time
from plait.lab import compare
def hang_with_a_semaphore(n):
    if multiprocessing.current_process().name != "MainProcess":
        lock = multiprocessing.get_context("spawn").Lock()
        file = "/dev/shm/sem." + lock._semlock.name[1:]
        assert os.path.exists(file)
        with open({str(tmp_path / "name")!r}, "w") as told: told.write(file)
        time.sleep(600)
report = compare(
    hang_with_a_semaphore, [1], models=["multiprocessing"], repeats=1, timeout=4.0
)
print(report["multiprocessing"].reason)
"""
    assert "took longer" in run(code, tmp_path)
    assert not Path((tmp_path / "name").read_text()).exists()
