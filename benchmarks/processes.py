"""plait's processes against multiprocessing's start methods: all in this run, in turns.

First line: from just before start() to the target's first line, by a clock that all processes
share. To the end: from start() to the return of join(). Read the ratios; the absolute figures
are this machine's.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from statistics import median

import plait

ROUNDS = 25
# Time for plait to have its spare ready again, and for the last child of another method to be
# gone for good: seconds.
PAUSE = 0.03


def tell(connection: Connection) -> None:
    connection.send_bytes(time.monotonic_ns().to_bytes(8, "little"))


def start(context: multiprocessing.context.BaseContext) -> tuple[float, float]:
    """Microseconds to the target's first line, and to the end of join()."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=tell, args=(writer,))  # type: ignore[attr-defined]
    began = time.monotonic_ns()
    process.start()
    first = int.from_bytes(reader.recv_bytes(), "little") - began
    process.join()
    whole = time.monotonic_ns() - began
    process.close()
    reader.close()
    writer.close()
    return first / 1e3, whole / 1e3


def fresh(code: str) -> float:
    """Milliseconds that `code`, which prints them, takes in a new interpreter; the best of 7."""
    command = [sys.executable, "-c", code]
    return min(float(subprocess.check_output(command)) for _ in range(7))


def main() -> None:
    contexts = {
        "plait": plait.get_context(),
        "fork": multiprocessing.get_context("fork"),
        "forkserver": multiprocessing.get_context("forkserver"),
        "spawn": multiprocessing.get_context("spawn"),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contexts}
    for context in contexts.values():
        start(context)  # zygote, fork server: started
    for _ in range(ROUNDS):
        for name, context in contexts.items():
            time.sleep(PAUSE)
            times[name].append(start(context))
    print(
        f"{'start of a process (µs)':26}{'first line':>12}{'ratio':>8}"
        f"{'to the end':>12}{'ratio':>8}"
    )
    ours = [median(values) for values in zip(*times["plait"], strict=True)]
    for name, pairs in times.items():
        first, whole = (median(values) for values in zip(*pairs, strict=True))
        print(f"{name:26}{first:12.0f}{first / ours[0]:8.1f}{whole:12.0f}{whole / ours[1]:8.1f}")
    burst = []
    for _ in range(ROUNDS):
        time.sleep(PAUSE)
        start(contexts["plait"])
        start(contexts["plait"])
        burst.append(start(contexts["plait"])[0])  # there are two spares; this one had none
    print(f"{'plait, no spare ready':26}{median(burst):12.0f}")
    very_first = fresh(
        "import time, plait; p = plait.Process(target=int); t = time.perf_counter(); "
        "p.start(); p.result(); print((time.perf_counter() - t) * 1e3); p.join()"
    )
    print(f"the very first start, to its result: {very_first:.1f} ms")
    imports = fresh(
        "import time; t = time.perf_counter(); import plait; print((time.perf_counter() - t) * 1e3)"
    )
    print(f"import plait: {imports:.1f} ms")


if __name__ == "__main__":
    main()
