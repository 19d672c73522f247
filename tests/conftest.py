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


def warm_up() -> None:
    import plait

    process = plait.Process(target=int)
    process.start()
    process.join()
    process.close()


def settle() -> list[int]:
    """Waits until the zygote has made its spares; their pids."""
    from plait import _zygote

    zygote, deadline = _zygote._zygote, time.monotonic() + 10
    if zygote is None:
        return []
    try:
        zygote.refill()  # an interrupted start may have left one spare too few
    except ConnectionResetError:  # it was killed; the next start makes another one
        warm_up()
        return settle()
    while True:
        spares, wanted = zygote.spares
        if len(spares) >= wanted:
            return spares
        assert time.monotonic() < deadline, "the zygote makes no spares"
        time.sleep(0.002)


def possessions() -> tuple[set[int], int]:
    """This process's children by pid, zombies included, and how many descriptors it has open:
    but for the zygote and its spares, of which there may be more or fewer."""
    from plait import _zygote

    spares = settle()
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    if _zygote._zygote is not None:
        found -= {_zygote._zygote.pid or 0, *spares}
    # A spare has a channel and a pidfd.
    return found, len(os.listdir("/proc/self/fd")) - 2 * len(spares)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fails when the test leaves a descriptor or a child process behind."""
    from multiprocessing import resource_tracker

    # What the standard library and plait keep for the next use is there before and after.
    resource_tracker.ensure_running()
    warm_up()
    before = possessions()
    yield
    assert possessions() == before
