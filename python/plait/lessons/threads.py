"""Threads

Every process has at least one thread, the main one. Threads are what actually runs; all
threads of a process share its memory, so a variable that one changes is changed for all.
They end with their process.

Sharing is handy and dangerous: a thread that reads a variable, is held up, and then writes
what it computed from the old value undoes what others wrote in between. Below, two threads
add to one counter, first without a lock, where additions may get lost, then with one.
"""

import threading
import time
from contextlib import AbstractContextManager, nullcontext

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span

counter = 0  # one variable, shared by all threads


def task(delay: float) -> None:
    global counter
    counter = 0
    for i in range(5):
        print(f"Thread {i} started")
        with span(f"{i}", "sleep"):
            time.sleep(delay)
        counter += 1
        print(f"Thread {i} finished")


def add(times: int, lock: AbstractContextManager[object]) -> None:
    global counter
    for _ in range(times):
        with lock:
            seen = counter  # read ...
            time.sleep(0)  # ... let the other thread run ...
            counter = seen + 1  # ... and write


def race(thread_class: type[threading.Thread], lock: AbstractContextManager[object]) -> int:
    global counter
    counter = 0
    threads = [thread_class(target=add, args=(200, lock)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counter


def with_stdlib(delay: float) -> None:
    thread = threading.Thread(target=task, args=(delay,))
    thread.start()
    print("Main thread ended")
    with span("join", "idle", holder=thread.name):
        thread.join()
    print(f"In the main thread: counter = {counter}")
    bare = race(threading.Thread, nullcontext())
    locked = race(threading.Thread, threading.Lock())
    print(f"2 x 200 additions: {bare} unlocked, {locked} locked")


def with_plait(delay: float) -> None:
    thread = plait.Thread(target=task, args=(delay,))
    thread.start()
    print("Main thread ended")
    with span("join", "idle", holder=thread.name):
        thread.join()
    print(f"In the main thread: counter = {counter}")
    bare = race(plait.Thread, nullcontext())
    locked = race(plait.Thread, threading.Lock())
    print(f"2 x 200 additions: {bare} unlocked, {locked} locked")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
