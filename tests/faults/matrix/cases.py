"""Faults of one task, and of what it is given: each must be that task's alone."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

from . import pools, tasks
from .pools import Outcome
from .trial import Trial, case

# ---- a worker dies ------------------------------------------------------------------------


@case("a worker is killed by SIGKILL")
def killed(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"SIGKILL|signal 9|-9\b", tasks.kill_self, signal.SIGKILL)


@case("a worker is ended by SIGTERM")
def terminated(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"SIGTERM|signal 15|-15\b", tasks.kill_self, signal.SIGTERM)


@case("a segmentation fault")
def segfault(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"SIGSEGV|signal 11|-11\b", tasks.segfault)


@case("`os._exit(3)` in a task")
def exits(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"exit.{0,20}\b3\b", tasks.leave, 3)


@case("`sys.exit(3)` in a task")
def sys_exit(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"exit.{0,20}\b3\b", tasks.sys_exit, 3)


@case("more memory than `memory=` allows")
def memory_limit(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, r"memory", tasks.allocate, 1 << 30, memory=200 << 20)


@case("every worker is killed at once", group="many tasks")
def all_killed(trial: Trial) -> None:
    with trial.pool() as pool:
        calls: list[Any] = [(tasks.square, (n,)) for n in range(20)]
        for place in (3, 4, 9, 10, 11, 12):
            calls[place] = (tasks.kill_self, (signal.SIGKILL,))
        outcomes = pool.batch(calls)
        dead = [o for o, call in zip(outcomes, calls, strict=True) if call[0] is tasks.kill_self]
        trial.check("fails", all(o.error is not None for o in dead))
        check_rest(
            trial,
            [o if c[0] is tasks.square else None for o, c in zip(outcomes, calls, strict=True)],
        )


def check_rest(trial: Trial, outcomes: list[Outcome | None]) -> None:
    wrong = [o for n, o in enumerate(outcomes) if o is not None and not o.is_value(n * n)]
    trial.check("rest", not wrong, f"{len(wrong)} lost: {wrong[0].text()}" if wrong else "")


@case("an idle worker is killed between tasks")
def idle_killed(trial: Trial) -> None:
    with trial.pool(2) as pool:
        pids = {o.value for o in pool.batch([(tasks.pid, (0.2,)) for _ in range(2)])}
        for pid in pids - {None}:
            os.kill(pid, signal.SIGKILL)
        outcomes = pool.batch([(tasks.square, (n,)) for n in range(8)])
        # One task may be given to a worker whose death is not known yet, but is not lost.
        check_rest(trial, list(outcomes))


# ---- what cannot travel ---------------------------------------------------------------------


@case("an argument that cannot be pickled")
def argument(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "generator", tasks.identity, tasks.generator_result())


@case("a result that cannot be pickled")
def result(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "generator", tasks.generator_result)


@case("an exception that cannot be pickled")
def exception(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "a reason that does not travel", tasks.raise_unpicklable)


@case("an exception that unpickles to another error")
def changed_exception(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "the key is lost at sea", tasks.raise_two_arguments)


@case("a result whose unpickling fails in the parent")
def bursting_result(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "it burst while it was unpickled", tasks.bursting_result)


@case("an argument whose unpickling fails in the worker")
def bursting_argument(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "it burst while it was unpickled", tasks.identity, tasks.Bursts())


@case("an argument whose `__reduce__` raises")
def reduce_raises(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "this one stays here", tasks.identity, tasks.ReduceRaises())


@case("a structure that holds itself")
def recursive(trial: Trial) -> None:
    with trial.pool() as pool:
        items: list[Any] = [1]
        items.append(items)
        (outcome,) = pool.batch([(tasks.size, (items,))])
        trial.check("value", outcome.is_value(2), outcome.text())


@case("an argument too deep to pickle")
def deep(trial: Trial) -> None:
    with trial.pool() as pool:
        value = tasks.deep(100_000)
        trial.among(pool, "recursion", tasks.identity, value)
        while value:
            value = value.pop()


@case("a result too deep to pickle")
def deep_result(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "recursion", tasks.deep, 100_000)


@case("endless recursion in a task")
def recursion(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "RecursionError", tasks.recurse)


# ---- limits and cancellation ------------------------------------------------------------------


@case("a task over its time limit")
def timeout(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "time", tasks.nap, 60, timeout=0.5)


@case("cancelling a task that runs")
def cancel(trial: Trial) -> None:
    with trial.pool() as pool:
        started = trial.marker("started")
        handle = pool.submit(tasks.announce, started, 60)
        others = [pool.submit(tasks.square, n) for n in range(8)]
        trial.check("runs", pools.wait_for(lambda: os.path.exists(started)))
        trial.check("fails", pool.cancel(handle))
        trial.judge(pool.outcome(handle), "cancel")
        check_rest(trial, [pool.outcome(other) for other in others])


@case("a task in a deadlock is cancelled")
def deadlocked(trial: Trial) -> None:
    with trial.pool() as pool:
        started = trial.marker("started")
        handle = pool.submit(tasks.deadlock, started)
        trial.check("runs", pools.wait_for(lambda: os.path.exists(started)))
        pool.cancel(handle)
        trial.judge(pool.outcome(handle), "cancel")


@case("the initializer fails", group="pool")
def initializer(trial: Trial) -> None:
    # The one fault that may end the pool; each task must learn of it.
    trial.warm_up()
    try:
        pool = trial.open(initializer=tasks.failing_initializer)
        with trial.step("run"):
            outcomes = pool.batch([(tasks.square, (n,)) for n in range(4)])
        for outcome in outcomes:
            trial.judge(outcome, "initializer")
        with trial.step("close"), contextlib.suppress(Exception):
            pool.close()
        pool.forget()
    except (TypeError, ValueError) as error:
        if "initializer" not in str(error) or "unexpected" in str(error):
            trial.skip(f"initializer: {error}")
        trial.judge(Outcome(error=error), "initializer")
    trial.clean()


# ---- many deaths --------------------------------------------------------------------------------


def judge_deaths(trial: Trial, outcomes: list[Outcome], wanted: list[Any], deaths: int) -> None:
    wrong = [o for o, value in zip(outcomes, wanted, strict=True) if not o.is_value(value)]
    values = [o for o in wrong if o.error is None and not o.hung]
    trial.check("right", not values, f"{len(values)} wrong results")
    # A death costs the task that ran, so at most one each; which one is the timer's to decide.
    trial.check("rest", len(wrong) <= deaths, f"{len(wrong)} lost by {deaths} deaths")
    hung = [o for o in wrong if o.hung]
    trial.check("fails", not hung, hung[0].text() if hung else "")
    named = [o for o in wrong if not re.search(r"SIG(ALRM|KILL)|signal (14|9)", o.text())]
    trial.check("named", not named, named[0].text() if named else "")


@case("10,000 tasks, 1 % of which kill their worker", seconds=180, group="many tasks")
def random_kills(trial: Trial) -> None:
    with trial.pool() as pool:
        with trial.step("10,000 tasks", 120 * pools.slack):
            outcomes = pool.batch([(tasks.some_die, (n,)) for n in range(10_000)])
        dead = [o for n, o in enumerate(outcomes) if n % 100 == 37]
        survived = [o for o in dead if o.error is None]
        trial.check("fails", not survived, survived[0].text() if survived else "")
        judge_deaths(trial, outcomes, list(range(10_000)), 100)


@case("workers die while they write results of 4 B to 200 KB", seconds=180, group="many tasks")
def dies_writing(trial: Trial) -> None:
    lengths = [4, 100, 4_000, 20_000, 64_000, 200_000]
    with trial.pool() as pool, trial.step("stream", 120 * pools.slack):
        count = 1200
        sizes = [lengths[n % len(lengths)] for n in range(count)]
        armed = [n % 13 == 5 for n in range(count)]
        calls = [(tasks.stream, (n, sizes[n], armed[n], 0.002)) for n in range(count)]
        wanted = [tasks.payload(n, sizes[n]) for n in range(count)]
        judge_deaths(trial, pool.batch(calls), wanted, sum(armed))


@case(
    "workers die while they hold large blocks (4 MB there and back)",
    seconds=180,
    group="many tasks",
)
def dies_holding(trial: Trial) -> None:
    length = 4 << 20
    with trial.pool() as pool, trial.step("blocks", 120 * pools.slack):
        held = [0]
        for part in range(12):
            numbers = range(part * 20, part * 20 + 20)
            calls = [
                (tasks.stream, (n, length, n % 5 == 2, 0.01, tasks.payload(n, length)))
                for n in numbers
            ]
            wanted = [tasks.payload(n, length) for n in numbers]
            judge_deaths(trial, pool.batch(calls), wanted, 4)
            held.append(memory("RssShmem"))
        # Blocks that the dead held are used again: 48 deaths would hold 384 MB.
        trial.check("memory", held[-1] <= held[4] + (64 << 20), held)


def memory(kind: str) -> int:
    """Bytes of this process's memory, of a kind that /proc tells."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{kind}:\s+(\d+)", status)[1]) << 10  # type: ignore[index]
