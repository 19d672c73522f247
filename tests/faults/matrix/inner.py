"""Programs whose own fate is the fault: interrupted, killed, ended, forked."""

from __future__ import annotations

import os
import sys
import threading

from . import pools, tasks

ROLES = {}


def role(fn):
    ROLES[fn.__name__] = fn
    return fn


def ready(*words: object) -> None:
    print("ready", *words, flush=True)


@role
def many(library: str) -> None:
    """More work than there is time for, as most programs would write it."""
    with pools.POOLS[library](2) as pool:
        calls = [(tasks.nap, (0.5,)) for _ in range(400)]
        if library == "joblib":
            threading.Timer(1.5, ready).start()
            for _ in pool.map(tasks.nap, [0.5] * 400):
                pass
            return
        handles = [pool.submit(fn, *args) for fn, args in calls]
        pool.outcome(handles[1], 30)
        ready()
        # As handle.result() would: what the wait raises must come through.
        (getattr(handles[-1], "result", None) or handles[-1].get)()


@role
def idle(library: str) -> None:
    pool = pools.POOLS[library](2)
    pids = {o.value for o in pool.batch([(tasks.pid, (0.3,)) for _ in range(4)])}
    ready(*pids)
    threading.Event().wait(60)


@role
def busy(library: str) -> None:
    """Workers in the middle of a computation that never looks up."""
    pool = pools.POOLS[library](2)
    calls = [(tasks.spin, (600,)) for _ in range(4)]
    if library == "joblib":
        threading.Timer(1.5, ready).start()
        pool.batch(calls)
    handles = [pool.submit(fn, *args) for fn, args in calls]
    pool.outcome(handles[0], 1.0)
    ready()
    threading.Event().wait(60)


@role
def ends_early(library: str) -> None:
    """The program ends while tasks run and wait; nobody closed the pool."""
    pool = pools.POOLS[library](2)
    started = os.path.join(os.environ["TMPDIR"], "case-started")
    pool.submit(tasks.announce, started, 0.5)
    for _ in range(6):
        pool.submit(tasks.nap, 0.3)
    pools.wait_for(lambda: os.path.exists(started))
    ready()


@role
def raises_early(library: str) -> None:
    ends_early(library)
    raise RuntimeError("the program fails")


@role
def dropped(library: str) -> None:
    """The pool is dropped, in a cycle, not shut down; and the program goes on for a while."""
    import gc

    pool = pools.POOLS[library](2)
    pool.batch([(tasks.square, (n,)) for n in range(4)])
    pool.me = pool  # type: ignore[attr-defined]
    del pool
    gc.collect()
    from .trial import children, keepers

    gone = pools.wait_for(lambda: not children() - keepers(), 5)
    ready("gone" if gone else "stay")


@role
def forks(library: str) -> None:
    """A copy of the program made by os.fork() ends as programs do; the pool goes on."""
    pool = pools.POOLS[library](2)
    before = pool.batch([(tasks.square, (n,)) for n in range(4)])
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    after = pool.batch([(tasks.square, (n,)) for n in range(8)])
    pool.close()
    fine = status == 0 and all(o.is_value(n * n) for n, o in enumerate(after))
    ready("fine" if fine and len(before) == 4 else f"{status} {after[0].text()}")


@role
def fork_uses_own(library: str) -> None:
    """The copy makes a pool of its own."""
    pool = pools.POOLS[library](2)
    pool.batch([(tasks.square, (n,)) for n in range(4)])
    pid = os.fork()
    if pid == 0:
        mine = pools.POOLS[library](2)
        outcomes = mine.batch([(tasks.square, (n,)) for n in range(8)])
        mine.close()
        os._exit(not all(o.is_value(n * n) for n, o in enumerate(outcomes)))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    after = pool.batch([(tasks.square, (n,)) for n in range(8)])
    pool.close()
    fine = all(o.is_value(n * n) for n, o in enumerate(after))
    ready("fine" if status == 0 and fine else f"{status} {after[0].text()}")


@role
def fork_uses_ours(library: str) -> None:
    """The copy gives work to its parent's pool, whose workers are not its own: an error."""
    pool = pools.POOLS[library](2)
    pool.batch([(tasks.square, (n,)) for n in range(4)])
    pid = os.fork()
    if pid == 0:
        outcomes = pool.batch([(tasks.square, (n,)) for n in range(8)])
        values = all(o.is_value(n * n) for n, o in enumerate(outcomes))
        errors = all(o.error is not None for o in outcomes)
        os._exit(0 if values or errors else 1)
    after = pool.batch([(tasks.square, (n + 10,)) for n in range(8)])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    pool.close()
    fine = all(o.is_value((n + 10) ** 2) for n, o in enumerate(after))
    ready("fine" if status == 0 and fine else f"{status} {after[0].text()}")


@role
def killed_by_task(library: str) -> None:
    """A task kills its parent: there is nothing to save, and nothing to be left."""
    pool = pools.POOLS[library](2)
    import signal

    ready()
    calls = [(tasks.kill_parent, (signal.SIGKILL,)), (tasks.spin, (600,))]
    pool.batch(calls)


def main(name: str, library: str) -> None:
    ROLES[name](library)
