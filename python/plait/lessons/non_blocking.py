"""Non-blocking Operations

A non-blocking operation returns at once, whether or not what was asked for is ready; the
program can go on and ask again later. Here the main thread asks whether the background thread
is done, and does a piece of its own work each time that it is not.

Synchronous or asynchronous is about how tasks are scheduled: who waits for whose result.
Blocking or non-blocking is about what the calling thread does meanwhile: stand still or go
on. The same join() blocks without a timeout and does not with timeout=0.
"""

import threading
import time

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span


def background_work(delay: float) -> str:
    for i in range(3):
        print(f"Background {i} started")
        with span(f"{i}", "sleep"):
            time.sleep(delay)
        print(f"Background {i} finished")
    return "three steps done"


def own_work() -> None:
    with span("own work", "gil"):
        sum(i * i for i in range(20_000))


def with_stdlib(delay: float) -> None:
    worker = threading.Thread(target=background_work, args=(delay,))
    worker.start()
    pieces = 0
    while worker.is_alive():  # asks and returns at once
        own_work()
        pieces += 1
    print(f"Pieces of own work meanwhile: {pieces}")


def with_plait(delay: float) -> None:
    worker = plait.Thread(target=background_work, args=(delay,))
    worker.start()
    pieces = 0
    while True:
        try:
            outcome = worker.result(timeout=0)  # at once
            break
        except TimeoutError:
            own_work()
            pieces += 1
    print(f"Pieces of own work meanwhile: {pieces}")
    print(f"Background result: {outcome}")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
