"""plait's processes against multiprocessing's start methods: all in this run, in turns.

First line: from just before start() to the target's first line, by a clock that all processes
share. To the end: from start() to the return of join(). Read the ratios; the absolute figures
are this machine's. Each is taken three ways: as soon as spares are ready again, when what was used
before is still in the processor's caches; after a pause, when it is not; and several, one after
the other, as a program that starts processes does: the first finds caches that the other methods
have used, the others don't. Run it with `chrt -f 10` where other programs are at work.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import plait

ROUNDS = 25
# Seconds. The last child of another method is gone for good by then.
PAUSE = 0.03
MOMENT = 0.005
# Starts one after the other: as many as there are spares at most, on two processors.
SERIES = 4
# What is to be reached, by what it is compared with: see CONTRIBUTING.md.
FIRST_LINE = {"fork": 5, "forkserver": 50, "spawn": 200}
NO_SPARE = 15  # against forkserver
VERY_FIRST_MS = 25
ZYGOTE_MB, SPARE_MB = 12, 3


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


def zygote() -> Any:
    from plait import _zygote

    return _zygote._zygote


def await_spares() -> list[int]:
    """Waits, without giving the processor away, until there are as many as are wanted, and a
    moment more, as they have the other one to themselves then."""
    deadline = time.monotonic() + MOMENT
    while True:
        pids, wanted = zygote().spares
        if len(pids) < wanted:
            deadline = time.monotonic() + MOMENT
        elif time.monotonic() > deadline:
            return list(pids)


def pause() -> None:
    time.sleep(PAUSE)


def compare(
    contexts: dict[str, Any], between: Any, count: int = 1
) -> dict[str, tuple[float, float]]:
    """The medians of each method, for `count` starts in a row."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contexts}
    for _ in range(ROUNDS):
        for name, context in contexts.items():
            start(context)  # so that each follows one of its own kind
            between()
            times[name] += [start(context) for _ in range(count)]
    return {
        name: (median(first for first, _ in pairs), median(whole for _, whole in pairs))
        for name, pairs in times.items()
    }


def against(ratio: float, target: float) -> str:
    return f"{ratio:6.1f}x (target {target}x)"


def show(title: str, results: dict[str, tuple[float, float]]) -> None:
    print(f"{title:34}{'first line':>11} µs {'plait is faster by':24}{'to the end':>11} µs  by")
    ours, ours_whole = results["plait"]
    for name, (first, whole) in results.items():
        ratio = against(first / ours, FIRST_LINE[name]) if name in FIRST_LINE else ""
        print(f"{name:34}{first:11.0f}    {ratio:24}{whole:11.0f}    {whole / ours_whole:.1f}x")


def without_spare(between: Any) -> float:
    """Microseconds to the first line of one for which there was none."""
    times = []
    for _ in range(ROUNDS):
        between()
        zygote().drop_spares()
        times.append(start(plait.get_context())[0])
    return median(times)


def memory(pid: int) -> tuple[float, float, float]:
    """MB of a process: private now, private or shared with its forks, proportional."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        found = {name: int(kb) / 1024 for name, kb in re.findall(r"(\w+): +(\d+) kB", file.read())}
    return found["Private_Clean"] + found["Private_Dirty"], found["Anonymous"], found["Pss"]


def fresh(code: str) -> float:
    """Milliseconds that `code`, which prints them, takes in a new interpreter; the best of 7."""
    command = [sys.executable, "-c", code]
    return min(float(subprocess.check_output(command)) for _ in range(7))


def main() -> None:
    contexts: dict[str, Any] = {"plait": plait.get_context()}
    for name in ("fork", "forkserver", "spawn"):
        contexts[name] = multiprocessing.get_context(name)
    for context in contexts.values():
        start(context)  # zygote, fork server: started
    pause()
    for title, between in (
        ("start when spares are ready", await_spares),
        ("start after a pause", pause),
    ):
        results = compare(contexts, between)
        show(title, results)
        no_spare = without_spare(between)
        ratio = against(results["forkserver"][0] / no_spare, NO_SPARE)
        print(f"{'plait, no spare (against forkserver)':34}{no_spare:9.0f}    {ratio}")
    show(f"{SERIES} starts in a row", compare(contexts, await_spares, SERIES))
    very_first = fresh(
        "import time, plait; p = plait.Process(target=int); t = time.perf_counter(); "
        "p.start(); p.result(); print((time.perf_counter() - t) * 1e3); p.join()"
    )
    print(f"the very first start, to its result: {very_first:.1f} ms (target {VERY_FIRST_MS})")
    pids = await_spares()
    spares = [memory(pid) for pid in pids]
    own, anonymous, _ = memory(zygote().pid)
    print(
        f"zygote: {anonymous:.1f} MB of its own (target {ZYGOTE_MB}), {own:.1f} of them not shared"
        f" with {len(pids)} spares"
    )
    private = max(private for private, _, _ in spares)
    proportional = max(share for _, _, share in spares)
    print(
        f"a spare: {private:.1f} MB private (target {SPARE_MB}), its share of all "
        f"{proportional:.1f} MB"
    )
    imports = fresh(
        "import time; t = time.perf_counter(); import plait; print((time.perf_counter() - t) * 1e3)"
    )
    print(f"import plait: {imports:.1f} ms; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
