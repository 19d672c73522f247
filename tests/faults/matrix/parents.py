"""Faults of the parent: what becomes of a pool, and of its workers, when its program is
interrupted, killed, forked, or just ends. Each runs a role of `inner` and watches it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from . import pools, run
from .trial import STEP, Trial, case, marked


class Inner:
    """A program that runs a role."""

    def __init__(self, trial: Trial, role: str) -> None:
        self.trial = trial
        self.mark = uuid.uuid4().hex
        self.errors = Path(trial.folder) / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "matrix", "--inner", role, trial.library],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=run.environment(self.mark, trial.folder),
                start_new_session=True,
            )

    def ready(self) -> str:
        """The words that it says when it is ready."""
        assert self.process.stdout is not None
        with self.trial.step("ready"):
            while select.select([self.process.stdout], [], [], STEP)[0]:
                line = self.process.stdout.readline()
                if line.startswith("ready"):
                    return line.removeprefix("ready").strip()
                if not line:
                    break
        tail = self.errors.read_text()[-300:]
        raise pools.NotOffered(tail) if "NotOffered" in tail else AssertionError(tail)

    def gone(self, seconds: float) -> None:
        """Checks that all of its processes end within that time."""
        seconds *= pools.slack
        began = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        took = time.monotonic() - began
        fine = self.process.returncode is not None
        self.trial.check("ends", fine, f"{took:.1f} s" if fine else f"not within {seconds:g} s")
        left = seconds - took if fine else 0
        pools.wait_for(lambda: not marked(self.mark), max(2.0 * pools.slack, left))
        rest = marked(self.mark) - {self.process.pid}
        self.trial.check("clean", not rest, f"{len(rest)} processes stay" if rest else "")


@contextlib.contextmanager
def inner(trial: Trial, role: str) -> Iterator[Inner]:
    program = Inner(trial, role)
    try:
        with trial.step("watch", 60 * pools.slack):
            yield program
    finally:
        run.end_all(program.mark)
        program.process.wait()


def interrupted(trial: Trial, times: int) -> None:
    with inner(trial, "many") as program:
        program.ready()
        for count in range(times):
            if count:
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGINT)  # what a terminal does
        program.gone(5)
        told = program.errors.read_text()
        # The second may come while Python writes of the first.
        fine = "KeyboardInterrupt" in told or program.process.returncode == -signal.SIGINT
        trial.check("named", fine, told[-200:])
        if times == 1:
            tracebacks = told.count("Traceback (most recent call last)")
            trial.check("once", tracebacks == 1, f"{tracebacks} tracebacks")


@case("^C with tasks queued ends all within 5 s", group="program")
def interrupt(trial: Trial) -> None:
    interrupted(trial, 1)


@case("^C twice", group="program")
def interrupt_twice(trial: Trial) -> None:
    interrupted(trial, 2)


@case("the parent is killed, its workers idle", group="program")
def parent_killed_idle(trial: Trial) -> None:
    with inner(trial, "idle") as program:
        program.ready()
        program.process.kill()
        program.gone(5)


@case("the parent is killed, its workers busy", group="program")
def parent_killed_busy(trial: Trial) -> None:
    with inner(trial, "busy") as program:
        program.ready()
        program.process.kill()
        program.gone(5)


@case("a task kills the parent", group="program")
def parent_killed_by_task(trial: Trial) -> None:
    with inner(trial, "killed_by_task") as program:
        program.ready()
        program.gone(8)


@case("the program ends while tasks run", group="program")
def exit_with_tasks(trial: Trial) -> None:
    with inner(trial, "ends_early") as program:
        program.ready()
        program.gone(10)
        told = program.errors.read_text()
        trial.check("status", program.process.returncode == 0, program.process.returncode)
        trial.check("quiet", not told, told[-200:])


@case("the program fails while tasks run", group="program")
def failure_with_tasks(trial: Trial) -> None:
    with inner(trial, "raises_early") as program:
        program.ready()
        program.gone(10)
        told = program.errors.read_text()
        trial.check("status", program.process.returncode == 1, program.process.returncode)
        trial.check("quiet", told.count("Traceback") == 1, told[-200:])


@case("a pool is dropped, in a cycle, not shut down", group="program")
def dropped(trial: Trial) -> None:
    with inner(trial, "dropped") as program:
        word = program.ready()
        trial.check("clean", word == "gone", f"its workers {word}")
        program.gone(10)


def watched(trial: Trial, role: str) -> None:
    with inner(trial, role) as program:
        word = program.ready()
        trial.check("rest", word == "fine", word)
        program.gone(10)


@case("the program forks by `os.fork`, and the copy ends", group="program")
def fork(trial: Trial) -> None:
    watched(trial, "forks")


@case("... and the copy makes a pool of its own", group="program")
def fork_own_pool(trial: Trial) -> None:
    watched(trial, "fork_uses_own")


@case("... and the copy uses its parent's pool", group="program")
def fork_parents_pool(trial: Trial) -> None:
    watched(trial, "fork_uses_ours")


# ---- programs that are unusual --------------------------------------------------------------


@case("the program has 1 GB of address space (`ulimit -v`)", group="around")
def little_address_space(trial: Trial) -> None:
    watched(trial, "little_address_space")


@case("the program has no stdin, stdout and stderr", group="around")
def no_standard_files(trial: Trial) -> None:
    watched(trial, "no_standard_files")


@case("the program's current directory is gone", group="around")
def no_folder(trial: Trial) -> None:
    watched(trial, "no_folder")


@case("the program ignores SIGCHLD", group="around")
def ignores_children(trial: Trial) -> None:
    watched(trial, "ignores_children")


@case("a thread of the program takes the status of every child; a worker is killed", group="around")
def waits_for_all(trial: Trial) -> None:
    watched(trial, "waits_for_all")
