"""Concurrency

Concurrency means having several tasks under way at once by switching between them, often
enough that all make progress. It does not need two of them to run at the same instant: one
core is enough, and in CPython the global interpreter lock (the GIL) lets only one thread
run Python code at a time, however many cores there are.

The two threads below compute. The chart shows them take turns of about 5 ms, the
interpreter's switch interval; between its turns a thread stands waiting, which shows as a
gap or as "not decided". Together they take as long as one after the other would. plait's
threads are real threads under the same GIL, and compute no faster. On a free-threaded Python
both run at once.
"""

import sys
import threading
import time

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span


def compute(cpu_seconds: float) -> int:
    """Use up a fixed amount of processor time, in slices of some 50 µs."""
    slices = 0
    end = time.thread_time() + cpu_seconds
    while time.thread_time() < end:
        with span("computing", "gil"):
            sum(range(2_000))
        slices += 1
    return slices


def take_turns(thread_class: type[threading.Thread], delay: float) -> None:
    threads = [thread_class(name=name, target=compute, args=(delay,)) for name in ("ping", "pong")]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    print(f"Switch interval: {sys.getswitchinterval() * 1000:g} ms")
    print(f"2 threads, each {delay:g} s of computing, took {took:.3f} s")


def with_stdlib(delay: float) -> None:
    take_turns(threading.Thread, delay)


def with_plait(delay: float) -> None:
    take_turns(plait.Thread, delay)


if __name__ == "__main__":
    main(with_stdlib, with_plait)
