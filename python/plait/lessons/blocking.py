"""Blocking Operations

A blocking operation stops the thread that calls it until a condition holds. join() is one:
the main thread stands still until the background thread has ended, so its last line comes
last. Other threads run on meanwhile; only the caller is held up.

plait.Thread is a threading.Thread whose result() blocks in the same way and then also hands
over the value that the target returned.
"""

import threading
import time

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span


def background_work(delay: float) -> str:
    for i in range(5):
        print(f"Background {i} started")
        with span(f"{i}", "sleep"):
            time.sleep(delay)
        print(f"Background {i} finished")
    return "five steps done"


def with_stdlib(delay: float) -> None:
    worker = threading.Thread(target=background_work, args=(delay,))
    worker.start()
    with span("join: blocked", "idle", holder=worker.name):
        worker.join()  # the main thread stands still here
    print("Main thread completed")


def with_plait(delay: float) -> None:
    worker = plait.Thread(target=background_work, args=(delay,))
    worker.start()
    with span("result: blocked", "idle", holder=worker.name):
        outcome = worker.result()  # and here
    print(f"Main thread completed: {outcome}")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
