"""Shared fixtures: every test must leave the machine as it found it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

# Who starts us in the background of a script has ^C ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long to wait for what is sure to come, so that only a hang takes as long: seconds.
PATIENCE = 120.0


def until(condition: Callable[[], object]) -> None:
    """Waits for what a thread or another process is about to do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_until_gone(pids: Iterable[int]) -> None:
    """Waits until these processes have ended; who reaps them may never do so."""
    deadline = time.monotonic() + PATIENCE
    for pid in pids:
        # By number, as an interpreter built on an old C library has no os.pidfd_open.
        pidfd = ctypes.CDLL(None).syscall(434, pid, 0)
        if pidfd >= 0:
            left = max(0.0, deadline - time.monotonic())
            has_ended = select.select([pidfd], [], [], left)[0]
            os.close(pidfd)
            assert has_ended, f"process {pid} goes on"


class Gate:
    """Holds tasks until it is opened: a pipe in the file system, which any worker can reach."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR)

    def open(self, count: int) -> None:
        """Lets so many tasks pass."""
        os.write(self._fd, b"x" * count)

    def leave_open(self) -> None:
        """Lets all pass, for tasks that a test has left, which failed."""
        os.unlink(self.path)
        Path(self.path).touch()
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.leave_open()


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs source code as a script of its own, as a user would, and returns how it went."""

    def run(
        source: str, *, timeout: float = PATIENCE, check: bool = True
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

    deadline = time.monotonic() + PATIENCE
    while (zygote := _zygote._zygote) is not None:
        try:
            zygote.refill()  # an interrupted start, or a death, may have left too few
        except ConnectionResetError:  # it was killed; the next start makes another one
            _zygote._shutdown()
            break
        spares, wanted = zygote.spares
        if len(spares) >= wanted:
            return spares
        assert time.monotonic() < deadline, "the zygote makes no spares"
        time.sleep(0.002)
    return []


def possessions() -> tuple[set[int], int]:
    """This process's children by pid, zombies included, and how many descriptors it has open.

    But for the zygote, which may not be there yet, or be another one, and for spares, which come
    and go: they are ended."""
    from plait import _zygote

    settle()
    gc.collect()
    zygote = _zygote._zygote
    if zygote is not None:
        zygote.drop_spares()
    children: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            children |= {int(pid) for pid in (task / "children").read_text().split()}
    descriptors = len(os.listdir("/proc/self/fd"))
    if zygote is not None:
        children.discard(zygote.pid or 0)
        descriptors -= 2  # a socket and a pidfd
    return children, descriptors


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fails when the test leaves a descriptor or a child process behind."""
    from multiprocessing import resource_tracker

    # What the standard library and plait keep for the next use is there before and after.
    resource_tracker.ensure_running()
    warm_up()
    before = possessions()
    settle()
    yield
    after = possessions()
    assert after == before, open_files()
