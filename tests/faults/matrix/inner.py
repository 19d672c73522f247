"""Programs whose own fate is the fault: interrupted, killed, ended, forked."""

from __future__ import annotations

import os
import signal
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
        pool.outcome(handles[1], 30 * pools.slack)
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

    gone = pools.wait_for(lambda: not children() - keepers(), 5 * pools.slack)
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
    ready()
    calls = [(tasks.kill_parent, (signal.SIGKILL,)), (tasks.spin, (600,))]
    pool.batch(calls)


# ---- programs that are unusual ------------------------------------------------------------


def survives(library: str) -> None:
    """A worker dies, the rest goes on; as the case `killed`, in fewer words."""
    pool = pools.POOLS[library](2)
    good = [(tasks.square, (n,)) for n in range(8)]
    outcomes = pool.batch([*good[:4], (tasks.kill_self, (signal.SIGKILL,)), *good[4:]])
    dead = outcomes.pop(4)
    fine = dead.error is not None and all(o.is_value(n * n) for n, o in enumerate(outcomes))
    (large,) = pool.batch([(tasks.size, (bytes(8 << 20),))])
    pool.close()
    words = f"{dead.text()}; {outcomes[0].text()}; {large.text()}"
    ready("fine" if fine and large.is_value(8 << 20) else words)


@role
def works(library: str) -> None:
    """Nothing goes wrong but what is around it."""
    pool = pools.POOLS[library](2)
    outcomes = pool.batch([(tasks.square, (n,)) for n in range(8)])
    (large,) = pool.batch([(tasks.size, (bytes(8 << 20),))])
    pool.close()
    fine = all(o.is_value(n * n) for n, o in enumerate(outcomes)) and large.is_value(8 << 20)
    ready("fine" if fine else f"{outcomes[0].text()}; {large.text()}")


@role
def little_address_space(library: str) -> None:
    """As after `ulimit -v`."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    works(library)


@role
def no_standard_files(library: str) -> None:
    """As a service may be started; the word is said through a copy of stdout."""
    copy = os.dup(1)
    for fd in (0, 1, 2):
        os.close(fd)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    with open(copy, "w", closefd=False) as sys.stdout:
        works(library)


@role
def no_folder(library: str) -> None:
    """The current directory is gone."""
    folder = os.path.join(os.environ["TMPDIR"], "case-gone")
    os.mkdir(folder)
    os.chdir(folder)
    os.rmdir(folder)
    works(library)


@role
def ignores_children(library: str) -> None:
    """The kernel then keeps no exit status of children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    works(library)


@role
def waits_for_all(library: str) -> None:
    """Another part of the program waits for any child, and so takes away the workers' ends."""

    def reap() -> None:
        while True:
            try:
                os.wait()
            except ChildProcessError:
                threading.Event().wait(0.001)

    threading.Thread(target=reap, daemon=True).start()
    survives(library)


def main(name: str, library: str) -> None:
    # A program that a shell has put in the background would ignore it, and its children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ROLES[name](library)
