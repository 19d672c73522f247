"""Long runs: whether memory and descriptors stay where they were."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

MB = 1 << 20


def value_of(pid: int | str, name: str, file: str = "status") -> int:
    """A value of a process's /proc, in bytes; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except FileNotFoundError:
        return 0
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) << 10 if match else 0


def tell(what: str, figure: str, aim: str, fine: bool) -> bool:
    print(f"{what:58}{figure:>24}          {aim}{'' if fine else '   MISSED'}", flush=True)
    return fine


class Soak:
    """Samples the memory of this process and its `workers`, and its descriptors and threads,
    twenty times in so many minutes, or once a second."""

    def __init__(
        self, minutes: float, unit: str, workers: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self._unit, self._workers = unit, workers
        self._samples: list[tuple[float, float, int, int]] = []
        self._next = time.monotonic()
        self._end = self._next + minutes * 60
        self._step = max(1.0, minutes * 60 / 20)

    def goes_on(self, done: int) -> bool:
        if time.monotonic() >= self._next:
            gc.collect()
            workers = sum(value_of(pid, "VmRSS") for pid in self._workers()) / MB
            counts = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            self._samples.append((value_of("self", "VmRSS") / MB, workers, *counts))
            own = self._samples[-1][0]
            print(
                f"{done:12,} {self._unit}   this process {own:6.1f} MB   workers {workers:6.1f} MB"
                f"   {counts[0]} descriptors   {counts[1]} threads",
                flush=True,
            )
            self._next = time.monotonic() + self._step
        return time.monotonic() < self._end

    def verdict(self) -> bool:
        """The end against the middle: by then is kept what is for the next use. A worker that
        has just died, or a connection that is being closed, is one less: the most counts."""
        peak = value_of("self", "VmHWM") / MB
        tell("soak: peak of this process", f"{peak:.0f} MB", "", True)
        quarter = len(self._samples) // 4
        settled = self._samples[quarter : 2 * quarter + 1]
        own, workers, descriptors, threads = (max(column) for column in zip(*settled, strict=True))
        last = self._samples[-1]
        checks = [
            ("memory", own + workers, last[0] + last[1], 1.05, 10, " MB"),
            ("descriptors", descriptors, last[2], 1, 0, ""),
            ("threads", threads, last[3], 1, 0, ""),
        ]
        fine = True
        for what, before, after, factor, more, unit in checks:
            figures = f"{before:.0f} and {after:.0f}{unit}"
            same = after <= before * factor + more
            fine = tell(f"soak: {what}, settled and at the end", figures, "the same", same) and fine
        return fine
