"""Shared fixtures: every test must leave the machine as it found it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs source code as a script of its own, as a user would, and returns how it went."""

    def run(
        source: str, *, timeout: float = 40, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, str(path)], capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """The pids of this process's children, zombies included, the zygote and its spares excepted."""
    from plait import _zygote

    _zygote.refill()  # an interrupted start may have left one spare too few
    zygote = _zygote._zygote
    # A spare is a child from its fork on, and known as one a moment later.
    deadline = time.monotonic() + 10
    while zygote is not None and len(zygote.spares) < _zygote._SPARES:
        assert time.monotonic() < deadline, "the zygote makes no spares"
        time.sleep(0.002)
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found - {zygote.pid, *zygote.spares} if zygote is not None else found


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fails when the test leaves a descriptor or a child process behind."""
    from multiprocessing import resource_tracker

    import plait

    # What the standard library and plait keep for the next use is there before and after.
    resource_tracker.ensure_running()
    warm_up = plait.Process(target=int)
    warm_up.start()
    warm_up.join()
    warm_up.close()
    before = children(), descriptors()
    yield
    assert (children(), descriptors()) == before
