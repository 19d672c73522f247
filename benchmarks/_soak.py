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
        """The first quarter is for what is kept for the next use."""
        peak = value_of("self", "VmHWM") / MB
        tell("soak: peak of this process", f"{peak:.0f} MB", "", True)
        settled, last = self._samples[len(self._samples) // 4 :], self._samples[-1]
        first = settled[0]
        memory = tell(
            "soak: memory, settled and at the end",
            f"{first[0] + first[1]:.0f} and {last[0] + last[1]:.0f} MB",
            "the same",
            last[0] < first[0] * 1.05 + 5 and last[1] < first[1] * 1.1 + 10,
        )
        # A worker that has just died, or a connection that is being closed, is one less or more.
        most = max(sample[2] for sample in settled[: len(settled) // 2 + 1])
        descriptors = tell(
            "soak: descriptors, settled and at the end",
            f"{most} and {last[2]}",
            "the same",
            last[2] <= most,
        )
        most = max(sample[3] for sample in settled[: len(settled) // 2 + 1])
        threads = tell(
            "soak: threads, settled and at the end",
            f"{most} and {last[3]}",
            "the same",
            last[3] <= most,
        )
        return memory and descriptors and threads
