"""Tasks that are no way to treat a worker, and uses that are no way to treat a pool."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from . import pools, tasks
from .cases import check_rest
from .trial import Trial, case

# ---- what tasks raise and return ------------------------------------------------------------


def raised(name: str, title: str) -> None:
    def run(trial: Trial) -> None:
        with trial.pool() as pool:
            trial.among(pool, name, tasks.raise_named, name)

    run.__name__ = f"raises_{name}"
    case(title)(run)


raised("Stop", "a task raises a BaseException")
raised("KeyboardInterrupt", "a task raises KeyboardInterrupt")
raised("GeneratorExit", "a task raises GeneratorExit")
raised("StopIteration", "a task raises StopIteration")
raised("ExceptionGroup", "a task raises an ExceptionGroup")


@case("an exception whose message is 64 MB long")
def long_message(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "ValueError: x{1000}", tasks.raise_long, 64 << 20)


@case("an exception whose `__str__` raises")
def unprintable(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "Unprintable", tasks.raise_unprintable)


@case("a result that takes long to pickle delays no other", group="many tasks")
def slow_result(trial: Trial) -> None:
    with trial.pool() as pool:
        others_are_done = trial.marker("done")
        handle = pool.submit(tasks.slow_result, others_are_done, pools.PATIENCE / 2)
        outcomes = pool.batch([(tasks.square, (n,)) for n in range(50)])
        Path(others_are_done).touch()
        check_rest(trial, list(outcomes))
        slow = pool.outcome(handle)
        trial.check("value", slow.error is None and not slow.hung, slow.text())
        trial.check("prompt", slow.is_value("others were done"), slow.text())
        del handle  # which may hold on to its pool


@case("a value that takes its time to be dropped", group="many tasks")
def slow_end(trial: Trial) -> None:
    with trial.pool() as pool:
        outcomes = pool.batch([(tasks.slow_end, ()) for _ in range(4)])
        trial.check("rest", all(o.is_value(1) for o in outcomes), outcomes[0].text())


# ---- what tasks do to their worker -------------------------------------------------------------


def around(trial: Trial, fn: Any, *args: Any, lost: int = 1) -> None:
    """Good tasks after the bad one; `lost` of all may fail, by the fault they were given."""
    with trial.pool() as pool:
        outcomes = pool.batch([(fn, args)])
        outcomes += pool.batch([(tasks.square, (n,)) for n in range(20)])
        hung = [o for o in outcomes if o.hung]
        trial.check("fails", not hung, hung[0].text() if hung else "")
        wrong = [o for n, o in enumerate(outcomes[1:]) if not o.is_value(n * n)]
        wrong += [o for o in outcomes[:1] if o.error is not None]
        trial.check(
            "rest", len(wrong) <= lost, f"{len(wrong)} lost: {wrong[0].text()}" if wrong else ""
        )


@case("a task forks, and both copies return", group="worker")
def fork_in_task(trial: Trial) -> None:
    around(trial, tasks.fork_and_both_return)


@case("a task leaves a forked process for 3 s", group="worker")
def fork_stays(trial: Trial) -> None:
    around(trial, tasks.fork_and_sleep, lost=0)


@case("a task closes every descriptor", group="worker")
def closes_all(trial: Trial) -> None:
    around(trial, tasks.close_descriptors, lost=2)


@case("a task closes stdout and stderr", group="worker")
def closes_output(trial: Trial) -> None:
    around(trial, tasks.close_output, lost=0)


@case("a task takes away the right to open files", group="worker")
def takes_descriptors(trial: Trial) -> None:
    around(trial, tasks.no_descriptors_at_all, lost=1)


@case("a task spoils the interpreter's state", group="worker")
def vandal(trial: Trial) -> None:
    around(trial, tasks.vandal, lost=1)


@case("a task leaves a thread that runs", group="worker")
def leaves_thread(trial: Trial) -> None:
    around(trial, tasks.leave_thread, lost=0)


@case("a task leaves a daemonic process", group="worker")
def leaves_daemon(trial: Trial) -> None:
    around(trial, tasks.leave_daemon, lost=0)


@case("a task that ignores SIGTERM and ^C is cancelled", group="worker")
def ignores_signals(trial: Trial) -> None:
    with trial.pool() as pool:
        started = trial.marker("started")
        handle = pool.submit(tasks.ignore_signals, started)
        trial.check("runs", pools.wait_for(lambda: os.path.exists(started)))
        pool.cancel(handle)
        trial.judge(pool.outcome(handle), "cancel")


@case("a task stops its worker (SIGSTOP), with a time limit", group="worker")
def stops(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "time", tasks.stop_self, timeout=1)


@case("shutdown while an idle worker is stopped (SIGSTOP)", group="worker")
def stopped_at_shutdown(trial: Trial) -> None:
    with trial.pool(usable=False) as pool:
        pids = {o.value for o in pool.batch([(tasks.pid, (0.2,)) for _ in range(2)])}
        os.kill(min(pids), signal.SIGSTOP)


@case("a pool inside a task", group="worker")
def nested(trial: Trial) -> None:
    with trial.pool() as pool:
        outcomes = pool.batch([(tasks.nested, (trial.library, 6)) for _ in range(2)])
        for outcome in outcomes:
            trial.check("value", outcome.is_value([n * n for n in range(6)]), outcome.text())


# ---- what programs do to their pool -------------------------------------------------


@case("8 threads submit 500 tasks each", group="many tasks")
def threads(trial: Trial) -> None:
    with trial.pool() as pool:
        lists: list[list[pools.Outcome]] = [[] for _ in range(8)]

        def work(found: list[pools.Outcome]) -> None:
            found.extend(pool.batch([(tasks.square, (n,)) for n in range(500)]))

        workers = [threading.Thread(target=work, args=(found,)) for found in lists]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for found in lists:
            trial.check("count", len(found) == 500, len(found))
            check_rest(trial, list(found))


@case("tasks are submitted from callbacks", group="many tasks")
def callbacks(trial: Trial) -> None:
    with trial.pool() as pool:
        done = threading.Event()
        values = []

        def go_on(handle: Any) -> None:
            values.append(handle.result())
            if len(values) < 200:
                pool.submit(tasks.square, len(values)).add_done_callback(go_on)
            else:
                done.set()

        first = pool.submit(tasks.square, 0)
        if not hasattr(first, "add_done_callback"):
            trial.skip("callbacks")
        first.add_done_callback(go_on)
        trial.check("ends", done.wait(pools.PATIENCE))
        trial.check("rest", values == [n * n for n in range(200)], values[:5])


@case("1,000 tasks are cancelled while they run, wait or end", group="many tasks")
def races(trial: Trial) -> None:
    with trial.pool() as pool:
        if not hasattr(pool.submit(tasks.square, 1), "cancel"):
            trial.skip("cancel")
        handles = [pool.submit(tasks.square, n) for n in range(1000)]
        cancelled = [n % 2 == 0 and handle.cancel() for n, handle in enumerate(handles)]
        outcomes = [pool.outcome(handle) for handle in handles]
        wrong = [
            o
            for n, (o, gone) in enumerate(zip(outcomes, cancelled, strict=True))
            if not (type(o.error).__name__ == "CancelledError" if gone else o.is_value(n * n))
        ]
        trial.check("rest", not wrong, f"{len(wrong)}: {wrong[0].text()}" if wrong else "")
