"""What runs in the workers. In a module, so that every library can send it by name."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def square(n: int) -> int:
    return n * n


def nap(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


def identity(value: Any) -> Any:
    return value


def size(value: Any) -> int:
    return len(value)


def pid(seconds: float = 0) -> int:
    time.sleep(seconds)
    return os.getpid()


def kill_self(number: int) -> None:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    time.sleep(60)


def segfault() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def sys_exit(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def allocate(count: int) -> int:
    return len(bytearray(count))


def some_die(n: int) -> int:
    """One of a hundred kills its worker."""
    if n % 100 == 37:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def announce(path: str, seconds: float) -> None:
    """Makes the file, so that the parent knows that this runs, and sleeps."""
    Path(path).touch()
    time.sleep(seconds)


def payload(n: int, length: int) -> bytes:
    return n.to_bytes(4, "little") * (length // 4)


def stream(n: int, length: int, arm: bool, within: float, argument: bytes = b"") -> bytes:
    """A result of its own; with `arm` the worker is killed some moments later, by a timer of
    the kernel's: while it writes this result, or another, or holds what it was sent."""
    if arm:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, random.Random(n).random() * within))
    return payload(n, length)


def fail(message: str) -> None:
    raise ValueError(message)


def failing_initializer() -> None:
    raise ValueError("the initializer says no")


# ---- what doesn't travel ------------------------------------------------------------------


def generator_result() -> Any:
    return (n for n in range(3))


class HasGenerator(Exception):
    """Cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.part = (n for n in range(3))


def raise_unpicklable() -> None:
    raise HasGenerator("a reason that does not travel")


class TwoArguments(Exception):
    """Pickles, but its unpickling is a TypeError: the commonest mistake there is."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} is lost at {where}")


def raise_two_arguments() -> None:
    raise TwoArguments("the key", "sea")


def burst(message: str) -> None:
    raise LookupError(message)


class Bursts:
    """Pickles; unpickling it raises."""

    def __reduce__(self) -> Any:
        return burst, ("it burst while it was unpickled",)


def bursting_result() -> Bursts:
    return Bursts()


class ReduceRaises:
    def __reduce__(self) -> Any:
        raise RuntimeError("this one stays here")


class Slow:
    """Is pickled, as a word about it, when a file is there, or after some time."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path, self.seconds = path, seconds

    def __reduce__(self) -> Any:
        end = time.monotonic() + self.seconds
        while not os.path.exists(self.path):
            if time.monotonic() > end:
                return str, ("others were held up",)
            time.sleep(0.005)
        return str, ("others were done",)


class SlowEnd:
    """Takes its time to be dropped."""

    def __del__(self) -> None:
        time.sleep(0.5)


def slow_result(path: str, seconds: float) -> Slow:
    return Slow(path, seconds)


def slow_end() -> int:
    end = SlowEnd()
    return len([end])


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")

    __repr__ = __str__


def raise_unprintable() -> None:
    raise Unprintable


class Stop(BaseException):
    pass


RAISED: dict[str, BaseException] = {
    "Stop": Stop("no Exception"),
    "KeyboardInterrupt": KeyboardInterrupt("raised by the task"),
    "GeneratorExit": GeneratorExit("raised by the task"),
    "StopIteration": StopIteration("raised by the task"),
    "ExceptionGroup": ExceptionGroup("raised by the task", [ValueError("one"), OSError("two")]),
}


def raise_named(name: str) -> None:
    raise RAISED[name]


def raise_long(length: int) -> None:
    raise ValueError("x" * length)


def deep(depth: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(depth):
        result = [result]
    return result


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


# ---- what is no way to treat a worker ------------------------------------------------------


def fork_and_both_return() -> int:
    """A fork whose child, too, returns from the task, and so into the pool's code."""
    os.fork()
    return os.getpid()


def fork_and_sleep() -> int:
    """A child that keeps the worker's descriptors open for a while."""
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    return 1


def close_descriptors() -> int:
    os.closerange(3, 4096)
    return 1


def close_output() -> int:
    sys.stdout.close()
    sys.stderr.close()
    return 1


def ignore_signals(path: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    announce(path, 600)


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return 1


def leave_daemon() -> int:
    """A daemonic child process of the worker."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(
        target=time.sleep, args=(600,), daemon=True
    )
    process.start()
    return process.pid or 0


def deadlock(path: str) -> None:
    Path(path).touch()
    lock = threading.Lock()
    with lock, lock:
        pass


def no_descriptors_at_all() -> int:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    return 1


def vandal() -> int:
    """Leaves the interpreter in a poor state."""
    import builtins
    import gc

    sys.setrecursionlimit(60)
    gc.disable()
    os.chdir("/")
    os.environ.clear()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.setsid() if os.getpid() != os.getsid(0) else None
    del builtins.print
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return 1


def kill_parent(number: int) -> None:
    os.kill(os.getppid(), number)
    time.sleep(60)


def nested(library: str, n: int) -> list[int]:
    from . import pools

    pool = pools.POOLS[library](2)
    try:
        return [outcome.value for outcome in pool.batch([(square, (k,)) for k in range(n)])]
    finally:
        pool.close()


def bytes_of(length: int) -> bytes:
    return bytes(length)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
