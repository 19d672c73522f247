"""What a case is written with: steps that may hang, checks, and the search for what is left.

Prints one line a check, ``check NAME ok|FAILS DETAIL``, and one a step begun, ``step NAME``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from . import pools, tasks
from .pools import Outcome, Pool

# The longest that one step may take before the case is ended: seconds.
STEP = 20.0 * pools.slack
# What goes away by itself, such as a worker that was told to end, has this long: seconds.
GRACE = 6.0 * pools.slack
# In the environment of a case's program, and so of every process that comes of it.
MARK = "PLAIT_FAULT_CASE"


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    run: Callable[[Trial], None]
    seconds: float
    group: str


CASES: dict[str, Case] = {}


def case(title: str, *, seconds: float = 90, group: str = "one task") -> Any:
    """Registers a case; `seconds` is the hard limit of its program."""

    def register(fn: Callable[[Trial], None]) -> Callable[[Trial], None]:
        CASES[fn.__name__] = Case(fn.__name__, title, fn, seconds, group)
        return fn

    return register


# ---- what is left ---------------------------------------------------------------------------


def marked(value: str) -> set[int]:
    """The processes, zombies not counted, whose environment holds the mark."""
    wanted = f"{MARK}={value}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def keepers() -> set[int]:
    """Processes that are kept for the next pool: plait's zygote with its spares, the resource
    trackers of several libraries, fork servers."""
    found = set()
    if "plait._zygote" in sys.modules:
        zygote = sys.modules["plait._zygote"]._zygote
        if zygote is not None:
            found |= {zygote.pid, *spares()}
    for pid in children():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"resource_tracker" in command or b"forkserver" in command:
                found.add(pid)
    return found


def spares() -> list[int]:
    """The pids of plait's spares: more or fewer of them, as they are used."""
    zygote = getattr(sys.modules.get("plait._zygote"), "_zygote", None)
    return zygote.spares[0] if zygote is not None else []


def children() -> set[int]:
    """Child processes, zombies included: a pool has to wait for its workers."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


class Trial:
    """One case of one library."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.make = pools.POOLS[library]
        self.folder = tempfile.mkdtemp(prefix="case-")
        self._fds: dict[str, str] = {}
        self._spares = 0
        self._steps: list[tuple[str, float]] = []

    # ---- steps and checks -----------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, name: str, limit: float = STEP) -> Iterator[None]:
        print(f"step {name}", flush=True)
        self._steps.append((name, time.monotonic() + limit))
        self._arm()
        try:
            yield
        finally:
            self._steps.pop()
            self._arm()

    def _arm(self) -> None:
        """Has the innermost step ended at its limit, even if all threads wait in C."""
        faulthandler.cancel_dump_traceback_later()
        if self._steps:
            left = max(0.1, self._steps[-1][1] - time.monotonic())
            faulthandler.dump_traceback_later(left, exit=True)

    def check(self, name: str, fine: bool, detail: object = "") -> bool:
        text = " ".join(str(detail).split())[:300]
        print(f"check {name} {'ok' if fine else 'FAILS'} {text}", flush=True)
        return fine

    def skip(self, reason: str) -> None:
        raise pools.NotOffered(reason)

    def marker(self, name: str) -> str:
        """The path of a file that a task may make to be seen."""
        return os.path.join(self.folder, name)

    # ---- pools -----------------------------------------------------------------------------

    def warm_up(self) -> None:
        """What a library keeps for the next pool is there before descriptors are counted."""
        with self.step("warm up"):
            resource_tracker.ensure_running()
            pool = self.make(2)
            pool.batch([(tasks.identity, (b"x" * (2 << 20),)) for _ in range(2)])
            pool.close()
            pool.forget()
            gc.collect()
            pools.wait_for(lambda: not children() - keepers(), GRACE)
        self._spares, self._fds = len(spares()), descriptors()

    def open(self, workers: int = 2, **options: Any) -> Pool:
        with self.step("open"):
            return self.make(workers, **options)

    @contextlib.contextmanager
    def pool(self, workers: int = 2, *, usable: bool = True, **options: Any) -> Iterator[Pool]:
        """A pool that is checked to be usable afterwards, and to leave nothing."""
        self.warm_up()
        pool = self.open(workers, **options)
        with self.step("run"):
            yield pool
        if usable:
            self.usable(pool)
        with self.step("close"):
            pool.close()
        pool.forget()
        self.check("ends", True)
        self.clean()

    def usable(self, pool: Pool) -> None:
        with self.step("use again"):
            outcomes = pool.batch([(tasks.square, (n,)) for n in range(8)])
        wrong = [o for n, o in enumerate(outcomes) if not o.is_value(n * n)]
        self.check("usable", not wrong, wrong[0].text() if wrong else "")

    def clean(self) -> None:
        """No child process, no descriptor more than before."""
        with self.step("clean"):
            gc.collect()
            deadline = time.monotonic() + GRACE
            # Judged by the look that found nothing: at the next one the zygote may just have
            # forked a spare that this process has not heard of.
            while (left := self._left()) and time.monotonic() < deadline:
                time.sleep(0.005)
        self.check("clean", not left, left)

    def _left(self) -> str:
        processes = children() - keepers()
        now, before = descriptors(), len(self._fds)
        before += 2 * (len(spares()) - self._spares)  # a channel and a pidfd for each
        text = f"{len(processes)} processes; " if processes else ""
        if len(now) > before:
            new = [target for name, target in now.items() if self._fds.get(name) != target]
            text += f"{len(now) - before} descriptors: {', '.join(sorted(new)[:4])}"
        return text

    # ---- the commonest case ------------------------------------------------------------------

    def among(self, pool: Pool, cause: str, fn: Callable[..., Any], *args: Any, **options: Any):
        """Runs the faulty call among good ones; `cause` is a pattern of what its error tells."""
        bad = (fn, args, options) if options else (fn, args)
        good = [(tasks.square, (n,)) for n in range(8)]
        calls = [(tasks.nap, (0.3, "slept")), *good[:2], bad, *good[2:]]
        outcomes = pool.batch(calls)
        faulty = outcomes.pop(3)
        self.judge(faulty, cause)
        expected = ["slept", *(n * n for n in range(8))]
        lost = [o for o, value in zip(outcomes, expected, strict=True) if not o.is_value(value)]
        self.check("rest", not lost, f"{len(lost)} lost: {lost[0].text()}" if lost else "")
        return faulty

    def judge(self, faulty: Outcome, cause: str) -> None:
        text = faulty.text()
        self.check("fails", faulty.error is not None, text)
        self.check("named", re.search(cause, text, re.IGNORECASE | re.DOTALL) is not None, text)


def main(library: str, name: str) -> None:
    trial = Trial(library)
    began = time.monotonic()
    try:
        CASES[name].run(trial)
    except pools.NotOffered as reason:
        print(f"check offered FAILS {reason}\ndone", flush=True)
        os._exit(0)
    except BaseException as error:
        trial.check("case", False, f"{type(error).__name__}: {error}")
        import traceback

        traceback.print_exc()
    print(f"done {time.monotonic() - began:.1f}\nstep exit", flush=True)
    faulthandler.dump_traceback_later(STEP, exit=True)
