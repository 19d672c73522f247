"""Processes

A process is a running program. The operating system gives each one memory of its own, so
nothing that one process changes is seen by another: that costs more to start and to talk
across, and in return one process cannot corrupt the next.

The target function is handed over without parentheses, its arguments apart. The child below
counts in a global variable; it has its own copy, so the parent's stays as it was. The
standard library's Process hands back only an exit code; plait's also has result(), which
returns what the target returned, or raises what it raised.

The very first plait.Process also starts plait's zygote, a lean interpreter that forks all
the others; it is the gap at the left of the second chart, and it comes once.
"""

import time
from multiprocessing import Process
from multiprocessing.process import BaseProcess

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span

counter = 0  # each process has a copy of its own


def worker_task(label: str, delay: float) -> int:
    global counter
    for i in range(5):
        print(f"Worker {label}{i} started")
        with span(f"{label}{i}", "sleep"):  # notes the times for the lane chart
            time.sleep(delay)
        counter += 1
        print(f"Worker {label}{i} finished")
    print(f"In the child: counter = {counter}")
    return counter


def start_and_end(process_class: type[BaseProcess]) -> None:
    began = time.perf_counter()
    process = process_class(target=int)
    process.start()
    process.join()
    took = time.perf_counter() - began
    print(f"Another process, start to end: {took * 1000:.1f} ms")


def with_stdlib(delay: float) -> None:
    process = Process(target=worker_task, args=("kobe", delay))
    process.start()
    print("Main process completed")
    with span("join", "idle", holder=process.name):
        process.join()
    print(f"In the parent: counter = {counter}")
    print(f"All that came back: exit code {process.exitcode}")
    start_and_end(Process)


def with_plait(delay: float) -> None:
    process = plait.Process(target=worker_task, args=("kobe", delay))
    process.start()
    print("Main process completed")
    with span("result", "idle", holder=process.name):
        counted = process.result()
    print(f"In the parent: counter = {counter}")
    print(f"What came back: {counted}")
    start_and_end(plait.Process)


if __name__ == "__main__":
    main(with_stdlib, with_plait)
